//! Rules that a review found to be missing. Each test here was seen to fail without its rule.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{Ended, JOB_UID, args, args_with, attempt, nodes, run};
use crate::model::{
    Admission, Fault, FaultKind, Happening, ModelNode, Pull, Shared, Stored, World, epoch,
};

const DEADLINE: Duration = Duration::from_secs(270);
/// What RBAC says, and what else refuses with the same status.
const RBAC: &str = "daemonsets.apps is forbidden: User \"system:serviceaccount:apps:demo\" cannot \
                    create resource \"daemonsets\" in API group \"apps\" in the namespace \"apps\"";
const REFUSALS: [&str; 3] = [
    "daemonsets.apps \"demo\" is forbidden: exceeded quota: few, requested: \
     count/daemonsets.apps=1, used: count/daemonsets.apps=5, limited: count/daemonsets.apps=5",
    "pods \"demo\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
    "admission webhook \"validate.kyverno.svc-fail\" denied the request: no such registry",
];

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Three nodes, where this image takes so long.
fn pulling(takes: u64) -> World {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(takes));
    world
}

fn always(request: &'static str, kind: FaultKind) -> Fault {
    Fault { request, skip: 0, times: usize::MAX, kind }
}

fn answer(code: u16, message: &'static str, retry_after: Option<u64>) -> FaultKind {
    FaultKind::Status { code, message, retry_after: retry_after.map(Duration::from_secs) }
}

/// How many requests were sent in the busiest second.
fn busiest_second(world: &Shared) -> usize {
    let world = world.borrow();
    let at = || world.requests.iter().map(|it| it.at);
    let within = |start| at().filter(|it| (start..start + seconds(1)).contains(it)).count();
    at().map(within).max().unwrap_or_default()
}

#[test]
fn preferences_that_a_webhook_adds_are_no_fault() {
    let mut world = pulling(5);
    world.admission.push(Admission::Prefer);
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready: `q.io/a:1` on 3 nodes"]);
    assert_eq!(world.borrow().count("create daemonset"), 1);
}

#[test]
fn events_that_can_not_be_had_change_no_end() {
    for (takes, exit, verdict) in [(40, 0, "ready"), (1000, 3, "the pull has not ended")] {
        let mut world = pulling(takes);
        world.faults.push(always("list events", answer(500, "etcd is away", None)));
        let world = world.share();
        let ended = run(&world, &args("q.io/a:1"));
        ended.expect(exit, &[verdict]);
        assert!(world.borrow().count("list events") > 1);
        assert!(world.borrow().sets.is_empty());
        assert!(ended.took < DEADLINE + seconds(3), "{:?}", ended.took);
    }
}

// === Pauses and take-overs ===

/// A DaemonSet of this run that an earlier try made of something else.
fn of_an_earlier_try() -> Value {
    let name = format!("demo-{}-1", &JOB_UID.replace('-', "")[..10]);
    json!({
        "metadata": {
            "name": name,
            "labels": {"prepull.dev/name": "demo", "prepull.dev/run": JOB_UID},
            "ownerReferences": [{"uid": JOB_UID}],
        },
        "spec": {"template": {"metadata": {}, "spec": {"containers": [], "initContainers": []}}},
    })
}

