//! A simulation that finds nothing proves nothing: each planted bug must be found, and soon.

use keepwell_sim::plant::Plant;
use keepwell_sim::random;

/// The invariants that these cases broke.
fn broken(plant: Plant, seeds: u64) -> Vec<String> {
    // A broken core may also panic in its own check; that is a finding, and its text would only clutter the output.
    std::panic::set_hook(Box::new(|_| {}));
    (0..seeds).filter_map(|seed| random::run(seed, plant, false).broken).collect()
}

fn assert_found(plant: Plant, words: &str) {
    let found = broken(plant, 400);
    assert!(
        found.iter().any(|what| what.contains(words)),
        "{plant:?} was not found as {words:?}: {found:#?}"
    );
}

#[test]
fn a_double_start_is_found() {
    assert_found(Plant::DoubleStart, " lives");
}

#[test]
fn a_kill_that_is_never_sent_is_found() {
    assert_found(Plant::LostKill, "after the shutdown");
}

#[test]
fn a_stale_exit_is_found() {
    assert_found(Plant::StaleExit, " lives");
}

#[test]
fn a_piece_that_is_not_written_down_is_found() {
    assert_found(Plant::ForgottenPiece, " lives");
}

#[test]
fn a_start_before_its_dependency_is_found() {
    assert_found(Plant::NoDependencies, " is started, and ");
}

#[test]
fn timers_that_fire_early_are_found() {
    assert!(!broken(Plant::HastyTimers, 400).is_empty());
}

#[test]
fn a_ladder_upside_down_is_found() {
    assert_found(Plant::KillFirst, "after a kill");
}

#[test]
fn restarts_without_limit_are_found() {
    assert_found(Plant::NoLimit, "and its limit is");
}

#[test]
fn a_commit_after_its_effects_is_found() {
    assert_found(Plant::LateCommit, "is committed after other effects");
}

#[test]
fn beats_that_are_not_heard_after_a_silence_are_found() {
    assert_found(Plant::DeafAfterSilence, "it beats, and was ended");
}

#[test]
fn the_ending_of_more_than_the_budget_allows_is_found() {
    assert_found(Plant::NoBudget, "were ended for their health, and the budget is");
}
