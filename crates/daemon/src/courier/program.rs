//! A program that reads a message.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keepwell_os::in_words;

/// How often it is asked whether it has ended: these run seldom and for moments.
const LOOK: Duration = Duration::from_millis(20);

/// Runs it to its end; it reads `text` from its input.
///
/// # Errors
/// Why it did not end well, in words.
pub(super) fn run(
    words: &[Box<str>],
    base: &Path,
    text: String,
    timeout: Duration,
) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first() else { return Err("it has no program".to_owned()) };
    // A name without a folder is looked for in PATH.
    let has_folder = Path::new(&**program).components().count() > 1 || program.starts_with('.');
    let path = if has_folder { base.join(&**program) } else { (&**program).into() };
    let mut command = Command::new(path);
    command.args(arguments.iter().map(|a| &**a)).current_dir(base);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child =
        command.spawn().map_err(|e| format!("{program} could not be started: {}", in_words(&e)))?;
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read must not hold this one up; when it has ended the pipe is broken.
        let writer = thread::Builder::new().name("notify".into()).stack_size(128 << 10);
        let _ = writer.spawn(move || input.write_all(text.as_bytes()));
    }
    let ends = Instant::now() + timeout;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok("exit code 0".to_owned()),
            Ok(Some(status)) => {
                return Err(status
                    .code()
                    .map_or("it was killed".to_owned(), |code| format!("exit code {code}")));
            }
            Ok(None) if Instant::now() >= ends => {
                // It may have ended meanwhile; either way it is reaped.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it did not end within {}", keepwell_core::time::Human(timeout)));
            }
            Ok(None) => thread::sleep(LOOK),
            Err(e) => return Err(format!("it cannot be waited for: {}", in_words(&e))),
        }
    }
}
