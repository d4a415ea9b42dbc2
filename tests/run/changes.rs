//! Nodes, DaemonSets and pods that change under a run.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{JOB_UID, args, args_with, attempt, check, nodes, pulling_for, run, seconds};
use crate::model::{
    Admission, Fault, FaultKind, Happening, ModelNode, PodsOnReplace, Pull, Stored, World, epoch,
};

/// Where clocks differ so much, no pod is older than its node.
const AHEAD: Duration = Duration::from_secs(3600);

/// Three nodes; the pull takes this long on `n2`, and 5 s on the others.
fn slow_on_n2(takes: u64) -> World {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(5));
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(takes));
    world
}

#[test]
fn a_node_that_ceases_to_be_a_target_is_named_and_not_waited_for() {
    for (happening, reason) in [
        (Happening::Remove("n2"), "gone"),
        (Happening::Cordon("n2"), "cordoned"),
        (Happening::SetReady("n2", false), "not ready"),
        (Happening::Label("n2", "kubernetes.io/os", "plan9"), "node selector does not match"),
    ] {
        let mut world = slow_on_n2(1000);
        world.at(15, happening);
        let ended = run(&world.share(), &args("q.io/a:1"));
        ended.expect(0, &["ready"]);
        assert_eq!(ended.report["nodes"]["dropped"]["n2"], reason);
        assert!(ended.says(&format!("n2 ({reason})")), "{:#?}", ended.lines);
        assert!(ended.took < Duration::from_secs(60), "{:?} for {reason}", ended.took);
    }
}

#[test]
fn a_target_of_one_group_is_dropped_for_the_reason_of_that_group() {
    let settings = r#"{"images": [
        "q.io/a:1", {"image": "q.io/b:1", "tolerations": [{"operator": "Exists"}]}
    ]}"#;
    let mut world = pulling_for(5);
    let away = Pull::fails("dial tcp: i/o timeout");
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), away);
    world.at(15, Happening::Taint("n2", "gpu"));
    let ended = run(&world.share(), &args_with("", settings));
    ended.expect(0, &["ready"]);
    assert_eq!(ended.report["nodes"]["dropped"]["n2"], "taint `gpu` is not tolerated");
    assert!(ended.took < seconds(90), "{:?}", ended.took);
}

#[test]
fn a_node_that_comes_back_is_a_target_again() {
    let mut world = slow_on_n2(50);
    world.at(10, Happening::Cordon("n2")).at(40, Happening::Uncordon("n2"));
    world.registry_at.insert(("n1".into(), "q.io/a:1".into()), Pull::after(55));
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.report["nodes"]["dropped"]["n2"].is_null());
    assert!(world.borrow().nodes["n2"].holds("q.io/a:1"));
}

/// The old machine's pod had proved the image; the new machine has an empty disk.
#[test]
fn evidence_of_a_replaced_node_does_not_count() {
    let mut world = slow_on_n2(5);
    world.registry_at.insert(("n1".into(), "q.io/a:1".into()), Pull::after(40));
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(30));
    world.at(36, Happening::Replace("n2", PodsOnReplace::AreMadeAgain));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    assert!(world.borrow().nodes["n2"].holds("q.io/a:1"));
}

/// The pod stays bound to the name, and shows what the old machine held until the new kubelet has
/// pulled everything anew.
#[test]
fn evidence_of_a_pod_that_outlives_its_machine_does_not_count() {
    let mut world = nodes(3);
    // Until its kubelet has started, the new machine's pod shows what it showed on the old one.
    world.pace.ahead = AHEAD;
    world.pace.start = Duration::from_secs(20);
    world.registry.insert("q.io/a:1".into(), Pull::after(5));
    world.registry_at.insert(("n1".into(), "q.io/a:1".into()), Pull::after(40));
    world.at(50, Happening::Registry("q.io/a:1", Pull::after(60)));
    world.at(50, Happening::Registry("q.io/prepull:1", Pull::after(30)));
    world.at(60, Happening::Replace("n2", PodsOnReplace::Stay));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    assert!(world.borrow().nodes["n2"].holds("q.io/a:1"));
}

