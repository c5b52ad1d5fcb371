//! A logger for the crate `log`.

use super::{Level, Log};

/// Reports what a program logs at the levels `error`, `warn` and `info`; finer levels are not for an event log. The id says which of
/// the three it was: 1, 2 or 3, with the record's words as `%1`. [`Source::plain`](super::Source::plain) knows these ids.
///
/// A report that the system refuses is dropped: there is nobody to tell.
#[derive(Clone, Debug)]
pub struct EventLogLogger {
    log: Log,
    level: log::LevelFilter,
}

impl EventLogLogger {
    /// Down to this level.
    #[must_use]
    pub fn new(log: Log, level: log::LevelFilter) -> EventLogLogger {
        EventLogLogger { log, level: level.min(log::LevelFilter::Info) }
    }

    /// Makes it the logger of this process.
    ///
    /// # Errors
    /// When there is one already.
    pub fn install(self) -> Result<(), log::SetLoggerError> {
        let level = self.level;
        log::set_boxed_logger(Box::new(self))?;
        log::set_max_level(level);
        Ok(())
    }
}

impl log::Log for EventLogLogger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &log::Record<'_>) {
        let (level, id) = match record.level() {
            log::Level::Error => (Level::Error, 1),
            log::Level::Warn => (Level::Warning, 2),
            log::Level::Info => (Level::Information, 3),
            log::Level::Debug | log::Level::Trace => return,
        };
        if self.enabled(record.metadata()) {
            let _ = self.log.report(level, id, &[&record.args().to_string()]);
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Log as _;

    #[test]
    fn what_is_logged_is_reported_by_its_level() {
        let (log, records) = Log::in_memory();
        let logger = EventLogLogger::new(log, log::LevelFilter::Trace);
        let levels =
            [log::Level::Error, log::Level::Warn, log::Level::Info, log::Level::Debug, log::Level::Trace];
        for level in levels {
            logger.log(&log::Record::builder().level(level).args(format_args!("{level} of {}", 7)).build());
        }
        let all: Vec<_> = records.all().into_iter().map(|r| (r.level, r.id, r.texts.concat())).collect();
        assert_eq!(
            all,
            [
                (Level::Error, 1, "ERROR of 7".to_owned()),
                (Level::Warning, 2, "WARN of 7".to_owned()),
                (Level::Information, 3, "INFO of 7".to_owned())
            ]
        );
        let (log, records) = Log::in_memory();
        let logger = EventLogLogger::new(log, log::LevelFilter::Error);
        logger.log(&log::Record::builder().level(log::Level::Warn).args(format_args!("x")).build());
        assert_eq!(records.all(), []);
    }
}
