//! The tracker by itself, and against tiny trackers of the policies of peers, expressed in our options as far as that goes.

extern crate std;

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::spec::Limit;

const NEVER: Duration = Duration::from_nanos(1);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn exact() -> RestartPolicy {
    RestartPolicy { jitter: 0, ..RestartPolicy::default() }
}

/// A service without a readiness check whose runs last this long and then fail: the delays before its restarts, and
/// whether it gave up in the end.
fn restarts(policy: &RestartPolicy, runs: &[Duration]) -> (Vec<Duration>, bool) {
    let mut tracker = Tracker::default();
    let mut now = Mono(1_000_000_000);
    let mut delays = Vec::new();
    tracker.launched(policy, now);
    for run in runs {
        now = now + *run;
        let rested = *run >= policy.reset_after;
        let verdict = tracker.ended(policy, Spell { healthy: rested, rested }, now, 7);
        let delay = match verdict {
            Verdict::Restart { delay } | Verdict::Trial { delay, .. } => delay,
            Verdict::GiveUp { .. } => return (delays, true),
        };
        delays.push(delay);
        now = now + delay;
        assert!(tracker.launched(policy, now), "what the tracker scheduled is a restart");
    }
    (delays, false)
}

#[test]
fn delays_double_from_delay_to_max_delay() {
    let policy = RestartPolicy { limit: None, ..exact() };
    let (delays, _) = restarts(&policy, &[Duration::ZERO; 9]);
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60].map(secs));
}

#[test]
fn the_first_crash_after_a_healthy_spell_restarts_at_once() {
    let policy = RestartPolicy { limit: None, ..exact() };
    let (delays, _) = restarts(&policy, &[secs(60), secs(1), secs(1), secs(61), secs(1)]);
    assert_eq!(delays, [0, 2, 4, 0, 2].map(secs));
}

#[test]
fn zero_delay_is_always_at_once() {
    let policy = RestartPolicy { delay: Duration::ZERO, limit: None, ..exact() };
    assert_eq!(restarts(&policy, &[NEVER; 50]), (vec![Duration::ZERO; 50], false));
}

#[test]
fn the_sixth_restart_in_a_minute_is_a_slow_trial_that_grows_to_five_minutes() {
    let (delays, gave_up) = restarts(&exact(), &[Duration::from_millis(200); 10]);
    assert_eq!(delays, [1, 2, 4, 8, 16, 60, 120, 240, 300, 300].map(secs));
    assert!(!gave_up);
}

#[test]
fn attempts_that_are_never_healthy_are_a_crash_loop_whatever_their_spacing() {
    // Each lives for half a minute, so that there are never more than five restarts in a minute.
    let (delays, _) = restarts(&exact(), &[secs(30); 8]);
    assert_eq!(delays, [1, 2, 4, 8, 16, 60, 120, 240].map(secs));
}

#[test]
fn a_trial_that_becomes_healthy_leaves_the_loop() {
    let mut runs = vec![Duration::ZERO; 7];
    runs.push(secs(60));
    runs.push(Duration::ZERO);
    let (delays, _) = restarts(&exact(), &runs);
    assert_eq!(delays[5..], [60, 120, 0, 2].map(secs));
}

#[test]
fn a_run_that_was_ready_keeps_the_row_from_counting_but_not_the_window() {
    let policy = exact();
    let mut tracker = Tracker::default();
    let ready = Spell { healthy: true, rested: false };
    let mut now = Mono(0);
    for expected in [1, 2, 4, 8, 16] {
        let verdict = tracker.ended(&policy, ready, now, 0);
        assert_eq!(verdict, Verdict::Restart { delay: secs(expected) });
        now = now + secs(expected);
        tracker.launched(&policy, now);
    }
    assert!(matches!(tracker.ended(&policy, ready, now, 0), Verdict::Trial { found: Some(_), .. }));
    // Half an hour later the window is empty, and it was ready again.
    now = now + secs(1800);
    tracker.launched(&policy, now);
    assert_eq!(tracker.ended(&policy, ready, now, 0), Verdict::Restart { delay: secs(60) });
}

