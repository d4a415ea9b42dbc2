//! Runs whose pods are not made or get no further, and what may be missing.

use std::time::Duration;

use serde_json::json;

use crate::bench::{args, nodes, run};
use crate::model::{Happening, Pull, World};

const NOT_FOUND: &str = "failed to pull and unpack image \"q.io/a:1\": failed to resolve reference \
                         \"q.io/a:1\": q.io/a:1: not found";

/// Three nodes, and the image is not to be had on these.
fn missing_on(names: &[&str]) -> World {
    let mut world = nodes(3);
    for name in names {
        let place = ((*name).to_owned(), "q.io/a:1".to_owned());
        world.registry_at.insert(place, Pull::fails(NOT_FOUND));
    }
    world
}

// === Pods that are not made ===

#[test]
fn pods_that_are_refused_again_and_again_end_it() {
    for (words, advice) in [
        ("exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0", "raise the quota"),
        ("violates PodSecurity \"restricted:latest\": runAsUser=0", "security contexts"),
    ] {
        let mut world = nodes(3);
        world.refuses_pods = Some(words);
        let ended = run(&world.share(), &args("q.io/a:1"));
        ended.expect(1, &["cannot make its pods on 3 nodes", words, advice]);
        let took = ended.took.as_secs();
        assert!((20..=60).contains(&took), "{took} s");
    }
}

#[test]
fn a_refusal_that_passes_is_waited_for() {
    let mut world = nodes(3);
    world.refuses_pods = Some("exceeded quota: q");
    world.at(15, Happening::RefusePods(None));
    run(&world.share(), &args("q.io/a:1")).expect(0, &["ready"]);
}

#[test]
fn a_refusal_of_others_is_none_of_ours() {
    let mut world = nodes(3);
    let set = json!({
        "metadata": {"name": "other", "labels": {}},
        "spec": {"template": {"metadata": {"labels": {}}, "spec": {"containers": []}}}
    });
    world.plant(set);
    world.registry.insert("q.io/a:1".into(), Pull::after(100));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
}

// === What may be missing ===

#[test]
fn so_many_nodes_may_lack_an_image() {
    for (allowed, names, exit) in [
        ("0", &["n2"][..], 1),
        ("1", &["n2"], 0),
        ("34%", &["n2", "n3"], 0),
        ("33%", &["n2"], 0),
        ("1", &["n2", "n3"], 1),
        ("2", &["n1", "n2", "n3"], 1),
        ("100%", &["n1", "n2", "n3"], 0),
    ] {
        let line = format!("--allow-missing {allowed} q.io/a:1");
        let ended = run(&missing_on(names).share(), &args(&line));
        assert_eq!(ended.exit, exit, "{allowed} with {names:?}: {:#?}", ended.lines);
        if exit == 0 {
            for name in names {
                let why = ended.report["nodes"]["forgiven"][name].as_str().unwrap_or_default();
                assert!(why.contains("not found"), "{name}: {why}");
            }
            assert!(ended.verdict().contains("forgiven"), "{}", ended.verdict());
            assert!(ended.took < Duration::from_secs(60), "{:?}", ended.took);
        }
    }
}

/// Images that can be had are waited for, on the nodes that may lack another too.
#[test]
fn what_may_be_missing_keeps_nothing_else_off_a_node() {
    let mut world = missing_on(&["n2"]);
    world.registry_at.insert(("n2".into(), "q.io/b:1".into()), Pull::after(90));
    let world = world.share();
    run(&world, &args("--allow-missing 1 q.io/a:1 q.io/b:1")).expect(0, &["ready", "n2"]);
    assert!(world.borrow().nodes["n2"].holds("q.io/b:1"));
}

#[test]
fn at_the_deadline_so_many_nodes_may_be_unfinished() {
    for (allowed, exit) in [("1", 0), ("0", 3)] {
        let mut world = nodes(3);
        let slow = Pull::after(1000);
        world.registry_at.insert(("n2".into(), "q.io/a:1".into()), slow);
        let line = format!("--timeout 60s --allow-missing {allowed} q.io/a:1");
        run(&world.share(), &args(&line)).expect(exit, &["n2", "the pull has not ended"]);
    }
}

// === Pods that get no further ===

/// The kubelet tries again every five minutes, and a new pod at once.
#[test]
fn a_pod_that_gets_no_further_while_others_do_is_made_anew() {
    let stalling = || {
        let mut world = nodes(3);
        let away = Pull::fails("dial tcp 10.0.0.1:443: i/o timeout");
        world.registry_at.insert(("n2".into(), "q.io/a:1".into()), away);
        // Right after the kubelet has begun to wait for 160 s.
        world.at(160, Happening::RegistryAt("n2", "q.io/a:1", Pull::after(1)));
        world.share()
    };
    let world = stalling();
    let without = run(&world, &args("--timeout 20m q.io/a:1"));
    without.expect(0, &["ready"]);
    assert_eq!(world.borrow().count("delete pod"), 0);
    let world = stalling();
    let with = run(&world, &args("--timeout 20m --stall-timeout 30s q.io/a:1"));
    with.expect(0, &["ready"]);
    assert!(with.took < without.took, "{:?} and {:?}", with.took, without.took);
    // Each time it is given twice as long.
    let n_deleted = world.borrow().count("delete pod");
    assert!((2..=3).contains(&n_deleted), "{n_deleted}");
    assert!(with.says("made anew"), "{:#?}", with.lines);
}

#[test]
fn where_nobody_gets_further_nothing_is_made_anew() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::fails("dial tcp: i/o timeout"));
    let world = world.share();
    run(&world, &args("--stall-timeout 20s q.io/a:1")).expect(3, &["i/o timeout"]);
    assert_eq!(world.borrow().count("delete pod"), 0);
}

#[test]
fn without_the_right_to_delete_pods_they_are_left() {
    let mut world = nodes(3);
    let away = Pull::fails("dial tcp: i/o timeout");
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), away);
    world.denied.insert("delete pod".into());
    let world = world.share();
    let ended = run(&world, &args("--stall-timeout 20s q.io/a:1"));
    ended.expect(3, &["n2", "i/o timeout"]);
    assert_eq!(world.borrow().count("delete pod"), 1);
    assert!(ended.says("left as they are"), "{:#?}", ended.lines);
}

// === The end ===

#[test]
fn pods_on_nodes_that_are_not_ready_are_named_with_the_command_that_removes_them() {
    let mut world = nodes(3);
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(1000));
    world.at(15, Happening::SetReady("n2", false));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.says("on n2"), "{:#?}", ended.lines);
    assert!(ended.says("delete pods --selector prepull.dev/run="), "{:#?}", ended.lines);
}
