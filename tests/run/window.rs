//! Runs that let so many nodes in at a time, or pull with several pods on a node.

use std::time::Duration;

use prepull::args::RunArgs;
use serde_json::json;

use crate::bench::{args, args_with, attempt, nodes, run};
use crate::model::{Happening, ModelNode, Pull, World};

const IMAGES: &str = "q.io/a:1 q.io/b:1";

/// So many nodes, whose pulls take 3 s an image.
fn pulling(n_nodes: usize) -> World {
    let mut world = nodes(n_nodes);
    for image in ["q.io/a:1", "q.io/b:1"] {
        world.registry.insert(image.into(), Pull::after(3));
    }
    world
}

#[test]
fn no_more_nodes_than_asked_are_unfinished_at_a_time() {
    for (window, n_nodes, most) in
        [("1", 5, 1), ("2", 5, 2), ("3", 12, 3), ("25%", 10, 3), ("100%", 6, 6), ("9", 4, 4)]
    {
        let world = pulling(n_nodes).share();
        let line = format!("--timeout 30m --max-nodes-at-once {window} {IMAGES}");
        let ended = run(&world, &args(&line));
        ended.expect(0, &["ready", &n_nodes.to_string()]);
        let world = world.borrow();
        assert_eq!(world.most_unfinished, most, "{window} of {n_nodes}");
        assert_eq!(world.count("create daemonset"), 1);
        assert!(ended.says("at a time"), "{:#?}", ended.lines);
    }
}

/// Groups share nodes, and a DaemonSet each.
#[test]
fn the_window_is_over_all_groups_together() {
    let settings =
        r#"{"images": ["q.io/a:1", {"image": "q.io/b:1", "nodeSelector": {"pool": "b"}}]}"#;
    for window in [1, 2, 3] {
        let mut world = pulling(9);
        for name in ["n2", "n5", "n8", "n9"] {
            let node = world.nodes.get_mut(name).expect("one of nine");
            node.labels.insert("pool".into(), "b".into());
        }
        // A node that is not pulled on any more leaves both DaemonSets.
        world.at(20, Happening::Cordon("n2"));
        world.registry_at.insert(("n2".into(), "q.io/b:1".into()), Pull::after(600));
        let world = world.share();
        let line = format!("--timeout 30m --max-nodes-at-once {window}");
        run(&world, &args_with(&line, settings)).expect(0, &["ready"]);
        assert!(world.borrow().most_unfinished <= window, "{}", world.borrow().most_unfinished);
    }
}

#[test]
fn stuck_nodes_do_not_stop_the_rest() {
    let mut world = pulling(8);
    for name in ["n1", "n2"] {
        let away = Pull::fails("dial tcp 10.0.0.1:443: i/o timeout");
        world.registry_at.insert((name.into(), "q.io/b:1".into()), away);
    }
    let world = world.share();
    let line = format!("--timeout 8m --max-nodes-at-once 2 {IMAGES}");
    let ended = run(&world, &args(&line));
    ended.expect(3, &["2 nodes (n1, n2)", "i/o timeout"]);
    let world = world.borrow();
    assert_eq!(world.most_unfinished, 2);
    assert!((3..=8).all(|it| world.nodes[&format!("n{it}")].holds("q.io/b:1")));
    let pulled = &ended.report["images"];
    assert_eq!((&pulled[0]["pulled"], &pulled[1]["pulled"]), (&json!(8), &json!(6)));
}

/// It leaves the one DaemonSet before another node comes into the other.
#[test]
fn a_stuck_node_leaves_all_daemonsets_before_another_comes() {
    let settings = r#"{
        "images": ["q.io/a:1", {"image": "q.io/b:1", "tolerations": []}],
        "puller": {"tolerations": [{"operator": "Exists"}]}
    }"#;
    let mut world = pulling(3);
    for image in ["q.io/a:1", "q.io/b:1"] {
        let away = Pull::fails("dial tcp 10.0.0.1:443: i/o timeout");
        world.registry_at.insert(("n1".into(), image.into()), away);
    }
    let world = world.share();
    let ended = run(&world, &args_with("--timeout 8m --max-nodes-at-once 1", settings));
    ended.expect(3, &["i/o timeout"]);
    assert_eq!(world.borrow().most_unfinished, 1);
    assert!(world.borrow().nodes["n3"].holds("q.io/b:1"));
}

