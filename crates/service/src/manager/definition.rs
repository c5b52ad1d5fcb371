//! What a service is, for every service manager: one description that goes to the SCM or becomes a systemd unit.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A service as it is to be registered. `ServiceDefinition::new` has careful values for all that is not named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceDefinition {
    /// The name by which systems know it; compared without regard to case on Windows.
    pub name: String,
    /// The name that people see in lists; otherwise `name`.
    pub display_name: String,
    /// What it is, in a sentence.
    pub description: String,
    /// The program; absolute.
    pub program: PathBuf,
    /// Its arguments. Every user of the host can read them: no secret belongs here.
    pub arguments: Vec<String>,
    /// When it is started.
    pub start: StartMode,
    /// Whom it runs as.
    pub account: Account,
    /// Services that have to run before it; on Windows also groups, as `+GROUP`.
    pub depends_on: Vec<String>,
    /// What the system does when it cannot be started at boot; Windows only.
    pub error_control: ErrorControl,
    /// How long it may take to stop, also while the system shuts down.
    pub stop_timeout: Duration,
    /// What the service manager does when the process itself fails.
    pub recovery: Recovery,
    /// What only Windows knows.
    pub windows: WindowsSettings,
    /// What only systemd knows.
    pub systemd: SystemdSettings,
}

/// When a service is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StartMode {
    /// At boot.
    #[default]
    Auto,
    /// At boot, some two minutes after the others; on Linux the same as `Auto`.
    Delayed,
    /// When somebody asks.
    Demand,
    /// Not at all.
    Disabled,
}

/// Whom a service runs as.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Account {
    /// Windows: `NT SERVICE\NAME`, which exists for this service only, has no password and few rights. Linux: the service
    /// manager's own user.
    #[default]
    Virtual,
    /// Windows: all rights of the host. Linux: root, or the user of a user's service manager.
    System,
    /// Windows: `NT AUTHORITY\LocalService`.
    LocalService,
    /// Windows: `NT AUTHORITY\NetworkService`.
    NetworkService,
    /// A user. A managed service account's name ends with `$`, and it has no password here.
    User {
        /// `DOMAIN\name`, `.\name` or `name@domain`; on Linux a name.
        name: String,
        /// Handed to the system and kept nowhere else.
        password: Option<Secret>,
    },
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// See [`ServiceDefinition::error_control`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ErrorControl {
    /// Nothing.
    Ignore,
    /// A record in the event log.
    #[default]
    Normal,
    /// A restart with the last configuration that worked.
    Severe,
    /// The same, and the start fails with that configuration too.
    Critical,
}

/// What the service manager does when the process ends without having been told to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// For the first failure, the second and so on; the last counts for all further ones. Empty: nothing. Linux restarts
    /// after the first delay.
    pub actions: Vec<RecoveryAction>,
    /// Failures are counted anew after this long without one.
    pub reset_after: Duration,
    /// A stop with an error code is a failure too, and not only a process that disappears.
    pub also_on_error: bool,
    /// For [`RecoveryKind::Command`].
    pub command: Option<String>,
    /// For [`RecoveryKind::Reboot`].
    pub reboot_message: Option<String>,
}

/// One of [`Recovery::actions`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveryAction {
    /// What is done.
    pub kind: RecoveryKind,
    /// After this long.
    pub delay: Duration,
}

/// See [`RecoveryAction::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecoveryKind {
    /// Nothing.
    Nothing,
    /// The service is started again.
    Restart,
    /// The host is started again.
    Reboot,
    /// [`Recovery::command`] runs.
    Command,
}

/// What only Windows knows of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WindowsSettings {
    /// Whether the service has an identity of its own in access lists.
    pub sid: SidType,
    /// The privileges that are left to its process and to all that it starts.
    pub privileges: Privileges,
    /// What starts or stops it besides an operator.
    pub triggers: Vec<Trigger>,
    /// Who may do what with it, as SDDL; `None`: the system's default.
    pub security: Option<String>,
    /// The load order group that it belongs to.
    pub group: Option<String>,
}

