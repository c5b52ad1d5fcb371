//! The process, and all that keepwell does not know.

use roxmltree::Node;

use super::{File, element, elements, inner};

/// What is read elsewhere, as WinSW writes it.
pub(super) const KNOWN: [&str; 41] = [
    "id",
    "name",
    "description",
    "executable",
    "arguments",
    "argument",
    "startarguments",
    "startargument",
    "stopexecutable",
    "stoparguments",
    "stopargument",
    "workingdirectory",
    "priority",
    "stoptimeout",
    "stopparentprocessfirst",
    "env",
    "onfailure",
    "resetfailure",
    "startmode",
    "delayedAutoStart",
    "depend",
    "serviceaccount",
    "logpath",
    "logmode",
    "logname",
    "log",
    "outfiledisabled",
    "errfiledisabled",
    "outfilepattern",
    "errfilepattern",
    "prestart",
    "poststart",
    "prestop",
    "poststop",
    "securityDescriptor",
    "preshutdown",
    "preshutdownTimeout",
    "hidewindow",
    "waithint",
    "sleeptime",
    "autoRefresh",
];

impl<'a, 'i> File<'a, 'i> {
    pub(super) fn rest(&mut self) {
        let nice = match self.of("priority").unwrap_or_default().to_lowercase().as_str() {
            "" | "normal" => None,
            "idle" => Some("19"),
            "belownormal" => Some("10"),
            "abovenormal" => Some("-5"),
            "high" => Some("-15"),
            "realtime" => {
                self.draft.differs("priority", "no service is given the realtime class; -20 is the high one");
                Some("-20")
            }
            other => {
                self.draft.lose(format!("priority {other}"), "it is no priority class; write `nice`");
                None
            }
        };
        if let Some(nice) = nice {
            self.draft.keys.push(("nice", nice.to_owned()));
        }
        self.without_meaning();
        let mut told: Vec<&str> = Vec::new();
        for node in self.root.children().filter(Node::is_element) {
            let name = node.tag_name().name();
            if !KNOWN.contains(&name) && !told.contains(&name) {
                told.push(name);
                self.unknown(name);
            }
        }
    }

    /// What keepwell does anyway, or need not do.
    fn without_meaning(&mut self) {
        for (name, why) in [
            ("hidewindow", "a service's console is always hidden"),
            ("waithint", "keepwell tells Windows by itself how long a start or a stop takes"),
            ("sleeptime", "keepwell tells Windows by itself how long a start or a stop takes"),
            (
                "autoRefresh",
                "`keepwell service install`, said again, changes what differs; `keepwell reload` takes on a changed file",
            ),
        ] {
            if element(self.root, name).is_some() {
                self.draft.differs(name, why);
            }
        }
    }

    fn unknown(&mut self, name: &str) {
        match name {
            "download" => self.downloads(),
            "extensions" => self.extensions(),
            "sharedDirectoryMapping" => {
                let why = "no drive letters are made; write the UNC paths themselves, or `net use` in hooks.pre_start";
                self.draft.lose(name, why);
            }
            "beeponshutdown" => {
                self.draft.lose(name, "keepwell makes no sound; `keepwell events` tells of every stop")
            }
            "interactive" => {
                let why = "services have no desktop since Windows Vista; let the program run in a user's session (--user)";
                self.draft.lose(name, why);
            }
            other => {
                let near = KNOWN.iter().find(|k| k.eq_ignore_ascii_case(other));
                let why = match near {
                    Some(known) => format!("WinSW itself ignores it, since it is written <{known}>"),
                    None => "keepwell does not know this element; look whether you need it".to_owned(),
                };
                self.draft.lose(other, why);
            }
        }
    }

    fn downloads(&mut self) {
        for node in elements(self.root, "download") {
            // The address may hold a password, and so may other attributes.
            let to = node.attribute("to").unwrap_or_default();
            let why = "keepwell fetches nothing; let hooks.pre_start do it (curl.exe -o, Invoke-WebRequest), with `may_fail` as \
                       failOnError wants it";
            self.draft.lose(format!("download to {to}"), why);
        }
    }

    fn extensions(&mut self) {
        let all = element(self.root, "extensions").into_iter().flat_map(|e| elements(e, "extension"));
        for node in all {
            let class = node.attribute("className").unwrap_or_default();
            let id = node.attribute("id").map(str::to_owned).unwrap_or_else(|| inner(node));
            let what = format!("extension {id}");
            if class.contains("RunawayProcessKiller") {
                self.draft
                    .differs(what, "what an earlier run left is always ended before the next one starts");
            } else if class.contains("SharedDirectoryMapper") {
                let why = "no drive letters are made; write the UNC paths themselves, or `net use` in hooks.pre_start";
                self.draft.lose(what, why);
            } else {
                self.draft.lose(what, "keepwell has no extensions; look whether you need it");
            }
        }
    }
}