#[test]
fn a_limit_of_none_is_no_bound_of_either_kind() {
    let policy = RestartPolicy { limit: None, on_crash_loop: OnCrashLoop::GiveUp, ..exact() };
    assert!(!restarts(&policy, &[NEVER; 200]).1);
}

#[test]
fn give_up_gives_up_with_evidence() {
    let policy = RestartPolicy { on_crash_loop: OnCrashLoop::GiveUp, ..exact() };
    let (delays, gave_up) = restarts(&policy, &[NEVER; 20]);
    assert_eq!((delays.len(), gave_up), (5, true));
}

#[test]
fn a_program_that_is_not_there_is_tried_slowly() {
    let mut tracker = Tracker::default();
    let policy = RestartPolicy { delay: Duration::ZERO, ..exact() };
    let delays: Vec<Duration> = (0..5).map(|_| tracker.spawn_impossible(&policy, 0)).collect();
    assert_eq!(delays, [60, 120, 240, 300, 300].map(secs));
}

#[test]
fn a_host_that_is_out_of_something_is_not_asked_without_pause() {
    let mut tracker = Tracker::default();
    let policy = RestartPolicy { delay: Duration::ZERO, limit: None, ..exact() };
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        let Verdict::Restart { delay } = tracker.spawn_refused(&policy, Mono(0), 0) else { unreachable!() };
        assert!(delay >= SHORTEST_RETRY_OF_SPAWN && delay >= last && delay <= policy.max_delay);
        last = delay;
    }
    assert_eq!(last, policy.max_delay);
}

#[test]
fn exit_codes_fall_in_classes() {
    let codes = ExitCodes { success: vec![0, 143], fatal: vec![99], ..ExitCodes::default() };
    let class = |code| codes.class(ExitStatus::Code(code));
    assert_eq!(class(0), ExitClass::Success);
    assert_eq!(class(143), ExitClass::Success);
    assert_eq!(class(78), ExitClass::ConfigError);
    assert_eq!(class(99), ExitClass::Fatal);
    assert_eq!(class(1), ExitClass::Retry);
    assert_eq!(codes.class(ExitStatus::Unknown), ExitClass::Retry);
    let signal = ExitStatus::Signal { signal: 15, core_dumped: false, out_of_memory: false };
    assert_eq!(codes.class(signal), ExitClass::Retry);
    let codes = ExitCodes { retry: vec![0], ..ExitCodes::default() };
    assert_eq!(codes.class(ExitStatus::Code(0)), ExitClass::Retry);
}

/// supervisord, `startsecs` and `startretries` (<http://supervisord.org/subprocess.html>): a run that does not last
/// `startsecs` is a failed start; after `startretries` further tries it is FATAL. One that lasted is restarted at once,
/// and the count begins anew. Ours: `reset_after = startsecs`, `limit.max = startretries` with a window that never
/// counts, `on_crash_loop = give_up`. What cannot be said is its linear delay (1 s, 2 s, 3 s …): only the number of
/// tries is compared.
fn supervisord(startsecs: Duration, startretries: u32, runs: &[Duration]) -> (usize, bool) {
    let mut failed = 0;
    for (restarts, run) in runs.iter().enumerate() {
        failed = if *run >= startsecs { 0 } else { failed + 1 };
        if failed > startretries {
            return (restarts, true);
        }
    }
    (runs.len(), false)
}

/// systemd, `StartLimitBurst` and `StartLimitIntervalSec` with `RestartSec=0` (systemd.unit(5)): starts, the first one
/// among them, are counted in an interval that begins with its first start. dinit, `restart-limit-count` and
/// `restart-limit-interval` with `restart-delay = 0` (dinit-service(5)) does the same with restarts alone.
fn fixed_interval(burst: usize, interval: Duration, starts: &[Mono]) -> Option<usize> {
    let (mut begin, mut count) = (*starts.first()?, 0);
    for (n, at) in starts.iter().enumerate() {
        if at.since(begin) >= interval {
            (begin, count) = (*at, 0);
        }
        count += 1;
        if count > burst {
            return Some(n);
        }
    }
    None
}