/// See [`WindowsSettings::privileges`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Privileges {
    /// Those that hardly a program can do without, for accounts that exist for services; all, for other accounts.
    #[default]
    Least,
    /// All that its account has.
    All,
    /// These (`SeChangeNotifyPrivilege`, …).
    These(Vec<String>),
}

/// See [`WindowsSettings::sid`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SidType {
    /// None.
    None,
    /// `NT SERVICE\NAME` is in its token.
    Unrestricted,
    /// The same, and it may write only where that is named.
    Restricted,
}

/// What starts or stops a service besides an operator
/// (<https://learn.microsoft.com/windows/win32/services/service-trigger-events>).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trigger {
    /// What happens.
    pub kind: TriggerKind,
    /// What follows.
    pub action: TriggerAction,
}

/// See [`Trigger::kind`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TriggerKind {
    /// The host gets its first network address.
    NetworkAvailable,
    /// The host loses its last network address.
    NetworkGone,
    /// The host joins a domain.
    DomainJoin,
    /// The host leaves its domain.
    DomainLeave,
    /// A machine-wide group policy changes.
    MachinePolicy,
    /// A user's group policy changes.
    UserPolicy,
    /// The firewall opens a port: `port;protocol`, `443;TCP`.
    FirewallPortOpened(String),
    /// The same, closed.
    FirewallPortClosed(String),
    /// Any other, as the system knows it.
    Other {
        /// `SERVICE_TRIGGER_TYPE_…`.
        kind: u32,
        /// `GUID` in its text form, `1f81d131-3fac-4537-9e0c-7e7b0c2f4b55`.
        subtype: String,
        /// Data items of texts.
        data: Vec<String>,
    },
}

/// See [`Trigger::action`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TriggerAction {
    /// It is started.
    Start,
    /// It is stopped.
    Stop,
}

/// What only systemd knows of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemdSettings {
    /// How long it may take until it says `READY=1`; `None`: for ever.
    pub start_timeout: Option<Duration>,
    /// What makes it read its configuration again: a program, absolute, and its arguments.
    pub reload: Vec<String>,
    /// The folder that it runs in.
    pub working_folder: Option<PathBuf>,
    /// Variables of its environment.
    pub environment: BTreeMap<String, String>,
    /// Open files of a process.
    pub open_files: u64,
    /// Shut it, and all that it starts, off from most of the host. Programs that change their user, or make code as they
    /// run, do not work so.
    pub harden: bool,
    /// Folders that it may write to all the same.
    pub writable: Vec<PathBuf>,
}

/// What is wrong with a definition, in words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// To pass through folders, and to make names that all sessions see. Impersonation is not among them: with it a service that
/// is broken into can become the system.
const LEAST: [&str; 2] = ["SeChangeNotifyPrivilege", "SeCreateGlobalPrivilege"];
/// <https://learn.microsoft.com/windows/win32/api/winsvc/nf-winsvc-createservicew>.
const LONGEST_NAME: usize = 256;
/// The same page, for what is shown.
const LONGEST_DISPLAY_NAME: usize = 256;
/// What the SCM's registry key takes (REG_EXPAND_SZ is longer, but tools that show it cut it off).
const LONGEST_COMMAND_LINE: usize = 32_767;

