use super::*;
use alloc::format;
use alloc::vec;

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000_000)
}

fn both(mono: Mono, real: Duration) -> Now {
    Now { mono, wall: Wall(i64::try_from(real.as_millis()).unwrap()) }
}

fn notice(service: &str, topic: Topic) -> Notice {
    let text = format!("{service} {}", topic.name());
    Notice { topic, service: service.into(), incident: None, at: Wall(0), text, repeated: 0 }
}

fn services(message: &Message) -> Vec<&str> {
    message.notices.iter().map(|n| n.service.as_str()).collect()
}

#[test]
fn what_happens_together_is_one_message() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.next_deadline(), None, "nothing to do, no wake-up");
    for n in 0..50 {
        outbox.push(notice(&format!("s{n}"), Topic::GaveUp), at(10));
    }
    outbox.push(notice("later", Topic::GaveUp), at(11));
    assert_eq!(outbox.poll(at(11)), None);
    assert_eq!(outbox.next_deadline(), Some(at(12)));
    let message = outbox.poll(at(12)).unwrap();
    assert_eq!((message.notices.len(), message.number, message.dropped), (51, 1, 0));
    assert_eq!(outbox.answered(1, &Answer::Taken, at(13)), None);
    assert_eq!((outbox.next_deadline(), outbox.pending()), (None, 0));
}

#[test]
fn the_same_about_the_same_is_said_once_and_counted() {
    let mut outbox = Outbox::default();
    for _ in 0..3 {
        outbox.push(notice("web", Topic::CrashLoop), at(0));
    }
    outbox.push(notice("web", Topic::GaveUp), at(0));
    let message = outbox.poll(at(2)).unwrap();
    assert_eq!(
        message.notices.iter().map(|n| (n.topic, n.repeated)).collect::<Vec<_>>(),
        [(Topic::CrashLoop, 2), (Topic::GaveUp, 0)]
    );
    outbox.answered(1, &Answer::Taken, at(2));
    outbox.push(notice("web", Topic::CrashLoop), at(300));
    assert_eq!(outbox.next_deadline(), None);
    outbox.push(notice("web", Topic::CrashLoop), at(601));
    let again = outbox.poll(at(603)).unwrap();
    assert_eq!(
        again.notices[0].repeated, 3,
        "it is still so after a while, and was said by others meanwhile"
    );
}

#[test]
fn each_incident_is_one_of_its_own() {
    let mut outbox = Outbox::default();
    for incident in [1, 1, 2] {
        outbox.push(Notice { incident: Some(incident), ..notice("web", Topic::IncidentOpened) }, at(0));
    }
    outbox.push(Notice { incident: Some(1), ..notice("web", Topic::IncidentClosed) }, at(1));
    let incidents: Vec<_> = outbox.poll(at(2)).unwrap().notices.iter().map(|n| n.incident).collect();
    assert_eq!(incidents, [Some(1), Some(2), Some(1)]);
}

