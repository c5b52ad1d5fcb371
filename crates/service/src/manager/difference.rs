//! What an installation would change: two definitions beside each other.

use std::time::Duration;

use super::definition::{
    Account, ErrorControl, Recovery, RecoveryKind, ServiceDefinition, SidType, StartMode, Trigger,
};

/// One thing that is to be otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What, in a word or two.
    pub what: String,
    /// As it was.
    pub from: String,
    /// As it is to be.
    pub to: String,
}

/// What differs for the SCM, in a fixed order. A password cannot be compared: with one given, the account counts as changed.
#[must_use]
pub fn differences(now: &ServiceDefinition, wanted: &ServiceDefinition) -> Vec<Change> {
    let both = |pick: &dyn Fn(&ServiceDefinition) -> String| (pick(now), pick(wanted));
    let all: [(&'static str, (String, String)); 15] = [
        ("program", both(&ServiceDefinition::image)),
        ("display name", both(&|d| d.display_name.clone())),
        ("description", both(&|d| d.description.clone())),
        ("start", both(&|d| start(d.start).to_owned())),
        ("account", both(&account)),
        ("dependencies", both(&|d| d.depends_on.join(", "))),
        ("error control", both(&|d| error_control(d.error_control).to_owned())),
        ("load order group", both(&|d| d.windows.group.clone().unwrap_or_default())),
        ("stop timeout", both(&|d| milliseconds(d.stop_timeout))),
        ("recovery", both(&|d| recovery(&d.recovery))),
        ("recovery on errors", both(&|d| yes(d.recovery.also_on_error).to_owned())),
        ("service SID", both(&|d| sid(d.windows.sid).to_owned())),
        ("privileges", both(&|d| privileges(&d.privileges()))),
        ("triggers", both(&|d| triggers(&d.windows.triggers))),
        ("security", both(&|d| d.windows.security.clone().unwrap_or_default())),
    ];
    let differs = |(what, (from, to)): (&'static str, (String, String))| {
        let same = match what {
            // Both name the same account in any case, and so does the SCM.
            "account" => from.eq_ignore_ascii_case(&to),
            // Without a wish, the system's default stays.
            "security" => to.is_empty() || from == to,
            _ => from == to,
        };
        (!same).then(|| Change { what: what.to_owned(), from, to })
    };
    let mut changes: Vec<Change> = all.into_iter().filter_map(differs).collect();
    let password = matches!(&wanted.account, Account::User { password: Some(_), .. });
    if password && changes.iter().all(|c| c.what != "account") {
        let (from, to) = (account(now), account(wanted));
        changes.push(Change { what: "account".to_owned(), from, to });
    }
    changes
}

fn account(definition: &ServiceDefinition) -> String {
    definition.account_name()
}

/// As it is typed.
pub(crate) fn start(mode: StartMode) -> &'static str {
    match mode {
        StartMode::Auto => "auto",
        StartMode::Delayed => "delayed",
        StartMode::Demand => "demand",
        StartMode::Disabled => "disabled",
    }
}

fn error_control(control: ErrorControl) -> &'static str {
    match control {
        ErrorControl::Ignore => "ignore",
        ErrorControl::Normal => "normal",
        ErrorControl::Severe => "severe",
        ErrorControl::Critical => "critical",
    }
}

fn sid(sid: SidType) -> &'static str {
    match sid {
        SidType::None => "none",
        SidType::Unrestricted => "unrestricted",
        SidType::Restricted => "restricted",
    }
}

fn privileges(list: &[String]) -> String {
    if list.is_empty() { "all".to_owned() } else { list.join(", ") }
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

fn recovery(recovery: &Recovery) -> String {
    if recovery.actions.is_empty() {
        return "nothing".to_owned();
    }
    let kind = |kind| match kind {
        RecoveryKind::Nothing => "nothing",
        RecoveryKind::Restart => "restart",
        RecoveryKind::Reboot => "reboot",
        RecoveryKind::Command => "command",
    };
    let actions =
        recovery.actions.iter().map(|a| format!("{} after {}", kind(a.kind), milliseconds(a.delay)));
    let mut text = format!(
        "{}; anew after {} s",
        actions.collect::<Vec<_>>().join(", "),
        recovery.reset_after.as_secs()
    );
    for (name, value) in [("command", &recovery.command), ("message", &recovery.reboot_message)] {
        if let Some(value) = value {
            text += &format!("; {name} {value}");
        }
    }
    text
}

fn triggers(triggers: &[Trigger]) -> String {
    let one = |t: &Trigger| format!("{:?} on {:?}", t.action, t.kind);
    triggers.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::definition::{Privileges, Secret};

    fn shop() -> ServiceDefinition {
        ServiceDefinition::new("shop", r"C:\keepwell.exe")
    }

    #[test]
    fn the_same_twice_changes_nothing() {
        assert_eq!(differences(&shop(), &shop()), []);
    }

    #[test]
    fn each_thing_that_differs_is_told_once() {
        let mut wanted = shop();
        wanted.start = StartMode::Delayed;
        wanted.depends_on = vec!["Tcpip".into(), "+Network".into()];
        wanted.stop_timeout = Duration::from_secs(90);
        wanted.recovery.actions.truncate(1);
        wanted.windows.privileges = Privileges::These(vec!["SeChangeNotifyPrivilege".into()]);
        let told: Vec<String> = differences(&shop(), &wanted)
            .iter()
            .map(|c| format!("{}: {} → {}", c.what, c.from, c.to))
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        start: auto → delayed
        dependencies:  → Tcpip, +Network
        stop timeout: 30000 ms → 90000 ms
        recovery: restart after 5000 ms, restart after 5000 ms, restart after 5000 ms; anew after 86400 s → restart after 5000 ms; anew after 86400 s
        privileges: SeChangeNotifyPrivilege, SeCreateGlobalPrivilege → SeChangeNotifyPrivilege
        ");
    }

    #[test]
    fn a_password_counts_and_the_case_of_a_name_does_not() {
        let user = |name: &str, password| ServiceDefinition {
            account: Account::User { name: name.into(), password },
            ..shop()
        };
        assert_eq!(differences(&user(r"CORP\Anna", None), &user(r"corp\anna", None)), []);
        let changed = differences(&user("anna", None), &user("anna", Some(Secret::new("secret word"))));
        assert_eq!(changed.len(), 1);
        assert!(!format!("{changed:?}").contains("secret word"));
    }

    #[test]
    fn the_systems_security_stays_without_a_wish() {
        let mut now = shop();
        now.windows.security = Some("D:(A;;CCLCSWRPWPDTLOCRRC;;;SY)".into());
        assert_eq!(differences(&now, &shop()), []);
        assert_eq!(differences(&shop(), &now).len(), 1);
    }
}
