//! SQLite: schema, migration, reading and writing whole transactions. Knows nothing of threads or queues.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Known, incidents};
use keepwell_core::effect::Hold;
use keepwell_core::supervisor::Persisted;
use keepwell_core::{By, Record, ServiceId, Wall};
use keepwell_os::{files, in_words};
use keepwell_sdk::wire;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};

/// Each brings the schema from the version of its index to the next (`PRAGMA user_version`). Never changed once
/// released, and only ever adding, so that an older keepwell can go on with a newer file.
const MIGRATIONS: [&str; 4] = [
    "
    CREATE TABLE desired (
        service TEXT NOT NULL, instance INTEGER NOT NULL,
        up INTEGER NOT NULL, by TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (service, instance)) WITHOUT ROWID;
    CREATE TABLE enabled (service TEXT PRIMARY KEY, enabled INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE holds (
        service TEXT NOT NULL, instance INTEGER NOT NULL,
        freeze INTEGER NOT NULL, stop_at INTEGER, by TEXT NOT NULL,
        PRIMARY KEY (service, instance)) WITHOUT ROWID;
    CREATE TABLE scaled (service TEXT PRIMARY KEY, instances INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE events (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, service TEXT, json TEXT NOT NULL);
",
    incidents::SCHEMA,
    "CREATE TABLE outboxes (receiver TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;",
    incidents::DOWN_SCHEMA,
];

/// Old events go in batches of this many: one small deletion now and then instead of one an event.
const PRUNE_BATCH: u64 = 1_000;
/// Files set aside are evidence, not a collection.
const ASIDE_KEPT: usize = 3;
/// Held back by nobody but a predecessor that is on its way out.
const BUSY: Duration = Duration::from_secs(2);

/// What receivers are still to be told, by their names.
pub(super) type Outboxes = BTreeMap<String, Vec<u8>>;
/// One of them; `None`: there is none any more.
pub(super) type OfOutbox<'a> = (&'a str, Option<&'a [u8]>);

/// Those of them that have these names.
pub(super) fn named<'a>(all: &'a Outboxes, names: impl IntoIterator<Item = &'a String>) -> Vec<OfOutbox<'a>> {
    names.into_iter().map(|name| (name.as_str(), all.get(name).map(Vec::as_slice))).collect()
}

pub(super) struct Db {
    connection: Connection,
    first_seq: u64,
    last_seq: u64,
}

/// Why a store could not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// This file will never do.
    Damaged(String),
    /// The disk is full, read-only or worse; the file may be fine.
    NotNow(String),
}

/// Why a transaction failed; nothing of it was done.
#[derive(Debug)]
pub(super) enum WriteError {
    Damaged(String),
    NotNow(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Damaged(why) | OpenError::NotNow(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Damaged(why) | WriteError::NotNow(why) => f.write_str(why),
        }
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(e: rusqlite::Error) -> Self {
        let cannot_open = e.sqlite_error_code() == Some(ErrorCode::CannotOpen);
        match is_damage(&e) || cannot_open {
            true => OpenError::Damaged(words(&e)),
            false => OpenError::NotNow(words(&e)),
        }
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(e: rusqlite::Error) -> Self {
        match is_damage(&e) {
            true => WriteError::Damaged(words(&e)),
            false => WriteError::NotNow(words(&e)),
        }
    }
}

/// The file is no store, or not ours: its tables are missing or hold what we never wrote.
fn is_damage(e: &rusqlite::Error) -> bool {
    match e.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::Unknown
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
        ),
        None => true,
    }
}

fn words(e: &rusqlite::Error) -> String {
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(ErrorCode::ReadOnly) => "the disk is read-only".to_owned(),
        Some(ErrorCode::DatabaseBusy) => "another process holds it".to_owned(),
        Some(ErrorCode::NotADatabase) => "it is no SQLite database".to_owned(),
        _ => e.to_string(),
    }
}

