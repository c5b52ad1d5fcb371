use std::fs;
use std::sync::mpsc::{Receiver, sync_channel};

use keepwell_core::effect::Hold;
use keepwell_core::{By, ServiceId, Wall};
use keepwell_os::wait::Waiter;

use super::*;

fn engine() -> (EngineHandle, Receiver<Message>) {
    let (sender, inbox) = sync_channel(64);
    (EngineHandle::new(sender, Waiter::new().unwrap().waker()), inbox)
}

fn event(seq: u64, service: Option<&str>) -> Arc<wire::Event> {
    Arc::new(wire::Event {
        seq,
        at: crate::convert::time(Wall(1_000_000 + i64::try_from(seq).unwrap() * 1_000)),
        service: service.map(str::to_owned),
        kind: "told".into(),
        level: "info".into(),
        text: format!("fact {seq}"),
        ..wire::Event::default()
    })
}

fn will() -> Vec<Record> {
    let by = || By("anna".into());
    vec![
        Record::Desired { service: ServiceId::new("web", 2), up: false, by: by(), at: Wall(7) },
        Record::Enabled { service: "web".into(), enabled: false },
        Record::Paused {
            service: ServiceId::new("api", 1),
            hold: Some(Hold { freeze: true, stop_at: Some(Wall(9)), by: by() }),
        },
        Record::Scaled { service: "api".into(), instances: 3 },
    ]
}

fn willed() -> Persisted {
    let mut p = Persisted::default();
    db::apply(&mut p, &will());
    p
}

fn commit(store: &Store, records: Vec<Record>) -> Result<(), String> {
    let (engine, inbox) = engine();
    store.commit(5, records, engine);
    loop {
        if let Message::Committed { ticket: 5, result } = inbox.recv_timeout(PATIENCE).unwrap() {
            return result;
        }
    }
}

fn seqs(store: &Store, q: &EventQuery) -> Vec<u64> {
    store.events(q).unwrap().iter().map(|e| e.seq).collect()
}

fn all() -> EventQuery {
    EventQuery::default()
}

#[test]
fn the_operators_will_outlives_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path());
    assert!(first.notes.is_empty(), "{:?}", first.notes);
    assert_eq!((first.persisted, first.next_seq), (Persisted::default(), 1));
    assert_eq!(commit(&first.store, will()), Ok(()));
    // Not shut down: a killed daemon does not do that either.
    let second = Store::open(dir.path());
    assert_eq!(second.persisted, willed());
    let ended = Record::Paused { service: ServiceId::new("api", 1), hold: None };
    assert_eq!(commit(&second.store, vec![ended]), Ok(()));
    second.store.shutdown();
    assert!(Store::open(dir.path()).persisted.holds.is_empty());
}

#[test]
fn events_keep_their_numbers_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path());
    (1..=700).for_each(|n| first.store.append(event(n, Some("web"))));
    first.store.shutdown();
    let second = Store::open(dir.path());
    assert_eq!((second.next_seq, second.store.last_seq(), second.store.stored_seq()), (701, 700, 700));
    second.store.append(event(701, None));
    // What a reborn daemon gives again changes nothing.
    second.store.append(event(700, Some("other")));
    let got = second.store.events(&all()).unwrap();
    assert_eq!(got.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=701).collect::<Vec<_>>());
    assert_eq!(got[699], *event(700, Some("web")));
    assert_eq!(second.store.stored_seq(), 701);
}

