//! What is typed about a service, and the definition that the host gets.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use keepwell_service::manager::{
    Account, ErrorControl, Host, Privileges, Recovery, Secret, ServiceDefinition, SidType, StartMode,
    Trigger, TriggerAction, TriggerKind,
};

use super::place::Place;
use crate::failure::{Failure, Result, io_words};
use crate::time;

/// What the host is told of a service.
#[derive(Args, Clone, Debug)]
pub(super) struct Settings {
    /// What people see in lists; otherwise its name
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// What it is, in a sentence
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// When the host starts it
    #[arg(long, value_enum, default_value_t = Start::Auto)]
    start: Start,
    /// Whom it runs as: virtual (an account of its own), system, local-service, network-service, or a user's name
    #[arg(long, value_name = "ACCOUNT", default_value = "virtual")]
    account: String,
    /// The file with the account's password, - for stdin; it is given to the host and kept nowhere else
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The variable with the account's password. Without either, a terminal is asked for it
    #[arg(long, value_name = "VARIABLE", conflicts_with = "password_file")]
    password_env: Option<String>,
    /// Give the account what it lacks: rights on programs and folders, and to log on as a service
    #[arg(long)]
    pub(super) grant: bool,
    /// A service that has to run first; may be given several times
    #[arg(long, value_name = "SERVICE")]
    depends_on: Vec<String>,
    /// What Windows does when it cannot be started at boot
    #[arg(long, value_enum, default_value_t = Errors::Normal)]
    error_control: Errors,
    /// How long it may take to stop; otherwise what the stop steps of its programs add up to
    #[arg(long, value_name = "DURATION", value_parser = time::parse)]
    stop_timeout: Option<Duration>,
    /// When the host is told that it runs
    #[arg(long, value_enum, default_value_t = When::Up)]
    running_when: When,
    /// Leave a keepwell that failed as it is; otherwise the host starts it again after 5 s
    #[arg(long)]
    no_recovery: bool,
    /// Leave it this privilege of Windows and no other; may be given several times. `all`: all that its account has
    #[arg(long, value_name = "PRIVILEGE")]
    privilege: Vec<String>,
    /// Windows starts it, too, on network, domain-join, domain-leave, machine-policy, user-policy, firewall:PORT;PROTOCOL
    #[arg(long, value_name = "EVENT", value_parser = trigger)]
    trigger: Vec<TriggerKind>,
    /// Who may do what with it, as SDDL
    #[arg(long, value_name = "SDDL")]
    security: Option<String>,
    /// Shut it, and all that it starts, off from most of the host; sudo and programs that make code do not work so
    #[arg(long)]
    harden: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Start {
    /// At boot
    Auto,
    /// Two minutes after the boot, on Windows
    Delayed,
    /// When somebody asks
    Demand,
    /// Not at all
    Disabled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Errors {
    /// Nothing
    Ignore,
    /// A record in the event log
    Normal,
    /// A boot with the last configuration that worked
    Severe,
    /// The same, and the boot may fail
    Critical,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum When {
    /// The configuration is accepted, and its services are being started
    Up,
    /// All services are ready
    Ready,
}

/// A service manager that gives less cannot tell a slow stop from a hung one.
const LEAST: Duration = Duration::from_secs(30);
/// What keepwell itself needs on top: its last records, its last words.
pub(super) const OWN: Duration = Duration::from_secs(10);

impl Settings {
    /// The definition of this guardian. `budget`: how long its services may take to stop.
    ///
    /// # Errors
    /// When something cannot be meant.
    pub(super) fn definition(
        &self,
        place: &Place,
        host: &Host,
        budget: Duration,
    ) -> Result<ServiceDefinition> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::failed(format!("keepwell's own file cannot be found: {}", io_words(&e))))?;
        let mut definition = ServiceDefinition::new(&place.name, program);
        definition.arguments = place.arguments(host.supervises());
        if host.supervises() && self.running_when == When::Ready {
            definition.arguments.extend(["--running-when", "ready"].map(str::to_owned));
        }
        definition.display_name = self.display_name.clone().unwrap_or_else(|| place.name.clone());
        definition.description = self
            .description
            .clone()
            .unwrap_or_else(|| format!("Guards the programs of {}", place.config.display()));
        definition.start = match self.start {
            Start::Auto => StartMode::Auto,
            Start::Delayed => StartMode::Delayed,
            Start::Demand => StartMode::Demand,
            Start::Disabled => StartMode::Disabled,
        };
        definition.error_control = match self.error_control {
            Errors::Ignore => ErrorControl::Ignore,
            Errors::Normal => ErrorControl::Normal,
            Errors::Severe => ErrorControl::Severe,
            Errors::Critical => ErrorControl::Critical,
        };
        definition.account = self.account()?;
        definition.depends_on = self.depends_on.clone();
        definition.stop_timeout = self.stop_timeout.unwrap_or_else(|| (budget + OWN).max(LEAST));
        if self.no_recovery {
            definition.recovery = Recovery::none();
        }
        definition.windows.privileges = match self.privilege.as_slice() {
            [] => Privileges::Least,
            [all] if all == "all" => Privileges::All,
            these => Privileges::These(these.to_vec()),
        };
        let start = |kind: &TriggerKind| Trigger { kind: kind.clone(), action: TriggerAction::Start };
        definition.windows.triggers = self.trigger.iter().map(start).collect();
        definition.windows.security = self.security.clone();
        if self.harden {
            definition.windows.sid = SidType::Restricted;
            definition.systemd.harden = true;
            definition.systemd.writable = [Some(place.state.as_path()), place.config.parent()]
                .into_iter()
                .flatten()
                .map(Into::into)
                .collect();
        }
        definition.systemd.reload = vec![
            definition.program.display().to_string(),
            "reload".into(),
            "--no-wait".into(),
            "--state".into(),
            place.state.display().to_string(),
        ];
        Ok(definition)
    }

    fn account(&self) -> Result<Account> {
        let known = match self.account.to_ascii_lowercase().as_str() {
            "virtual" => Some(Account::Virtual),
            "system" | "localsystem" | "root" => Some(Account::System),
            "local-service" | "localservice" => Some(Account::LocalService),
            "network-service" | "networkservice" => Some(Account::NetworkService),
            _ => None,
        };
        let password = match (&self.password_file, &self.password_env) {
            (Some(file), _) => Some(password(file)?),
            (None, Some(variable)) => Some(password_in(variable)?),
            (None, None) => None,
        };
        match (known, password) {
            (Some(_), Some(_)) => {
                Err(Failure::usage(format!("the account `{}` has no password of yours", self.account)))
            }
            (Some(known), None) => Ok(known),
            (None, password) => Ok(Account::User { name: self.account.clone(), password }),
        }
    }
}

/// Without the line end that editors put there.
fn password(file: &std::path::Path) -> Result<Secret> {
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().lock().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(file).map(|t| text = t),
    };
    read.map_err(|e| {
        Failure::usage(format!("the password file {} cannot be read: {}", file.display(), io_words(&e)))
    })?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::usage(format!("the password file {} is empty", file.display()))),
        text => Ok(Secret::new(text)),
    }
}