/// OTP, `intensity` and `period` (<https://www.erlang.org/doc/system/sup_princ.html>): more than `intensity` restarts
/// in a sliding `period` end the supervisor. Restarts are made at once.
fn otp(intensity: usize, period: Duration, runs: &[Duration]) -> (usize, bool) {
    let mut now = Mono(0);
    let mut made: Vec<Mono> = Vec::new();
    for run in runs {
        now = now + *run;
        made.retain(|at| now.since(*at) < period);
        if made.len() >= intensity {
            return (runs.iter().position(|r| core::ptr::eq(r, run)).unwrap_or(0), true);
        }
        made.push(now);
    }
    (runs.len(), false)
}

/// kubelet, CrashLoopBackOff (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>): at once, then 10 s
/// doubling to 300 s; a run of more than 10 min begins anew. It never gives up.
fn kubelet(runs: &[Duration]) -> Vec<Duration> {
    let mut next = Duration::ZERO;
    let mut delays = Vec::new();
    for run in runs {
        if *run > secs(600) {
            next = Duration::ZERO;
        }
        delays.push(next);
        next = if next.is_zero() { secs(10) } else { (next * 2).min(secs(300)) };
    }
    delays
}

/// Restarts at once within a limit, and gives up beyond it; each end counts as healthy, so that only the window decides.
fn window_alone(max: u32, window: Duration) -> RestartPolicy {
    RestartPolicy {
        delay: Duration::ZERO,
        reset_after: Duration::ZERO,
        limit: Some(Limit { max, window }),
        on_crash_loop: OnCrashLoop::GiveUp,
        ..exact()
    }
}

/// Gives up after so many restarts in a row that did not last a second; no window counts.
fn row_alone(max: u32) -> RestartPolicy {
    RestartPolicy {
        reset_after: secs(1),
        limit: Some(Limit { max, window: NEVER }),
        on_crash_loop: OnCrashLoop::GiveUp,
        ..exact()
    }
}

fn starts(runs: &[Duration]) -> Vec<Mono> {
    let mut at = Mono(0);
    let mut all = vec![at];
    for run in runs {
        at = at + *run;
        all.push(at);
    }
    all
}

fn runs(longest_ms: u64) -> impl Strategy<Value = Vec<Duration>> {
    prop::collection::vec((1..longest_ms).prop_map(Duration::from_millis), 0..40)
}

