//! What is allowed to be missing, pods that are refused, pods that get no further, and what of
//! that is told.

use std::time::Duration;

use prepull::evidence::{Event, EventMetadata, ObjectReference};
use serde_json::{Value, json};

use crate::bench::{
    Ended, args, args_with, attempt, busiest_second, nodes, of_an_earlier_try, pulling_for, run,
    seconds,
};
use crate::model::{
    Admission, Fault, FaultKind, Happening, ModelEvent, ModelNode, Pull, Shared, World,
};

const NOT_FOUND: &str = "rpc error: code = NotFound desc = failed to pull and unpack image \
                         \"q.io/a:1\": failed to resolve image: q.io/a:1: not found";
const AWAY: &str = "dial tcp 10.0.0.9:443: i/o timeout";
const QUOTA: &str = "exceeded quota: few, requested: pods=1, used: pods=5, limited: pods=5";

/// Three nodes, where the image can not be pulled on these.
fn failing_on(names: &[&str]) -> World {
    let mut world = nodes(3);
    for name in names {
        let at = ((*name).to_owned(), "q.io/a:1".to_owned());
        world.registry_at.insert(at, Pull::fails(NOT_FOUND));
    }
    world
}

// === What may be missing ===

#[test]
fn so_many_nodes_may_lack_images() {
    for (allowed, failing, exit) in [
        ("0", &["n2"][..], 1),
        ("1", &["n2"], 0),
        ("1", &["n1", "n2"], 1),
        ("34%", &["n1", "n2"], 0),
        ("33%", &["n1", "n2"], 1),
        ("3", &["n1", "n2", "n3"], 0),
    ] {
        let line = format!("--allow-missing {allowed} q.io/a:1 q.io/b:1");
        let ended = run(&failing_on(failing).share(), &args(&line));
        assert_eq!(ended.exit, exit, "{allowed}: {:#?}", ended.lines);
        let forgiven = ended.report["nodes"]["forgiven"].as_object().expect("an object");
        let n_forgiven = if exit == 0 { failing.len() } else { 0 };
        assert_eq!(forgiven.len(), n_forgiven, "{allowed}: {forgiven:?}");
        for (name, why) in forgiven {
            assert!(failing.contains(&name.as_str()), "{name}");
            let why = why.as_str().expect("a reason");
            assert!(why.starts_with("allowed to lack images: ") && why.contains("not found"));
        }
    }
}

/// One after the other, and each time it is but one.
#[test]
fn nodes_that_lacked_images_before_count() {
    for (allowed, exit) in [("1", 1), ("2", 0)] {
        let mut world = failing_on(&["n2"]);
        world.registry_at.insert(("n3".into(), "q.io/a:1".into()), Pull::fails(AWAY));
        world.at(60, Happening::RegistryAt("n3", "q.io/a:1", Pull::fails(NOT_FOUND)));
        let ended = run(&world.share(), &args(&format!("--allow-missing {allowed} q.io/a:1")));
        assert_eq!(ended.exit, exit, "{allowed}: {:#?}", ended.lines);
        assert!(ended.took > seconds(60));
    }
}

#[test]
fn at_the_deadline_so_many_may_lack_images_too() {
    for (allowed, exit) in [("0", 3), ("1", 0)] {
        let mut world = nodes(3);
        world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(1000));
        let line = format!("--timeout 60s --allow-missing {allowed} q.io/a:1");
        let ended = run(&world.share(), &args(&line));
        assert_eq!(ended.exit, exit, "{allowed}: {:#?}", ended.lines);
        assert_eq!(ended.report["nodes"]["forgiven"]["n2"].is_string(), exit == 0);
        assert!(ended.took >= seconds(60), "{:?}", ended.took);
    }
}

/// Whatever is due at the deadline: a pod to make anew, a window to move on, a longer wait for pods
/// of nodes that are not known.
#[test]
fn at_the_deadline_nothing_but_what_is_allowed_counts() {
    for timeout in 35..80 {
        for line in ["--stall-timeout 40s", "--max-nodes-at-once 1", ""] {
            let mut world = nodes(3);
            if line.is_empty() {
                world.denied.insert("list nodes".into());
            }
            world.registry.insert("q.io/a:1".into(), Pull::fails(AWAY));
            world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(1));
            let world = world.share();
            let line = format!("{line} --timeout {timeout}s --allow-missing 3 q.io/a:1");
            let ended = run(&world, &args(&line));
            assert_eq!(ended.exit, 0, "{line}: {:#?}", ended.lines);
            let world = world.borrow();
            let deleted: Vec<_> =
                world.requests.iter().filter(|it| it.request == "delete pod").collect();
            assert!(deleted.iter().all(|it| it.at < seconds(timeout)), "{line}: {deleted:?}");
            assert_eq!(ended.says("are made anew"), !deleted.is_empty(), "{line}");
        }
    }
}

