//! A program that reads a message.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use keepwell_os::held::Held;
use keepwell_os::in_words;

use super::{ENDS, End, Sender};

/// How often it is asked whether it has ended: these run seldom and for moments.
const LOOK: Duration = Duration::from_millis(20);

/// Runs it to its end; it reads `text` from its input. What it leaves running is ended.
///
/// # Errors
/// Why it did not end well, in words.
pub(super) fn run(
    words: &[Box<str>],
    sender: &Sender,
    text: String,
    timeout: Duration,
    end: &End,
) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first() else { return Err("it has no program".to_owned()) };
    let arguments: Vec<&str> = arguments.iter().map(|a| &**a).collect();
    let (mut held, mut input) = Held::start(program, &arguments, &sender.base, &sender.guardian)
        .map_err(|e| format!("{program} could not be started: {}", in_words(&e)))?;
    // A program that does not read must not hold this one up; when it has ended the pipe is broken.
    let writer = thread::Builder::new().name("notify".into()).stack_size(128 << 10);
    let _ = writer.spawn(move || input.write_all(text.as_bytes()));
    let ends = Instant::now() + timeout;
    loop {
        match held.ended() {
            Ok(Some(Some(0))) => return Ok("exit code 0".to_owned()),
            Ok(Some(Some(code))) => return Err(format!("exit code {code}")),
            Ok(Some(None)) => return Err("it was killed".to_owned()),
            Ok(None) if Instant::now() >= ends => {
                return Err(format!("it did not end within {}", keepwell_core::time::Human(timeout)));
            }
            Ok(None) if end.has_come() => return Err(ENDS.to_owned()),
            Ok(None) => thread::sleep(LOOK),
            Err(e) => return Err(format!("it cannot be waited for: {}", in_words(&e))),
        }
    }
}