/// Where there are too many nodes to name, one that held everything has a pod too.
#[test]
fn evidence_of_a_replaced_node_that_was_no_target_does_not_count() {
    let mut world = nodes(502);
    world.pace.ahead = AHEAD;
    world.pace.start = Duration::from_secs(20);
    let complete = world.nodes.get_mut("n001").expect("one of them");
    complete.images.push(Stored::new("q.io/a:1", Duration::ZERO));
    world.registry.insert("q.io/a:1".into(), Pull::after(5));
    world.registry_at.insert(("n002".into(), "q.io/a:1".into()), Pull::after(40));
    world.at(50, Happening::Registry("q.io/a:1", Pull::after(60)));
    world.at(50, Happening::Registry("q.io/prepull:1", Pull::after(30)));
    world.at(60, Happening::Replace("n001", PodsOnReplace::Stay));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    assert!(world.borrow().nodes["n001"].holds("q.io/a:1"));
}

/// The same where the recheck finds the new machine: one of two images was proved on the old one,
/// and can not be had for a while by the new one.
#[test]
fn evidence_from_before_a_recheck_does_not_count() {
    let mut world = nodes(3);
    let away = Pull::fails("dial tcp: i/o timeout");
    world.registry.insert("q.io/b:1".into(), away.clone());
    world.at(20, Happening::Replace("n2", PodsOnReplace::Stay));
    world.at(20, Happening::Registry("q.io/a:1", away));
    world.at(20, Happening::Registry("q.io/prepull:1", Pull::after(60)));
    world.at(50, Happening::Registry("q.io/b:1", Pull::after(1)));
    world.at(180, Happening::Registry("q.io/a:1", Pull::after(1)));
    let world = world.share();
    run(&world, &args("--timeout 600s q.io/a:1 q.io/b:1")).expect(0, &["ready"]);
    assert!(world.borrow().nodes["n2"].holds("q.io/a:1"));
}

#[test]
fn a_node_that_is_replaced_mid_pull_is_waited_for() {
    for pods in [PodsOnReplace::AreMadeAgain, PodsOnReplace::Stay] {
        for replaced_at in [3, 10, 20, 33] {
            let mut world = slow_on_n2(60);
            world.at(replaced_at, Happening::Replace("n2", pods));
            let world = world.share();
            let ended = run(&world, &args("q.io/a:1"));
            ended.expect(0, &["ready"]);
            assert!(ended.took < Duration::from_secs(150), "{pods:?} at {replaced_at}");
        }
    }
}

/// A kill, and another machine of the same name before the second try: the pod that the first try
/// had there may still be bound to the name, and still show what the machine before held.
#[test]
fn evidence_of_a_replaced_node_does_not_count_for_a_second_try_either() {
    for pods in [PodsOnReplace::AreMadeAgain, PodsOnReplace::Stay] {
        for killed_after in [8, 12, 14] {
            let mut world = slow_on_n2(5);
            world.pace.ahead = AHEAD;
            world.pace.start = Duration::from_secs(10);
            world.pace.listing = Duration::from_secs(300);
            world.at(20, Happening::Replace("n2", pods));
            world.at(20, Happening::Registry("q.io/prepull:1", Pull::after(30)));
            world.kill_after = Some(killed_after);
            let world = world.share();
            assert!(run(&world, &args("q.io/a:1")).is_killed);
            world.borrow_mut().kill_after = None;
            let until = Duration::from_millis(20_200) - world.borrow().now;
            world.borrow_mut().advance(until);
            run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
            assert!(world.borrow().nodes["n2"].holds("q.io/a:1"));
        }
    }
}

#[test]
fn a_node_that_another_one_replaced_is_not_gone() {
    let mut world = pulling_for(5);
    // The pods of neither machine come to anything.
    let away = Pull::fails("dial tcp: i/o timeout");
    world.registry_at.insert(("n2".into(), "q.io/prepull:1".into()), away);
    let mut new = ModelNode::new("n2");
    new.images.push(Stored::new("q.io/a:1", Duration::ZERO));
    world.at(15, Happening::Remove("n2")).at(15, Happening::Join(Box::new(new)));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    let why = "replaced by a node that holds the images";
    assert_eq!(ended.report["nodes"]["dropped"]["n2"], why);
}

