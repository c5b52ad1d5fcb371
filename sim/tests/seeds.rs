//! 20,000 cases, each of which can be replayed by its seed. `KEEPWELL_SIM_SEEDS` makes it more or fewer.

use keepwell_sim::plant::Plant;
use keepwell_sim::random;

#[test]
fn the_invariants_hold_in_20_000_worlds() {
    let seeds = std::env::var("KEEPWELL_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let failed: Vec<String> = std::thread::scope(|scope| {
        let one = |first| {
            move || -> Vec<String> {
                let run = |seed| Some((seed, random::run(seed, Plant::Nothing, false).broken?));
                let broken = (first..seeds).step_by(usize::try_from(threads).unwrap_or(1)).filter_map(run);
                broken.take(5).map(|(seed, what)| replay(seed, &what)).collect()
            }
        };
        let all: Vec<_> = (0..threads).map(|first| scope.spawn(one(first))).collect();
        all.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn replay(seed: u64, what: &str) -> String {
    format!("seed {seed}: {what}\n  replay: cargo run -p keepwell-sim -- --seed {seed} --trace")
}

#[test]
fn a_seed_always_makes_the_same_case() {
    for seed in [1, 77, 4_096] {
        let (a, b) = (random::run(seed, Plant::Nothing, true), random::run(seed, Plant::Nothing, true));
        assert_eq!(a.trace, b.trace);
        assert!(a.trace.len() > 10, "seed {seed} is no story");
    }
}
