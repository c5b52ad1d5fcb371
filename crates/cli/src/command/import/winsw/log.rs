//! Where the output went.

use super::{File, Wrong, child, element, wrong};
use crate::command::import::draft::{SMALLEST_LOG, size, written};
use crate::command::import::fill::plain;

/// WinSW's own, in KB.
const THRESHOLD: u64 = 10 * 1024;

impl File<'_, '_> {
    pub(super) fn log(&mut self) -> Result<(), Wrong> {
        let log = element(self.root, "log");
        let mode = self.of("logmode").or_else(|| log?.attribute("mode").map(str::to_owned));
        let mode = mode.unwrap_or_else(|| "append".to_owned());
        if mode == "none" {
            let why = "output is not thrown away; `keepwell logs` shows it, and log.rotate bounds it";
            self.draft.differs("log mode=\"none\"", why);
            return Ok(());
        }
        self.files()?;
        let number = |name: &str| -> Result<Option<u64>, Wrong> {
            let Some(node) = log.and_then(|l| element(l, name)) else { return Ok(None) };
            let text = super::inner(node);
            text.parse().map(Some).map_err(|_| wrong(node, format!("<{name}> is a number, not `{text}`")))
        };
        let why = match mode.as_str() {
            "append" => None,
            "roll-by-size" | "rotate" | "roll-by-size-time" => {
                let bytes = number("sizeThreshold")?.unwrap_or(THRESHOLD).saturating_mul(1024);
                self.draft.rotate.push(("size", size(bytes.min(1 << 50))));
                if bytes < SMALLEST_LOG {
                    self.draft.differs("sizeThreshold", "a new file is begun at 64 KiB at the earliest");
                }
                self.draft.rotate.push(("keep", number("keepFiles")?.unwrap_or(8).min(10_000).to_string()));
                (mode == "roll-by-size-time").then_some("a new file is begun by size only")
            }
            "reset" => {
                Some("keepwell adds to a file and never empties one; the hook hooks.pre_start may remove it")
            }
            "roll" => {
                Some("keepwell adds to the file at a start, and begins a new one by size (log.rotate.size)")
            }
            "roll-by-time" => Some("a new file is begun by size only (log.rotate.size)"),
            _ => {
                let node = element(self.root, "logmode").or(log).unwrap_or(self.root);
                return Err(wrong(node, format!("`{mode}` is no mode of <log> that WinSW knows")));
            }
        };
        if let Some(why) = why {
            self.draft.lose(format!("log mode=\"{mode}\""), why);
        }
        for name in ["pattern", "period", "autoRollAtTime", "zipOlderThanNumDays", "zipDateFormat"] {
            if log.is_some_and(|l| element(l, name).is_some()) {
                let why = "full files are called NAME.log.1 and so on, and are not compressed; log.rotate.keep says how many stay";
                self.draft.lose(format!("log/{name}"), why);
            }
        }
        Ok(())
    }

    fn files(&mut self) -> Result<(), Wrong> {
        // In version 2 of the file it may stand within <log>.
        let folder = self.of("logpath").or_else(|| child(element(self.root, "log")?, "logpath"));
        let folder = self.draft.filled(&folder.unwrap_or_else(|| "%BASE%".to_owned()));
        let separator = if folder.contains('\\') { '\\' } else { '/' };
        let name = self.of("logname").unwrap_or_else(|| plain(&self.stem));
        let name = self.draft.filled(&name);
        for (key, disabled, pattern, ending) in [
            ("file", "outfiledisabled", "outfilepattern", ".out.log"),
            ("stderr_file", "errfiledisabled", "errfilepattern", ".err.log"),
        ] {
            if self.is_on(disabled)? {
                self.draft.differs(
                    disabled,
                    "output is not thrown away; `keepwell logs` shows it, and log.rotate bounds it",
                );
                continue;
            }
            let ending = self.of(pattern).unwrap_or_else(|| ending.to_owned());
            let ending = self.draft.filled(&ending);
            let file = format!("{}{separator}{name}{ending}", folder.trim_end_matches(['\\', '/']));
            self.draft.log.push((key, written(&file)));
        }
        Ok(())
    }
}