/// Somebody else's pod pulled it, while ours can not.
#[test]
fn an_image_that_a_node_comes_to_list_counts() {
    let mut world = pulling_for(5);
    let away = Pull::fails("dial tcp: i/o timeout");
    world.registry_at.insert(("n2".into(), "q.io/prepull:1".into()), away);
    let (node_uid, image) = (world.nodes["n2"].uid.clone(), "q.io/a:1".into());
    world.at(10, Happening::Arrive { node_uid, image });
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 3 nodes"]);
    assert!(ended.took < seconds(120), "{:?}", ended.took);
    assert_eq!(ended.report["nodes"]["dropped"], json!({}));
    assert_eq!(ended.report["images"][0]["missing"], 0);
}

#[test]
fn a_node_that_joins_meanwhile_is_pulled_for() {
    let mut world = slow_on_n2(30);
    world.at(10, Happening::Join(Box::new(ModelNode::new("n4"))));
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(world.borrow().nodes["n4"].holds("q.io/a:1"));
    assert_eq!(world.borrow().count("patch daemonset"), 1);
    assert!(ended.says("joined meanwhile: n4"));
}

#[test]
fn after_three_rounds_late_nodes_are_named_and_not_awaited() {
    let mut world = slow_on_n2(5);
    for late in 0..60 {
        let name = format!("late{late:02}");
        world.at(2 + 4 * late, Happening::Join(Box::new(ModelNode::new(&name))));
    }
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert_eq!(world.borrow().count("patch daemonset"), 3);
    assert!(ended.says("joined too late to be waited for"), "{:#?}", ended.lines);
    // Those that were there at the last look hold it or are named, every one.
    let world = world.borrow();
    let looks = world.requests.iter().filter(|it| it.request == "list nodes");
    let last_look = epoch() + looks.map(|it| it.at).max().expect("there were some");
    let forgiven = &ended.report["nodes"]["forgiven"];
    for (name, node) in &world.nodes {
        let is_there = node.holds("q.io/a:1") || node.created > last_look;
        assert!(is_there != forgiven[name].is_string(), "{name}: {forgiven}");
    }
}

#[test]
fn nodes_that_die_while_others_go_on_are_not_blamed() {
    // A few are read one by one, more of them with the whole list, at the deadline at the latest.
    for n_dead in [1, 11] {
        let mut world = nodes(n_dead + 3);
        let names: Vec<_> = world.nodes.keys().cloned().collect();
        for (place, name) in names.into_iter().enumerate() {
            let takes = 20 * (place as u64 + 1);
            world.registry_at.insert((name.clone(), "q.io/a:1".into()), Pull::after(takes));
            if place >= 3 {
                world.at(5, Happening::SetReady(name.leak(), false));
            }
        }
        let ended = run(&world.share(), &args("--timeout=75s q.io/a:1"));
        ended.expect(0, &["ready: `q.io/a:1` on 3 nodes "]);
    }
}

#[test]
fn a_daemonset_that_somebody_deletes_is_made_again() {
    let mut world = slow_on_n2(30);
    world.at(10, Happening::DeleteSets);
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    assert_eq!(world.borrow().count("create daemonset"), 2);
}

#[test]
fn a_daemonset_that_somebody_keeps_deleting_is_not() {
    let mut world = slow_on_n2(1000);
    for at in 1..10 {
        world.at(10 * at, Happening::DeleteSets);
    }
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(1, &["was deleted by someone else", "again 2 times"]);
    assert_eq!(world.borrow().count("create daemonset"), 3);
}

#[test]
fn a_pod_that_somebody_deletes_is_made_again() {
    let mut world = slow_on_n2(30);
    world.at(10, Happening::DeletePod("n2"));
    run(&world.share(), &args("q.io/a:1")).expect(0, &["ready"]);
}