#[test]
fn nodes_that_may_lack_one_image_get_the_others() {
    let mut world = failing_on(&["n1", "n2", "n3"]);
    world.registry.insert("q.io/slow:1".into(), Pull::after(60));
    let world = world.share();
    let ended = run(&world, &args("--allow-missing 3 q.io/a:1 q.io/slow:1"));
    ended.expect(0, &["ready", "3 nodes"]);
    assert!(world.borrow().nodes.values().all(|it| it.holds("q.io/slow:1")));
}

// === Pods that are not made ===

#[test]
fn pods_that_are_refused_for_a_while_are_not_waited_for() {
    let mut world = nodes(3);
    world.refuses_pods = Some(QUOTA);
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(1, &["cannot make its pods on 3 nodes", "exceeded quota: few", "raise the quota"]);
    // They are asked after when there have been too few for 10 s, and given 20 s more.
    assert!((30..=50).contains(&ended.took.as_secs()), "{:?}", ended.took);
}

#[test]
fn pods_that_are_refused_for_a_moment_are_waited_for() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(100));
    world.refuses_pods = Some(QUOTA);
    // And for another moment later, of a pod that somebody deletes.
    world.at(25, Happening::RefusePods(None));
    world.at(70, Happening::RefusePods(Some(QUOTA)));
    world.at(70, Happening::DeletePod("n2"));
    world.at(90, Happening::RefusePods(None));
    run(&world.share(), &args("q.io/a:1")).expect(0, &["ready"]);
}

/// A DaemonSet controller with much to do makes pods late, which is no refusal.
#[test]
fn pods_that_are_missing_are_asked_after_when_they_have_been_for_a_while() {
    for (late, is_asked) in [(8, false), (30, true)] {
        let mut world = nodes(3);
        world.pace.controller = seconds(late);
        let world = world.share();
        run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
        let world = world.borrow();
        let made = world.requests.iter().find(|it| it.request == "create daemonset");
        let asked = world.requests.iter().find(|it| it.about.contains("kind=DaemonSet"));
        let after = asked.map(|it| it.at - made.expect("one is made").at);
        assert_eq!(after.is_some(), is_asked, "{late}: {after:?}");
        assert!(after.is_none_or(|it| it >= seconds(10)), "{after:?}");
    }
}

#[test]
fn a_target_without_a_pod_says_so() {
    let mut world = pulling_for(5);
    world.pace.controller = seconds(1000);
    let ended = run(&world.share(), &args("--timeout 60s q.io/a:1"));
    ended.expect(3, &["3 nodes", "no pod was made there", "events of the DaemonSet"]);
}

#[test]
fn a_pod_that_finds_no_room_says_so() {
    let mut world = pulling_for(5);
    world.nodes.get_mut("n2").expect("one of three").has_room = false;
    let ended = run(&world.share(), &args("--timeout 25s q.io/a:1"));
    ended.expect(3, &["on 1 node (n2)", "no room", "1 Too many pods"]);
}

fn warning(about: &'static str, uid: &str, reason: &str, message: &str) -> ModelEvent {
    let event = Event {
        metadata: EventMetadata { uid: format!("event-about-{uid}") },
        involved_object: ObjectReference { uid: uid.into(), field_path: String::new() },
        reason: reason.into(),
        message: message.into(),
        count: 9,
    };
    ModelEvent { at: Duration::ZERO, kind: "Warning", about, event }
}

/// An event stays when its cause is long gone.
#[test]
fn an_old_refusal_is_no_reason() {
    // One that has everything, or one that has not: nobody makes another pod for it.
    for goes in ["n01", "n14"] {
        let mut world = nodes(14);
        world.refuses_pods = Some(QUOTA);
        world.at(2, Happening::RefusePods(None));
        let names: Vec<_> = world.nodes.keys().cloned().collect();
        for (place, name) in names.into_iter().enumerate() {
            let takes = 8 + 12 * place as u64;
            world.registry_at.insert((name, "q.io/a:1".into()), Pull::after(takes));
        }
        world.at(16, Happening::Remove(goes));
        run(&world.share(), &args("q.io/a:1")).expect(0, &["ready: "]);
    }
}

