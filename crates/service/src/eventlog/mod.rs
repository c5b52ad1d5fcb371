//! Windows' event log: a writer, the registration of a source, and the file of messages that a viewer reads.
//!
//! ```no_run
//! use keepwell_service::eventlog::{Log, MessageTable, Source};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Once, by who installs the program. A file of its own: a viewer holds it open, and must not hold the program.
//! let messages = MessageTable::new().message(7, "%1 is out of paper.").message(8, "%1 prints again.");
//! let file = r"C:\ProgramData\printer\messages.dll";
//! std::fs::write(file, messages.to_dll())?;
//! Source::new("printer", file).install()?;
//!
//! // Then, in the program.
//! let log = Log::open("printer")?;
//! log.warning(7, &["tray 2"])?;
//! # Ok(())
//! # }
//! ```
//!
//! An id stands for one kind of event and keeps its meaning for ever: people filter by it. Systems without an event log answer
//! [`Error::NoEventLog`]; [`Log::in_memory`] is for tests on any system. With the feature `log` there is a logger for the crate
//! `log`, with the feature `tracing` a layer for `tracing-subscriber`.

#[cfg(feature = "tracing")]
mod layer;
#[cfg(feature = "log")]
mod logger;
mod source;
mod table;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::system::eventlog as system;

#[cfg(feature = "tracing")]
pub use self::layer::EventLogLayer;
#[cfg(feature = "log")]
pub use self::logger::EventLogLogger;
pub use self::source::Source;
pub use self::table::MessageTable;

/// How much an event matters. A viewer has a symbol for each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Somebody has to do something.
    Error,
    /// Nothing is lost yet.
    Warning,
    /// Good to know.
    Information,
}

/// One event as it was reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// How much it matters.
    pub level: Level,
    /// Which message it is.
    pub id: u16,
    /// What stands for `%1`, `%2`, … in the message.
    pub texts: Vec<String>,
}

/// Takes events: the system's log, or a list in memory.
trait Sink: fmt::Debug + Send + Sync {
    fn report(&self, record: &Record) -> Result<(), Error>;
}

/// A source that is open for writing. Clones write to the same; any thread may.
#[derive(Clone, Debug)]
pub struct Log {
    sink: Arc<dyn Sink>,
}

/// What was reported to a log in memory.
#[derive(Clone, Debug, Default)]
pub struct Records(Arc<Mutex<Vec<Record>>>);

/// The system cuts what is longer, or refuses it (ReportEventW: 31,839 characters a text).
const LONGEST: usize = 31_000;
/// And it takes so many texts.
const MOST: usize = 256;

impl Log {
    /// Opens a source. It need not be registered: then a viewer shows the texts without the message around them.
    ///
    /// # Errors
    /// [`Error::NoEventLog`] where there is none, and the system's refusal.
    pub fn open(source: &str) -> Result<Log, Error> {
        Ok(Log { sink: Arc::new(system::Open::new(source)?) })
    }

    /// A log that only this process sees.
    #[must_use]
    pub fn in_memory() -> (Log, Records) {
        let records = Records::default();
        (Log { sink: Arc::new(records.clone()) }, records)
    }

    /// Reports one event. This asks another process and may take a while, so it is nothing for a control handler.
    ///
    /// A percent sign before a digit means something to a viewer; there a blank is put in between. Texts that are longer than
    /// 31,000 characters are cut, and of more than 256 the first are taken.
    ///
    /// # Errors
    /// The system's refusal: the log is full and may not be overwritten, or the service behind it does not run.
    pub fn report(&self, level: Level, id: u16, texts: &[&str]) -> Result<(), Error> {
        let texts = texts.iter().take(MOST).map(|text| safe(text).into_owned()).collect();
        self.sink.report(&Record { level, id, texts })
    }

    /// Reports an error.
    ///
    /// # Errors
    /// As [`Log::report`].
    pub fn error(&self, id: u16, texts: &[&str]) -> Result<(), Error> {
        self.report(Level::Error, id, texts)
    }

    /// Reports a warning.
    ///
    /// # Errors
    /// As [`Log::report`].
    pub fn warning(&self, id: u16, texts: &[&str]) -> Result<(), Error> {
        self.report(Level::Warning, id, texts)
    }

    /// Reports what is good to know.
    ///
    /// # Errors
    /// As [`Log::report`].
    pub fn information(&self, id: u16, texts: &[&str]) -> Result<(), Error> {
        self.report(Level::Information, id, texts)
    }
}

impl Sink for system::Open {
    fn report(&self, record: &Record) -> Result<(), Error> {
        system::Open::report(self, record)
    }
}

impl Sink for Records {
    fn report(&self, record: &Record) -> Result<(), Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
        Ok(())
    }
}

impl Records {
    /// All of them, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A text that a viewer shows as it is: it looks for `%1` and `%%1` in texts, too. Zeroes would end it.
fn safe(text: &str) -> Cow<'_, str> {
    let fits = text.char_indices().nth(LONGEST).map_or(text, |(end, _)| text.get(..end).unwrap_or(text));
    let marks = |c: char| c.is_ascii_digit() || c == '%';
    if !fits.contains('\0') && !fits.match_indices('%').any(|(at, _)| fits[at + 1..].starts_with(marks)) {
        return Cow::Borrowed(fits);
    }
    let mut out = String::with_capacity(fits.len() + 8);
    let mut chars = fits.chars().filter(|c| *c != '\0').peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '%' && chars.peek().is_some_and(|next| marks(*next)) {
            out.push(' ');
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reported_in_memory_can_be_read() {
        let (log, records) = Log::in_memory();
        log.error(1, &["a", "b"]).unwrap();
        log.clone().warning(2, &[]).unwrap();
        log.information(3, &["c"]).unwrap();
        let all = records.all();
        let short: Vec<_> = all.iter().map(|r| (r.level, r.id, r.texts.join(" "))).collect();
        let expected = [(Level::Error, 1, "a b"), (Level::Warning, 2, ""), (Level::Information, 3, "c")];
        assert_eq!(short, expected.map(|(level, id, text)| (level, id, text.to_owned())));
    }

    #[test]
    fn texts_mean_nothing_to_a_viewer() {
        for (text, shown) in [
            ("100 % of it", "100 % of it"),
            ("at %1 or %%2", "at % 1 or % % 2"),
            ("50%", "50%"),
            ("a\0b", "ab"),
            ("%PATH%", "%PATH%"),
        ] {
            assert_eq!(safe(text), shown);
        }
        let (log, records) = Log::in_memory();
        log.error(1, &vec!["ä"; 300]).unwrap();
        assert_eq!(records.all()[0].texts.len(), MOST);
        assert_eq!(safe(&"ä".repeat(40_000)).chars().count(), LONGEST);
    }

    #[cfg(not(windows))]
    #[test]
    fn a_system_without_an_event_log_says_so() {
        assert!(matches!(Log::open("x"), Err(Error::NoEventLog)));
        assert!(matches!(Source::new("x", "/x.dll").install(), Err(Error::NoEventLog)));
    }
}
