//! The bar that the prediction of leaks is held to, on series that nobody has seen before: docs/prediction.md. A seed that
//! failed is replayed with `KEEPWELL_LEAKS_SEED`. At the true rates of that page, chance alone breaks one of these bounds less
//! than once in a million runs.

use std::time::SystemTime;

use keepwell_sim::leaks::{Kind, Score, of_kind};

fn seed() -> u64 {
    let given = std::env::var("KEEPWELL_LEAKS_SEED").ok().and_then(|n| n.parse().ok());
    let fresh = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos()) as u64;
    let seed = given.unwrap_or_else(fresh);
    println!("replay: KEEPWELL_LEAKS_SEED={seed} cargo test -p keepwell-sim --test leaks");
    seed
}

fn sum(kinds: &[Kind], count: u64) -> Score {
    let seed = seed();
    let mut sum = Score::default();
    for kind in kinds {
        let score = of_kind(*kind, count, seed);
        println!("{kind:?}: {score:?}");
        sum += score;
    }
    sum
}

#[test]
fn leaks_that_have_been_visible_for_30_min_are_called_15_min_ahead() {
    let score = sum(&[Kind::Linear, Kind::Accelerating], 350);
    assert!(score.visible > 350, "too few to tell: {score:?}");
    assert!(score.called * 100 >= score.visible * 95, "{} of {} were called", score.called, score.visible);
    // The interval is said to hold 95 of 100; that it does so is written in the document, within what chance does here.
    assert!(score.covered * 100 >= score.called * 90, "{} of {} held the truth", score.covered, score.called);
}

#[test]
fn at_most_one_of_a_hundred_days_without_a_leak_has_a_false_call() {
    let kinds = [Kind::Level, Kind::Plateau, Kind::Restarts, Kind::Steps];
    let score = sum(&kinds, 450);
    assert_eq!(score.series, 1800);
    assert!(score.false_calls * 100 <= score.series, "{} of {} had one", score.false_calls, score.series);
    assert!(score.steps_seen * 100 >= score.steps * 90, "{} of {} steps seen", score.steps_seen, score.steps);
}