/// As at the deadline: what keeps an image away is of no account.
#[test]
fn nodes_whose_pods_are_refused_may_lack_images_too() {
    for (allowed, exit, words) in [
        ("1", 0, "but not on n3, forgiven: allowed to lack images: pods \""),
        ("0", 1, "raise the"),
    ] {
        let mut world = nodes(3);
        world.registry.insert("q.io/a:1".into(), Pull::after(60));
        world.at(5, Happening::RefusePods(Some(QUOTA))).at(6, Happening::DeletePod("n3"));
        let ended = run(&world.share(), &args(&format!("--allow-missing {allowed} q.io/a:1")));
        ended.expect(exit, &[words]);
    }
}

/// What was counted in a part of a list is fewer than what was there.
#[test]
fn refusals_of_a_list_that_breaks_off_are_not_counted() {
    let mut world = nodes(3);
    world.page = 1;
    // The last of them at 31 s; the controller tries again at 63 s.
    world.refuses_pods = Some("exceeded quota: pods=3");
    world.at(2, Happening::RefusePods(Some(QUOTA)));
    world.at(62, Happening::RefusePods(None));
    let kind = FaultKind::Status { code: 500, message: "no", retry_after: None };
    world.faults.push(Fault { request: "list events continue", skip: 0, times: 3, kind });
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    let world = world.borrow();
    assert_eq!(world.faults[0].times, 0);
    let asked = world.requests.iter().filter(|it| it.about.contains("kind=DaemonSet"));
    assert!(asked.filter(|it| it.at > seconds(34)).count() > 1, "it was counted afterwards");
}

#[test]
fn pods_of_others_that_are_refused_are_no_concern() {
    let mut world = nodes(3);
    // The pods of another DaemonSet are refused again and again; our own are but late.
    world.pace.controller = seconds(60);
    let term =
        json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]});
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let affinity = json!({"nodeAffinity": {required: {"nodeSelectorTerms": [term]}}});
    let template = json!({"spec": {"affinity": affinity, "containers": []}});
    world.plant(json!({"metadata": {"name": "another"}, "spec": {"template": template}}));
    world.refuses_pods = Some(QUOTA);
    world.at(55, Happening::RefusePods(None));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    assert!(world.borrow().events.iter().any(|it| it.event.count > 4), "the other was refused");
}

// === Pods that get no further ===

/// The registry is away for `n2` until a moment before its second pod, and the back-off of its
/// first one lasts beyond the deadline by then.
#[test]
fn a_pod_that_gets_no_further_is_made_anew_where_that_is_asked_for() {
    for (line, exit, n_deleted) in [("--stall-timeout 40s ", 0, 2), ("", 3, 0)] {
        let mut world = nodes(3);
        world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::fails(AWAY));
        world.at(115, Happening::RegistryAt("n2", "q.io/a:1", Pull::after(1)));
        let world = world.share();
        let ended = run(&world, &args(&format!("{line}--timeout 145s q.io/a:1")));
        assert_eq!(ended.exit, exit, "{:#?}", ended.lines);
        assert_eq!(world.borrow().count("delete pod"), n_deleted);
        assert_eq!(ended.says("are made anew"), n_deleted > 0, "{:#?}", ended.lines);
    }
}

#[test]
fn pods_that_are_all_as_slow_are_left() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(200));
    let world = world.share();
    run(&world, &args("--stall-timeout 30s q.io/a:1")).expect(0, &["ready"]);
    assert_eq!(world.borrow().count("delete pod"), 0);
}

/// After 1, 2 and 4 minutes.
#[test]
fn each_time_a_pod_is_given_twice_as_long() {
    let mut world = nodes(3);
    world.breaks_pulls_off = true;
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(10_000));
    let world = world.share();
    let ended = run(&world, &args("--timeout 11m --stall-timeout 1m q.io/a:1"));
    ended.expect(3, &["n2"]);
    assert_eq!(world.borrow().count("delete pod"), 3);
}

// === What is told ===

/// A run in two tries: the first is killed when its pods are there, and then this is told of the
/// one on `n2`.
fn after_a_warning(world: World, line: &str, reason: &str, message: &str) -> (Shared, Ended) {
    let world = world.share();
    world.borrow_mut().kill_after = Some(7);
    assert!(attempt(&world, &args(line)).is_killed);
    let pod = world.borrow().pods.values().find(|it| it.node == "n2").map(|it| it.uid.clone());
    let event = warning("Pod", &pod.expect("a pod on n2"), reason, message);
    world.borrow_mut().events.push(event);
    world.borrow_mut().kill_after = None;
    let ended = run(&world, &args(line));
    (world, ended)
}

