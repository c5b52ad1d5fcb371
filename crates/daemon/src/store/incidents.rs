//! Incidents in the store: made of the events that belong to them, in the same transaction, so that whatever keeps an
//! event from being lost keeps its incident too.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use keepwell_core::Wall;
use keepwell_sdk::wire;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::db;
use super::query::ServiceFilter;
use crate::convert;

/// Enough for years of a quiet host and some days of a troubled one.
pub(super) const KEPT: i64 = 1_000;
/// Of the events of one incident, the first so many are kept and as many of the newest: how it began, and how it ends.
const EVENTS_KEPT: i64 = 50;

/// The second migration of the schema.
pub(super) const SCHEMA: &str = "
    CREATE TABLE incidents (
        id INTEGER PRIMARY KEY, service TEXT NOT NULL, state TEXT NOT NULL, json TEXT NOT NULL);
    CREATE TABLE incident_events (
        incident INTEGER NOT NULL, seq INTEGER NOT NULL, json TEXT NOT NULL,
        PRIMARY KEY (incident, seq)) WITHOUT ROWID;
    CREATE TABLE incident_omitted (incident INTEGER PRIMARY KEY, events INTEGER NOT NULL);
";

/// The fourth: when keepwell itself did not run, in ms since the epoch.
pub(super) const DOWN_SCHEMA: &str =
    "CREATE TABLE down (until INTEGER PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;";

/// From when until when nobody watched.
pub(crate) type Down = (Wall, Wall);

/// Which incidents.
#[derive(Clone, Debug, Default)]
pub struct IncidentQuery {
    /// Of these services.
    pub services: ServiceFilter,
    /// That were open at this time or began later.
    pub since: Option<Wall>,
    /// This one alone, with its timeline.
    pub id: Option<u64>,
}

/// What this event says of incidents. It was not in the store before.
pub(super) fn note(t: &Transaction<'_>, e: &wire::Event, json: &str) -> Result<(), rusqlite::Error> {
    if e.kind == "guardian_started" {
        // Whoever knew of these is gone.
        t.prepare_cached("UPDATE incidents SET state = 'unseen' WHERE state = 'open'")?.execute([])?;
        note_down(t, e)?;
    }
    let Some(id) = e.incident else { return Ok(()) };
    let id = db::to_sql(id);
    t.prepare_cached("INSERT OR IGNORE INTO incident_events (incident, seq, json) VALUES (?1, ?2, ?3)")?
        .execute(params![id, db::to_sql(e.seq), json])?;
    prune_events(t, id)?;
    if let Some(incident) = row(e) {
        let json = serde_json::to_string(&incident).unwrap_or_else(|_| "{}".to_owned());
        t.prepare_cached(
            "INSERT OR REPLACE INTO incidents (id, service, state, json) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![id, incident.service, incident.state, json])?;
        prune(t)?;
    }
    Ok(())
}

/// keepwell has not run since the event before this one. Where all of it was killed it ran on for a while after that, unseen.
fn note_down(t: &Transaction<'_>, started: &wire::Event) -> Result<(), rusqlite::Error> {
    let sql = "SELECT at FROM events WHERE seq < ?1 ORDER BY seq DESC LIMIT 1";
    let before: Option<String> =
        t.prepare_cached(sql)?.query_row([db::to_sql(started.seq)], |r| r.get(0)).optional()?;
    let instant = |at: &str| convert::instant(at).ok();
    let Some((since, until)) = before.and_then(|at| instant(&at)).zip(instant(&started.at)) else {
        return Ok(());
    };
    t.prepare_cached("INSERT OR REPLACE INTO down (until, since) VALUES (?1, ?2)")?
        .execute(params![until.0, since.0])?;
    t.prepare_cached(
        "DELETE FROM down WHERE until <= (SELECT until FROM down ORDER BY until DESC LIMIT 1 OFFSET ?1)",
    )?
    .execute([KEPT])
    .map(drop)
}

/// When keepwell did not run, as far as the incidents reach that are kept.
pub(super) fn down(file: Option<&Path>) -> Result<Vec<Down>, String> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let read = || -> Result<Vec<Down>, rusqlite::Error> {
        let connection = db::read_only(file)?;
        let mut statement = connection.prepare("SELECT since, until FROM down")?;
        let rows = statement.query_map([], |r| Ok((Wall(r.get(0)?), Wall(r.get(1)?))))?;
        rows.collect()
    };
    read().map_err(|e| format!("the store cannot be read: {e}"))
}

/// What the event says of the whole incident: that it began, or all there is.
fn row(e: &wire::Event) -> Option<wire::Incident> {
    match (e.kind.as_str(), &e.incident_report) {
        ("incident_closed", Some(report)) => Some((**report).clone()),
        ("incident_opened", _) => Some(wire::Incident {
            id: e.incident?,
            service: e.service.clone().unwrap_or_default(),
            state: "open".to_owned(),
            cause: e.reason.clone().unwrap_or_default(),
            began: e.at.clone(),
            ..wire::Incident::default()
        }),
        _ => None,
    }
}

fn prune_events(t: &Transaction<'_>, id: i64) -> Result<(), rusqlite::Error> {
    let sql = "SELECT count(*) FROM incident_events WHERE incident = ?1";
    let count: i64 = t.prepare_cached(sql)?.query_row([id], |r| r.get(0))?;
    if count <= 2 * EVENTS_KEPT {
        return Ok(());
    }
    t.prepare_cached(
        "DELETE FROM incident_events WHERE incident = ?1 AND seq =
            (SELECT seq FROM incident_events WHERE incident = ?1 ORDER BY seq LIMIT 1 OFFSET ?2)",
    )?
    .execute(params![id, EVENTS_KEPT])?;
    t.prepare_cached(
        "INSERT INTO incident_omitted (incident, events) VALUES (?1, 1)
            ON CONFLICT (incident) DO UPDATE SET events = events + 1",
    )?
    .execute([id])
    .map(drop)
}

