//! The last line of the report: the whole verdict, for people who see nothing else.

use prepull::args::RunArgs;

use crate::bench::{Ended, args, args_of_a_shell, args_with, attempt, nodes};
use crate::model::{Happening, ModelNode, Pull, World};

const NOT_FOUND: &str = "failed to resolve image: q.io/a:1: not found";
const INSUFFICIENT: &str = "1 Insufficient cpu";

/// An image for a pool that has no node.
const GPU: &str = r#"{"image": "q.io/gpu:1", "nodeSelector": {"pool": "gpu"}}"#;

#[track_caller]
fn ends(world: World, args: &RunArgs, exit: u8, verdict: &str) -> Ended {
    let ended = attempt(&world.share(), args);
    assert_eq!((ended.exit, ended.verdict()), (exit, verdict), "{:#?}", ended.lines);
    ended
}

/// Three nodes: on `n1` the image can not be pulled, `n2` is full.
fn gaps() -> World {
    let mut world = nodes(3);
    world.registry_at.insert(("n1".into(), "q.io/a:1".into()), Pull::fails(NOT_FOUND));
    world.nodes.get_mut("n2").expect("one of three").has_room = false;
    world
}

fn all_cordoned() -> World {
    let mut world = nodes(3);
    world.nodes.values_mut().for_each(|it| it.cordoned = true);
    world
}

#[test]
fn each_forgiven_node_has_its_reason() {
    let ended = attempt(&gaps().share(), &args("--allow-missing 1 q.io/a:1"));
    let verdict = ended.verdict();
    let gaps = "; but not on 2 nodes, forgiven: n1 (allowed to lack images: ";
    assert!(verdict.contains(gaps), "{verdict}");
    assert!(verdict.ends_with("), n2 (no room for another pod)"), "{verdict}");
}

