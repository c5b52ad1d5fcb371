//! What the service manager was told of the service.

use super::Service;
use crate::command::import::draft::{Draft, duration};

/// What Windows takes without being told, in milliseconds.
const PRESHUTDOWN: u64 = 180_000;

impl Service<'_> {
    pub(super) fn registration(&self, draft: &mut Draft) {
        if let Some(name) = self.raw("", "DisplayName").filter(|d| *d != draft.name) {
            draft.install.push(("display-name", name.to_owned()));
        }
        if let Some(description) = self.raw("", "Description") {
            draft.description = Some(description.to_owned());
            draft.install.push(("description", description.to_owned()));
        }
        let delayed = self.number("", "DelayedAutostart") == Some(1);
        match self.number("", "Start") {
            Some(2) if delayed => draft.install.push(("start", "delayed".into())),
            Some(3) => draft.install.push(("start", "demand".into())),
            Some(4) => draft.install.push(("start", "disabled".into())),
            Some(_) | None => {}
        }
        match self.number("", "ErrorControl") {
            Some(0) => draft.install.push(("error-control", "ignore".into())),
            Some(2) => draft.install.push(("error-control", "severe".into())),
            Some(3) => draft.install.push(("error-control", "critical".into())),
            Some(_) | None => {}
        }
        let groups = self.list("", "DependOnGroup").iter().map(|g| format!("+{}", g.trim_start_matches('+')));
        for other in self.list("", "DependOnService").iter().cloned().chain(groups) {
            draft.install.push(("depends-on", other));
        }
        draft.account(self.raw("", "ObjectName").unwrap_or("LocalSystem"));
        for privilege in self.list("", "RequiredPrivileges") {
            draft.install.push(("privilege", privilege.clone()));
        }
        if let Some(timeout) = self.number("", "PreshutdownTimeout").filter(|t| *t != PRESHUTDOWN) {
            draft.install.push(("stop-timeout", duration(timeout).trim_matches('"').to_owned()));
        }
        self.not_registered(draft);
    }

    fn not_registered(&self, draft: &mut Draft) {
        /// Said by `install` itself, or of the entry and not of the service.
        const KNOWN: [&str; 16] = [
            "type",
            "start",
            "errorcontrol",
            "imagepath",
            "displayname",
            "objectname",
            "description",
            "dependonservice",
            "dependongroup",
            "delayedautostart",
            "requiredprivileges",
            "preshutdowntimeout",
            "environment",
            "servicesidtype",
            "wow64",
            "failureactionsonnoncrashfailures",
        ];
        if self.number("", "Type").is_some_and(|t| t & 0x100 != 0) {
            let why = "services have no desktop since Windows Vista; let the program run in a user's session (--user)";
            draft.lose("Type (interactive)", why);
        }
        for entry in self.key("").into_iter().flat_map(|k| k.values.values()) {
            match entry.name.to_lowercase().as_str() {
                known if KNOWN.contains(&known) => {}
                "failureactions" | "failurecommand" | "rebootmessage" => {
                    let why = "keepwell restarts the program itself, and Windows restarts keepwell (--no-recovery prevents \
                               it); other actions belong into hooks.post_stop";
                    draft.lose(&entry.name, why);
                }
                "group" | "tag" => {
                    draft.lose(
                        &entry.name,
                        "keepwell's services are in no load order group; use --depends-on",
                    );
                }
                _ => draft.lose(
                    &entry.name,
                    "keepwell does not know this value of a service; look whether you need it",
                ),
            }
        }
        let security = self.key(r"\Security").is_some_and(|k| k.values.contains_key("security"));
        if security {
            let why = "who may start and stop the service is not copied; `sc sdshow NAME` shows it, --security gives it";
            draft.lose("Security", why);
        }
        if self.keys.keys().any(|k| k.starts_with(&format!(r"{}\triggerinfo\", self.root))) {
            draft.lose(
                "TriggerInfo",
                "`sc qtriggerinfo NAME` shows what starts the service; --trigger gives it",
            );
        }
    }
}
