//! A program that this process runs itself, with all that it starts, which ends with it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use super::program;
use super::spawn::Faults;
use super::tree::MARK;
use super::tree::process::{all, kill_until_none, mark, with_descendants};

/// Where the program reads.
pub type Input = ChildStdin;

/// Numbers of the marks; far above those of runs.
static NEXT: AtomicU64 = AtomicU64::new(1 << 63);

/// All of it ends when this is dropped.
#[derive(Debug)]
pub struct Held {
    child: Child,
    reaped: bool,
    mark: (String, u64),
}

impl Held {
    /// Starts `program` with `arguments` in `folder`, where its name is looked for if it has a folder, in `PATH` otherwise. Its
    /// output goes nowhere. What it starts carries the mark of `guardian`, as everything that keepwell starts.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn start(
        program: &str,
        arguments: &[&str],
        folder: &Path,
        guardian: &str,
    ) -> io::Result<(Held, Input)> {
        let path = std::env::var("PATH").unwrap_or_default();
        let file = program::find(program, &path, folder).map_err(|e| io::Error::other(e.to_string()))?;
        let mark = (guardian.to_owned(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(file);
        command.args(arguments).current_dir(folder).env(MARK, format!("{}/{}", mark.0, mark.1));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let held = Held { child, reaped: false, mark };
        input.map(|input| (held, input)).ok_or_else(|| io::Error::other("it has no input"))
    }

    /// How it ended, if it has: its exit code, or none if it was killed.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> io::Result<Option<Option<i32>>> {
        let status = self.child.try_wait()?;
        self.reaped |= status.is_some();
        Ok(status.map(|status| status.code()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Once it is reaped its number may be another's.
        let roots: BTreeSet<u32> = (!self.reaped).then(|| self.child.id()).into_iter().collect();
        kill_until_none(20, Faults::default(), || {
            let all = all();
            let mut found: BTreeSet<_> = with_descendants(&all, &roots).into_iter().collect();
            found.extend(all.into_iter().filter(|p| mark(p.pid).as_ref() == Some(&self.mark)));
            found.into_iter().collect()
        });
        // It was killed just now, or has ended by itself.
        let _ = self.child.wait();
    }
}
