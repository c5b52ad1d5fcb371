//! A definition as a systemd unit (systemd.unit(5), systemd.service(5), systemd.exec(5)). Text from data: touches nothing.

use std::fmt::Write;
use std::time::Duration;

use super::definition::{
    Account, ErrorControl, Invalid, Privileges, RecoveryKind, ServiceDefinition, StartMode,
};
use super::host::Scope;

/// The first line of each unit that is written, by which it is known again.
pub const MARK: &str = "# Written by keepwell";

/// The unit's file name. systemd knows few characters (systemd.unit(5)), and this crate does not invent others.
///
/// # Errors
/// When the name holds another.
pub fn file_name(name: &str) -> Result<String, Invalid> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match name.chars().find(|c| !known(*c)) {
        None if !name.is_empty() => Ok(format!("{name}.service")),
        None => Err(Invalid("a service needs a name".into())),
        Some(c) => {
            Err(Invalid(format!("the name `{name}` holds {c:?}; systemd takes letters, digits and -_.:")))
        }
    }
}

/// The unit's text.
///
/// # Errors
/// When a value cannot be written in a unit.
pub fn text(definition: &ServiceDefinition, scope: Scope) -> Result<String, Invalid> {
    definition.check()?;
    only_windows(definition)?;
    let settings = &definition.systemd;
    let mut unit = format!("{MARK}; `systemctl edit {}` adds to it.\n[Unit]\n", definition.name);
    let description = match definition.description.as_str() {
        "" => &definition.display_name,
        text => text,
    };
    line(&mut unit, "Description", &plain(description));
    if scope == Scope::System {
        line(&mut unit, "Wants", "network-online.target");
        line(&mut unit, "After", "network-online.target");
    }
    for other in &definition.depends_on {
        let unit_name = if other.contains('.') { plain(other) } else { plain(&file_name(other)?) };
        line(&mut unit, "Requires", &unit_name);
        line(&mut unit, "After", &unit_name);
    }
    // A guardian that cannot start is tried for as long as it is wanted.
    line(&mut unit, "StartLimitIntervalSec", "0");

    unit.push_str("\n[Service]\nType=notify\nNotifyAccess=main\n");
    line(
        &mut unit,
        "ExecStart",
        &command(definition.program.to_str().unwrap_or_default(), &definition.arguments, scope)?,
    );
    if let [program, rest @ ..] = settings.reload.as_slice() {
        line(&mut unit, "ExecReload", &command(program, rest, scope)?);
    }
    if let Some(user) = user(&definition.account, scope)? {
        line(&mut unit, "User", &plain(user));
    }
    if let Some(folder) = &settings.working_folder {
        line(&mut unit, "WorkingDirectory", &plain(&folder.display().to_string()));
    }
    for (name, value) in &settings.environment {
        line(&mut unit, "Environment", &word(&format!("{name}={value}"), Dollar::Plain)?);
    }
    // The service manager tells the main process only, which ends its programs in order; what is left gets the kill.
    unit.push_str("KillMode=mixed\n");
    // Programs get cgroups of their own below the unit's.
    unit.push_str("Delegate=yes\n");
    // One program that eats the memory must not take the others with it.
    unit.push_str("OOMPolicy=continue\n");
    recovery(&mut unit, definition);
    line(
        &mut unit,
        "TimeoutStartSec",
        &settings.start_timeout.map_or_else(|| "infinity".to_owned(), seconds),
    );
    line(&mut unit, "TimeoutStopSec", &seconds(definition.stop_timeout));
    line(&mut unit, "LimitNOFILE", &settings.open_files.to_string());
    unit.push_str("TasksMax=infinity\n");
    if settings.harden {
        harden(&mut unit, definition)?;
    }
    if !matches!(definition.start, StartMode::Demand | StartMode::Disabled) {
        let target = if scope == Scope::System { "multi-user.target" } else { "default.target" };
        let _ = write!(unit, "\n[Install]\nWantedBy={target}\n");
    }
    Ok(unit)
}

/// What cannot be done here is refused, and not left out.
fn only_windows(definition: &ServiceDefinition) -> Result<(), Invalid> {
    let windows = &definition.windows;
    let named = [
        (matches!(windows.privileges, Privileges::These(_)), "a list of privileges"),
        (!windows.triggers.is_empty(), "a trigger"),
        (windows.security.is_some(), "an SDDL"),
        (windows.group.is_some(), "a load order group"),
        (definition.error_control != ErrorControl::Normal, "an error control"),
    ];
    match named.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, what)) => Err(Invalid(format!("{what} is for Windows only"))),
        None => Ok(()),
    }
}

