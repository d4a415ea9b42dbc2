//! Runs in which nothing goes wrong.

use std::time::Duration;

use crate::bench::{args, args_of_a_shell, args_with, nodes, run};
use crate::model::{ModelNode, Pull, Request, Shared, Stored, World};

#[test]
fn nothing_missing_costs_one_look_and_creates_nothing() {
    let held = ["q.io/a:1", "q.io/b:1"];
    let world =
        World::of((1..=3).map(|it| ModelNode::new(&format!("n{it}")).with(&held)).collect());
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1 q.io/b:1"));
    ended.expect(0, &["ready: 3 nodes had 2 images already"]);
    let world = world.borrow();
    assert_eq!(world.requests.len(), 1);
    assert_eq!(world.count("list nodes"), 1);
}

#[test]
fn only_the_node_that_lacks_something_is_sent_a_pod() {
    let mut world = nodes(3);
    for name in ["n1", "n3"] {
        let node = world.nodes[name].clone().with(&["q.io/a:1"]);
        world.nodes.insert(name.into(), node);
    }
    let world = world.share();
    let peek = |world: &Shared| {
        let world = world.borrow();
        let set = world.sets.values().next().expect("one DaemonSet");
        (set.terms(), world.pods.values().map(|it| it.node.clone()).collect::<Vec<_>>())
    };
    // Killed after a few requests, so that the DaemonSet can be looked at.
    world.borrow_mut().kill_after = Some(8);
    assert!(run(&world, &args("q.io/a:1")).is_killed);
    let (terms, pods) = peek(&world);
    let term = serde_json::json!({"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["n2"]}
    ]});
    assert_eq!(terms, [term]);
    assert_eq!(pods, ["n2"]);
    world.borrow_mut().kill_after = None;
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
}

/// A node lists 50 images, the largest first, so that a small one never gets onto its list.
#[test]
fn an_image_that_is_never_listed_is_proved_by_pods() {
    let mut world = nodes(2);
    for node in world.nodes.values_mut() {
        let large = (0..50).map(|n| Stored {
            size: 1 << 40,
            ..Stored::new(&format!("q.io/large-{n}:1"), Duration::ZERO)
        });
        node.images.extend(large);
    }
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 2 nodes"]);
}

#[test]
fn a_run_ends_soon_after_its_last_pull() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(20));
    world.registry.insert("q.io/b:1".into(), Pull::after(5));
    let pace = world.pace.clone();
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1 q.io/b:1"));
    ended.expect(0, &["ready: 2 images on 3 nodes"]);
    // One second for our own image, then the images; the kubelet's and the controller's own
    // delays; one interval, and a look of four requests.
    let pulls = Duration::from_secs(1 + 20 + 5);
    let cluster = pace.controller * 2 + pace.start + Duration::from_millis(100) + pace.publish * 2;
    let bound = pulls + cluster + Duration::from_secs(2) + pace.request * 12;
    assert!(ended.took <= bound, "{:?} is more than {bound:?}", ended.took);
    assert!(ended.took >= pulls);
}

/// Until its controller has seen it, a DaemonSet wants no pod and has as many.
#[test]
fn numbers_that_agree_prove_nothing() {
    let mut world = nodes(3);
    world.pace.controller = Duration::from_secs(5);
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready: `q.io/a:1` on 3 nodes"]);
    assert!(world.borrow().nodes.values().all(|it| it.holds("q.io/a:1")));
}

#[test]
fn six_hundred_nodes_are_paged_and_not_named() {
    let mut world = nodes(600);
    world.page = 250;
    let world = world.share();
    world.borrow_mut().kill_after = Some(12);
    assert!(run(&world, &args("q.io/a:1")).is_killed);
    {
        let world = world.borrow();
        let terms = world.sets.values().next().expect("one DaemonSet").terms();
        assert_eq!(terms.len(), 1);
        assert!(terms[0]["matchFields"].is_null(), "{terms:?}");
        let is_next = |it: &&Request| it.request == "list nodes" && it.about == "continue";
        assert_eq!(world.requests.iter().filter(is_next).count(), 2);
    }
    world.borrow_mut().kill_after = None;
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 600 nodes"]);
    assert_eq!(world.borrow().nodes.values().filter(|it| it.holds("q.io/a:1")).count(), 600);
}

#[test]
fn check_and_dry_run_write_nothing() {
    for (line, exit, word) in [
        ("check q.io/a:1", 1, "missing"),
        ("check --dry-run q.io/a:1", 1, "missing"),
        ("--dry-run q.io/a:1", 0, "would pull"),
    ] {
        let world = nodes(3).share();
        run(&world, &args(line)).expect(exit, &[word]);
        let world = world.borrow();
        assert_eq!(world.requests.len(), 1, "{line}");
        assert_eq!(world.count("list nodes"), 1, "{line}");
    }
    let held = World::of(vec![ModelNode::new("n1").with(&["q.io/a:1"])]).share();
    run(&held, &args("check q.io/a:1")).expect(0, &["present"]);
}

#[test]
fn every_group_goes_where_it_belongs() {
    let mut world = nodes(4);
    for (name, pool) in [("n1", "gpu"), ("n2", "gpu"), ("n3", "cpu"), ("n4", "cpu")] {
        let node = world.nodes.get_mut(name).expect("one of four");
        node.labels.insert("pool".into(), pool.into());
    }
    let world = world.share();
    let settings = r#"{"images": [
        "q.io/all:1",
        {"image": "q.io/gpu:1", "nodeSelector": {"pool": "gpu"}},
        {"image": "q.io/cpu:1", "nodeSelector": {"pool": "cpu"}}
    ]}"#;
    let ended = run(&world, &args_with("", settings));
    ended.expect(0, &["ready"]);
    let world = world.borrow();
    let holds = |image: &str| {
        let nodes = world.nodes.values().filter(|it| it.holds(image));
        nodes.map(|it| it.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(holds("q.io/all:1"), ["n1", "n2", "n3", "n4"]);
    assert_eq!(holds("q.io/gpu:1"), ["n1", "n2"]);
    assert_eq!(holds("q.io/cpu:1"), ["n3", "n4"]);
    assert_eq!(world.count("create daemonset"), 3);
}

#[test]
fn a_run_that_nothing_owns_says_so() {
    let world = nodes(1).share();
    let ended = run(&world, &args_of_a_shell("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.says("nothing owns the puller"));
    assert_eq!(world.borrow().count("get job"), 0);
}

#[test]
fn no_eligible_node_is_ready_and_with_strict_it_is_not() {
    for (line, exit, word) in [("q.io/a:1", 0, "ready"), ("--strict q.io/a:1", 1, "failed")] {
        let mut world = nodes(2);
        world.nodes.get_mut("n1").expect("one of two").cordoned = true;
        world.nodes.get_mut("n2").expect("one of two").ready = false;
        let world = world.share();
        let ended = run(&world, &args(line));
        ended.expect(exit, &[word, "none of 2 nodes"]);
        assert!(ended.says("cordoned: n1; not ready: n2"), "{:#?}", ended.lines);
        assert_eq!(world.borrow().requests.len(), 1);
    }
}
