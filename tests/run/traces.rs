//! The model is held to reality: whatever a real cluster did has to be possible in it.
//!
//! `golden/steps.json` has every step that pods, DaemonSets and runs take in some worlds of the
//! simulation, and what events tell of it. The end-to-end tests `traces` watch the same on a real
//! cluster, and find its steps in it.

use std::collections::BTreeSet;

use crate::golden::holds;
use crate::simulation::steps_of;

const N_SEEDS: u64 = 5_000;

#[test]
fn the_steps_of_the_model_are_those_that_reality_is_held_against() {
    let steps: BTreeSet<_> = (1..=N_SEEDS).flat_map(steps_of).collect();
    let steps = serde_json::to_string_pretty(&steps).expect("it is JSON");
    holds("steps.json", &(steps + "\n"));
}
