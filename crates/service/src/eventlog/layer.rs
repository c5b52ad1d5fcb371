//! A layer for `tracing-subscriber`.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::{Level, Log};

/// Reports events of the levels `ERROR`, `WARN` and `INFO`; finer levels are not for an event log. The field `event_id` names the
/// message; without it the id is 1, 2 or 3 by the level. `%1` is the event's message, followed by its other fields.
/// [`Source::plain`](super::Source::plain) knows the ids up to 1000.
///
/// A report that the system refuses is dropped: there is nobody to tell. Filters say which events come here at all.
#[derive(Clone, Debug)]
pub struct EventLogLayer {
    log: Log,
}

impl EventLogLayer {
    /// Into this log.
    #[must_use]
    pub fn new(log: Log) -> EventLogLayer {
        EventLogLayer { log }
    }
}

impl<S: Subscriber> Layer<S> for EventLogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (level, id) = match *event.metadata().level() {
            tracing::Level::ERROR => (Level::Error, 1),
            tracing::Level::WARN => (Level::Warning, 2),
            tracing::Level::INFO => (Level::Information, 3),
            _ => return,
        };
        let mut words = Words::default();
        event.record(&mut words);
        let _ = self.log.report(level, words.id.unwrap_or(id), &[&(words.message + &words.fields)]);
    }
}

#[derive(Default)]
struct Words {
    id: Option<u16>,
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match u16::try_from(value) {
            Ok(id) if field.name() == "event_id" => self.id = Some(id),
            Ok(_) | Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        // A number that is written into the program is signed.
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Text in memory takes all that is written to it.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn events_are_reported_with_their_ids_and_fields() {
        let (log, records) = Log::in_memory();
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(EventLogLayer::new(log)),
            || {
                tracing::error!(event_id = 70, disk = "C:", "full");
                tracing::warn!("nearly");
                tracing::info!(n = -7, "fine");
                tracing::debug!("nobody wants to know");
            },
        );
        let all: Vec<_> = records.all().into_iter().map(|r| (r.level, r.id, r.texts.concat())).collect();
        assert_eq!(
            all,
            [
                (Level::Error, 70, "full disk=\"C:\"".to_owned()),
                (Level::Warning, 2, "nearly".to_owned()),
                (Level::Information, 3, "fine n=-7".to_owned())
            ]
        );
    }
}