/// A pull that takes its time is none that is stuck: taking its place away would let one more
/// node pull, because no kubelet breaks a pull off.
#[test]
fn a_slow_pull_keeps_its_place() {
    let mut world = pulling(3);
    world.registry_at.insert(("n1".into(), "q.io/a:1".into()), Pull::after(300));
    let world = world.share();
    let ended = run(&world, &args(&format!("--timeout 30m --max-nodes-at-once 1 {IMAGES}")));
    ended.expect(0, &["ready"]);
    assert_eq!(world.borrow().most_unfinished, 1);
    assert!(ended.took > Duration::from_secs(300));
    // One for each of the others, and none that sends it away.
    assert_eq!(world.borrow().count("patch daemonset"), 2);
}

#[test]
fn a_node_that_joins_waits_for_its_place() {
    let mut world = pulling(3);
    world.at(5, Happening::Join(Box::new(ModelNode::new("n4"))));
    let world = world.share();
    run(&world, &args(&format!("--timeout 30m --max-nodes-at-once 1 {IMAGES}")))
        .expect(0, &["ready", "4 nodes"]);
    assert_eq!(world.borrow().most_unfinished, 1);
}

/// The second try finds the first one's DaemonSets, which may be sent to other nodes.
#[test]
fn a_second_try_keeps_to_the_window() {
    let groups = r#"{"images": [
        {"image": "q.io/a:1", "nodeSelector": {"pool": "a"}},
        {"image": "q.io/b:1", "nodeSelector": {"pool": "b"}}
    ]}"#;
    for window in [1, 2] {
        let line = format!("--timeout 30m --max-nodes-at-once {window}");
        keeps_to_the_window(window, &args(&format!("{line} {IMAGES}")));
        keeps_to_the_window(window, &args_with(&line, groups));
    }
}

fn keeps_to_the_window(window: usize, args: &RunArgs) {
    for killed_after in 3..60 {
        let mut world = pulling(8);
        for (place, node) in world.nodes.values_mut().enumerate() {
            let pool = if place % 2 == 0 { "a" } else { "b" };
            node.labels.insert("pool".into(), pool.into());
        }
        world.kill_after = Some(killed_after);
        let world = world.share();
        if !attempt(&world, args).is_killed {
            break;
        }
        world.borrow_mut().kill_after = None;
        // Others may be let in when no DaemonSet goes to these any more.
        for name in ["n1", "n2"] {
            world.borrow_mut().nodes.get_mut(name).expect("one of eight").cordoned = true;
        }
        run(&world, args).expect(0, &["ready"]);
        assert!(world.borrow().most_unfinished <= window, "killed after {killed_after}");
    }
}

/// A DaemonSet names its nodes, and no more than 500 of them.
#[test]
fn a_wide_window_over_many_nodes_is_bounded() {
    let world = pulling(580).share();
    let ended = run(&world, &args(&format!("--timeout 30m --max-nodes-at-once 90% {IMAGES}")));
    ended.expect(0, &["580 nodes"]);
    assert!(ended.says("no more than 500 nodes"), "{:#?}", ended.lines);
    assert_eq!(world.borrow().most_unfinished, 500);
}

#[test]
fn a_window_needs_to_know_the_nodes() {
    let mut world = pulling(2);
    world.denied.insert("list nodes".into());
    let ended = run(&world.share(), &args(&format!("--max-nodes-at-once 1 {IMAGES}")));
    ended.expect(2, &["`--max-nodes-at-once`", "list nodes"]);
}

#[test]
fn images_are_dealt_over_the_pods_of_a_node() {
    for (n_pods, n_sets) in [(1, 1), (2, 2), (3, 3), (9, 5)] {
        let world = nodes(2).share();
        let images = "q.io/a:1 q.io/b:1 q.io/c:1 q.io/d:1 q.io/e:1";
        let ended = run(&world, &args(&format!("--pods-per-node {n_pods} {images}")));
        ended.expect(0, &["ready: 5 images on 2 nodes"]);
        assert_eq!(world.borrow().count("create daemonset"), n_sets);
    }
}

// === What is forgiven ===

#[test]
fn a_node_without_room_is_forgiven_by_name_after_a_while() {
    for (strict, exit, words) in [("", 0, "but not on n2, forgiven"), ("--strict ", 1, "n2 lacks")]
    {
        let mut world = pulling(3);
        world.nodes.get_mut("n2").expect("one of three").has_room = false;
        let world = world.share();
        let ended = run(&world, &args(&format!("{strict}{IMAGES}")));
        ended.expect(exit, &[words, ": no room for another pod"]);
        assert_eq!(ended.report["nodes"]["forgiven"], json!({"n2": "no room for another pod"}));
        assert_eq!(ended.report["nodes"]["dropped"], json!({}));
        assert!((30..=50).contains(&ended.took.as_secs()), "{:?}", ended.took);
    }
}