/// The same while it waits for a finalizer.
fn being_deleted() -> Value {
    let mut object = of_an_earlier_try();
    object["metadata"]["deletionTimestamp"] = "2023-12-31T23:59:59Z".into();
    object["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    object
}

#[test]
fn no_answer_makes_a_run_spin() {
    let none: fn(&mut World) = |_| {};
    let plant: fn(&mut World) = |world| world.plant(of_an_earlier_try());
    for (request, kind, prepare) in [
        ("get daemonset", answer(429, "slow down", Some(0)), none),
        ("list nodes", answer(503, "starting", Some(0)), none),
        // It is there, and it is not.
        ("create daemonset", answer(409, "it already exists", None), none),
        // It is there, and can not be replaced.
        ("delete daemonset", answer(409, "not this uid", None), plant),
    ] {
        let mut world = pulling(1000);
        prepare(&mut world);
        world.faults.push(always(request, kind));
        let world = world.share();
        let ended = attempt(&world, &args("--timeout 30s q.io/a:1"));
        assert_eq!(ended.exit, 3, "{request}: {:#?}", ended.lines);
        assert!(ended.took < seconds(50), "{request}: {:?}", ended.took);
        assert!(busiest_second(&world) <= 10, "{request}: {}", busiest_second(&world));
    }
}

/// Pages of two, of which the second one can never be had.
#[test]
fn a_list_that_expires_again_and_again_is_read_at_a_pace() {
    for (request, words) in [
        ("list nodes continue", &["cannot list nodes", "too old"][..]),
        ("list pods continue", &["cannot list pods", "too old"]),
        ("list daemonsets continue", &["cannot list daemonsets", "too old"]),
    ] {
        for (timeout, pace) in (50..60).map(|it| (it, 700)).chain([(60, 10)]) {
            let mut world = nodes(5);
            world.page = 2;
            for name in ["one", "two", "three"] {
                let labels = json!({"prepull.dev/name": "demo", "prepull.dev/run": name});
                world.plant(json!({"metadata": {"name": name, "labels": labels}}));
            }
            world.faults.push(always(request, answer(410, "the token is too old", None)));
            // The time may end behind the first page as well as behind the second.
            world.pace.request = Duration::from_millis(pace);
            let world = world.share();
            let ended = attempt(&world, &args(&format!("--timeout {timeout}s q.io/a:1")));
            ended.expect(3, words);
            assert!(busiest_second(&world) <= 10, "{request}: {}", busiest_second(&world));
        }
    }
}

/// Whatever is wrong with them, they prove nothing.
#[test]
fn a_run_goes_on_without_events() {
    for (request, code) in
        [("list events continue", 410), ("list events", 400), ("list events", 404)]
    {
        let mut world = pulling(30);
        world.registry.insert("q.io/late:1".into(), Pull::fails("i/o timeout"));
        world.at(40, Happening::Registry("q.io/late:1", Pull::after(1)));
        world.page = 2;
        world.faults.push(always(request, answer(code, "no", None)));
        let world = world.share();
        run(&world, &args("q.io/a:1 q.io/late:1")).expect(0, &["ready"]);
        assert!(world.borrow().requests.iter().any(|it| !it.is_ok), "{request}");
    }
}

#[test]
fn one_that_is_being_deleted_is_waited_for() {
    let mut world = pulling(5);
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
    let world = pulling(5).share();
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
    let mut world = pulling(5);
    world.plant(being_deleted());
    let ended = attempt(&world.share(), &args("--timeout 30s q.io/a:1"));
    ended.expect(3, &["time ran out", "demo-0f8fad5bd9-1", "still being deleted"]);
}

// === Without the right to list nodes ===

fn blind(n_nodes: usize) -> World {
    let mut world = nodes(n_nodes);
    world.denied.insert("list nodes".into());
    world
}

/// A node that was proved goes, and another one comes at the same moment: the DaemonSet wants two
/// pods as before, and the new one's is not there yet when the pods are looked at.
#[test]
fn as_many_nodes_as_before_need_not_be_the_same() {
    let mut n_late = 0;
    for at in 18..60 {
        let mut world = blind(2);
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
        let mut world = blind(2);
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

// === Refusals ===

/// The gateway gave up on it, the API server did not, and the second try meets a quota.
#[test]
fn one_that_was_made_after_all_is_removed_after_a_refusal() {
    for refusal in REFUSALS {
        let mut world = pulling(5);
        let kind = FaultKind::DoneBut(504);
        world.faults.push(Fault { request: "create daemonset", skip: 0, times: 1, kind });
        world.faults.push(always("create daemonset", answer(403, refusal, None)));
        let world = world.share();
        run(&world, &args("q.io/a:1")).expect(1, &[refusal]);
        let world = world.borrow();
        assert_eq!(world.count("create daemonset"), 2);
        assert_eq!(world.count("delete daemonset"), 1);
        assert!(world.sets.is_empty(), "{:?}", world.pullers());
    }
}

#[test]
fn only_a_right_that_is_missing_is_to_be_granted() {
    for (refusal, is_right) in [(RBAC, true)].into_iter().chain(REFUSALS.map(|it| (it, false))) {
        let mut world = pulling(5);
        world.faults.push(always("create daemonset", answer(403, refusal, None)));
        let world = world.share();
        let ended = run(&world, &args("q.io/a:1"));
        ended.expect(1, &[refusal]);
        let advice = "grant this right to the ServiceAccount";
        assert_eq!(ended.verdict().contains(advice), is_right, "{}", ended.verdict());
        // A binding may not be in force yet; a quota is.
        let took = ended.took;
        assert_eq!(took >= seconds(5), is_right, "{took:?}");
        assert!(took < seconds(6), "{took:?}");
        assert_eq!(world.borrow().count("create daemonset") > 1, is_right);
    }
}

#[test]
fn a_right_to_create_that_comes_late_is_waited_for() {
    let mut world = pulling(5);
    let kind = answer(403, RBAC, None);
    world.faults.push(Fault { request: "create daemonset", skip: 0, times: 4, kind });
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    assert_eq!(world.borrow().count("create daemonset"), 5);
}

#[test]
fn rights_that_were_withdrawn_are_asked_once_more() {
    let gpu = r#"{"images": ["q.io/a:1", {"image": "q.io/b:1", "tolerations": []}],
                  "puller": {"tolerations": [{"operator": "Exists"}]}}"#;
    for args in [args("q.io/a:1"), args_with("", gpu)] {
        let mut world = pulling(60);
        world.at(20, Happening::WithdrawRights);
        let world = world.share();
        run(&world, &args).expect(1, &["withdrawn"]);
        let world = world.borrow();
        assert_eq!(world.count("delete daemonset"), 1);
        let refused: Vec<_> = world.requests.iter().filter(|it| !it.is_ok).collect();
        assert_eq!(refused.len(), 2, "{refused:#?}");
        assert!(world.requests.last().is_some_and(|it| it.request == "delete daemonset"));
    }
}

// === Time ===

/// A request may be answered until the run's next limit, or for 2 s.
#[track_caller]
fn check_patience(world: &World, deadline: Duration) {
    let last_look = deadline + seconds(5);
    let job_read = world.requests.iter().position(|it| it.request == "get job");
    for (place, it) in world.requests.iter().enumerate() {
        let start = it.at - world.pace.request;
        // Before the Job is read, its start is not known.
        let deadline = if Some(place) <= job_read { DEADLINE } else { deadline };
        let limit = match it.request {
            _ if start < deadline => deadline,
            // Cleaning up.
            "get daemonset" | "delete daemonset" => last_look + seconds(2 + 9),
            _ => last_look,
        };
        let most = limit.max(start) + seconds(2);
        let until = start.saturating_add(it.patience);
        assert!(until <= most, "{} at {start:?} may last until {until:?}", it.request);
        assert!(it.patience >= seconds(2), "{} at {start:?} for {:?}", it.request, it.patience);
    }
}

#[test]
fn no_request_is_given_more_time_than_the_run_has() {
    let for_ever = || FaultKind::Hang(seconds(3600));
    for (started_before, request, skip) in [
        (0, None, 0),
        (0, Some("list nodes"), 0),
        (0, Some("create daemonset"), 0),
        (0, Some("get daemonset"), 40),
        (0, Some("list pods"), 3),
        (0, Some("list pods"), 26),
        (0, Some("list events"), 3),
        (0, Some("delete daemonset"), 0),
        (0, Some(""), 12),
        (100, None, 0),
        (100, Some("get daemonset"), 20),
        (100, Some(""), 12),
    ] {
        let mut world = pulling(1000);
        let deadline = DEADLINE - seconds(started_before);
        world.jobs.insert("demo-prepull".into(), epoch() - seconds(started_before));
        let faults = request.map(|it| Fault { skip, ..always(it, for_ever()) });
        world.faults.extend(faults);
        let world = world.share();
        let ended = run(&world, &args("q.io/a:1"));
        ended.expect(3, &["time ran out"]);
        check_patience(&world.borrow(), deadline);
        let most = deadline + seconds(20);
        assert!(ended.took <= most, "{request:?}: {:?}", ended.took);
    }
}

#[test]
fn a_server_that_does_not_answer_is_told_once() {
    for skip in [0, 12] {
        let mut world = pulling(1000);
        world.faults.push(Fault { skip, ..always("", FaultKind::Transport) });
        let ended = run(&world.share(), &args("q.io/a:1"));
        ended.expect(3, &["time ran out", "connection refused"]);
        let again = ended.lines.iter().filter(|it| it.contains("trying again")).count();
        assert_eq!(again, 1, "{:#?}", ended.lines);
        let has_image_line = ended.lines.iter().any(|it| it.starts_with("q.io/a:1: "));
        assert_eq!(has_image_line, skip > 0, "{:#?}", ended.lines);
    }
}

// === Nodes ===

fn ends_at_the_deadline(world: World, words: &[&str]) -> Ended {
    let ended = run(&world.share(), &args("--timeout 60s q.io/a:1"));
    ended.expect(3, words);
    ended
}

#[test]
fn a_pod_that_finds_no_room_says_so() {
    let mut world = pulling(5);
    world.nodes.get_mut("n2").expect("one of three").has_room = false;
    let ended = run(&world.share(), &args("--timeout 25s q.io/a:1"));
    ended.expect(3, &["on 1 node (n2)", "no room", "1 Too many pods"]);
}

#[test]
fn a_target_without_a_pod_says_so() {
    let mut world = pulling(5);
    world.pace.controller = seconds(1000);
    ends_at_the_deadline(world, &["3 nodes", "no pod was made there", "events of the DaemonSet"]);
}

/// Somebody else's pod pulled it, while ours can not.
#[test]
fn an_image_that_a_node_comes_to_list_counts() {
    let mut world = pulling(5);
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
fn a_target_of_one_group_is_dropped_for_the_reason_of_that_group() {
    let settings = r#"{"images": [
        "q.io/a:1", {"image": "q.io/b:1", "tolerations": [{"operator": "Exists"}]}
    ]}"#;
    let mut world = pulling(5);
    let away = Pull::fails("dial tcp: i/o timeout");
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), away);
    world.at(15, Happening::Taint("n2", "gpu"));
    let ended = run(&world.share(), &args_with("", settings));
    ended.expect(0, &["ready"]);
    assert_eq!(ended.report["nodes"]["dropped"]["n2"], "taint `gpu` is not tolerated");
    assert!(ended.took < seconds(90), "{:?}", ended.took);
}

#[test]
fn a_node_that_another_one_replaced_is_not_gone() {
    let mut world = pulling(5);
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

// === Images without a node ===

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