#[test]
fn a_rewritten_image_is_told_and_counts() {
    let mut world = nodes(3);
    world.admission.push(Admission::RewriteImages("q.io/", "mirror.io/"));
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.says("was given image `mirror.io/a:1` in place of `q.io/a:1`"));
    assert!(world.borrow().nodes["n1"].holds("mirror.io/a:1"));
}

#[test]
fn preferences_that_a_webhook_adds_are_no_fault() {
    let mut world = pulling_for(5);
    world.admission.push(Admission::Prefer);
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready: `q.io/a:1` on 3 nodes"]);
    assert_eq!(world.borrow().count("create daemonset"), 1);
}

#[test]
fn a_dropped_container_fails_with_its_cause() {
    let mut world = nodes(3);
    world.admission.push(Admission::DropContainer("02-b".into()));
    let ended = run(&world.share(), &args("q.io/a:1 q.io/b:1"));
    ended.expect(1, &["container `02-b` is gone", "admission webhook"]);
}

#[test]
fn an_injected_container_that_is_never_ready_is_no_concern() {
    let mut world = slow_on_n2(5);
    world.admission.push(Admission::Sidecar("istio-proxy"));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.took < Duration::from_secs(25), "{:?}", ended.took);
}

fn puller(name: &str, labels: Value, expires: Option<&str>) -> Value {
    let annotations = expires.map_or(json!({}), |it| json!({"prepull.dev/expires": it}));
    json!({
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"template": {"metadata": {}, "spec": {"containers": [], "initContainers": []}}},
    })
}

#[test]
fn only_expired_leftovers_of_the_same_name_are_removed() {
    let labels = |name: &str| json!({"prepull.dev/name": name, "prepull.dev/run": "other"});
    let (past, future) = (Some("2023-12-31T23:59:59Z"), Some("2024-01-01T00:10:00Z"));
    let mut world = nodes(1);
    for (name, labels, expires) in [
        ("demo-expired-1", labels("demo"), past),
        ("demo-expired-2", labels("demo"), past),
        ("demo-running-1", labels("demo"), future),
        ("demo-unclear-1", labels("demo"), Some("yesterday")),
        ("demo-unclear-2", labels("demo"), None),
        ("demo-2-expired-1", labels("demo-2"), past),
        ("demo-expired-3", json!({}), past),
    ] {
        world.plant(puller(name, labels, expires));
    }
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    let world = world.borrow();
    let left: Vec<_> = world.sets.keys().map(String::as_str).collect();
    assert_eq!(
        left,
        [
            "demo-2-expired-1",
            "demo-expired-3",
            "demo-running-1",
            "demo-unclear-1",
            "demo-unclear-2"
        ]
    );
    assert!(ended.says("removed DaemonSet `demo-expired-1`, left by an earlier run"));
}

#[test]
fn a_leftover_that_can_not_be_removed_is_told_and_left() {
    let planted = || {
        let mut world = nodes(1);
        let labels = json!({"prepull.dev/name": "demo", "prepull.dev/run": "other"});
        world.plant(puller("demo-old-1", labels, Some("2023-12-31T23:59:59Z")));
        world
    };
    let mut world = planted();
    let kind = FaultKind::Status {
        code: 500,
        message: "failed calling webhook \"guard\"",
        retry_after: None,
    };
    let request = "delete daemonset demo-old-1";
    world.faults.push(Fault { request, skip: 0, times: usize::MAX, kind });
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.took < Duration::from_secs(15), "{:?}", ended.took);
    assert!(ended.says("failed calling webhook \"guard\""), "{:#?}", ended.lines);

    let mut world = planted();
    let message = "denied by a policy";
    let kind = FaultKind::Status { code: 422, message, retry_after: None };
    world.faults.push(Fault { request, skip: 0, times: usize::MAX, kind });
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.says(message), "{:#?}", ended.lines);

    // A finalizer is somebody else's business.
    let mut world = planted();
    let set = world.sets.get_mut("demo-old-1").expect("just planted");
    set.object["metadata"]["finalizers"] = json!(["example.org/wait"]);
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    let told = "DaemonSet `demo-old-1`, left by an earlier run, is being deleted";
    assert!(ended.says(told), "{:#?}", ended.lines);
    assert!(!ended.says("removed"), "{:#?}", ended.lines);
}

