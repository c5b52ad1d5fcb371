//! Where the output went.

use super::{PARAMETERS, Service};
use crate::command::import::draft::{Draft, SMALLEST_LOG, size, written};

/// `CreationDisposition` that empties a file: `CREATE_ALWAYS`, `TRUNCATE_EXISTING`.
const EMPTIES: [u64; 2] = [2, 5];

impl Service<'_> {
    pub(super) fn output(&self, draft: &mut Draft) {
        let (out, err) = (self.file(draft, "AppStdout"), self.file(draft, "AppStderr"));
        let apart = match (&out, &err) {
            (Some(out), Some(err)) => !out.eq_ignore_ascii_case(err),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if let Some(file) = &out {
            draft.log.push(("file", written(file)));
        }
        if let Some(file) = err.as_ref().filter(|_| apart) {
            draft.log.push(("stderr_file", written(file)));
        }
        if self.raw(PARAMETERS, "AppStdin").is_some() {
            draft.lose(
                "AppStdin",
                "a service has no input; let the program open the file, or a script feed it",
            );
        }
        for (name, why) in [
            (
                "AppStdout",
                "keepwell adds to a file and never empties one; the hook hooks.pre_start may remove it",
            ),
            (
                "AppStderr",
                "keepwell adds to a file and never empties one; the hook hooks.pre_start may remove it",
            ),
        ] {
            let what = format!("{name}CreationDisposition");
            if self.own(&what).is_some_and(|d| EMPTIES.contains(&d)) {
                draft.lose(what, why);
            }
        }
        self.rotation(draft, out.is_some() || err.is_some());
    }

    /// A file that output went to, with its folder.
    fn file(&self, draft: &mut Draft, name: &str) -> Option<String> {
        let file = self.text(draft, name)?;
        if file.eq_ignore_ascii_case("nul") {
            draft.differs(
                format!("{name} = NUL"),
                "output is not thrown away; `keepwell logs` shows it, and log.rotate bounds it",
            );
            return None;
        }
        let absolute = file.starts_with(['\\', '/', '$']) || file.get(1..2) == Some(":");
        let folder = self.folder(draft);
        // NSSM's are relative to AppDirectory, keepwell's to the folder of the configuration.
        Some(match folder.trim_end_matches(['\\', '/']) {
            folder if !absolute && !folder.is_empty() => format!(r"{folder}\{file}"),
            _ => file,
        })
    }

    fn rotation(&self, draft: &mut Draft, files: bool) {
        let bytes =
            self.own("AppRotateBytes").unwrap_or(0) + (self.own("AppRotateBytesHigh").unwrap_or(0) << 32);
        let rotates = self.own("AppRotateFiles").is_some_and(|n| n > 0);
        if rotates && bytes > 0 {
            draft.rotate.push(("size", size(bytes)));
            if bytes < SMALLEST_LOG {
                draft.differs("AppRotateBytes", "a new file is begun at 64 KiB at the earliest");
            }
        }
        if files {
            let what = if rotates { "AppRotateFiles" } else { "AppStdout, AppStderr" };
            let why = "a new file is begun while the program runs, at log.rotate.size, and the last 7 full ones are kept \
                       (log.rotate.keep); NSSM never removed one";
            draft.differs(what, why);
        }
        for (name, why) in [
            ("AppRotateSeconds", "a new file is begun by size only (log.rotate.size)"),
            (
                "AppTimestampLog",
                "lines are kept as they were written; let the program write the time if you need it in the file",
            ),
            (
                "AppStdoutCopyAndTruncate",
                "full files are renamed; a reader that follows the file by its name sees the new one",
            ),
            (
                "AppStderrCopyAndTruncate",
                "full files are renamed; a reader that follows the file by its name sees the new one",
            ),
        ] {
            if self.own(name).is_some_and(|n| n > 0) {
                draft.lose(name, why);
            }
        }
    }
}
