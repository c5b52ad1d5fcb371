//! keepwell's name in the event log of Windows: registered with the first guardian that becomes a service, taken away with the last.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use keepwell_daemon::event_log::{SOURCE, messages};
use keepwell_service::Error;
use keepwell_service::eventlog::Source;
use keepwell_service::manager::{Host, Scope};

use super::place::Place;
use crate::failure::io_words;
use crate::output::talk;

/// A file of its own, for a viewer holds it open as long as it shows events.
const FILE: &str = "keepwell-events.dll";

/// Writes the file of messages and registers the source. A service goes without as well, so what fails is only told.
pub(super) fn register(scope: Scope) {
    if scope != Scope::System || matches!(Source::read(SOURCE), Err(Error::NoEventLog)) {
        return;
    }
    let file = file();
    let done =
        write(&file, &messages().to_dll()).map_err(|e| format!("{}: {}", file.display(), io_words(&e)));
    let done = done.and_then(|()| Source::new(SOURCE, &file).install().map_err(|e| e.to_string()));
    if let Err(why) = done {
        talk(&format!("the event log will show no words around keepwell's events: {why}"));
    }
}

/// The reverse, when no guardian is a service of this host any more.
pub(super) fn forget(host: &Host) {
    if host.list(&|command| Place::of("", command).is_some()).is_ok_and(|left| left.is_empty())
        && Source::remove(SOURCE).is_ok()
    {
        // A viewer may hold it; it does no harm.
        let _ = fs::remove_file(file());
    }
}

fn file() -> PathBuf {
    keepwell_os::files::system_state().join(FILE)
}

/// Only if it says something else: one that a viewer holds cannot be written, but renamed.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::read(file) {
        Ok(there) if there == bytes => return Ok(()),
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        Ok(_) | Err(_) => {}
    }
    fs::create_dir_all(file.parent().unwrap_or(Path::new("")))?;
    let (fresh, old) = (file.with_extension("new"), file.with_extension("old"));
    fs::write(&fresh, bytes)?;
    // One of an earlier change goes, unless a viewer still holds it.
    let _ = fs::remove_file(&old);
    let _ = fs::rename(file, &old);
    fs::rename(&fresh, file)?;
    let _ = fs::remove_file(&old);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_kept_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep").join(FILE);
        for bytes in [&b"one"[..], b"one", b"two"] {
            write(&file, bytes).unwrap();
            assert_eq!(fs::read(&file).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }
}