/// helm prints the whole log, however many DaemonSets there are.
#[test]
fn lines_about_daemonsets_are_few() {
    for (option, n_lines) in [("", 3), ("-v ", 8)] {
        let mut world = nodes(1);
        for n in 1..=8 {
            let labels = json!({"prepull.dev/name": "demo", "prepull.dev/run": "other"});
            let name = format!("demo-expired-{n}");
            world.plant(puller(&name, labels, Some("2023-12-31T23:59:59Z")));
        }
        let images: Vec<_> = (1..=8).map(|n| format!("q.io/{n}:1")).collect();
        let line = format!("{option}--pods-per-node 8 {}", images.join(" "));
        let ended = run(&world.share(), &args(&line));
        ended.expect(0, &["ready"]);
        for words in ["removed DaemonSet", "made DaemonSet"] {
            let told = ended.lines.iter().filter(|it| it.contains(words)).count();
            assert_eq!(told, n_lines, "{words}: {:#?}", ended.lines);
        }
    }
}

#[test]
fn an_object_of_our_name_that_is_not_ours_is_left_alone() {
    let name = format!("demo-{}-1", &JOB_UID.replace('-', "")[..10]);
    for labels in [json!({}), json!({"prepull.dev/name": "demo", "prepull.dev/run": "other"})] {
        let mut world = nodes(1);
        world.plant(puller(&name, labels, None));
        let world = world.share();
        let ended = run(&world, &args("q.io/a:1"));
        ended.expect(1, &[&name, "is not of this run", "delete it"]);
        assert!(world.borrow().sets.contains_key(&name));
        assert_eq!(world.borrow().count("delete daemonset"), 0);
    }
}

#[test]
fn one_of_this_run_with_another_spec_is_replaced() {
    let world = slow_on_n2(20).share();
    world.borrow_mut().kill_after = Some(8);
    assert!(run(&world, &args("q.io/a:1")).is_killed);
    world.borrow_mut().kill_after = None;
    run(&world, &args("q.io/a:1 q.io/b:1")).expect(0, &["ready"]);
    // The old one before, and the new one at the end.
    assert_eq!(world.borrow().count("delete daemonset"), 2);
}

#[test]
fn a_group_without_nodes_is_told() {
    let world = nodes(2).share();
    let settings = r#"{"images": [
        "q.io/a:1", {"image": "q.io/gpu:1", "nodeSelector": {"pool": "gpu"}}
    ]}"#;
    let ended = run(&world, &args_with("", settings));
    ended.expect(0, &["ready"]);
    assert!(ended.says("q.io/gpu:1: on no node"), "{:#?}", ended.lines);
}

#[test]
fn an_image_without_a_node_is_noted_and_judged() {
    let settings = r#"{"images": [
        "q.io/a:1", {"image": "q.io/gpu:1", "nodeSelector": {"pool": "gpu"}}
    ]}"#;
    for (line, exit, words) in [
        ("", 0, ["ready", "no node may run `q.io/gpu:1`"]),
        ("--strict", 1, ["`--strict`", "no node may run `q.io/gpu:1`"]),
        ("check", 0, ["present", "no node may run `q.io/gpu:1`"]),
        ("check --strict", 1, ["`--strict`", "no node may run `q.io/gpu:1`"]),
    ] {
        let mut world = nodes(3);
        for (name, node) in &mut world.nodes {
            node.images.push(Stored::new("q.io/a:1", Duration::ZERO));
            if name == "n2" {
                node.labels.insert("pool".into(), "gpu".into());
                node.cordoned = true;
            }
        }
        let ended = run(&world.share(), &args_with(line, settings));
        ended.expect(exit, &words);
        let note = "no node may run the pods of `q.io/gpu:1` (2 nodes: node selector does not \
                    match, 1 node: cordoned)";
        assert_eq!(ended.report["notes"], json!([note]), "{line}");
        assert!(ended.says(&format!("note: {note}")), "{:#?}", ended.lines);
    }
}

