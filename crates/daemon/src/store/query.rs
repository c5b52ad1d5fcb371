//! Reading events: from the file, through a connection of the reader's own, and from what is not in the file yet.

use std::path::Path;
use std::sync::Arc;

use keepwell_core::Wall;
use keepwell_sdk::wire;

use super::db;
use crate::convert;

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Only those after this one: the oldest of them first, up to `limit`.
    pub after_seq: Option<u64>,
    /// Not before this time.
    pub since: Option<Wall>,
    /// Of these services.
    pub services: ServiceFilter,
    /// Without `after_seq`: the newest so many. `None`: all.
    pub limit: Option<usize>,
}

/// Names (`web`: all its instances) or instances (`web@2`; `web@1` is the first alone). Empty: everything, also what
/// concerns the guardian itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceFilter(pub Vec<String>);

impl ServiceFilter {
    /// Whether an event of `service` is asked for.
    #[must_use]
    pub fn takes(&self, service: Option<&str>) -> bool {
        let Some(service) = service else { return self.0.is_empty() };
        self.0.is_empty() || self.0.iter().any(|name| means(name, service))
    }
}

fn means(name: &str, service: &str) -> bool {
    match name.split_once('@') {
        Some((first, "1")) => service == first,
        Some(_) => service == name,
        None => service.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('@')),
    }
}

/// In ascending order. `held` comes after all that is in the file.
pub(super) fn read(
    file: Option<&Path>,
    held: &[Arc<wire::Event>],
    query: &EventQuery,
) -> Result<Vec<wire::Event>, String> {
    let after = start(file, held, query)?;
    let limit = query.limit.unwrap_or(usize::MAX);
    let mut out = Vec::new();
    if let Some(file) = file {
        from_file(file, after, query, limit, &mut out).map_err(cannot_read)?;
    }
    let newest = out.last().map_or(after, |e: &wire::Event| e.seq);
    let since = query.since.map(convert::time);
    let wanted =
        |e: &&Arc<wire::Event>| e.seq > newest && fits(&e.at, e.service.as_deref(), since.as_deref(), query);
    let fresh = held.iter().filter(wanted);
    let room = limit - out.len();
    out.extend(fresh.take(room).map(|e| (**e).clone()));
    Ok(out)
}

/// The number after which ascending reading begins.
pub(super) fn start(
    file: Option<&Path>,
    held: &[Arc<wire::Event>],
    query: &EventQuery,
) -> Result<u64, String> {
    let mut left = match (query.after_seq, query.limit) {
        (Some(after), _) => return Ok(after),
        (None, None) => return Ok(0),
        (None, Some(0)) => return newest(file, held),
        (None, Some(limit)) => limit,
    };
    let since = query.since.map(convert::time);
    let mut at = u64::MAX;
    for e in held.iter().rev() {
        if left == 0 {
            break;
        }
        if fits(&e.at, e.service.as_deref(), since.as_deref(), query) {
            at = e.seq;
            left -= 1;
        }
    }
    if left == 0 {
        return Ok(at.saturating_sub(1));
    }
    let Some(file) = file else { return Ok(0) };
    nth_newest(file, left, at, query).map_err(cannot_read)
}

fn newest(file: Option<&Path>, held: &[Arc<wire::Event>]) -> Result<u64, String> {
    if let Some(e) = held.last() {
        return Ok(e.seq);
    }
    let Some(file) = file else { return Ok(0) };
    let max = |c: rusqlite::Connection| {
        c.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |r| r.get(0)).map(db::from_sql)
    };
    db::read_only(file).and_then(max).map_err(cannot_read)
}

fn nth_newest(file: &Path, mut left: usize, mut at: u64, query: &EventQuery) -> Result<u64, rusqlite::Error> {
    let connection = db::read_only(file)?;
    let since = query.since.map(convert::time);
    let mut statement =
        connection.prepare("SELECT seq, at, service FROM events WHERE seq < ?1 ORDER BY seq DESC")?;
    let mut rows = statement.query([db::to_sql(at)])?;
    while left > 0 {
        let Some(row) = rows.next()? else { return Ok(0) };
        let (when, service) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str_or_null()?);
        if fits(when, service, since.as_deref(), query) {
            at = db::from_sql(row.get(0)?);
            left -= 1;
        }
    }
    Ok(at.saturating_sub(1))
}

fn from_file(
    file: &Path,
    after: u64,
    query: &EventQuery,
    limit: usize,
    out: &mut Vec<wire::Event>,
) -> Result<(), rusqlite::Error> {
    let connection = db::read_only(file)?;
    let since = query.since.map(convert::time);
    let mut statement =
        connection.prepare("SELECT seq, at, service, json FROM events WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = statement.query([db::to_sql(after)])?;
    while out.len() < limit {
        let Some(row) = rows.next()? else { break };
        let (when, service) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str_or_null()?);
        if !fits(when, service, since.as_deref(), query) {
            continue;
        }
        // What a newer keepwell wrote reads with its unknown fields left out; the number is right in any case.
        let mut event: wire::Event = serde_json::from_str(row.get_ref(3)?.as_str()?).unwrap_or_default();
        event.seq = db::from_sql(row.get(0)?);
        out.push(event);
    }
    Ok(())
}

/// Times are texts of one form and length, so they compare as the instants do.
fn fits(at: &str, service: Option<&str>, since: Option<&str>, query: &EventQuery) -> bool {
    since.is_none_or(|s| at >= s) && query.services.takes(service)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn cannot_read(e: rusqlite::Error) -> String {
    format!("the store cannot be read: {e}")
}