impl Db {
    /// Opens or begins the file, for us alone, at the newest schema. The second is worth telling.
    pub(super) fn open(path: &Path, max_pages: Option<u32>) -> Result<(Db, Option<String>), OpenError> {
        files::open_private(path).map_err(|e| {
            let in_the_way = matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::IsADirectory);
            if in_the_way { OpenError::Damaged(in_words(&e)) } else { OpenError::NotNow(in_words(&e)) }
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        // A quarter of a megabyte of cache: the writer only ever appends.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -256; PRAGMA temp_store = MEMORY;",
        )?;
        if let Some(pages) = max_pages {
            connection.pragma_update(None, "max_page_count", pages)?;
        }
        let note = migrate(&mut connection)?;
        let (first_seq, last_seq) = bounds(&connection)?;
        for beside in ["-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(beside);
            match files::make_private(Path::new(&name)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(OpenError::NotNow(in_words(&e))),
                Ok(()) | Err(_) => {}
            }
        }
        Ok((Db { connection, first_seq, last_seq }, note))
    }

    /// The operators' will and the newest event.
    pub(super) fn known(&self) -> Result<Known, rusqlite::Error> {
        let mut p = Persisted::default();
        read_desired(&self.connection, &mut p)?;
        read_enabled(&self.connection, &mut p)?;
        read_holds(&self.connection, &mut p)?;
        read_scaled(&self.connection, &mut p)?;
        p.incidents = incidents::last(&self.connection)?;
        let outboxes = read_outboxes(&self.connection)?;
        Ok(Known { persisted: p, next_seq: self.last_seq + 1, outboxes })
    }

    /// All or nothing. Records are on the disk, not just with the kernel, when this returns.
    pub(super) fn write(
        &mut self,
        events: &[Arc<wire::Event>],
        records: &[Record],
        outboxes: &[OfOutbox<'_>],
    ) -> Result<(), WriteError> {
        if records.is_empty() {
            return self.transact(events, records, outboxes);
        }
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        let result = self.transact(events, records, outboxes);
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        result
    }

    fn transact(
        &mut self,
        events: &[Arc<wire::Event>],
        records: &[Record],
        outboxes: &[OfOutbox<'_>],
    ) -> Result<(), WriteError> {
        let t = self.connection.transaction()?;
        for record in records {
            put(&t, record)?;
        }
        for (receiver, state) in outboxes {
            match state {
                Some(state) => t
                    .prepare_cached("INSERT OR REPLACE INTO outboxes (receiver, state) VALUES (?1, ?2)")?
                    .execute(params![receiver, state])?,
                None => t
                    .prepare_cached("DELETE FROM outboxes WHERE receiver = ?1")?
                    .execute(params![receiver])?,
            };
        }
        {
            let mut insert = t.prepare_cached(
                "INSERT OR IGNORE INTO events (seq, at, service, json) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for e in events {
                // Text and numbers always serialise; an event that did not would only lose its details.
                let json = serde_json::to_string(&**e).unwrap_or_else(|_| "{}".to_owned());
                if insert.execute(params![to_sql(e.seq), e.at, e.service, json])? > 0 {
                    incidents::note(&t, e, &json)?;
                }
            }
        }
        t.commit()?;
        for e in events {
            self.last_seq = self.last_seq.max(e.seq);
            if self.first_seq == 0 {
                self.first_seq = e.seq;
            }
        }
        Ok(())
    }

    /// Deletes what is older than the newest `keep` events, a batch at a time.
    pub(super) fn prune(&mut self, keep: u64) -> Result<(), WriteError> {
        let from = (self.last_seq + 1).saturating_sub(keep);
        let batch = PRUNE_BATCH.min(keep);
        if from < self.first_seq + batch {
            return Ok(());
        }
        self.connection.execute("DELETE FROM events WHERE seq < ?1", [to_sql(from)])?;
        self.first_seq = from;
        Ok(())
    }
}

fn migrate(connection: &mut Connection) -> Result<Option<String>, rusqlite::Error> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |r| r.get(0))?;
    let newest = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if version > newest {
        return Ok(Some(format!(
            "the store was written by a newer keepwell (schema {version}); it is used as it is"
        )));
    }
    for (to, sql) in (1..).zip(MIGRATIONS).filter(|(to, _)| *to > version) {
        let t = connection.transaction()?;
        t.execute_batch(sql)?;
        t.pragma_update(None, "user_version", to)?;
        t.commit()?;
    }
    Ok(None)
}