#[test]
fn an_event_is_in_the_file_soon_although_nobody_asks() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path());
    opened.store.append(event(1, None));
    let waited = std::time::Instant::now();
    while opened.store.stored_seq() < 1 {
        assert!(waited.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(db::salvage(&dir.path().join(FILE)).next_seq, 2);
}

#[test]
fn what_people_are_still_to_be_told_outlives_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path());
    assert_eq!(first.outboxes, BTreeMap::new());
    for (name, state) in [("ops", "1"), ("page", "1"), ("ops", "2"), ("old", "1")] {
        first.store.keep_outbox(name, Some(state.into()));
    }
    // Not shut down: a killed daemon does not do that either.
    let waited = std::time::Instant::now();
    while db::salvage(&dir.path().join(FILE)).outboxes.len() < 3 {
        assert!(waited.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let second = Store::open(dir.path());
    let known: Vec<_> = second.outboxes.iter().map(|(name, state)| (name.as_str(), &**state)).collect();
    assert_eq!(known, [("old", &b"1"[..]), ("ops", b"2"), ("page", b"1")]);
    second.store.keep_outbox("old", None);
    second.store.shutdown();
    // A file that is lost while it is open does not take them with it; neither does one that is found damaged.
    assert_eq!(Store::open(dir.path()).outboxes.len(), 2);
}

#[test]
fn questions_choose() {
    let dir = tempfile::tempdir().unwrap();
    let s = Store::open(dir.path()).store;
    for (seq, service) in
        [(1, None), (2, Some("web")), (3, Some("web@2")), (4, Some("webber")), (5, Some("web"))]
    {
        s.append(event(seq, service));
    }
    let of = |name: &str| EventQuery { services: ServiceFilter(vec![name.to_owned()]), ..all() };
    assert_eq!(seqs(&s, &of("web")), [2, 3, 5]);
    assert_eq!(seqs(&s, &of("web@1")), [2, 5]);
    assert_eq!(seqs(&s, &of("web@2")), [3]);
    assert_eq!(seqs(&s, &of("webb")), [0; 0]);
    assert_eq!(seqs(&s, &EventQuery { after_seq: Some(2), limit: Some(2), ..all() }), [3, 4]);
    assert_eq!(seqs(&s, &EventQuery { limit: Some(2), ..all() }), [4, 5]);
    assert_eq!(seqs(&s, &EventQuery { limit: Some(2), ..of("web") }), [3, 5]);
    assert_eq!(seqs(&s, &EventQuery { since: Some(Wall(1_003_000)), ..all() }), [3, 4, 5]);
    assert_eq!(s.cursor(&EventQuery { limit: Some(0), ..all() }), Ok(5));
    assert_eq!(s.cursor(&EventQuery { limit: Some(2), ..all() }), Ok(3));
    assert_eq!(s.cursor(&EventQuery { limit: Some(99), ..all() }), Ok(0));
}

#[test]
fn the_file_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path());
    assert_eq!(commit(&opened.store, will()), Ok(()));
    for name in [FILE, "keepwell.db-wal", "keepwell.db-shm"] {
        assert!(keepwell_os::files::is_private(&dir.path().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_damaged_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    fs::write(&path, "this is no database, and long enough to be looked at".repeat(100)).unwrap();
    let opened = Store::open(dir.path());
    assert_eq!(opened.next_seq, 1);
    assert!(opened.notes[0].contains("damaged"), "{:?}", opened.notes);
    assert_eq!(commit(&opened.store, will()), Ok(()));
    let aside = |e: &fs::DirEntry| e.file_name().to_string_lossy().starts_with("keepwell.db.damaged-");
    assert_eq!(fs::read_dir(dir.path()).unwrap().filter_map(Result::ok).filter(aside).count(), 1);
    assert_eq!(Store::open(dir.path()).persisted, willed());
}

#[test]
fn what_can_be_read_of_a_damaged_file_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path());
    opened.store.append(event(1, None));
    assert_eq!(commit(&opened.store, will()), Ok(()));
    opened.store.shutdown();
    let path = dir.path().join(FILE);
    let c = rusqlite::Connection::open(&path).unwrap();
    c.execute_batch("DROP TABLE scaled").unwrap();
    drop(c);
    let again = Store::open(dir.path());
    let mut known = willed();
    known.scaled.clear();
    assert_eq!((again.persisted.clone(), again.next_seq), (known.clone(), 2));
    again.store.shutdown();
    assert_eq!(Store::open(dir.path()).persisted, known);
}

#[test]
fn a_folder_in_the_way_is_moved_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    let opened = Store::open(dir.path());
    assert_eq!(commit(&opened.store, will()), Ok(()));
}

#[test]
fn few_damaged_files_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..6 {
        fs::write(dir.path().join(FILE), "damaged".repeat(1_000)).unwrap();
        Store::open(dir.path()).store.shutdown();
    }
    let aside = |e: &fs::DirEntry| e.file_name().to_string_lossy().starts_with("keepwell.db.damaged-");
    assert_eq!(fs::read_dir(dir.path()).unwrap().filter_map(Result::ok).filter(aside).count(), 3);
}