fn recovery(unit: &mut String, definition: &ServiceDefinition) {
    let restart = definition.recovery.actions.iter().find(|a| a.kind == RecoveryKind::Restart);
    match restart {
        Some(action) => {
            unit.push_str("Restart=always\n");
            line(unit, "RestartSec", &seconds(action.delay));
        }
        None => unit.push_str("Restart=no\n"),
    }
}

fn user(account: &Account, scope: Scope) -> Result<Option<&str>, Invalid> {
    match (account, scope) {
        (Account::Virtual | Account::System, _) => Ok(None),
        (Account::User { name, password: None }, Scope::System) => Ok(Some(name)),
        (Account::User { password: Some(_), .. }, Scope::System) => {
            Err(Invalid("systemd needs no password of an account".into()))
        }
        (Account::User { .. }, Scope::User | Scope::AllUsers) => {
            Err(Invalid("a user's service manager runs services as that user only".into()))
        }
        (Account::LocalService | Account::NetworkService, _) => {
            Err(Invalid("LocalService and NetworkService are accounts of Windows".into()))
        }
    }
}

/// What shuts the service off from most of the host. The cgroup tree stays writable, since programs get their own there.
fn harden(unit: &mut String, definition: &ServiceDefinition) -> Result<(), Invalid> {
    unit.push_str(
        "NoNewPrivileges=yes\nProtectSystem=strict\nProtectHome=read-only\nPrivateTmp=yes\nPrivateDevices=yes\n\
         ProtectClock=yes\nProtectHostname=yes\nProtectKernelLogs=yes\nProtectKernelModules=yes\n\
         ProtectKernelTunables=yes\nLockPersonality=yes\nMemoryDenyWriteExecute=yes\nRestrictNamespaces=yes\n\
         RestrictRealtime=yes\nRestrictSUIDSGID=yes\nSystemCallArchitectures=native\n",
    );
    for folder in &definition.systemd.writable {
        // With `-` the unit also starts when the folder is not there yet.
        line(unit, "ReadWritePaths", &format!("-{}", word(&folder.display().to_string(), Dollar::Plain)?));
    }
    Ok(())
}

fn line(unit: &mut String, key: &str, value: &str) {
    let _ = writeln!(unit, "{key}={value}");
}

/// Text on one line. `%` begins a specifier (systemd.unit(5)).
fn plain(text: &str) -> String {
    let one_line: Vec<&str> = text.split(|c: char| c.is_control()).filter(|part| !part.is_empty()).collect();
    one_line.join(" ").trim_end_matches('\\').replace('%', "%%")
}

/// What `systemd.unit(5)` puts the user's home folder for.
pub(crate) const HOME: &str = "%h/";

fn command(program: &str, arguments: &[String], scope: Scope) -> Result<String, Invalid> {
    // The path itself takes no variables, but specifiers.
    let mut words = vec![word(program, Dollar::Plain)?];
    for argument in arguments {
        let (home, rest) = match argument.strip_prefix(HOME) {
            Some(rest) if scope == Scope::AllUsers => (HOME, rest),
            _ => ("", argument.as_str()),
        };
        let rest = word(rest, Dollar::Doubled)?;
        words.push(match rest.strip_prefix('"') {
            Some(quoted) => format!("\"{home}{quoted}"),
            None => format!("{home}{rest}"),
        });
    }
    Ok(words.join(" "))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dollar {
    /// It is a letter here.
    Plain,
    /// It would begin a variable.
    Doubled,
}

/// One word, quoted if it has to be (systemd.syntax(7)).
fn word(text: &str, dollar: Dollar) -> Result<String, Invalid> {
    let mut quoted = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '%' => quoted.push_str("%%"),
            '$' if dollar == Dollar::Doubled => quoted.push_str("$$"),
            c if c.is_control() => {
                return Err(Invalid(format!(
                    "a systemd unit cannot hold {c:?} in `{}`",
                    text.escape_debug()
                )));
            }
            c => quoted.push(c),
        }
    }
    let bare = |c: char| c.is_alphanumeric() || "-_./:=@+,%$".contains(c);
    let needs_quotes = text.is_empty() || !text.chars().all(bare);
    Ok(if needs_quotes { format!("\"{quoted}\"") } else { quoted })
}