fn password_in(variable: &str) -> Result<Secret> {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => Ok(Secret::new(text)),
        _ => Err(Failure::usage(format!("the variable {variable} holds no password"))),
    }
}

fn trigger(text: &str) -> std::result::Result<TriggerKind, String> {
    Ok(match text {
        "network" => TriggerKind::NetworkAvailable,
        "domain-join" => TriggerKind::DomainJoin,
        "domain-leave" => TriggerKind::DomainLeave,
        "machine-policy" => TriggerKind::MachinePolicy,
        "user-policy" => TriggerKind::UserPolicy,
        other => match other.strip_prefix("firewall:") {
            Some(port) if port.contains(';') => TriggerKind::FirewallPortOpened(port.to_owned()),
            _ => {
                return Err("known are network, domain-join, domain-leave, machine-policy, user-policy and \
                            firewall:PORT;PROTOCOL, as in firewall:443;TCP"
                    .to_owned());
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_are_read() {
        assert_eq!(trigger("network"), Ok(TriggerKind::NetworkAvailable));
        assert_eq!(trigger("firewall:443;TCP"), Ok(TriggerKind::FirewallPortOpened("443;TCP".into())));
        assert!(trigger("firewall:443").is_err() && trigger("noon").is_err());
    }

    #[test]
    fn a_variable_without_a_password_is_named() {
        let failure = password_in("KEEPWELL_NO_SUCH_VARIABLE").unwrap_err();
        assert_eq!(failure.text, "the variable KEEPWELL_NO_SUCH_VARIABLE holds no password");
    }

    #[test]
    fn a_password_is_a_line_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "söcret word\r\n").unwrap();
        assert_eq!(password(file.path()).unwrap().expose(), "söcret word");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(password(file.path()).unwrap_err().text.ends_with("is empty"));
    }
}
