//! The process, and all that keepwell does not know.

use super::{EVENTS, EXIT, PARAMETERS, Service};
use crate::command::import::draft::{Draft, written};

/// All of NSSM's, in lower case.
pub(super) const KNOWN: [&str; 40] = [
    "application",
    "appparameters",
    "appdirectory",
    "appenvironment",
    "appenvironmentextra",
    "apprestartdelay",
    "appthrottle",
    "appstopmethodskip",
    "appstopmethodconsole",
    "appstopmethodwindow",
    "appstopmethodthreads",
    "appkillprocesstree",
    "appstdin",
    "appstdinsharemode",
    "appstdincreationdisposition",
    "appstdinflagsandattributes",
    "appstdout",
    "appstdoutsharemode",
    "appstdoutcreationdisposition",
    "appstdoutflagsandattributes",
    "appstdoutcopyandtruncate",
    "appstderr",
    "appstderrsharemode",
    "appstderrcreationdisposition",
    "appstderrflagsandattributes",
    "appstderrcopyandtruncate",
    "appredirecthook",
    "approtatefiles",
    "approtateonline",
    "approtateseconds",
    "approtatebytes",
    "approtatebyteshigh",
    "approtatedelay",
    "apptimestamplog",
    "apppriority",
    "appaffinity",
    "appnoconsole",
    "appexit",
    "appevents",
    "",
];

impl Service<'_> {
    pub(super) fn rest(&self, draft: &mut Draft) {
        self.process(draft);
        for name in ["AppStdout", "AppStderr", "AppStdin"] {
            for what in ["ShareMode", "FlagsAndAttributes"] {
                let what = format!("{name}{what}");
                if self.own(&what).is_some() {
                    draft.lose(what, "keepwell opens its log so that others may read and remove it");
                }
            }
        }
        self.unknown(draft);
    }

    fn process(&self, draft: &mut Draft) {
        // Priority classes of `SetPriorityClass`, and the nice value that stands for each.
        match self.own("AppPriority") {
            None | Some(0x20) => {}
            Some(0x40) => draft.keys.push(("nice", "19".into())),
            Some(0x4000) => draft.keys.push(("nice", "10".into())),
            Some(0x8000) => draft.keys.push(("nice", "-5".into())),
            Some(0x80) => draft.keys.push(("nice", "-15".into())),
            Some(0x100) => {
                draft.keys.push(("nice", "-20".into()));
                draft.differs("AppPriority", "no service is given the realtime class; -20 is the high one");
            }
            Some(_) => draft.lose("AppPriority", "it is no priority class; write `nice`"),
        }
        if let Some(processors) =
            self.raw(PARAMETERS, "AppAffinity").filter(|a| !a.eq_ignore_ascii_case("all"))
        {
            draft.keys.push(("affinity", written(processors)));
        }
        if self.own("AppNoConsole").is_some_and(|n| n > 0) {
            draft.differs(
                "AppNoConsole",
                "every service has a hidden console of its own, through which it hears Ctrl+C",
            );
        }
        if self.own("AppRedirectHook").is_some_and(|n| n > 0) {
            draft.differs("AppRedirectHook", "what hooks write goes into the log of the service in any case");
        }
    }

    fn unknown(&self, draft: &mut Draft) {
        const WHY: &str = "keepwell does not know this setting of NSSM's; look whether you need it";
        for entry in self.key(PARAMETERS).into_iter().flat_map(|k| k.values.values()) {
            if !KNOWN.contains(&entry.name.to_lowercase().as_str()) {
                draft.lose(&entry.name, WHY);
            }
        }
        let above = format!(r"{}{}\", self.root, PARAMETERS.to_lowercase());
        for (path, key) in self.keys.iter().filter(|(path, _)| path.starts_with(&above)) {
            let known = [EXIT, EVENTS].map(|k| format!("{}{}", self.root, k.to_lowercase()));
            if known.iter().all(|k| path != k && !path.starts_with(&format!(r"{k}\"))) {
                // As it is written, whose letters need not be as long as those in lower case.
                let depth = path[self.root.len()..].matches('\\').count();
                let parts: Vec<&str> = key.path.split('\\').collect();
                draft.lose(parts[parts.len().saturating_sub(depth)..].join(r"\"), WHY);
            }
        }
    }
}