#[test]
fn a_pull_secret_that_does_not_exist_is_named() {
    let mut world = nodes(3);
    let refused = "failed to authorize: failed to fetch anonymous token: unexpected status from \
                   GET request to https://q.io/token: 401 Unauthorized";
    world.registry.insert("q.io/a:1".into(), Pull::fails(refused));
    let reason = "FailedToRetrieveImagePullSecret";
    let message = "Unable to retrieve some image pull secrets (pull, push); attempting to pull the \
                   image may not succeed.";
    let (_, ended) = after_a_warning(world, "q.io/a:1", reason, message);
    ended.expect(1, &["secrets `pull`, `push` do not exist in namespace `default`: create them"]);
}

/// Some registries know no image that a stranger asks for.
#[test]
fn a_pull_secret_that_does_not_exist_is_named_beside_an_image_that_does_not() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::fails(NOT_FOUND));
    let reason = "FailedToRetrieveImagePullSecret";
    let message = "Unable to retrieve some image pull secrets (pull); attempting to pull the \
                   image may not succeed.";
    let (_, ended) = after_a_warning(world, "q.io/a:1", reason, message);
    ended.expect(1, &["the tag; secret `pull` does not exist in namespace `default`: create it"]);
}

#[test]
fn what_keeps_a_pod_from_starting_is_told() {
    for (reason, message) in [
        ("FailedAttachVolume", "AttachVolume.Attach failed"),
        ("FailedCreatePodSandBox", "plugin type=\"bridge\" failed"),
        ("FailedMount", "MountVolume.SetUp failed"),
        ("NetworkNotReady", "cni plugin not initialized"),
    ] {
        let mut world = nodes(3);
        world.registry.insert("q.io/prepull:1".into(), Pull::after(1000));
        let (_, ended) = after_a_warning(world, "--timeout 60s q.io/a:1", reason, message);
        assert_eq!(ended.exit, 3);
        assert!(ended.says(&format!("{reason}: {message}")), "{:#?}", ended.lines);
    }
}

/// Nor what another pod complained of.
#[test]
fn what_kept_a_pod_from_starting_and_has_passed_is_not_told() {
    let (reason, message) = ("FailedMount", "MountVolume.SetUp failed");
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    let (_, ended) = after_a_warning(world, "--timeout 60s q.io/a:1", reason, message);
    ended.expect(3, &["the pull has not ended"]);
    assert!(!ended.says("FailedMount"), "{:#?}", ended.lines);

    let mut world = nodes(3);
    world.registry.insert("q.io/prepull:1".into(), Pull::after(1000));
    world.at(30, Happening::DeletePod("n2"));
    let (_, ended) = after_a_warning(world, "--timeout 60s q.io/a:1", reason, message);
    ended.expect(3, &["the pull has not ended"]);
    assert!(!ended.says("FailedMount"), "{:#?}", ended.lines);
}

#[test]
fn images_that_are_rewritten_in_pods_alone_are_told_once() {
    let mut world = nodes(3);
    world.admission.push(Admission::RewritePods("q.io/", "mirror.io/"));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    let told = |container: &str, image: &str| {
        format!(
            "on its way in, container `{container}` was given image `mirror.io/{image}` in place \
             of `q.io/{image}`"
        )
    };
    let first = told("install", "prepull:1");
    assert_eq!(ended.report["notes"], json!([first + ", and so on: 1 more with `-v`"]));
    let mut world = nodes(3);
    world.admission.push(Admission::RewritePods("q.io/", "mirror.io/"));
    let ended = run(&world.share(), &args("-v q.io/a:1"));
    assert!(ended.lines.contains(&told("01-a", "a:1")), "{:#?}", ended.lines);
}

#[test]
fn pods_on_nodes_that_are_not_ready_are_named() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(60));
    world.at(20, Happening::SetReady("n2", false));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.says("pods on nodes that are not ready stay"), "{:#?}", ended.lines);
    assert!(ended.says("on n2: remove them with `kubectl "), "{:#?}", ended.lines);
}

