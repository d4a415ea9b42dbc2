//! Runs without the right to list nodes: the DaemonSet always runs, and its pods name the nodes.

use std::time::Duration;

use crate::bench::{args, args_with, attempt, nodes, run, seconds};
use crate::model::{Happening, ModelNode, Pull, World};

fn world(n_nodes: usize) -> World {
    let mut world = nodes(n_nodes);
    world.denied.insert("list nodes".into());
    world
}

#[test]
fn it_says_so_and_pulls_everywhere() {
    let mut world = world(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(20));
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 3 nodes"]);
    assert!(ended.says("cannot list nodes"), "{:#?}", ended.lines);
    // For 5 s it may be a binding that is not in force yet.
    let world = world.borrow();
    let asked: Vec<_> = world.requests.iter().filter(|it| it.request == "list nodes").collect();
    let last = asked.last().expect("it asked").at;
    assert!(last >= Duration::from_secs(5) && last < Duration::from_secs(6), "{last:?}");
    assert_eq!(world.count("get node"), 0);
}

#[test]
fn it_looks_for_nobody_else() {
    let mut world = world(1);
    world.denied.insert("list pods".into());
    run(&world.share(), &args("check q.io/a:1")).expect(1, &["list nodes"]);
}

#[test]
fn it_ends_where_no_node_is_eligible() {
    for (line, exit) in [("", 0), ("--strict", 1)] {
        let settings = r#"{"images": [{"image": "q.io/a:1", "nodeSelector": {"pool": "gpu"}}]}"#;
        let ended = run(&world(3).share(), &args_with(line, settings));
        ended.expect(exit, &["no node may run the pods of this release"]);
        assert!(ended.took < Duration::from_secs(25), "{:?}", ended.took);
    }
}

#[test]
fn a_node_that_joins_is_pulled_for() {
    let mut world = world(2);
    world.registry.insert("q.io/a:1".into(), Pull::after(20));
    world.at(10, Happening::Join(Box::new(ModelNode::new("n3"))));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["3 nodes"]);
    assert!(world.borrow().nodes["n3"].holds("q.io/a:1"));
}

/// No node at first, but soon: a DaemonSet that wants no pod has to say so for 10 s.
#[test]
fn the_first_node_is_waited_for() {
    let mut world = world(0);
    world.at(12, Happening::Join(Box::new(ModelNode::new("n1"))));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    assert!(world.borrow().nodes["n1"].holds("q.io/a:1"));
}

#[test]
fn a_node_that_goes_is_not_waited_for() {
    let mut world = world(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(40));
    world.at(20, Happening::Remove("n2"));
    run(&world.share(), &args("q.io/a:1")).expect(0, &["ready"]);
}

/// Nodes that join later get pods of it.
#[test]
fn a_puller_that_has_finished_is_watched_for_edits() {
    for joins_at in 22..44 {
        let mut world = world(2);
        world.registry.insert("q.io/b:1".into(), Pull::after(60));
        world.at(20, Happening::EditSets("q.io/other:1"));
        world.at(joins_at, Happening::Join(Box::new(ModelNode::new("n3"))));
        let world = world.share();
        run(&world, &args("--pods-per-node 2 q.io/a:1 q.io/b:1")).expect(0, &["ready"]);
        assert!(world.borrow().nodes["n3"].holds("q.io/a:1"), "{joins_at}");
    }
}

#[test]
fn nodes_without_room_are_nodes_all_the_same() {
    let mut world = world(2);
    world.nodes.values_mut().for_each(|it| it.has_room = false);
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready", "but not on 2 nodes (n1, n2), forgiven: no room"]);
    assert_eq!(ended.report["nodes"]["total"], 2);
}

#[test]
fn a_bad_image_ends_it_soon() {
    let mut world = world(3);
    world.registry.insert("q.io/bad:1".into(), Pull::fails("manifest unknown"));
    let ended = run(&world.share(), &args("q.io/bad:1"));
    ended.expect(1, &["`q.io/bad:1`", "manifest unknown"]);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
}

/// A node that has gone is not counted in the place of one that has no pod yet.
#[test]
fn a_forgiven_node_that_goes_is_not_counted_for_one_that_comes() {
    let mut world = world(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(70));
    world.registry_at.insert(("n1".into(), "q.io/a:1".into()), Pull::fails("manifest unknown"));
    world.at(60, Happening::Remove("n1"));
    world.at(61, Happening::RefusePods(Some("exceeded quota: few")));
    world.at(62, Happening::Join(Box::new(ModelNode::new("n4"))));
    world.at(85, Happening::RefusePods(None));
    let ended = run(&world.share(), &args("--allow-missing 1 q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 3 nodes"]);
}

