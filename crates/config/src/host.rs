//! What only the host can tell of a configuration. The looking itself is the caller's.

use std::path::Path;

use crate::config::{Config, Context};
use crate::diagnostic::Diagnostic;
use crate::read::{Draft, Reader};
use crate::source::Source;

impl Config {
    /// What only the host can tell: programs that are not there, `env_file`s that cannot be read. `is_program` looks at one
    /// path and says why it cannot be started. Findings are errors for `keepwell check`; a guardian starts all the same.
    pub fn check_host(
        &self,
        sources: &[Source],
        cx: &Context,
        is_program: &mut dyn FnMut(&Path) -> Result<(), String>,
    ) -> Vec<Diagnostic> {
        let mut r = Reader::new(sources);
        for (name, service) in &self.services {
            let resolved = match service.resolve(1, cx) {
                Ok(resolved) => resolved,
                Err(d) => {
                    r.push(
                        Draft::error("env-file", service.command_at, d.message)
                            .help(d.help.unwrap_or_default()),
                    );
                    continue;
                }
            };
            let candidates = resolved.candidates();
            let mut reasons = vec![];
            if candidates.iter().any(|c| is_program(c).map_err(|why| reasons.push((c.clone(), why))).is_ok())
            {
                continue;
            }
            let program = resolved.argv.first().cloned().unwrap_or_default();
            let message = format!("the program of services.{name} cannot be started: {program}");
            let label = match reasons.as_slice() {
                [(path, why)] => format!("{}: {why}", path.display()),
                _ => "it is in no folder of PATH".to_owned(),
            };
            let draft = Draft::error("missing-program", service.command_at, message).label(label);
            r.push(draft.help("a name with a slash is looked up in `cwd`, a bare one in the service's PATH"));
        }
        r.finish().0.0
    }
}