/// Everything had come to it before.
#[test]
fn pods_on_finished_nodes_that_are_not_ready_are_named() {
    let mut world = nodes(3);
    world.registry_at.insert(("n1".into(), "q.io/a:1".into()), Pull::after(60));
    world.at(30, Happening::SetReady("n2", false));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.says("on n2: remove them with `kubectl "), "{:#?}", ended.lines);
}

/// A finalizer keeps it for a while, and for longer than a run waits.
#[test]
fn a_deleted_puller_is_waited_for_until_it_is_gone() {
    for (stays, is_told) in [(3, false), (100, true)] {
        let mut world = nodes(2);
        world.registry.insert("q.io/a:1".into(), Pull::after(20));
        let world = world.share();
        world.borrow_mut().kill_after = Some(6);
        assert!(attempt(&world, &args("q.io/a:1")).is_killed);
        world.borrow_mut().kill_after = None;
        for set in world.borrow_mut().sets.values_mut() {
            set.object["metadata"]["finalizers"] = json!(["example.org/wait"]);
        }
        let ended = {
            let began = world.borrow().now;
            // What the second try takes without a finalizer, and so long more.
            world.borrow_mut().script.push((began + seconds(24 + stays), Happening::DeleteSets));
            attempt(&world, &args("q.io/a:1"))
        };
        ended.expect(0, &["ready"]);
        assert_eq!(ended.says("may be left"), is_told, "{stays}: {:#?}", ended.lines);
        let world = world.borrow();
        assert_eq!(world.sets.is_empty(), !is_told, "{stays}");
    }
}

#[test]
fn warnings_of_the_api_server_are_told() {
    let mut world = nodes(1);
    world.warnings = vec!["would violate PodSecurity".into(), "unknown field".into()];
    let ended = run(&world.share(), &args("q.io/a:1"));
    for warning in ["would violate PodSecurity", "unknown field"] {
        assert!(ended.says(&format!("warning from the API server: {warning}")));
    }
}

#[test]
fn a_short_name_on_a_cri_o_node_is_told() {
    let mut world = nodes(2);
    world.nodes.values_mut().for_each(|it| it.runtime = "cri-o://1.33.0".into());
    let ended = run(&world.share(), &args("a:1 q.io/b:1"));
    ended.expect(0, &["ready"]);
    let told: Vec<_> = ended.lines.iter().filter(|it| it.contains("names no registry")).collect();
    assert!(told.len() == 1 && told[0].contains("`a:1`"), "{told:?}");
}

// === Where the pods go ===