#[test]
fn the_log_of_six_hundred_restless_nodes_is_short() {
    let mut world = nodes(600);
    world.registry.insert("q.io/a:1".into(), Pull::after(40));
    for node in 100..200 {
        let name: &'static str = format!("n{node}").leak();
        world.at(10, Happening::Cordon(name));
    }
    let world = world.share();
    let ended = attempt(&world, &args("q.io/a:1"));
    check(&world.borrow(), &args("q.io/a:1"), &ended);
    ended.expect(0, &["ready"]);
}

/// Nodes that come and go for hours.
#[test]
fn the_log_of_a_restless_cluster_is_short() {
    let mut world = nodes(60);
    world.registry.insert("q.io/a:1".into(), Pull::after(3000));
    for node in 10..50 {
        let name: &'static str = format!("n{node}").leak();
        world.at(60 * (node - 9), Happening::Cordon(name));
    }
    let ended = run(&world.share(), &args("--timeout 2h q.io/a:1"));
    ended.expect(0, &["ready"]);
    let told = ended.lines.iter().filter(|it| it.starts_with("no longer waiting for")).count();
    assert_eq!(told, 3, "{:#?}", ended.lines);
}

#[test]
fn the_log_of_a_run_of_hours_is_short() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(7000));
    run(&world.share(), &args("--timeout 2h q.io/a:1")).expect(0, &["ready"]);
}

#[test]
fn the_verdict_counts_the_nodes_that_hold_the_images() {
    for happening in [Happening::Remove("n2"), Happening::Cordon("n2")] {
        let mut world = slow_on_n2(1000);
        world.at(15, happening);
        run(&world.share(), &args("q.io/a:1")).expect(0, &["`q.io/a:1` on 2 nodes"]);
    }
    let mut world = slow_on_n2(30);
    world.at(10, Happening::Join(Box::new(ModelNode::new("n4"))));
    run(&world.share(), &args("q.io/a:1")).expect(0, &["`q.io/a:1` on 4 nodes"]);
    let mut world = nodes(1);
    world.registry.insert("q.io/a:1".into(), Pull::after(100));
    world.at(15, Happening::Remove("n1"));
    run(&world.share(), &args("q.io/a:1")).expect(0, &["no node is left"]);
}

// === Pods that are older than their nodes ===

/// An image that no list of a node tells anything of.
const ALWAYS: &str = r#"{"images": [{"image": "q.io/a:1", "pullPolicy": "Always"}]}"#;

/// A machine pulls within a second, and its successor of the same name takes a minute.
fn first_quick_then_slow(world: &mut World, name: &'static str, replaced_at: u64) {
    let image = "q.io/a:1";
    world.registry_at.insert((name.into(), image.into()), Pull::after(1));
    world.at(replaced_at - 5, Happening::RegistryAt(name, image, Pull::after(60)));
    world.at(replaced_at, Happening::Replace(name, PodsOnReplace::Stay));
}

/// More nodes than are named one by one, on which the image takes a minute, and whose kubelets are
/// slow to act.
fn many_and_slow() -> World {
    let mut world = nodes(502);
    world.pace.start = Duration::from_secs(20);
    world.registry.insert("q.io/a:1".into(), Pull::after(60));
    world
}

#[test]
fn the_pod_of_a_machine_that_joined_and_went_proves_nothing_of_the_next() {
    let mut world = many_and_slow();
    world.at(10, Happening::Join(Box::new(ModelNode::new("late"))));
    first_quick_then_slow(&mut world, "late", 75);
    run(&world.share(), &args("q.io/a:1")).expect(0, &["ready"]);
}

/// A DaemonSet makes pods for cordoned nodes, too.
#[test]
fn the_pod_of_a_machine_that_was_cordoned_proves_nothing_of_the_next() {
    let mut world = many_and_slow();
    world.nodes.get_mut("n001").expect("one of many").cordoned = true;
    first_quick_then_slow(&mut world, "n001", 75);
    run(&world.share(), &args("q.io/a:1")).expect(0, &["ready"]);
}