#[test]
fn what_is_not_taken_is_tried_again_ever_more_slowly_with_its_number() {
    let mut outbox = Outbox::default();
    outbox.push(notice("web", Topic::GaveUp), at(0));
    let mut now = at(2);
    let mut waits = vec![];
    for attempt in 0..12 {
        let message = outbox.poll(now).unwrap();
        assert_eq!((message.number, services(&message)), (1, vec!["web"]));
        assert_eq!(outbox.poll(now), None, "one attempt at a time");
        let setback = outbox.answered(1, &Answer::Later(None), now);
        assert_eq!(setback, (attempt == 0).then_some(Setback::Delayed), "told once");
        let next = outbox.next_deadline().unwrap();
        waits.push(next.since(now).as_secs());
        now = next;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    // What came meanwhile is the next message.
    outbox.push(notice("db", Topic::GaveUp), now);
    outbox.poll(now).unwrap();
    outbox.answered(1, &Answer::Taken, now);
    assert_eq!(services(&outbox.poll(now + GATHER).unwrap()), ["db"]);
}

#[test]
fn a_receiver_that_says_when_is_heard_within_reason() {
    let mut outbox = Outbox::default();
    outbox.push(notice("web", Topic::GaveUp), at(0));
    for (asked, waited) in [(30, 30), (100_000, 300), (0, 4)] {
        let now = outbox.next_deadline().unwrap();
        outbox.poll(now).unwrap();
        outbox.answered(1, &Answer::Later(Some(Duration::from_secs(asked))), now);
        assert_eq!(outbox.next_deadline().unwrap().since(now).as_secs(), waited);
    }
}

#[test]
fn what_is_refused_or_too_old_is_lost_and_told() {
    let mut outbox = Outbox::default();
    outbox.push(notice("web", Topic::GaveUp), at(0));
    outbox.push(notice("db", Topic::GaveUp), at(0));
    outbox.poll(at(2)).unwrap();
    assert_eq!(outbox.answered(1, &Answer::Never, at(3)), Some(Setback::Lost(2)));
    assert_eq!(outbox.next_deadline(), None);
    outbox.push(notice("mail", Topic::GaveUp), at(3));
    let mut lost = None;
    while let Some(now) = outbox.next_deadline() {
        assert!(now < at(2 * 24 * 3600), "it ends");
        let message = outbox.poll(now).unwrap();
        lost = outbox.answered(message.number, &Answer::Later(None), now).or(lost);
    }
    assert_eq!(lost, Some(Setback::Lost(1)));
}

#[test]
fn messages_are_rate_limited_and_nothing_is_lost_by_it() {
    let mut outbox = Outbox::default();
    let (mut sent, mut now) = (vec![], at(0));
    for n in 0..60 {
        outbox.push(notice(&format!("s{n}"), Topic::GaveUp), now);
        now = now + Duration::from_secs(3);
        if let Some(message) = outbox.poll(now) {
            sent.push((now, message.notices.len()));
            outbox.answered(message.number, &Answer::Taken, now);
        }
    }
    assert_eq!(sent.len(), MESSAGES);
    let next = outbox.next_deadline().unwrap();
    assert_eq!(next, sent[0].0 + SPAN);
    let rest = outbox.poll(next).unwrap();
    assert_eq!(rest.notices.len() + sent.iter().map(|(_, n)| n).sum::<usize>(), 60);
}

#[test]
fn what_finds_no_room_is_counted() {
    let mut outbox = Outbox::default();
    for n in 0..WAITING + 7 {
        outbox.push(notice(&format!("s{n}"), Topic::GaveUp), at(0));
    }
    let message = outbox.poll(at(2)).unwrap();
    assert_eq!((message.notices.len(), message.dropped), (WAITING, 7));
    assert_eq!(message.notices[0].service, "s7", "the newest are kept");
    outbox.answered(1, &Answer::Taken, at(2));
    outbox.push(notice("new", Topic::GaveUp), at(3));
    assert_eq!(outbox.poll(at(5)).unwrap().dropped, 0, "counted once");
}

#[test]
fn a_new_daemon_sends_again_what_may_not_have_arrived_and_nothing_else() {
    let mut outbox = Outbox::default();
    outbox.push(notice("web", Topic::GaveUp), at(0));
    let before = outbox.poll(at(2)).unwrap();
    let mut next = outbox.clone();
    next.resume(at(3));
    assert_eq!(next.poll(at(3)), Some(before), "the same, with the same number");
    next.answered(1, &Answer::Taken, at(3));
    let mut third = next.clone();
    third.resume(at(4));
    assert_eq!(third.next_deadline(), None, "what arrived is not sent again");
    third.push(notice("web", Topic::GaveUp), at(5));
    assert_eq!(third.next_deadline(), None, "and what was said is known");
    // Between two attempts it keeps its time.
    outbox.answered(1, &Answer::Later(Some(Duration::from_secs(60))), at(3));
    outbox.resume(at(4));
    assert_eq!(outbox.next_deadline(), Some(at(63)));
}

#[test]
fn what_outlives_the_guardian_keeps_its_number_and_its_times_by_the_calendar() {
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let mut outbox = Outbox::default();
    outbox.push(notice("web", Topic::GaveUp), at(100_000));
    let before = outbox.poll(at(100_002)).unwrap();
    let then = both(at(100_010), hours(1));

    // The host was started anew, and its clock with it.
    let mut soon = outbox.clone().revive(then, both(at(5), hours(1) + Duration::from_secs(20)));
    assert_eq!(soon.poll(at(5)), Some(before.clone()), "whether it arrived nobody knows");
    soon.answered(1, &Answer::Taken, at(6));
    soon.push(notice("web", Topic::GaveUp), at(7));
    assert_eq!(soon.next_deadline(), None, "what was said is known");
    soon.push(notice("db", Topic::GaveUp), at(8));
    assert_eq!(soon.poll(at(10)).unwrap().number, 2, "numbers go on");

    let mut late = outbox.clone().revive(then, both(at(5), hours(26)));
    assert_eq!(late.poll(at(5)), Some(before.clone()), "it has its last attempt");
    assert_eq!(late.answered(1, &Answer::Later(None), at(6)), Some(Setback::Lost(1)));
    late.push(notice("web", Topic::GaveUp), at(7));
    assert_eq!(services(&late.poll(at(9)).unwrap()), ["web"], "that is long ago");

    // A calendar that was set back makes nothing older than it was.
    let mut back = outbox.revive(then, both(at(5), hours(0)));
    assert_eq!(back.poll(at(5)), Some(before));
    assert_eq!(back.answered(1, &Answer::Later(None), at(6)), None);
    assert_eq!(back.next_deadline(), Some(at(8)), "this was the second attempt");
}

#[test]
fn at_the_end_what_is_due_is_said_at_once_and_what_is_not_taken_is_left() {
    let mut outbox = Outbox::default();
    outbox.hurry(at(0));
    assert_eq!(outbox.next_deadline(), None);
    outbox.push(notice("web", Topic::GaveUp), at(0));
    outbox.hurry(at(1));
    assert_eq!(services(&outbox.poll(at(1)).unwrap()), ["web"]);
    assert!(outbox.is_sending());
    outbox.hurry(at(1));
    assert_eq!(outbox.poll(at(1)), None, "it is being said");
    outbox.answered(1, &Answer::Later(Some(Duration::from_secs(60))), at(1));
    outbox.hurry(at(2));
    assert_eq!(outbox.next_deadline(), Some(at(2)), "also before its time");
    outbox.poll(at(2)).unwrap();
    outbox.answered(1, &Answer::Later(None), at(3));
    assert!(!outbox.is_sending());
    assert_eq!(outbox.pending(), 1);
}

#[test]
fn an_answer_that_never_comes_and_one_that_comes_late_do_no_harm() {
    let mut outbox = Outbox::default();
    outbox.push(notice("web", Topic::GaveUp), at(0));
    outbox.poll(at(2)).unwrap();
    assert_eq!(outbox.next_deadline(), Some(at(2) + ANSWER_LOST));
    assert!(outbox.poll(at(122)).is_some());
    outbox.answered(1, &Answer::Taken, at(123));
    assert_eq!(outbox.answered(1, &Answer::Later(None), at(124)), None);
    assert_eq!(outbox.next_deadline(), None);
}

/// A receiver that fails at random under a storm of notices: all that was taken in is delivered, dropped and counted, or
/// told to be lost; no number skips; the rate is held.
#[test]
fn under_a_storm_every_notice_is_accounted_for() {
    for seed in 1_u64..300 {
        let mut random = seed;
        let mut draw = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        // The clock begins anew with the host; `real` does not.
        let (mut outbox, mut now, mut real) = (Outbox::default(), at(0), Duration::ZERO);
        let (mut pushed, mut delivered, mut dropped, mut lost, mut made) = (0, 0, 0, 0, vec![]);
        let mut seen = 0;
        for step in 0..400 {
            for _ in 0..draw(12) {
                outbox.push(notice(&format!("{step}-{}", draw(1 << 60)), Topic::GaveUp), now);
                pushed += 1;
            }
            if draw(10) == 0 {
                outbox.resume(now);
            }
            if draw(20) == 0 {
                let then = both(now, real);
                (now, real) = (at(draw(1000)), real + Duration::from_secs(draw(300)));
                outbox = outbox.revive(then, both(now, real));
            }
            if let Some(message) = outbox.poll(now) {
                if message.number > seen {
                    assert_eq!(message.number, seen + 1);
                    seen = message.number;
                    made.push(real);
                    dropped += usize::try_from(message.dropped).unwrap();
                }
                let answer = match draw(4) {
                    0 => Answer::Later(None),
                    1 => Answer::Never,
                    _ => Answer::Taken,
                };
                match (outbox.answered(message.number, &answer, now), &answer) {
                    (Some(Setback::Lost(n)), _) => lost += n,
                    (_, Answer::Taken) => delivered += message.notices.len(),
                    (_, Answer::Later(_) | Answer::Never) => {}
                }
            }
            let passed = Duration::from_secs(draw(20));
            (now, real) = (now + passed, real + passed);
        }
        dropped += usize::try_from(outbox.dropped).unwrap();
        assert_eq!(pushed, delivered + dropped + lost + outbox.pending(), "seed {seed}");
        for window in made.windows(MESSAGES + 1) {
            assert!(window[MESSAGES] - window[0] >= SPAN, "seed {seed}");
        }
    }
}