proptest! {
    #[test]
    fn as_supervisord(runs in runs(1_000), startretries in 1_u32..6) {
        let (delays, gave_up) = restarts(&row_alone(startretries), &runs);
        prop_assert_eq!((delays.len(), gave_up), supervisord(secs(1), startretries, &runs));
    }

    /// Ours counts the restart at once that follows a healthy run among the tries, supervisord does not.
    #[test]
    fn no_more_patient_than_supervisord(runs in runs(2_000), startretries in 1_u32..6) {
        let (delays, gave_up) = restarts(&row_alone(startretries), &runs);
        let (restarts, fatal) = supervisord(secs(1), startretries, &runs);
        prop_assert!(delays.len() <= restarts && (gave_up || !fatal));
    }

    #[test]
    fn as_otp(runs in runs(7_000), intensity in 1_usize..4) {
        let policy = window_alone(u32::try_from(intensity).unwrap(), secs(5));
        let (delays, gave_up) = restarts(&policy, &runs);
        prop_assert_eq!((delays.len(), gave_up), otp(intensity, secs(5), &runs));
    }

    #[test]
    fn as_kubelet(mut runs in runs(900_000)) {
        // Ours makes the first restart at once only after a healthy spell; kubelet always does. From there on a delay of
        // 5 s gives its 10 s, since the restart at once was the first of the row.
        runs.insert(0, secs(601));
        let policy = RestartPolicy {
            delay: secs(5),
            max_delay: secs(300),
            reset_after: secs(600) + NEVER,
            limit: None,
            ..exact()
        };
        prop_assert_eq!(restarts(&policy, &runs).0, kubelet(&runs));
    }

    /// A sliding window is never more patient than one that begins anew: where systemd gives up, so did we.
    #[test]
    fn no_more_patient_than_systemd(runs in runs(4_000)) {
        let (delays, gave_up) = restarts(&window_alone(4, secs(10)), &runs);
        if let Some(refused) = fixed_interval(5, secs(10), &starts(&runs)) {
            prop_assert!(gave_up && delays.len() < refused);
        }
    }

    /// For a program that fails evenly the two are one.
    #[test]
    fn as_systemd_for_an_even_failure(run in 1_u64..9_999) {
        let runs = [Duration::from_millis(run); 30];
        let (delays, gave_up) = restarts(&window_alone(4, secs(10)), &runs);
        let systemd = fixed_interval(5, secs(10), &starts(&runs));
        // systemd counts the first start too, so that its interval may end one start earlier than our window.
        if systemd.is_some() {
            prop_assert_eq!((delays.len(), gave_up), (4, true));
        } else if gave_up {
            prop_assert!(run * 5 >= 10_000, "{} ms", run);
        }
    }

    #[test]
    fn no_more_patient_than_dinit(runs in runs(6_000)) {
        let (delays, gave_up) = restarts(&window_alone(3, secs(10)), &runs);
        // dinit counts restarts: all starts but the first.
        if let Some(refused) = fixed_interval(3, secs(10), &starts(&runs)[1..]) {
            prop_assert!(gave_up && delays.len() <= refused);
        }
    }

    #[test]
    fn jitter_stays_within_its_percentage(ms in 0_u64..10_000_000, percent in 0_u8..=100, random in any::<u64>()) {
        let delay = Duration::from_millis(ms);
        let moved = jittered(delay, percent, random);
        let most = delay.as_nanos() * u128::from(percent) / 100 + 1;
        prop_assert!(moved.as_nanos().abs_diff(delay.as_nanos()) <= most);
    }

    /// Whatever happens, there are never more restarts in a window than the limit says, but for trials of a crash loop,
    /// which are at least `max_delay` apart.
    #[test]
    fn the_budget_holds(
        runs in prop::collection::vec((0_u64..100_000, any::<bool>()), 1..60),
        max in 0_u32..8,
        window in 1_u64..120,
        delay in 0_u64..3_000,
    ) {
        let window = secs(window);
        let policy = RestartPolicy {
            delay: Duration::from_millis(delay),
            limit: Some(Limit { max, window }),
            reset_after: secs(20),
            ..RestartPolicy::default()
        };
        let mut tracker = Tracker::default();
        let mut now = Mono(0);
        let mut made: Vec<Mono> = Vec::new();
        for (n, (run, healthy)) in runs.into_iter().enumerate() {
            let run = Duration::from_millis(run);
            now = now + run;
            let spell = Spell { healthy, rested: healthy && run >= policy.reset_after };
            match tracker.ended(&policy, spell, now, random(1, n as u64)) {
                Verdict::Restart { delay } => {
                    now = now + delay;
                    made.push(now);
                    let recent = made.iter().filter(|at| now.since(**at) < window).count();
                    prop_assert!(recent <= max as usize, "{} restarts", recent);
                }
                Verdict::Trial { delay, .. } => {
                    prop_assert!(delay >= policy.max_delay * 3 / 4);
                    now = now + delay;
                }
                Verdict::GiveUp { .. } => prop_assert!(false, "nobody asked to give up"),
            }
            tracker.launched(&policy, now);
        }
    }
}
