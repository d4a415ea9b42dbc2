//! What came to pass of what a world was made for: a setting counts where it made a difference.

use std::collections::{BTreeMap, BTreeSet};

use prepull::report::{FailurePolicy, Strictness};
use prepull::run::Outcome;
use prepull::share::Share;

use super::plan::Plan;
use super::process::{Process, Told};
use super::scene::{PERMANENT, TRANSIENT};
use crate::model::{Verb, World};

/// What happened in a world to its processes, and what these said in the end.
pub fn effects(
    world: &World,
    plan: &Plan,
    processes: &[Process<'_>],
    told: &[Option<Told>],
) -> BTreeSet<&'static str> {
    let mut facts = BTreeSet::new();
    facts.extend(pulls(world));
    let is_ours = |run: &str| plan.lives.iter().any(|it| it.args.config.id == run);
    let mut deleted = world.changes.iter().filter(|it| it.verb == Verb::Delete);
    if deleted.any(|it| it.has_expired && !is_ours(&it.run)) {
        facts.insert("leftover: expired");
    }
    for (process, told) in processes.iter().zip(told) {
        facts.extend(groups(process));
        facts.extend(window(process));
        facts.extend(told.iter().flat_map(|it| judgement(process, it)));
        let deletes = |it: &&crate::model::Request| it.request == "delete pod" && it.is_ok;
        if process.asked(world).any(|it| deletes(&it)) {
            facts.insert("stall timeout");
        }
        if process.is_blind() && !process.made.is_empty() {
            facts.insert("rights: nodes may not be listed");
        }
        if matches!(process.outcome(), Some(Outcome::Usage { .. })) && !world.namespace_exists {
            facts.insert("namespace: missing");
        }
    }
    facts
}

/// The ways in which pulls failed.
fn pulls(world: &World) -> BTreeSet<&'static str> {
    let mut facts = BTreeSet::new();
    let mut n_failed: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for it in &world.failed {
        let words = it.words.as_str();
        if PERMANENT.contains(&words) {
            facts.insert("pull: fails for good");
        }
        if TRANSIENT.contains(&words) {
            *n_failed.entry((&it.node, &it.image)).or_default() += 1;
        }
    }
    for ((node, image), n) in n_failed {
        let is_there = world.nodes.get(node).is_some_and(|it| it.holds(image));
        match is_there {
            true => facts.insert("pull: fails for a while"),
            false if n > 1 => facts.insert("pull: fails again and again"),
            false => false,
        };
    }
    facts
}

/// How many places a run had DaemonSets for, and how many DaemonSets for one of them.
fn groups(process: &Process<'_>) -> Vec<&'static str> {
    let groups = &process.args.config.groups;
    let mut placements: Vec<(_, usize)> = vec![];
    for &group in &process.made {
        let placement = &groups[group].placement;
        match placements.iter_mut().find(|it| it.0 == placement) {
            Some((_, n)) => *n += 1,
            None => placements.push((placement, 1)),
        }
    }
    let Some(most) = placements.iter().map(|it| it.1).max() else { return vec![] };
    vec![
        ["groups: 1", "groups: 2", "groups: 3"][placements.len() - 1],
        ["pods per node: 1", "pods per node: 2", "pods per node: 3"][most - 1],
    ]
}

/// The window of a run, if it kept nodes waiting.
fn window(process: &Process<'_>) -> Option<&'static str> {
    let name = match process.args.config.max_nodes_at_once {
        None => return (!process.made.is_empty()).then_some("window: none"),
        Some(Share::Nodes(1)) => "window: 1",
        Some(Share::Nodes(_)) => "window: 2",
        Some(Share::Percent(25)) => "window: 25%",
        Some(Share::Percent(_)) => "window: 100%",
    };
    process.nodes_waited.then_some(name)
}

/// What made a run say something else of its end than others would have.
fn judgement(process: &Process<'_>, told: &Told) -> Vec<&'static str> {
    let judgement = process.args.judgement;
    let is_well = matches!(process.outcome(), Some(Outcome::NoNodes | Outcome::Ready));
    let mut facts = vec![];
    if is_well && told.exit == 1 && judgement.strictness == Strictness::Strict {
        facts.push("strict");
    }
    if !is_well && told.exit == 0 && judgement.failure_policy == FailurePolicy::Ignore {
        facts.push("failure policy: Ignore");
    }
    let forgiven = told.report["nodes"]["forgiven"].as_object();
    let mut reasons = forgiven.into_iter().flatten().filter_map(|it| it.1.as_str());
    if reasons.any(|it| it.starts_with("allowed to lack images")) {
        facts.push("allow missing");
    }
    facts
}