#[test]
fn strictness_says_what_it_minds_alone() {
    let full = "n2 lacks images: no room for another pod: make room there";
    let end = "or leave `--strict` out";
    let verdict = format!("failed, as asked by `--strict`: {full}, {end}");
    ends(gaps(), &args("--strict --allow-missing 1 q.io/a:1"), 1, &verdict);
    let mut world = gaps();
    world.nodes.get_mut("n3").expect("one of three").has_room = false;
    let both = "n2, n3 lack images: no room for another pod: make room there";
    let verdict = format!("failed, as asked by `--strict`: {both}, {end}");
    ends(world, &args("--strict --allow-missing 1 q.io/a:1"), 1, &verdict);

    let homeless = "no node may run `q.io/gpu:1`: give it a node";
    let with_gpu = |line| args_with(line, &format!(r#"{{"images": [{GPU}]}}"#));
    let verdict = format!("failed, as asked by `--strict`: {homeless}, {end}");
    ends(nodes(3), &with_gpu("--strict q.io/a:1"), 1, &verdict);
    let verdict = format!("failed, as asked by `--strict`: {homeless}; {full}, {end}");
    ends(gaps(), &with_gpu("--strict --allow-missing 1 q.io/a:1"), 1, &verdict);
}

#[test]
fn where_no_node_is_eligible_strictness_fails_in_its_own_words() {
    let verdict = "failed, as asked by `--strict`: none of 3 nodes may run the pods of this \
                   release: check nodeSelector, affinity and tolerations";
    let ended = ends(all_cordoned(), &args("--strict q.io/a:1"), 1, verdict);
    assert_eq!(ended.report["outcome"], "strict");
    let verdict = format!("{verdict} (exit code 0 by the failure policy `Ignore`)");
    let line = "--strict --failure-policy Ignore q.io/a:1";
    let ended = ends(all_cordoned(), &args(line), 0, &verdict);
    assert_eq!(ended.report["outcome"], "strict");
}

#[test]
fn nodes_that_nobody_counted_are_not_counted() {
    let mut world = all_cordoned();
    world.denied.insert("list nodes".into());
    let settings = format!(r#"{{"images": [{GPU}]}}"#);
    let verdict = "ready: no node may run the pods of this release, so there is nothing to pull: \
                   check nodeSelector, affinity and tolerations if this is not what you want";
    ends(world, &args_with("", &settings), 0, verdict);
}

/// Nobody was left that could pull.
#[test]
fn an_event_tells_of_gaps_although_nothing_was_pulled() {
    let mut world = nodes(2);
    world.nodes.values_mut().for_each(|it| it.has_room = false);
    let ended = attempt(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready", "2 nodes (n1, n2), forgiven"]);
    let event = ended.event.expect("it tells of the gaps");
    assert!(event.starts_with("Warning ImagesPulledWithGaps: "), "{event}");
}

#[test]
fn the_number_of_images_is_that_of_those_that_have_a_node() {
    let world = || World::of(vec![ModelNode::new("n1")]);
    let with_gpu = |line| args_with(line, &format!(r#"{{"images": [{GPU}]}}"#));
    let gap = "; no node may run `q.io/gpu:1`";
    let verdict = format!("would pull `q.io/a:1` where it is missing{gap}");
    ends(world(), &with_gpu("--dry-run q.io/a:1"), 0, &verdict);
    let verdict = format!("missing: q.io/a:1: absent on 1 node (n1): pull with `prepull run`{gap}");
    ends(world(), &with_gpu("check q.io/a:1"), 1, &verdict);
    let verdict = "would pull 2 of 2 images where they are missing";
    ends(world(), &args("--dry-run q.io/a:1 q.io/b:1"), 0, verdict);
}

#[test]
fn what_is_unknown_and_allowed_is_said_to_be() {
    let unknown = "unknown: q.io/a:latest: unknown on 1 node (n1): the nodes' lists cannot tell";
    let world = || World::of(vec![ModelNode::new("n1").with(&["q.io/a:latest"])]);
    let verdict = format!(
        "{unknown}: find out with `prepull run`, or take it for present with `--allow-unknown`"
    );
    ends(world(), &args("check q.io/a:latest"), 1, &verdict);
    let verdict = format!("{verdict} (exit code 0 by the failure policy `Ignore`)");
    ends(world(), &args("check --failure-policy Ignore q.io/a:latest"), 0, &verdict);
    let verdict = format!("{unknown}: allowed by `--allow-unknown`");
    ends(world(), &args("check --allow-unknown q.io/a:latest"), 0, &verdict);
}

/// More time makes no room.
#[test]
fn at_the_deadline_it_says_what_would_help() {
    let mut world = nodes(3);
    let node = world.nodes.get_mut("n2").expect("one of three");
    (node.has_room, node.lack) = (false, INSUFFICIENT);
    let verdict = format!(
        "failed: time ran out after 1m: `q.io/a:1` is not on 1 node (n2) yet: its pod has no \
         room: 0/3 nodes are available: {INSUFFICIENT}: make room there, or lower `puller.resources`"
    );
    ends(world, &args("--timeout 60s q.io/a:1"), 3, &verdict);
    let rerun = ": a rerun goes on where this one stopped; for more time raise";
    let mut world = nodes(1);
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    let ended = attempt(&world.share(), &args("--timeout 60s q.io/a:1"));
    ended.expect(3, &["the pull has not ended", rerun]);
    // It helps one of three.
    let mut world = nodes(3);
    for name in ["n1", "n2"] {
        let node = world.nodes.get_mut(name).expect("one of three");
        (node.has_room, node.lack) = (false, INSUFFICIENT);
    }
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    let ended = attempt(&world.share(), &args("--timeout 60s q.io/a:1"));
    ended.expect(3, &["on 2 nodes (n1, n2) yet", "make room there", rerun]);
}

#[test]
fn whom_to_grant_a_right_to_is_said() {
    let verdict = |args: &RunArgs| {
        let mut world = nodes(1);
        world.denied.insert("create daemonset".into());
        attempt(&world.share(), args).verdict().to_owned()
    };
    let in_a_job = verdict(&args("q.io/a:1"));
    assert!(in_a_job.ends_with("grant this right to the ServiceAccount of the Job"), "{in_a_job}");
    let by_hand = verdict(&args_of_a_shell("q.io/a:1"));
    assert!(by_hand.ends_with(": grant this right to the user of the token"), "{by_hand}");
}

/// What nothing owns goes with nothing.
#[test]
fn how_to_remove_what_is_left_is_said() {
    let command = "kubectl --namespace default delete daemonset";
    for (args, line) in [
        (args("q.io/a:1"), "it goes with the Job `demo-prepull`, or by"),
        (args_of_a_shell("q.io/a:1"), "remove it with"),
    ] {
        let mut world = nodes(1);
        world.denied.insert("delete daemonset".into());
        let world = world.share();
        let ended = attempt(&world, &args);
        let name = world.borrow().sets.keys().next().expect("it is left").clone();
        let note = format!("note: DaemonSet `{name}` may be left: {line} `{command} {name}`");
        assert!(ended.lines.contains(&note), "{note}: {:#?}", ended.lines);
    }
}

#[test]
fn helms_timeout_is_named_where_rights_are_withdrawn_from_a_hook() {
    for (args, ends) in [
        (args("q.io/a:1"), ": raise helm's `--timeout` to 25 s above `timeoutSeconds`"),
        (args_of_a_shell("q.io/a:1"), "cannot get daemonset"),
    ] {
        let mut world = nodes(1);
        world.registry.insert("q.io/a:1".into(), Pull::after(100));
        world.at(20, Happening::WithdrawRights);
        let ended = attempt(&world.share(), &args);
        assert!(ended.verdict().contains("withdrawn"), "{}", ended.verdict());
        let verdict = ended.verdict().trim_end_matches('"');
        assert!(verdict.ends_with(ends), "{verdict}");
    }
}