/// The words of a unit's `ExecStart`, as they were given to [`text`].
#[must_use]
pub fn command_of(unit: &str) -> Vec<String> {
    let Some(line) = unit.lines().find_map(|l| l.strip_prefix("ExecStart=")) else { return Vec::new() };
    let (mut words, mut letters) = (Vec::new(), line.chars().peekable());
    while letters.peek().is_some() {
        let (mut word, mut quoted) = (String::new(), false);
        while let Some(c) = letters.next() {
            match (c, letters.peek()) {
                ('"', _) => quoted = !quoted,
                ('\\', Some('n')) => word.extend(letters.next().map(|_| '\n')),
                ('\\', Some('t')) => word.extend(letters.next().map(|_| '\t')),
                ('\\', Some(_)) => word.extend(letters.next()),
                ('%', Some('%')) | ('$', Some('$')) => word.extend(letters.next()),
                (' ', _) if !quoted => break,
                (c, _) => word.push(c),
            }
        }
        words.push(word);
    }
    words
}

/// The same as the user with this home folder starts it.
#[cfg(any(unix, test))]
pub(crate) fn command_in(unit: &str, home: Option<&str>) -> Vec<String> {
    let own = |word: String| match (word.strip_prefix(HOME), home) {
        (Some(rest), Some(home)) => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => word,
    };
    command_of(unit).into_iter().map(own).collect()
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> String {
    let more = u64::from(duration.subsec_nanos() > 0);
    format!("{}s", duration.as_secs() + more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::definition::{Recovery, Secret};

    fn shop() -> ServiceDefinition {
        ServiceDefinition {
            description: "The shop's front, 100 %".into(),
            arguments: ["internal", "service", "--name", "shop", "--config", "/srv/my shop/keepwell.toml"]
                .map(str::to_owned)
                .to_vec(),
            depends_on: vec!["postgresql".into(), "mnt-data.mount".into()],
            stop_timeout: Duration::from_millis(42_500),
            ..ServiceDefinition::new("shop", "/usr/local/bin/keepwell")
        }
    }

    #[test]
    fn a_unit_says_all_that_a_guardian_needs() {
        let mut definition = shop();
        definition.systemd.reload =
            ["/usr/local/bin/keepwell", "reload", "--file", "/srv/my shop/keepwell.toml"]
                .map(str::to_owned)
                .to_vec();
        definition.systemd.environment = [("RUST_LOG".to_owned(), "a b%".to_owned())].into();
        insta::assert_snapshot!(text(&definition, Scope::System).unwrap(), @r#"
        # Written by keepwell; `systemctl edit shop` adds to it.
        [Unit]
        Description=The shop's front, 100 %%
        Wants=network-online.target
        After=network-online.target
        Requires=postgresql.service
        After=postgresql.service
        Requires=mnt-data.mount
        After=mnt-data.mount
        StartLimitIntervalSec=0

        [Service]
        Type=notify
        NotifyAccess=main
        ExecStart=/usr/local/bin/keepwell internal service --name shop --config "/srv/my shop/keepwell.toml"
        ExecReload=/usr/local/bin/keepwell reload --file "/srv/my shop/keepwell.toml"
        Environment="RUST_LOG=a b%%"
        KillMode=mixed
        Delegate=yes
        OOMPolicy=continue
        Restart=always
        RestartSec=5s
        TimeoutStartSec=infinity
        TimeoutStopSec=43s
        LimitNOFILE=524288
        TasksMax=infinity

        [Install]
        WantedBy=multi-user.target
        "#);
    }

    #[test]
    fn sandboxing_comes_when_asked_for() {
        let mut definition = shop();
        assert!(!text(&definition, Scope::System).unwrap().contains("NoNewPrivileges"));
        definition.systemd.harden = true;
        definition.systemd.writable = vec!["/var/lib/keepwell".into(), "/srv/my shop".into()];
        insta::assert_snapshot!(text(&definition, Scope::System).unwrap(), @r#"
        # Written by keepwell; `systemctl edit shop` adds to it.
        [Unit]
        Description=The shop's front, 100 %%
        Wants=network-online.target
        After=network-online.target
        Requires=postgresql.service
        After=postgresql.service
        Requires=mnt-data.mount
        After=mnt-data.mount
        StartLimitIntervalSec=0

        [Service]
        Type=notify
        NotifyAccess=main
        ExecStart=/usr/local/bin/keepwell internal service --name shop --config "/srv/my shop/keepwell.toml"
        KillMode=mixed
        Delegate=yes
        OOMPolicy=continue
        Restart=always
        RestartSec=5s
        TimeoutStartSec=infinity
        TimeoutStopSec=43s
        LimitNOFILE=524288
        TasksMax=infinity
        NoNewPrivileges=yes
        ProtectSystem=strict
        ProtectHome=read-only
        PrivateTmp=yes
        PrivateDevices=yes
        ProtectClock=yes
        ProtectHostname=yes
        ProtectKernelLogs=yes
        ProtectKernelModules=yes
        ProtectKernelTunables=yes
        LockPersonality=yes
        MemoryDenyWriteExecute=yes
        RestrictNamespaces=yes
        RestrictRealtime=yes
        RestrictSUIDSGID=yes
        SystemCallArchitectures=native
        ReadWritePaths=-/var/lib/keepwell
        ReadWritePaths=-"/srv/my shop"

        [Install]
        WantedBy=multi-user.target
        "#);
    }

    #[test]
    fn a_users_unit_belongs_to_the_users_manager() {
        let unit = text(&shop(), Scope::User).unwrap();
        assert!(unit.contains("WantedBy=default.target") && !unit.contains("network-online"), "{unit}");
        let demand = ServiceDefinition { start: StartMode::Demand, recovery: Recovery::none(), ..shop() };
        let unit = text(&demand, Scope::User).unwrap();
        assert!(!unit.contains("[Install]") && unit.contains("Restart=no"), "{unit}");
    }

    #[test]
    fn accounts_are_those_of_the_system() {
        let with = |account, scope| text(&ServiceDefinition { account, ..shop() }, scope).map_err(|e| e.0);
        let anna = |password| Account::User { name: "anna".into(), password };
        assert!(with(anna(None), Scope::System).unwrap().contains("\nUser=anna\n"));
        assert!(with(anna(Some(Secret::new("x"))), Scope::System).unwrap_err().contains("no password"));
        assert!(with(anna(None), Scope::User).unwrap_err().contains("as that user only"));
        assert!(with(Account::LocalService, Scope::System).unwrap_err().contains("Windows"));
    }

    #[test]
    fn what_only_windows_knows_is_refused() {
        let mut definition = shop();
        definition.windows.security = Some("D:".into());
        assert_eq!(text(&definition, Scope::System).unwrap_err().0, "an SDDL is for Windows only");
    }

    #[test]
    fn words_mean_themselves() {
        let words = ["$HOME", "50%", "say \"hi\"\n", r"a\b", "", "it's", ";"].map(str::to_owned);
        assert_eq!(
            command("/x$y", &words, Scope::System).unwrap(),
            r#"/x$y $$HOME 50%% "say \"hi\"\n" "a\\b" "" "it's" ";""#
        );
        assert!(command("/x", &["\u{7}".to_owned()], Scope::System).is_err());
        let unit = format!("[Service]\nExecStart={}\n", command("/x$y", &words, Scope::System).unwrap());
        assert_eq!(command_of(&unit).split_first().unwrap(), (&"/x$y".to_owned(), words.as_slice()));
        assert!(command_of("[Service]").is_empty());
        assert_eq!(plain("a\nb \\"), "a b ");
    }

    #[test]
    fn what_is_each_users_own_is_in_their_home() {
        let words = ["%h/state/100 %".to_owned(), "%h/x".to_owned()];
        let each = command("/x", &words, Scope::AllUsers).unwrap();
        assert_eq!(each, r#"/x "%h/state/100 %%" %h/x"#);
        assert_eq!(command("/x", &words, Scope::System).unwrap(), r#"/x "%%h/state/100 %%" %%h/x"#);
        let unit = format!("[Service]\nExecStart={each}\n");
        assert_eq!(command_in(&unit, Some("/home/anna")), ["/x", "/home/anna/state/100 %", "/home/anna/x"]);
        assert_eq!(command_in(&unit, None)[2], "%h/x");
    }

    #[test]
    fn names_are_those_that_systemd_knows() {
        assert_eq!(file_name("shop-1").unwrap(), "shop-1.service");
        for wrong in ["", "my shop", "a/b", "ü", "a@b"] {
            assert!(file_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn systemd_takes_what_is_written() {
        let Ok(found) = std::process::Command::new("systemd-analyze").arg("--version").output() else {
            return;
        };
        assert!(found.status.success());
        let folder = tempfile::tempdir().unwrap();
        for (harden, arguments) in
            [(false, vec![]), (true, vec!["$HOME 50% \"x\"".to_owned(), "a\\b;c".to_owned()])]
        {
            let mut definition = ServiceDefinition { arguments, depends_on: vec![], ..shop() };
            definition.program = "/bin/sh".into();
            definition.systemd.harden = harden;
            definition.systemd.writable = vec!["/srv/my shop".into()];
            definition.systemd.working_folder = Some("/srv/my shop".into());
            let file = folder.path().join("keepwell-verify.service");
            std::fs::write(&file, text(&definition, Scope::System).unwrap()).unwrap();
            let checked =
                std::process::Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
            let said = String::from_utf8_lossy(&checked.stderr).into_owned();
            let ours: Vec<&str> = said.lines().filter(|l| l.contains("keepwell-verify")).collect();
            assert!(ours.is_empty(), "{said}");
        }
    }
}