impl Secret {
    /// Takes the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl ServiceDefinition {
    /// A service that starts at boot under an account of its own, may take 30 s to stop, and is restarted 5 s after its
    /// process fails.
    #[must_use]
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        let name = name.into();
        Self {
            display_name: name.clone(),
            name,
            description: String::new(),
            program: program.into(),
            arguments: Vec::new(),
            start: StartMode::default(),
            account: Account::default(),
            depends_on: Vec::new(),
            error_control: ErrorControl::default(),
            stop_timeout: Duration::from_secs(30),
            recovery: Recovery::default(),
            windows: WindowsSettings::default(),
            systemd: SystemdSettings::default(),
        }
    }

    /// As [`Account`] is written for the SCM.
    #[must_use]
    pub fn account_name(&self) -> String {
        match &self.account {
            Account::Virtual => format!(r"NT SERVICE\{}", self.name),
            Account::System => "LocalSystem".to_owned(),
            Account::LocalService => r"NT AUTHORITY\LocalService".to_owned(),
            Account::NetworkService => r"NT AUTHORITY\NetworkService".to_owned(),
            // A name without a domain means this host's.
            Account::User { name, .. } if !name.contains(['\\', '@']) => format!(r".\{name}"),
            Account::User { name, .. } => name.clone(),
        }
    }

    /// The program and its arguments as one line for Windows, each quoted where it has to be and the program always.
    #[must_use]
    pub fn image(&self) -> String {
        super::command_line::join(&self.program.display().to_string(), &self.arguments)
    }

    /// The privileges that the SCM is told to leave; none named means all.
    #[must_use]
    pub fn privileges(&self) -> Vec<String> {
        match (&self.windows.privileges, &self.account) {
            (Privileges::These(list), _) => list.clone(),
            (Privileges::All, _) | (Privileges::Least, Account::System | Account::User { .. }) => Vec::new(),
            (Privileges::Least, Account::Virtual | Account::LocalService | Account::NetworkService) => {
                LEAST.map(str::to_owned).to_vec()
            }
        }
    }

    /// What no service manager takes, and what it would take and not mean.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        let wrong = |text: String| Err(Invalid(text));
        let name = &self.name;
        if name.is_empty() || name.chars().count() > LONGEST_NAME {
            return wrong(format!("a service's name has 1 to {LONGEST_NAME} characters"));
        }
        if let Some(c) = name.chars().find(|c| matches!(c, '/' | '\\') || c.is_control()) {
            return wrong(format!(
                "the name `{}` holds {c:?}, which no service's name may",
                name.escape_debug()
            ));
        }
        if self.display_name.chars().count() > LONGEST_DISPLAY_NAME {
            return wrong(format!("{name}: a display name has at most {LONGEST_DISPLAY_NAME} characters"));
        }
        let Some(program) = self.program.to_str() else {
            return wrong(format!("{name}: the program's path {} is no text", self.program.display()));
        };
        if !is_absolute(program) {
            return wrong(format!("{name}: the program `{program}` has to be an absolute path"));
        }
        if program.contains('"') {
            return wrong(format!("{name}: the program's path {program} holds a quotation mark"));
        }
        let texts = self.arguments.iter().chain([&self.description, &self.display_name]);
        if texts.clone().any(|t| t.contains('\0')) || program.contains('\0') {
            return wrong(format!("{name}: a text holds a zero character"));
        }
        if self.image().encode_utf16().count() > LONGEST_COMMAND_LINE {
            return wrong(format!(
                "{name}: the command line is longer than {LONGEST_COMMAND_LINE} characters"
            ));
        }
        if self.depends_on.iter().any(|d| d.eq_ignore_ascii_case(name)) {
            return wrong(format!("{name} cannot depend on itself"));
        }
        if self.windows.triggers.iter().any(|t| matches!(t.kind, TriggerKind::Other { ref subtype, .. } if super::guid::parse(subtype).is_none()))
        {
            return wrong(format!("{name}: a trigger's subtype is no GUID"));
        }
        Ok(())
    }
}