/// The second try takes over a puller that names a node which is not ready.
#[test]
fn the_pod_of_a_machine_that_an_earlier_try_knew_proves_nothing_of_the_next() {
    for args in [args("q.io/a:1"), args_with("", ALWAYS)] {
        let mut world = nodes(3);
        world.pace.start = Duration::from_secs(20);
        world.registry.insert("q.io/a:1".into(), Pull::after(60));
        first_quick_then_slow(&mut world, "n3", 75);
        world.at(41, Happening::SetReady("n3", false));
        world.kill_after = Some(40);
        let world = world.share();
        assert!(run(&world, &args).is_killed);
        let now = world.borrow().now.as_secs();
        assert!((41..70).contains(&now), "killed at the wrong moment: {now}");
        world.borrow_mut().kill_after = None;
        run(&world, &args).expect(0, &["ready"]);
        // What is older is replaced by what proves something.
        assert_eq!(world.borrow().count("create daemonset"), 2);
    }
}

#[test]
fn a_node_in_two_groups_is_one_that_is_waited_for_no_longer() {
    let mut world = nodes(2);
    world.registry.insert("q.io/a:1".into(), Pull::after(60));
    world.registry.insert("q.io/b:1".into(), Pull::after(60));
    world.at(20, Happening::Remove("n2"));
    let ended = run(&world.share(), &args("--pods-per-node 2 q.io/a:1 q.io/b:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.says("no longer waiting for 1 node"), "{:#?}", ended.lines);
}

#[test]
fn a_node_that_was_left_out_and_came_is_not_left_out() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(30));
    for name in ["n2", "n3"] {
        world.nodes.get_mut(name).expect("one of three").cordoned = true;
    }
    world.at(10, Happening::Uncordon("n2"));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 2 nodes"]);
    assert!(ended.says("left out 1 of 3 nodes: cordoned: n3"), "{:#?}", ended.lines);
}

/// The API server that dates the node is ahead of the one that dates the pods.
#[test]
fn pods_are_made_anew_only_when_they_can_be_younger_than_their_nodes() {
    for ahead in [5, 40] {
        let mut world = pulling_for(10);
        world.nodes.get_mut("n2").expect("one of three").created = epoch() + seconds(ahead);
        let world = world.share();
        run(&world, &args_with("", ALWAYS)).expect(0, &["ready"]);
        assert_eq!(world.borrow().count("create daemonset"), 2, "{ahead}");
    }
    let mut world = pulling_for(10);
    world.nodes.get_mut("n2").expect("one of three").created = epoch() + seconds(1000);
    let ended = attempt(&world.share(), &args_with("", ALWAYS));
    ended.expect(3, &["on 1 node (n2) yet: its pod was made for another machine of this name"]);
}

#[test]
fn a_full_node_that_goes_is_no_failure() {
    let mut world = pulling_for(80);
    world.nodes.get_mut("n1").expect("one of three").has_room = false;
    world.at(60, Happening::Remove("n1"));
    let ended = run(&world.share(), &args("--strict q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 2 nodes"]);
    assert_eq!(ended.report["nodes"]["dropped"]["n1"], "gone");
}

/// Others were pulled for while the only node of a group was not ready.
#[test]
fn a_group_whose_node_comes_late_is_not_told_to_have_none() {
    let settings = r#"{"images": [
        "q.io/a:1", {"image": "q.io/b:1", "nodeSelector": {"pool": "x"}}]}"#;
    let mut world = pulling_for(30);
    let only = world.nodes.get_mut("n3").expect("one of three");
    only.cordoned = true;
    only.labels.insert("pool".into(), "x".into());
    world.at(20, Happening::Uncordon("n3"));
    let ended = run(&world.share(), &args_with("--strict", settings));
    ended.expect(0, &["ready: 2 images on 3 nodes"]);
    assert!(!ended.says("no node may run"), "{:#?}", ended.lines);
}