/// Nodes are known by the groups that hold on to them, and by those that forgave them.
#[test]
fn an_image_that_is_forgiven_everywhere_has_nodes() {
    let settings = r#"{"images": ["q.io/a:1", {"image": "q.io/b:1", "tolerations": []}],
                       "puller": {"tolerations": [{"operator": "Exists"}]}}"#;
    let mut two_groups = world(1);
    two_groups.registry.insert("q.io/a:1".into(), Pull::after(40));
    two_groups.registry.insert("q.io/b:1".into(), Pull::fails("manifest unknown"));
    let ended = attempt(&two_groups.share(), &args_with("--strict --allow-missing 1", settings));
    ended.expect(0, &["ready: 2 images on 1 node", "but not on n1, forgiven"]);
    let mut full = world(1);
    full.nodes.get_mut("n1").expect("the only one").has_room = false;
    let ended = run(&full.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 0 nodes", "but not on n1, forgiven: no room"]);
}

/// Forgiven ones are among them, and those that have no pod yet.
#[test]
fn a_percentage_is_one_of_all_nodes_that_are_to_have_a_pod() {
    let mut one_by_one = world(10);
    one_by_one.registry.insert("q.io/a:1".into(), Pull::after(200));
    for (place, name) in ["n01", "n02", "n03", "n04", "n05"].into_iter().enumerate() {
        one_by_one.registry_at.insert((name.into(), "q.io/a:1".into()), Pull::fails("i/o timeout"));
        let fails = Pull::fails("manifest unknown");
        one_by_one.at(20 + 25 * place as u64, Happening::RegistryAt(name, "q.io/a:1", fails));
    }
    let mut late = world(3);
    for name in ["n1", "n2", "n3"] {
        let at = (name.into(), "q.io/a:1".into());
        late.registry_at.insert(at, Pull::fails("manifest unknown"));
    }
    late.at(6, Happening::RefusePods(Some("slow")));
    for name in ["m1", "m2", "m3", "m4", "m5", "m6", "m7"] {
        late.at(6, Happening::Join(Box::new(ModelNode::new(name))));
    }
    late.at(14, Happening::RefusePods(None));
    for (world, allowed) in [(one_by_one, "50%"), (late, "30%")] {
        let line = format!("--allow-missing {allowed} q.io/a:1");
        run(&world.share(), &args(&line)).expect(0, &["ready"]);
    }
}

/// A node that was proved goes, and another one comes at the same moment: the DaemonSet wants two
/// pods as before, and the new one's is not there yet when the pods are looked at.
#[test]
fn as_many_nodes_as_before_need_not_be_the_same() {
    let mut n_late = 0;
    for at in 18..60 {
        let mut world = world(2);
        world.pace.controller = seconds(6);
        world.registry.insert("q.io/a:1".into(), Pull::after(25));
        world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(2));
        world.at(at, Happening::Remove("n2"));
        world.at(at, Happening::Join(Box::new(ModelNode::new("n3"))));
        let world = world.share();
        let ended = run(&world, &args("q.io/a:1"));
        ended.expect(0, &["ready"]);
        let world = world.borrow();
        let look = world.requests.iter().rfind(|it| it.request == "list pods");
        if look.is_some_and(|it| it.at > seconds(at)) {
            n_late += 1;
            assert!(world.nodes["n3"].holds("q.io/a:1"), "at {at}: {:#?}", ended.lines);
        }
    }
    assert!(n_late > 10, "{n_late}");
}

/// The numbers are older than the pods: they want two, which are proved, and there are three.
#[test]
fn a_pod_without_a_node_is_waited_for() {
    let mut n_late = 0;
    for at in 0..200 {
        let at = Duration::from_millis(15_000 + at * 100);
        let mut world = world(2);
        world.pace.request = Duration::from_millis(500);
        world.registry.insert("q.io/a:1".into(), Pull::after(10));
        let full = ModelNode { has_room: false, ..ModelNode::new("n3") };
        world.script.push((at, Happening::Join(Box::new(full))));
        let world = world.share();
        let ended = run(&world, &args("--timeout 50s q.io/a:1"));
        let world = world.borrow();
        let look = world.requests.iter().rfind(|it| it.request == "list pods");
        if look.is_some_and(|it| it.at > at + world.pace.controller) {
            n_late += 1;
            // It is waited for until the deadline, or forgiven by name.
            let is_forgiven = ended.report["nodes"]["forgiven"]["n3"].is_string();
            assert!(ended.exit == 3 || is_forgiven, "at {at:?}: {:#?}", ended.lines);
        }
    }
    assert!(n_late > 10, "{n_late}");
}