/// On any system, since a definition may be looked at where it is not used.
fn is_absolute(path: &str) -> bool {
    let drive = matches!(path.as_bytes(), [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    path.starts_with('/') || path.starts_with(r"\\") || drive
}

impl Default for Recovery {
    /// A restart 5 s after each failure, counted anew after a day: a second net below a program that supervises itself.
    /// A restart that waits cannot be called off, so it does not wait long.
    fn default() -> Self {
        Self {
            actions: vec![RecoveryAction { kind: RecoveryKind::Restart, delay: Duration::from_secs(5) }; 3],
            reset_after: Duration::from_secs(24 * 60 * 60),
            also_on_error: true,
            command: None,
            reboot_message: None,
        }
    }
}

impl Recovery {
    /// The service manager does nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { actions: Vec::new(), also_on_error: false, ..Self::default() }
    }
}

impl Default for WindowsSettings {
    fn default() -> Self {
        Self {
            sid: SidType::Unrestricted,
            privileges: Privileges::Least,
            triggers: Vec::new(),
            security: None,
            group: None,
        }
    }
}

impl Default for SystemdSettings {
    fn default() -> Self {
        Self {
            start_timeout: None,
            reload: Vec::new(),
            working_folder: None,
            environment: BTreeMap::new(),
            // The kernel's usual hard limit for one process (fs.nr_open is above it).
            open_files: 524_288,
            harden: false,
            writable: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_named_as_the_scm_wants_them() {
        let name = |account| {
            let definition = ServiceDefinition { account, ..ServiceDefinition::new("shop", "/x") };
            definition.account_name()
        };
        let user = |name: &str| Account::User { name: name.into(), password: None };
        assert_eq!(name(Account::Virtual), r"NT SERVICE\shop");
        assert_eq!(name(Account::System), "LocalSystem");
        assert_eq!(name(user("anna")), r".\anna");
        assert_eq!(name(user(r"CORP\web$")), r"CORP\web$");
        assert_eq!(name(user("anna@corp.example")), "anna@corp.example");
    }

    #[test]
    fn what_no_manager_takes_is_named() {
        let check = |change: &dyn Fn(&mut ServiceDefinition)| {
            let mut definition = ServiceDefinition::new("shop", r"C:\keepwell.exe");
            change(&mut definition);
            definition.check().err().map(|e| e.0).unwrap_or_default()
        };
        assert_eq!(check(&|_| {}), "");
        assert!(check(&|d| d.name.clear()).contains("1 to 256"));
        assert!(check(&|d| d.name = r"a\b".into()).contains(r"'\\'"));
        assert!(check(&|d| d.program = "keepwell.exe".into()).contains("absolute"));
        assert!(check(&|d| d.depends_on = vec!["SHOP".into()]).contains("itself"));
        assert!(check(&|d| d.arguments = vec!["x".repeat(40_000)]).contains("longer"));
        assert!(check(&|d| d.description = "a\0b".into()).contains("zero"));
        let trigger = |subtype: &str| Trigger {
            kind: TriggerKind::Other { kind: 20, subtype: subtype.into(), data: vec![] },
            action: TriggerAction::Start,
        };
        assert!(check(&|d| d.windows.triggers = vec![trigger("no")]).contains("GUID"));
        assert_eq!(
            check(&|d| d.windows.triggers = vec![trigger("1f81d131-3fac-4537-9e0c-7e7b0c2f4b55")]),
            ""
        );
    }

    #[test]
    fn accounts_of_services_keep_few_privileges() {
        let left = |account, privileges| {
            let mut definition = ServiceDefinition { account, ..ServiceDefinition::new("shop", "/x") };
            definition.windows.privileges = privileges;
            definition.privileges()
        };
        assert_eq!(left(Account::Virtual, Privileges::Least), LEAST);
        assert!(left(Account::Virtual, Privileges::All).is_empty());
        assert!(left(Account::System, Privileges::Least).is_empty());
        assert_eq!(left(Account::System, Privileges::These(vec!["SeX".into()])), ["SeX"]);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let account = Account::User { name: "anna".into(), password: Some(Secret::new("hunter2")) };
        assert!(!format!("{account:?}").contains("hunter2"));
    }
}