/// Nobody made a pod for those that were not let in yet, which is no fault of the DaemonSet.
#[test]
fn at_the_deadline_those_that_wait_for_a_place_are_told_apart() {
    let mut world = nodes(6);
    world.registry.insert("q.io/a:1".into(), Pull::after(100));
    let ended = run(&world.share(), &args("--max-nodes-at-once 1 q.io/a:1"));
    ended.expect(3, &["on 3 nodes (n4, n5, n6) yet: its turn has not come: a rerun goes on"]);
    assert!(!ended.says("no pod was made"), "{:#?}", ended.lines);
}

#[test]
fn the_same_without_a_look_at_nodes() {
    let mut world = pulling(3);
    world.denied.insert("list nodes".into());
    world.nodes.get_mut("n2").expect("one of three").has_room = false;
    let ended = run(&world.share(), &args(IMAGES));
    ended.expect(0, &["ready", "but not on n2, forgiven: no room"]);
}

/// What another reason keeps off a node is a miss.
#[test]
fn a_lack_of_anything_but_places_is_not_forgiven() {
    let mut world = pulling(3);
    let node = world.nodes.get_mut("n2").expect("one of three");
    (node.has_room, node.lack) = (false, "1 Insufficient memory, 1 Too many pods");
    let ended = run(&world.share(), &args(&format!("--timeout 60s {IMAGES}")));
    ended.expect(3, &["(n2)", "Insufficient memory"]);
}

// === Somebody else ===

#[test]
fn a_puller_that_somebody_edits_is_made_anew() {
    for at in [1, 4, 8, 12, 20] {
        let mut world = nodes(3);
        world.registry.insert("q.io/a:1".into(), Pull::after(15));
        world.at(at, Happening::EditSets("q.io/other:1"));
        // A pod that is made of the edited template shows the other image under our name.
        world.at(at, Happening::DeletePod("n2"));
        let world = world.share();
        let ended = run(&world, &args("q.io/a:1"));
        ended.expect(0, &["ready"]);
        if at > 1 {
            assert!(ended.says("edited by someone else"), "{:#?}", ended.lines);
            assert_eq!(world.borrow().count("create daemonset"), 2);
        }
    }
}

/// Two nodes; `n2` is slow, and holds another image already, of which a puller that somebody edits
/// makes its next pod there.
fn edited(at: u64) -> World {
    let other = ModelNode::new("n2").with(&["q.io/other:1"]);
    let mut world = World::of(vec![ModelNode::new("n1"), other]);
    world.registry.insert("q.io/a:1".into(), Pull::after(60));
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(150));
    world.at(at, Happening::EditSets("q.io/other:1")).at(at, Happening::DeletePod("n2"));
    world
}

/// Requests are slow, so that the new pod may be seen before the edit is.
#[test]
fn what_the_pods_of_an_edited_puller_showed_does_not_count() {
    for at in 20..50 {
        let mut world = edited(at);
        world.pace.request = Duration::from_secs(6);
        world.pace.controller = Duration::from_millis(10);
        let world = world.share();
        run(&world, &args("q.io/a:1")).expect(0, &["ready: `q.io/a:1` on 2 nodes"]);
        assert!(world.borrow().nodes["n2"].holds("q.io/a:1"), "edited at {at}");
    }
}

/// They have the label of the run, and stay for a while when their DaemonSet is gone.
#[test]
fn pods_of_another_daemonset_prove_nothing() {
    for at in 20..25 {
        let mut world = edited(at);
        world.pace.collection = Duration::from_secs(60);
        world.pace.controller = Duration::from_millis(10);
        let world = world.share();
        run(&world, &args("q.io/a:1")).expect(0, &["ready: `q.io/a:1` on 2 nodes"]);
        assert!(world.borrow().nodes["n2"].holds("q.io/a:1"), "edited at {at}");
    }
}

#[test]
fn one_that_is_edited_again_and_again_is_given_up() {
    let mut world = pulling(2);
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    for at in 1..20 {
        world.at(10 * at, Happening::EditSets("q.io/other:1"));
    }
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(1, &["edited by someone else", "audit log"]);
}