fn bounds(connection: &Connection) -> Result<(u64, u64), rusqlite::Error> {
    let sql = "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM events";
    connection.query_row(sql, [], |r| Ok((from_sql(r.get(0)?), from_sql(r.get(1)?))))
}

/// SQLite's integers are signed; a number beyond them is as good as the largest.
pub(super) fn to_sql(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// The reverse of `to_sql`.
pub(super) fn from_sql(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

fn put(t: &Transaction<'_>, record: &Record) -> Result<(), rusqlite::Error> {
    match record {
        Record::Desired { service, up, by, at } => t
            .prepare_cached("INSERT OR REPLACE INTO desired (service, instance, up, by, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![&*service.name, service.instance, up, by.0, at.0]),
        Record::Enabled { service, enabled } => t
            .prepare_cached("INSERT OR REPLACE INTO enabled (service, enabled) VALUES (?1, ?2)")?
            .execute(params![service, enabled]),
        Record::Paused { service, hold: Some(h) } => t
            .prepare_cached("INSERT OR REPLACE INTO holds (service, instance, freeze, stop_at, by) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![&*service.name, service.instance, h.freeze, h.stop_at.map(|w| w.0), h.by.0]),
        Record::Paused { service, hold: None } => t
            .prepare_cached("DELETE FROM holds WHERE service = ?1 AND instance = ?2")?
            .execute(params![&*service.name, service.instance]),
        Record::Scaled { service, instances } => t
            .prepare_cached("INSERT OR REPLACE INTO scaled (service, instances) VALUES (?1, ?2)")?
            .execute(params![service, instances]),
    }
    .map(drop)
}

/// What the store will know after these records.
pub(super) fn apply(p: &mut Persisted, records: &[Record]) {
    for record in records {
        match record.clone() {
            Record::Desired { service, up, by, at } => drop(p.desired.insert(service, (up, by, at))),
            Record::Enabled { service, enabled } => drop(p.enabled.insert(service, enabled)),
            Record::Paused { service, hold: Some(hold) } => drop(p.holds.insert(service, hold)),
            Record::Paused { service, hold: None } => drop(p.holds.remove(&service)),
            Record::Scaled { service, instances } => drop(p.scaled.insert(service, instances)),
        }
    }
}

/// The records that make a fresh store know this.
pub(super) fn records_of(p: &Persisted) -> Vec<Record> {
    let desired = p.desired.iter().map(|(service, (up, by, at))| Record::Desired {
        service: service.clone(),
        up: *up,
        by: by.clone(),
        at: *at,
    });
    let enabled = p
        .enabled
        .iter()
        .map(|(service, enabled)| Record::Enabled { service: service.clone(), enabled: *enabled });
    let holds = p
        .holds
        .iter()
        .map(|(service, hold)| Record::Paused { service: service.clone(), hold: Some(hold.clone()) });
    let scaled = p
        .scaled
        .iter()
        .map(|(service, instances)| Record::Scaled { service: service.clone(), instances: *instances });
    desired.chain(enabled).chain(holds).chain(scaled).collect()
}

/// Reads what can still be read of a file that cannot be used: each table for itself, and without writing.
pub(super) fn salvage(path: &Path) -> Known {
    let mut p = Persisted::default();
    let Ok(connection) = read_only(path) else { return Known::default() };
    // What one table lost is no reason to lose another; nobody can be told more than the notes of `open` do.
    let _ = read_desired(&connection, &mut p);
    let _ = read_enabled(&connection, &mut p);
    let _ = read_holds(&connection, &mut p);
    let _ = read_scaled(&connection, &mut p);
    p.incidents = incidents::last(&connection).unwrap_or(0);
    let last = bounds(&connection).map_or(0, |(_, last)| last);
    Known { persisted: p, next_seq: last + 1, outboxes: read_outboxes(&connection).unwrap_or_default() }
}

/// A connection for one reader.
pub(super) fn read_only(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA cache_size = -256;")?;
    Ok(connection)
}

fn read_desired(c: &Connection, p: &mut Persisted) -> Result<(), rusqlite::Error> {
    let mut statement = c.prepare("SELECT service, instance, up, by, at FROM desired")?;
    let mut rows = statement.query([])?;
    while let Some(r) = rows.next()? {
        let id = ServiceId::new(r.get::<_, String>(0)?, r.get(1)?);
        p.desired.insert(id, (r.get(2)?, By(r.get(3)?), Wall(r.get(4)?)));
    }
    Ok(())
}

fn read_enabled(c: &Connection, p: &mut Persisted) -> Result<(), rusqlite::Error> {
    let mut statement = c.prepare("SELECT service, enabled FROM enabled")?;
    let mut rows = statement.query([])?;
    while let Some(r) = rows.next()? {
        p.enabled.insert(r.get(0)?, r.get(1)?);
    }
    Ok(())
}

fn read_holds(c: &Connection, p: &mut Persisted) -> Result<(), rusqlite::Error> {
    let mut statement = c.prepare("SELECT service, instance, freeze, stop_at, by FROM holds")?;
    let mut rows = statement.query([])?;
    while let Some(r) = rows.next()? {
        let id = ServiceId::new(r.get::<_, String>(0)?, r.get(1)?);
        let hold =
            Hold { freeze: r.get(2)?, stop_at: r.get::<_, Option<i64>>(3)?.map(Wall), by: By(r.get(4)?) };
        p.holds.insert(id, hold);
    }
    Ok(())
}

fn read_scaled(c: &Connection, p: &mut Persisted) -> Result<(), rusqlite::Error> {
    let mut statement = c.prepare("SELECT service, instances FROM scaled")?;
    let mut rows = statement.query([])?;
    while let Some(r) = rows.next()? {
        p.scaled.insert(r.get(0)?, r.get(1)?);
    }
    Ok(())
}

fn read_outboxes(c: &Connection) -> Result<Outboxes, rusqlite::Error> {
    let mut statement = c.prepare("SELECT receiver, state FROM outboxes")?;
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    rows.collect()
}

/// Renames the file and what SQLite keeps beside it. Returns its new name.
pub(super) fn set_aside(path: &Path) -> Result<String, String> {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut aside = with_suffix(path, &format!(".damaged-{seconds}"));
    let mut n = 1;
    while aside.exists() {
        n += 1;
        aside = with_suffix(path, &format!(".damaged-{seconds}-{n}"));
    }
    // The log and its index must go too: replayed into a fresh file they would damage that one as well.
    for suffix in ["", "-wal", "-shm"] {
        let from = with_suffix(path, suffix);
        match std::fs::rename(&from, with_suffix(&aside, suffix)) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(format!("{} could not be renamed: {e}", from.display())),
        }
    }
    forget_oldest(path);
    Ok(aside.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()))
}

/// Deletes the oldest of the files set aside, beyond those worth keeping.
fn forget_oldest(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return };
    let prefix = format!("{}.damaged-", name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut aside: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| {
            let n = p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            n.starts_with(&prefix) && !n.ends_with("-wal") && !n.ends_with("-shm")
        })
        .collect();
    aside.sort();
    let surplus = aside.len().saturating_sub(ASIDE_KEPT);
    for old in &aside[..surplus] {
        for suffix in ["", "-wal", "-shm"] {
            // What cannot be deleted stays; it harms nobody.
            let _ = std::fs::remove_file(with_suffix(old, suffix));
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