#[test]
fn without_a_folder_memory_must_do() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { backlog: 3, ..Limits::default() };
    let opened = Store::open_with(&dir.path().join("missing"), limits);
    assert!(opened.notes[0].contains("in memory only"), "{:?}", opened.notes);
    (1..=5).for_each(|n| opened.store.append(event(n, None)));
    assert_eq!(seqs(&opened.store, &all()), [3, 4, 5]);
    assert_eq!(seqs(&opened.store, &EventQuery { limit: Some(2), ..all() }), [4, 5]);
    assert!(commit(&opened.store, will()).is_err());
    assert_eq!(opened.store.stored_seq(), 0);
}

#[test]
fn old_events_go_in_batches() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open_with(dir.path(), Limits { keep: 50, ..Limits::default() });
    for n in 1..=400 {
        opened.store.append(event(n, None));
        if n % 20 == 0 {
            assert!(opened.store.events(&EventQuery { limit: Some(1), ..all() }).is_ok());
        }
    }
    let left = seqs(&opened.store, &all());
    assert!((50..=100).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last(), Some(&400));
    assert!(left.is_sorted());
}

#[test]
fn a_full_queue_drops_and_tells_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { queue: 4, gather: Duration::from_secs(60), ..Limits::default() };
    let opened = Store::open_with(dir.path(), limits);
    let (handle, inbox) = engine();
    opened.store.attach(handle);
    assert_eq!(seqs(&opened.store, &all()), [0; 0]);
    (1..=10).for_each(|n| opened.store.append(event(n, None)));
    assert_eq!(seqs(&opened.store, &all()), [1, 2, 3, 4]);
    let Ok(Message::Told { text, .. }) = inbox.recv_timeout(PATIENCE) else { panic!("nothing was told") };
    assert_eq!(text, "6 events were not stored: they found no room");
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).store.shutdown();
    let limits = Limits { max_pages: Some(8), backlog: 2_000, ..Limits::default() };
    let opened = Store::open_with(dir.path(), limits);
    let (handle, inbox) = engine();
    opened.store.attach(handle);
    (1..=1_000).for_each(|n| opened.store.append(event(n, None)));
    let held = seqs(&opened.store, &all());
    assert_eq!(held, (1..=1_000).collect::<Vec<_>>());
    let Ok(Message::Told { text, level, .. }) = inbox.recv_timeout(PATIENCE) else {
        panic!("nothing was told")
    };
    assert!(text.starts_with("the store cannot be written: the disk is full"), "{text}");
    assert_eq!(level, keepwell_core::event::Level::Error);
    assert_eq!(commit(&opened.store, will()), Err("the disk is full".to_owned()));
    opened.store.shutdown();
    let last = Store::open(dir.path());
    assert!(last.next_seq < 1_000);
}

#[test]
fn a_file_damaged_in_use_is_replaced_and_nothing_decided_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path());
    assert_eq!(commit(&opened.store, will()), Ok(()));
    let c = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    c.execute_batch("DROP TABLE events").unwrap();
    drop(c);
    let (handle, inbox) = engine();
    opened.store.attach(handle);
    opened.store.append(event(1, None));
    assert_eq!(seqs(&opened.store, &all()), [1]);
    let Ok(Message::Told { text, .. }) = inbox.recv_timeout(PATIENCE) else { panic!("nothing was told") };
    assert!(text.contains("a fresh one was begun"), "{text}");
    opened.store.shutdown();
    assert_eq!(Store::open(dir.path()).persisted, willed());
}

#[test]
fn a_newer_file_is_used_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path());
    assert_eq!(commit(&opened.store, will()), Ok(()));
    opened.store.shutdown();
    let c = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    c.execute_batch("ALTER TABLE desired ADD COLUMN why TEXT; PRAGMA user_version = 99").unwrap();
    drop(c);
    let again = Store::open(dir.path());
    assert!(again.notes[0].contains("newer keepwell"), "{:?}", again.notes);
    assert_eq!(again.persisted, willed());
    assert_eq!(commit(&again.store, will()), Ok(()));
}

#[test]
fn a_closed_store_refuses_and_does_not_hang() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path());
    opened.store.shutdown();
    assert!(commit(&opened.store, will()).is_err());
    opened.store.append(event(1, None));
    assert!(opened.store.events(&all()).is_err());
}