#[test]
fn a_tainted_node_is_pulled_on_where_its_taint_is_tolerated() {
    for tolerations in [r#"[{"operator": "Exists"}]"#, "[]"] {
        let mut world = nodes(2);
        world.at(0, Happening::Taint("n2", "gpu"));
        let world = world.share();
        world.borrow_mut().advance(seconds(1));
        let settings = format!(r#"{{"puller": {{"tolerations": {tolerations}}}}}"#);
        let ended = run(&world, &args_with("q.io/a:1", &settings));
        ended.expect(0, &["ready"]);
        let is_tolerated = tolerations != "[]";
        assert_eq!(world.borrow().nodes["n2"].holds("q.io/a:1"), is_tolerated);
        assert_eq!(ended.says("taint `gpu` is not tolerated: n2"), !is_tolerated);
    }
}

#[test]
fn a_percentage_is_one_of_the_eligible_nodes() {
    let mut world = nodes(10);
    world.registry.insert("q.io/a:1".into(), Pull::after(3));
    for name in ["n01", "n02", "n03", "n04", "n05", "n06"] {
        world.nodes.get_mut(name).expect("one of ten").cordoned = true;
    }
    let world = world.share();
    run(&world, &args("--max-nodes-at-once 50% q.io/a:1")).expect(0, &["4 nodes"]);
    assert_eq!(world.borrow().most_unfinished, 2);
}

// === Second tries ===

/// Other pull secrets make other pods, although the containers and the nodes are the same.
#[test]
fn a_puller_of_another_spec_is_replaced() {
    let of = |secret: &str| {
        let settings = format!(r#"{{"puller": {{"imagePullSecrets": [{{"name": "{secret}"}}]}}}}"#);
        args_with("q.io/a:1", &settings)
    };
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(20));
    let world = world.share();
    world.borrow_mut().kill_after = Some(6);
    assert!(attempt(&world, &of("old")).is_killed);
    world.borrow_mut().kill_after = None;
    let ended = run(&world, &of("new"));
    ended.expect(0, &["ready"]);
    assert!(!ended.says("took over"), "{:#?}", ended.lines);
    assert_eq!(world.borrow().count("create daemonset"), 2);
}

/// A DaemonSet of an earlier try that waits for a finalizer.
fn being_deleted() -> Value {
    let mut object = of_an_earlier_try();
    object["metadata"]["deletionTimestamp"] = "2023-12-31T23:59:59Z".into();
    object["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    object
}

#[test]
fn one_that_is_being_deleted_is_waited_for() {
    let mut world = pulling_for(5);
    world.plant(being_deleted());
    world.at(20, Happening::DeleteSets);
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.took > seconds(25), "{:?}", ended.took);
    assert!(busiest_second(&world) <= 10, "{}", busiest_second(&world));
    assert_eq!(world.borrow().count("create daemonset"), 1);
    // Its own, at the end.
    assert_eq!(world.borrow().count("delete daemonset"), 1);
}

/// A deleted DaemonSet makes no pods, whatever it was made of.
#[test]
fn one_that_is_being_deleted_is_not_taken_over() {
    let world = pulling_for(5).share();
    world.borrow_mut().kill_after = Some(5);
    assert!(run(&world, &args("q.io/a:1")).is_killed);
    world.borrow_mut().kill_after = None;
    for set in world.borrow_mut().sets.values_mut() {
        for key in ["deletionTimestamp", "finalizers"] {
            set.object["metadata"][key] = being_deleted()["metadata"][key].clone();
        }
    }
    assert_eq!(world.borrow().sets.len(), 1);
    world.borrow_mut().at(30, Happening::DeleteSets);
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(!ended.says("took over"), "{:#?}", ended.lines);
    assert_eq!(world.borrow().count("create daemonset"), 2);
}

#[test]
fn one_that_stays_is_the_verdict() {
    let mut world = pulling_for(5);
    world.plant(being_deleted());
    let ended = attempt(&world.share(), &args("--timeout 30s q.io/a:1"));
    ended.expect(3, &["time ran out", "demo-0f8fad5bd9-1", "still being deleted"]);
}

#[test]
fn nodes_are_counted_once_although_their_list_was_begun_anew() {
    let mut world = nodes(5);
    world.page = 2;
    world.faults.push(Fault {
        request: "list nodes continue",
        skip: 1,
        times: 1,
        kind: FaultKind::Status {
            code: 410,
            message: "the continue token has expired",
            retry_after: None,
        },
    });
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["5 nodes"]);
    let report = &ended.report;
    assert_eq!((&report["nodes"]["total"], &report["images"][0]["absent"]), (&json!(5), &json!(5)));
}

/// A webhook may be away, or deny in words of its own.
#[test]
fn a_stalled_pod_that_can_not_be_deleted_stops_nothing_else() {
    for (code, is_noted) in [(500, false), (422, true)] {
        let mut world = nodes(3);
        let at = |node: &str| (node.to_owned(), "q.io/a:1".to_owned());
        world.registry_at.insert(at("n2"), Pull::fails(AWAY));
        world.registry_at.insert(at("n3"), Pull::after(60));
        world.at(75, Happening::RegistryAt("n2", "q.io/a:1", Pull::after(1)));
        let message = "failed calling webhook \"guard\"";
        let kind = FaultKind::Status { code, message, retry_after: None };
        world.faults.push(Fault { request: "delete pod", skip: 0, times: usize::MAX, kind });
        let ended = run(&world.share(), &args("--stall-timeout 20s q.io/a:1"));
        ended.expect(0, &["ready: `q.io/a:1` on 3 nodes"]);
        assert!(ended.took < seconds(200), "{:?}", ended.took);
        assert_eq!(ended.says("left as they are"), is_noted, "{:#?}", ended.lines);
    }
}

/// It was back before the end.
#[test]
fn pods_on_nodes_that_are_ready_again_are_not_named() {
    let mut world = nodes(3);
    world.registry_at.insert(("n1".into(), "q.io/a:1".into()), Pull::after(60));
    world.at(30, Happening::SetReady("n2", false));
    world.at(50, Happening::Join(Box::new(ModelNode::new("n4"))));
    world.registry_at.insert(("n4".into(), "q.io/a:1".into()), Pull::after(30));
    world.at(80, Happening::SetReady("n2", true));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.says("joined meanwhile: n4"), "{:#?}", ended.lines);
    assert!(!ended.says("not ready stay"), "{:#?}", ended.lines);
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
