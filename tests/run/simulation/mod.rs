//! The deterministic simulation: whole lives of Jobs in worlds made by chance, each from one
//! number, held against the rules that no world may break.
//!
//! In reading order: [`plan`] makes a world, of the [`scene`] and its [`troubles`], [`life`] lets
//! it come to pass, [`process`] is one run in it, [`rules`] says what must hold, [`effects`] what
//! made a difference, [`coverage`] what the seeds have covered.
//!
//! `PREPULL_LONG_TESTS=1` runs as many seeds as a release needs, and `PREPULL_SEED=7` the one
//! that a failure names, and tells what came to pass in it.

mod coverage;
mod effects;
mod life;
mod plan;
mod process;
mod rules;
mod scene;
mod troubles;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use std::{env, thread};

use coverage::Coverage;
use life::{Lived, live};
use plan::{Plan, plan};

use crate::chance::{Chance, seed_of_environment};
use crate::model::World;

const N_SEEDS: u64 = 10_000;
const N_SEEDS_OF_LONG_TESTS: u64 = 100_000;
/// Seeds that a thread takes at a time.
const BATCH: u64 = 50;
/// Failing seeds that are told of; more say no more.
const FAILURES_SHOWN: usize = 5;

#[test]
fn no_world_breaks_a_rule() {
    if let Some(seed) = seed_of_environment() {
        return replay(seed);
    }
    let is_long = env::var("PREPULL_LONG_TESTS").is_ok_and(|it| it == "1");
    let n_seeds = if is_long { N_SEEDS_OF_LONG_TESTS } else { N_SEEDS };
    let started = Instant::now();
    let (coverage, failures) = run_all(n_seeds);
    let seconds = started.elapsed().as_secs_f64();
    println!("{coverage}{n_seeds} seeds, {} of them failed", failures.len());
    println!("{seconds:.1} s, {:.0} seeds a second", n_seeds as f64 / seconds);
    let shown: Vec<_> = failures.iter().take(FAILURES_SHOWN).map(Failure::to_string).collect();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), shown.join("\n"));
    assert_eq!(coverage.gaps(), Vec::<String>::new(), "too little of it");
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 1..=40 {
        let lines = || {
            let lived = live(&mut plan(seed), Some(vec![]));
            lived.world.trace
        };
        assert_eq!(lines(), lines());
    }
}

#[test]
fn neighbouring_seeds_have_no_number_in_common() {
    let numbers = |seed| {
        let mut chance = Chance::of_seed(seed);
        (0..1000).map(|_| chance.below(u64::MAX)).collect::<BTreeSet<_>>()
    };
    for seed in 1..=40 {
        assert!(numbers(seed).is_disjoint(&numbers(seed + 1)), "{seed}");
    }
}

/// What pods and runs do in one world, one thing after the other.
pub fn steps_of(seed: u64) -> BTreeSet<String> {
    let mut plan = plan(seed);
    plan.world.steps = Some(BTreeSet::new());
    let mut world = live(&mut plan, None).world;
    let mut steps = world.steps.take().expect("they were asked for");
    let mut last: BTreeMap<usize, String> = BTreeMap::new();
    for it in &world.requests {
        let request = if it.is_ok { it.request.into() } else { format!("{}, in vain", it.request) };
        if let Some(before) = last.insert(it.process, request.clone()) {
            steps.insert(format!("run: {before} -> {request}"));
        }
    }
    steps
}

/// A seed and what is wrong with it.
struct Failure {
    seed: u64,
    faults: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, faults } = self;
        writeln!(f, "seed {seed}: {}", faults.join("\n    "))?;
        write!(f, "  PREPULL_SEED={seed} cargo test --test run simulation -- --nocapture")
    }
}

fn run_all(n_seeds: u64) -> (Coverage, Vec<Failure>) {
    let next = AtomicU64::new(1);
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let (mut coverage, mut failures) = (Coverage::default(), vec![]);
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..n_threads).map(|_| scope.spawn(|| run_some(&next, n_seeds))).collect();
        for thread in threads {
            let (covered, failed) = thread.join().expect("panics are caught for each seed");
            coverage.merge(covered);
            failures.extend(failed);
        }
    });
    failures.sort_by_key(|it| it.seed);
    (coverage, failures)
}

/// Takes batches of seeds until there are none.
fn run_some(next: &AtomicU64, n_seeds: u64) -> (Coverage, Vec<Failure>) {
    let (mut coverage, mut failures) = (Coverage::default(), vec![]);
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        if first > n_seeds {
            return (coverage, failures);
        }
        for seed in first..(first + BATCH).min(n_seeds + 1) {
            coverage.n_seeds += 1;
            let lived = panic::catch_unwind(AssertUnwindSafe(|| {
                let mut plan = plan(seed);
                let lived = live(&mut plan, None);
                coverage.add(facts(&plan, &lived));
                lived.faults
            }));
            let faults = lived.unwrap_or_else(|_| vec!["it panicked".into()]);
            if !faults.is_empty() {
                failures.push(Failure { seed, faults });
            }
        }
    }
}

/// What is worth counting of a world.
fn facts(plan: &Plan, lived: &Lived) -> BTreeSet<Cow<'static, str>> {
    let exits = lived.told.iter().map(|it| match it.as_ref().map(|it| it.exit) {
        None => "exit: killed",
        Some(0) => "exit: 0",
        Some(1) => "exit: 1",
        Some(2) => "exit: 2",
        Some(3) => "exit: 3",
        Some(143) => "exit: 143",
        Some(_) => "exit: another",
    });
    let faulty = lived.world.faulty.iter().filter(|it| !it.is_empty());
    let faulty = faulty.map(|it| format!("fault at: {it}").into());
    let World { seen, noted, .. } = &lived.world;
    let told =
        exits.chain(seen.iter().chain(noted).chain(&lived.effects).chain(&plan.facts).copied());
    told.map(Cow::Borrowed).chain(faulty).collect()
}

/// Tells what comes to pass in one world.
fn replay(seed: u64) {
    let mut plan = plan(seed);
    println!("{plan}");
    let lived = live(&mut plan, Some(vec![]));
    lived.world.trace.iter().flatten().for_each(|it| println!("{it}"));
    for (place, told) in lived.told.iter().enumerate() {
        let Some(told) = told else { continue };
        println!("\nprocess {place} ended with {}:", told.exit);
        told.lines.iter().for_each(|it| println!("  {it}"));
    }
    assert!(lived.faults.is_empty(), "seed {seed}:\n{}", lived.faults.join("\n"));
}