fn prune(t: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    let from = "SELECT id FROM incidents ORDER BY id DESC LIMIT 1 OFFSET ?1";
    let Some(last): Option<i64> = t.prepare_cached(from)?.query_row([KEPT], |r| r.get(0)).optional()? else {
        return Ok(());
    };
    for sql in [
        "DELETE FROM incidents WHERE id <= ?1",
        "DELETE FROM incident_events WHERE incident <= ?1",
        "DELETE FROM incident_omitted WHERE incident <= ?1",
    ] {
        t.prepare_cached(sql)?.execute([last])?;
    }
    Ok(())
}

/// The number of the newest.
pub(super) fn last(c: &Connection) -> Result<u64, rusqlite::Error> {
    c.query_row("SELECT coalesce(max(id), 0) FROM incidents", [], |r| r.get(0)).map(db::from_sql)
}

/// Newest first. `held` are the events that are not in the file.
pub(super) fn read(
    file: Option<&Path>,
    held: &[Arc<wire::Event>],
    query: &IncidentQuery,
) -> Result<Vec<wire::Incident>, String> {
    let mut found = BTreeMap::new();
    if let Some(file) = file {
        from_file(file, query, &mut found).map_err(|e| format!("the store cannot be read: {e}"))?;
    }
    for e in held {
        let Some(id) = e.incident else { continue };
        if let Some(row) = row(e) {
            let timeline = found.remove(&id).map(|i: wire::Incident| i.timeline).unwrap_or_default();
            found.insert(id, wire::Incident { timeline, ..row });
        }
        if query.id == Some(id)
            && let Some(incident) = found.get_mut(&id)
        {
            incident.timeline.push((**e).clone());
        }
    }
    let since = query.since.map(convert::time);
    let wanted = |i: &wire::Incident| {
        query.id.is_none_or(|id| id == i.id)
            && query.services.takes(Some(&i.service))
            && since.as_ref().is_none_or(|s| i.state == "open" || i.ended.as_ref().unwrap_or(&i.began) >= s)
    };
    Ok(found.into_values().rev().filter(wanted).collect())
}

fn from_file(
    file: &Path,
    query: &IncidentQuery,
    found: &mut BTreeMap<u64, wire::Incident>,
) -> Result<(), rusqlite::Error> {
    let connection = db::read_only(file)?;
    let mut statement = connection.prepare("SELECT id, state, json FROM incidents")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut incident: wire::Incident =
            serde_json::from_str(row.get_ref(2)?.as_str()?).unwrap_or_default();
        incident.id = db::from_sql(row.get(0)?);
        incident.state = row.get(1)?;
        found.insert(incident.id, incident);
    }
    let Some(incident) = query.id.and_then(|id| found.get_mut(&id)) else { return Ok(()) };
    let id = db::to_sql(incident.id);
    let omitted = "SELECT events FROM incident_omitted WHERE incident = ?1";
    let omitted: Option<i64> = connection.query_row(omitted, [id], |r| r.get(0)).optional()?;
    incident.omitted = omitted.map_or(0, db::from_sql);
    let mut statement =
        connection.prepare("SELECT seq, json FROM incident_events WHERE incident = ?1 ORDER BY seq")?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let mut event: wire::Event = serde_json::from_str(row.get_ref(1)?.as_str()?).unwrap_or_default();
        event.seq = db::from_sql(row.get(0)?);
        incident.timeline.push(event);
    }
    Ok(())
}

/// Mean times, of incidents that are told newest first. What was not watched counts for nothing.
pub(crate) fn reliability(incidents: &[wire::Incident], down: &[Down]) -> Vec<wire::Reliability> {
    let mut by_service: BTreeMap<&str, Vec<&wire::Incident>> = BTreeMap::new();
    for incident in incidents {
        by_service.entry(&incident.service).or_default().push(incident);
    }
    let of = |(service, all): (&str, Vec<&wire::Incident>)| {
        let repairs: Vec<u64> =
            all.iter().filter(|i| i.state == "recovered").map(|i| i.duration_ms).collect();
        let began: Vec<i64> =
            all.iter().filter_map(|i| convert::instant(&i.began).ok()).map(|w| w.0).collect();
        let span = began.first().zip(began.last()).map(|(new, old)| {
            let within = |(since, until): &Down| (until.0.min(*new).saturating_sub(since.0.max(*old))).max(0);
            let unwatched: i64 = down.iter().map(within).sum();
            new.saturating_sub(*old).saturating_sub(unwatched)
        });
        let gaps = u64::try_from(began.len().saturating_sub(1)).unwrap_or(0);
        wire::Reliability {
            service: service.to_owned(),
            incidents: u32::try_from(all.len()).unwrap_or(u32::MAX),
            open: all.iter().any(|i| i.state == "open"),
            mttr_ms: mean(repairs.iter().sum(), u64::try_from(repairs.len()).unwrap_or(0)),
            mtbf_ms: span.and_then(|span| mean(u64::try_from(span).unwrap_or(0), gaps)),
        }
    };
    by_service.into_iter().map(of).collect()
}

fn mean(sum: u64, of: u64) -> Option<u64> {
    sum.checked_div(of)
}