/// An event of incident 3 of web, or of the guardian.
fn of_incident(seq: u64, kind: &str) -> Arc<wire::Event> {
    let report = wire::Incident {
        id: 3,
        service: "web".into(),
        state: "recovered".into(),
        duration_ms: 4_000,
        ..wire::Incident::default()
    };
    Arc::new(wire::Event {
        kind: kind.into(),
        incident: (kind != "guardian_started").then_some(3),
        reason: Some("exit code 3".into()),
        incident_report: (kind == "incident_closed").then(|| Box::new(report)),
        ..(*event(seq, Some("web"))).clone()
    })
}

#[test]
fn an_incident_is_made_of_its_events_and_bounded_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path());
    let one = IncidentQuery { id: Some(3), ..IncidentQuery::default() };
    opened.store.append(of_incident(1, "exited"));
    opened.store.append(of_incident(2, "incident_opened"));
    for seq in 3..=120 {
        opened.store.append(of_incident(seq, "told"));
    }
    let open = opened.store.incidents(&one).unwrap().remove(0);
    assert_eq!((open.state.as_str(), open.cause.as_str()), ("open", "exit code 3"));
    // The first half and the newest; each is counted.
    let seqs: Vec<u64> = open.timeline.iter().map(|e| e.seq).collect();
    assert_eq!(seqs, (1..=50).chain(71..=120).collect::<Vec<_>>());
    assert_eq!(open.omitted, 20);
    // What a reborn daemon gives again is no news.
    opened.store.append(of_incident(120, "told"));
    assert_eq!(opened.store.incidents(&one).unwrap()[0].omitted, 20);

    opened.store.append(of_incident(121, "incident_closed"));
    let all = opened.store.incidents(&IncidentQuery::default()).unwrap();
    assert_eq!((all.len(), all[0].state.as_str(), all[0].timeline.len()), (1, "recovered", 0));
    opened.store.shutdown();
    assert_eq!(Store::open(dir.path()).persisted.incidents, 3);
}

#[test]
fn what_was_open_when_keepwell_died_was_not_seen_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).store;
    store.append(of_incident(1, "incident_opened"));
    store.append(of_incident(2, "guardian_started"));
    assert_eq!(store.incidents(&IncidentQuery::default()).unwrap()[0].state, "unseen");
    let services = reliability(&store.incidents(&IncidentQuery::default()).unwrap(), &store.down().unwrap());
    assert_eq!((services[0].incidents, services[0].open, services[0].mttr_ms), (1, false, None));
}

#[test]
fn time_in_which_keepwell_did_not_run_is_no_time_between_failures() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).store;
    let all = [
        (0, "guardian_started", None),
        (10, "incident_opened", Some(1)),
        (40, "guardian_stopping", None),
        (1_000, "guardian_started", None),
        (1_050, "incident_opened", Some(2)),
        (1_060, "told", None),
        (2_000, "guardian_started", None),
    ];
    for (seq, (second, kind, incident)) in (1..).zip(all) {
        let at = crate::convert::time(Wall(second * 1_000));
        let e = wire::Event { at, kind: kind.into(), incident, ..(*event(seq, Some("web"))).clone() };
        store.append(Arc::new(e));
    }
    let incidents = store.incidents(&IncidentQuery::default()).unwrap();
    let down = store.down().unwrap();
    assert_eq!(down, [(Wall(40_000), Wall(1_000_000)), (Wall(1_060_000), Wall(2_000_000))]);
    assert_eq!(reliability(&incidents, &down)[0].mtbf_ms, Some(30_000 + 50_000));
}

#[test]
fn an_incident_is_known_where_nothing_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(&dir.path().join("gone"), Limits::default()).store;
    store.append(of_incident(1, "incident_opened"));
    store.append(of_incident(2, "told"));
    let one = IncidentQuery { id: Some(3), ..IncidentQuery::default() };
    let found = store.incidents(&one).unwrap();
    assert_eq!((found[0].state.as_str(), found[0].timeline.len()), ("open", 2));
    store.append(of_incident(3, "incident_closed"));
    assert_eq!(store.incidents(&one).unwrap()[0].state, "recovered");
}

#[test]
fn old_incidents_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).store;
    let kept = u64::try_from(incidents::KEPT).unwrap();
    for id in 1..=kept + 5 {
        let begins = wire::Event { incident: Some(id), ..(*of_incident(id, "incident_opened")).clone() };
        store.append(Arc::new(begins));
    }
    let all = store.incidents(&IncidentQuery::default()).unwrap();
    assert_eq!((all.len() as u64, all[0].id, all[all.len() - 1].id), (kept, kept + 5, 6));
}
