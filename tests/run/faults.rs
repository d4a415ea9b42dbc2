//! An API server that errs, hangs, forbids or goes away.

use std::time::Duration;

use prepull::cluster::{ApiError, Cause};
use prepull::run::{Action, Now, Observation, Run, Signal};
use serde_json::json;

use crate::bench::{
    Ended, answer, args, args_with, attempt, busiest_second, is_said_to_be_left, nodes,
    of_an_earlier_try, pulling_for, run, seconds,
};
use crate::model::{Fault, FaultKind, Happening, ModelNode, Outage, Pull, World, epoch};

/// Every request that a run with a late node makes.
const REQUESTS: [&str; 9] = [
    "list nodes",
    "get job",
    "list daemonsets",
    "create daemonset",
    "get daemonset",
    "list pods",
    "list events",
    "patch daemonset",
    "delete daemonset",
];

/// Of a run without `--timeout`.
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

fn world() -> World {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(12));
    world.at(5, Happening::Join(Box::new(ModelNode::new("n4"))));
    world
}

fn fault(request: &'static str, skip: usize, times: usize, kind: FaultKind) -> Fault {
    Fault { request, skip, times, kind }
}

fn always(request: &'static str, kind: FaultKind) -> Fault {
    fault(request, 0, usize::MAX, kind)
}

#[test]
fn the_runs_here_make_every_request() {
    let mut world = world();
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(50));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    for request in REQUESTS.iter().chain(&["get node"]) {
        assert!(world.borrow().count(request) > 0, "{request}");
    }
}

#[test]
fn one_fault_of_any_request_changes_nothing() {
    for request in REQUESTS {
        for skip in [0, 1, 2] {
            for (times, kind) in [
                (1, FaultKind::LostAnswer),
                (3, answer(500, "no", None)),
                (2, answer(429, "no", Some(3))),
                (2, answer(503, "no", None)),
                (4, FaultKind::Transport),
                (1, FaultKind::Hang(Duration::from_secs(10))),
            ] {
                let mut world = world();
                world.faults.push(fault(request, skip, times, kind.clone()));
                let world = world.share();
                let ended = run(&world, &args("q.io/a:1"));
                assert_eq!(ended.exit, 0, "{kind:?} {request}: {:#?}", ended.lines);
                assert!(ended.took < Duration::from_secs(80), "{kind:?} {request}");
                assert!(!ended.says("may be left"), "{kind:?} {request}: {:#?}", ended.lines);
            }
        }
    }
}

#[test]
fn a_create_whose_answer_is_lost_is_found_again() {
    let mut world = world();
    world.faults.push(fault("create daemonset", 0, 1, FaultKind::LostAnswer));
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert_eq!(world.borrow().count("create daemonset"), 2);
}

/// Stopped before it could know whether the DaemonSet was made.
#[test]
fn a_create_whose_answer_is_lost_is_cleaned_up() {
    let mut world = world();
    world.faults.push(fault("create daemonset", 0, 1, FaultKind::LostAnswer));
    world.signal_after = Some(4);
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(143, &["stopped"]);
    assert_eq!(world.borrow().count("create daemonset"), 1);
    assert_eq!(world.borrow().count("delete daemonset"), 1);
}

#[test]
fn an_expired_continue_token_starts_the_list_anew() {
    for request in ["list nodes continue", "list pods continue"] {
        let mut world = nodes(5);
        world.page = 2;
        world.faults.push(fault(request, 1, 1, answer(410, "no", None)));
        let world = world.share();
        run(&world, &args("q.io/a:1")).expect(0, &["ready: `q.io/a:1` on 5 nodes"]);
        let world = world.borrow();
        assert!(world.requests.iter().any(|it| it.about == "continue" && !it.is_ok));
    }
}

/// They prove nothing, and are read again at the next look.
#[test]
fn a_list_of_events_that_expired_ends_nothing() {
    let mut world = nodes(5);
    world.page = 2;
    world.registry.insert("q.io/bad:1".into(), Pull::fails("manifest unknown"));
    world.faults.push(fault("list events continue", 0, 1, answer(410, "no", None)));
    let world = world.share();
    run(&world, &args("q.io/bad:1")).expect(1, &["`q.io/bad:1` on 5 nodes", "manifest unknown"]);
    let world = world.borrow();
    assert!(world.requests.iter().any(|it| it.about == "continue" && !it.is_ok));
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

#[test]
fn events_that_can_not_be_had_change_no_end() {
    for (takes, exit, verdict) in [(40, 0, "ready"), (1000, 3, "the pull has not ended")] {
        let mut world = pulling_for(takes);
        world.faults.push(always("list events", answer(500, "etcd is away", None)));
        let world = world.share();
        let ended = run(&world, &args("q.io/a:1"));
        ended.expect(exit, &[verdict]);
        assert!(world.borrow().count("list events") > 1);
        assert!(world.borrow().sets.is_empty());
        assert!(ended.took < DEADLINE + seconds(3), "{:?}", ended.took);
    }
}

/// Whatever is wrong with them, they prove nothing.
#[test]
fn a_run_goes_on_without_events() {
    for (request, code) in
        [("list events continue", 410), ("list events", 400), ("list events", 404)]
    {
        let mut world = pulling_for(30);
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
fn an_api_server_that_is_away_from_the_start_is_the_verdict() {
    let mut world = world();
    world.faults.push(fault("", 0, usize::MAX, FaultKind::Transport));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(3, &["time ran out", "connection refused"]);
}

#[test]
fn an_api_server_that_goes_away_is_the_verdict() {
    for kind in [
        FaultKind::Transport,
        answer(500, "no", None),
        answer(429, "no", Some(30)),
        FaultKind::Hang(Duration::from_secs(1)),
    ] {
        let mut world = world();
        world.faults.push(fault("", 12, usize::MAX, kind.clone()));
        let ended = run(&world.share(), &args("q.io/a:1"));
        ended.expect(3, &["time ran out", "cannot "]);
        assert!(ended.says("may be left"), "{:#?}", ended.lines);
    }
}

#[test]
fn a_server_that_does_not_answer_is_told_once() {
    for skip in [0, 12] {
        let mut world = pulling_for(1000);
        world.faults.push(Fault { skip, ..always("", FaultKind::Transport) });
        let ended = run(&world.share(), &args("q.io/a:1"));
        ended.expect(3, &["time ran out", "connection refused"]);
        let again = ended.lines.iter().filter(|it| it.contains("trying again")).count();
        assert_eq!(again, 1, "{:#?}", ended.lines);
        let has_image_line = ended.lines.iter().any(|it| it.starts_with("q.io/a:1: "));
        assert_eq!(has_image_line, skip > 0, "{:#?}", ended.lines);
    }
}

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
        let mut world = pulling_for(1000);
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
fn a_retry_after_is_honoured() {
    for code in [429, 503] {
        let mut world = world();
        world.faults.push(fault("get daemonset", 2, 1, answer(code, "no", Some(7))));
        let world = world.share();
        run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
        let world = world.borrow();
        let refused = world.requests.iter().position(|it| !it.is_ok).expect("one was refused");
        let [refused, next] = &world.requests[refused..refused + 2] else { unreachable!() };
        assert!(next.at >= refused.at + Duration::from_secs(7), "{code}: {next:?}");
    }
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
        let mut world = pulling_for(1000);
        prepare(&mut world);
        world.faults.push(always(request, kind));
        let world = world.share();
        let ended = attempt(&world, &args("--timeout 30s q.io/a:1"));
        assert_eq!(ended.exit, 3, "{request}: {:#?}", ended.lines);
        assert!(ended.took < seconds(50), "{request}: {:?}", ended.took);
        assert!(busiest_second(&world) <= 10, "{request}: {}", busiest_second(&world));
    }
}

/// The pauses of a run of this id after so many requests that failed.
fn pauses(id: &str, n_failed: usize) -> Vec<Duration> {
    let mut args = args("q.io/a:1");
    args.config.id = id.into();
    let mut run = Run::new(&args.config);
    let mut now = Now { elapsed: Duration::ZERO, server: epoch(), signal: Signal::None };
    let cause = Cause::Transport("connection refused".into());
    let err = ApiError { request: "list nodes".into(), cause };
    let mut pauses = vec![];
    run.step(now, Observation::Started);
    for _ in 0..n_failed {
        let action = run.step(now, Observation::Answered(Err(err.clone())));
        let Action::Wait(pause) = action else { panic!("no pause: {action:?}") };
        now.elapsed += pause;
        run.step(now, Observation::Waited);
        pauses.push(pause);
    }
    pauses
}

#[test]
fn pauses_double_up_to_eight_seconds() {
    for pauses in [pauses("one", 12), pauses("another", 12)] {
        for (place, pause) in pauses.iter().enumerate() {
            let doubled = Duration::from_millis(500 << place).min(Duration::from_secs(8));
            assert!(*pause >= doubled / 2 && *pause < doubled, "{place}: {pauses:?}");
        }
    }
}

/// What all of them lost at the same time, they ask for again one after the other.
#[test]
fn two_runs_do_not_try_again_at_the_same_time() {
    let pairs = pauses("one", 12).into_iter().zip(pauses("another", 12));
    assert!(pairs.into_iter().all(|(one, another)| one != another));
}

/// Kubelets can not report to it either, so that controllers take all nodes for unready ones when
/// it comes back, and taint them, until the kubelets have told of themselves again.
fn back_after_a_minute(image: Pull) -> World {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), image);
    let (from, until) = (Duration::from_secs(20), Duration::from_secs(80));
    world.outages.push(Outage { from, until, kind: FaultKind::Transport });
    for node in ["n1", "n2", "n3"] {
        world.at(79, Happening::SetReady(node, false)).at(165, Happening::SetReady(node, true));
        let taint = "node.kubernetes.io/unreachable";
        world.at(80, Happening::Taint(node, taint)).at(185, Happening::Untaint(node, taint));
    }
    world
}

#[test]
fn nodes_are_given_time_to_report_to_an_api_server_that_was_away() {
    let world = back_after_a_minute(Pull::after(220)).share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 3 nodes after "]);
    assert!(world.borrow().nodes.values().all(|it| it.holds("q.io/a:1")));
}

/// Neither a failure nor the deadline is a reason to give them up.
#[test]
fn nodes_that_are_not_heard_of_yet_are_blamed_all_the_same() {
    let world = back_after_a_minute(Pull::after(1000)).share();
    run(&world, &args("--timeout 140s q.io/a:1")).expect(3, &["is not on 3 nodes"]);
    let mut world = back_after_a_minute(Pull::fails("i/o timeout"));
    world.at(85, Happening::Registry("q.io/a:1", Pull::fails("manifest unknown")));
    run(&world.share(), &args("q.io/a:1")).expect(1, &["on 3 nodes", "manifest unknown"]);
}

/// It was away when the run began.
#[test]
fn the_first_look_waits_for_nodes_to_report() {
    let mut world = nodes(3);
    let (from, until) = (Duration::ZERO, Duration::from_secs(60));
    world.outages.push(Outage { from, until, kind: FaultKind::Transport });
    for node in ["n1", "n2", "n3"] {
        world.at(59, Happening::SetReady(node, false)).at(110, Happening::SetReady(node, true));
    }
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready: `q.io/a:1` on 3 nodes after "]);
    assert!(world.borrow().nodes.values().all(|it| it.holds("q.io/a:1")));
    let words = ["time ran out", "nodes have not reported since the API server was away"];
    let mut world = nodes(1);
    world.outages.push(Outage { from, until, kind: FaultKind::Transport });
    world.at(59, Happening::SetReady("n1", false));
    run(&world.share(), &args("--timeout 100s q.io/a:1")).expect(3, &words);
}

/// Those that stay away are not waited for in the end.
#[test]
fn a_node_that_does_not_come_back_with_the_api_server_is_dropped() {
    let mut world = back_after_a_minute(Pull::after(30));
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(10_000));
    world.at(170, Happening::SetReady("n2", false));
    let ended = run(&world.share(), &args("--timeout 400s q.io/a:1"));
    ended.expect(0, &["ready: `q.io/a:1` on 2 nodes"]);
    assert_eq!(ended.report["nodes"]["dropped"]["n2"], "not ready");
}

/// Cleaning up has 9 s, whatever the API server asks for.
#[test]
fn a_long_retry_after_does_not_carry_the_run_beyond_its_end() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    world.faults.push(fault("delete daemonset", 0, usize::MAX, answer(429, "no", Some(60))));
    run(&world.share(), &args("q.io/a:1")).expect(3, &["time ran out"]);
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    world.faults.push(fault("get daemonset", 125, usize::MAX, answer(429, "no", Some(60))));
    run(&world.share(), &args("q.io/a:1")).expect(3, &["time ran out"]);
}

/// Slow pulls are the reason, and not a fault that passed or one of the cleaning up.
#[test]
fn the_verdict_at_the_deadline_names_the_reason() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    world.faults.push(fault("delete daemonset", 0, usize::MAX, answer(500, "no", None)));
    run(&world.share(), &args("q.io/a:1")).expect(3, &["the pull has not ended"]);
}

fn denied(request: &str) -> Ended {
    let mut world = world();
    world.registry_at.insert(("n2".into(), "q.io/a:1".into()), Pull::after(50));
    world.denied.insert(request.into());
    run(&world.share(), &args("q.io/a:1"))
}

#[test]
fn a_right_that_is_needed_is_named() {
    for request in ["create daemonset", "list pods", "get daemonset", "patch daemonset"] {
        let ended = denied(request);
        ended.expect(1, &[request, "grant"]);
        assert!(!ended.verdict().contains("withdrawn"), "{}", ended.verdict());
    }
}

#[test]
fn a_right_that_is_not_needed_is_noted() {
    for request in ["get job", "list daemonsets", "list events"] {
        let ended = denied(request);
        ended.expect(0, &["ready"]);
        assert!(ended.says(request), "{request}: {:#?}", ended.lines);
    }
    // A LIST says the same.
    denied("get node").expect(0, &["ready"]);
}

/// Leftovers of five earlier runs, of which a page shows two.
fn leftovers() -> World {
    let mut world = world();
    world.page = 2;
    for n in 1..=5 {
        let labels = json!({"prepull.dev/name": "demo", "prepull.dev/run": "earlier"});
        let annotations = json!({"prepull.dev/expires": "2023-12-31T23:59:59Z"});
        let name = format!("demo-expired-{n}");
        world.plant(json!({
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {"template": {"spec": {"containers": []}}},
        }));
    }
    world
}

#[test]
fn a_leftover_that_may_not_be_removed_is_noted() {
    let mut world = leftovers();
    let message = "User \"x\" cannot delete resource \"daemonsets\"";
    let kind = FaultKind::Status { code: 403, message, retry_after: None };
    world.faults.push(fault("delete daemonset demo-expired-", 0, 1, kind));
    let world = world.share();
    let ended = run(&world, &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    let noted = format!("cannot delete daemonset: the API server answered 403: {message}");
    assert_eq!(ended.report["notes"], json!([noted]));
    // The others go all the same.
    assert_eq!(world.borrow().sets.len(), 1);
}

#[test]
fn a_list_of_leftovers_that_expired_is_begun_anew() {
    let mut world = leftovers();
    world.faults.push(fault("list daemonsets continue", 1, 1, answer(410, "no", None)));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    let world = world.borrow();
    assert!(world.sets.is_empty());
    // What was read before is not counted twice.
    assert_eq!(world.count("delete daemonset"), 6);
}

#[test]
fn a_right_to_delete_that_is_missing_says_what_is_left() {
    let ended = denied("delete daemonset");
    ended.expect(0, &["ready"]);
    assert!(ended.says("kubectl --namespace default delete daemonset demo-"));
}

#[test]
fn a_binding_that_is_not_in_force_yet_is_waited_for() {
    let mut world = world();
    let message = "nodes is forbidden: User \"system:serviceaccount:apps:demo\" cannot list resource \
                   \"nodes\" in API group \"\" at the cluster scope";
    let kind = FaultKind::Status { code: 403, message, retry_after: None };
    world.faults.push(fault("list nodes", 0, 4, kind.clone()));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(!ended.says("nodes may not be listed"), "{:#?}", ended.lines);

    // What a slow answer tells of is the moment of the request.
    let mut world = self::world();
    world.pace.request = Duration::from_secs(6);
    world.faults.push(fault("list nodes", 0, 1, kind));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    assert!(!ended.says("nodes may not be listed"), "{:#?}", ended.lines);
}

/// An API server that is short of breath refuses again and again, and answers in between.
#[test]
fn the_log_of_a_run_with_many_faults_is_short() {
    let mut world = world();
    world.registry.insert("q.io/a:1".into(), Pull::after(100));
    for _ in 0..60 {
        world.faults.push(fault("get daemonset", 1, 2, answer(429, "no", None)));
    }
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(0, &["ready"]);
    let told = ended.lines.iter().filter(|it| it.ends_with("trying again")).count();
    assert_eq!(told, 3, "{:#?}", ended.lines);
}

/// A webhook that denies is no reason to speak of rights.
#[test]
fn what_a_policy_denies_later_is_told_in_its_words() {
    let denied = FaultKind::Status {
        code: 403,
        message: "admission webhook \"policy\" denied the request: no patches today",
        retry_after: None,
    };
    let mut world = world();
    world.faults.push(fault("patch daemonset", 1, 1, denied));
    let ended = run(&world.share(), &args("--max-nodes-at-once 1 q.io/a:1"));
    ended.expect(1, &["failed: ", "no patches today"]);
    assert!(!ended.says("withdrawn"), "{:#?}", ended.lines);
}

/// One that can not be deleted is no reason to leave the others.
#[test]
fn every_puller_is_cleaned_up_that_can_be() {
    let denied = FaultKind::Status {
        code: 403,
        message: "admission webhook \"policy\" denied the request: keep this one",
        retry_after: None,
    };
    let world = world().share();
    world.borrow_mut().faults.push(fault("delete daemonset", 0, 1, denied));
    let ended = attempt(&world, &args("--pods-per-node 3 q.io/a:1 q.io/b:1 q.io/c:1"));
    ended.expect(0, &["ready"]);
    assert!(ended.says("keep this one"), "{:#?}", ended.lines);
    let left: Vec<_> = world.borrow().sets.keys().cloned().collect();
    assert_eq!(left, ["demo-0f8fad5bd9-1"]);
    for name in ["demo-0f8fad5bd9-1", "demo-0f8fad5bd9-2", "demo-0f8fad5bd9-3"] {
        assert_eq!(
            is_said_to_be_left(name, &ended.lines),
            left.contains(&name.to_owned()),
            "{:#?}",
            ended.lines
        );
    }
}

/// Without any right that is not needed there are more notes than are shown.
#[test]
fn what_is_left_is_told_before_all_else() {
    let mut world = world();
    for request in ["list events", "list daemonsets", "get job", "delete daemonset"] {
        world.denied.insert(request.into());
    }
    let ended = attempt(&world.share(), &args("a:1 b:1 c:1"));
    ended.expect(0, &["ready"]);
    let first = ended.lines.iter().find(|it| it.starts_with("note: "));
    assert!(first.is_some_and(|it| it.contains(" may be left: ")), "{:#?}", ended.lines);
}

/// However many there are.
#[test]
fn every_puller_that_is_left_is_named() {
    let mut world = world();
    world.denied.insert("delete daemonset".into());
    let images: Vec<_> = (1..=9).map(|n| format!("q.io/{n}:1")).collect();
    let line = format!("--pods-per-node 9 {}", images.join(" "));
    let ended = attempt(&world.share(), &args(&line));
    ended.expect(0, &["ready"]);
    for group in 1..=9 {
        let name = format!("demo-0f8fad5bd9-{group}");
        assert!(is_said_to_be_left(&name, &ended.lines), "{:#?}", ended.lines);
    }
}

#[test]
fn a_right_to_create_that_comes_late_is_waited_for() {
    let mut world = pulling_for(5);
    let kind = answer(403, RBAC, None);
    world.faults.push(Fault { request: "create daemonset", skip: 0, times: 4, kind });
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    assert_eq!(world.borrow().count("create daemonset"), 5);
}

#[test]
fn only_a_right_that_is_missing_is_to_be_granted() {
    for (refusal, is_right) in [(RBAC, true)].into_iter().chain(REFUSALS.map(|it| (it, false))) {
        let mut world = pulling_for(5);
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

/// The gateway gave up on it, the API server did not, and the second try meets a quota.
#[test]
fn one_that_was_made_after_all_is_removed_after_a_refusal() {
    for refusal in REFUSALS {
        let mut world = pulling_for(5);
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

/// A token made moments ago may be as new to the API server as a binding.
#[test]
fn a_token_that_is_taken_late_is_waited_for() {
    let refused = |times| Fault {
        request: "list nodes",
        skip: 0,
        times,
        kind: FaultKind::Status { code: 401, message: "Unauthorized", retry_after: None },
    };
    for (times, exit) in [(5, 0), (50, 1)] {
        let mut world = world();
        world.faults.push(refused(times));
        let ended = run(&world.share(), &args("q.io/a:1"));
        assert_eq!(ended.exit, exit, "{:#?}", ended.lines);
        assert!(exit == 0 || ended.took < Duration::from_secs(7), "{:?}", ended.took);
    }
}

#[test]
fn rights_that_are_withdrawn_end_it_at_once() {
    for at in [3, 10, 17, 25] {
        let mut world = world();
        world.registry.insert("q.io/a:1".into(), Pull::after(60));
        world.at(at, Happening::WithdrawRights);
        let ended = run(&world.share(), &args("q.io/a:1"));
        ended.expect(1, &["withdrawn"]);
        assert!(ended.took < Duration::from_secs(at + 3), "{:?}", ended.took);
    }
}

#[test]
fn rights_that_were_withdrawn_are_asked_once_more() {
    let gpu = r#"{"images": ["q.io/a:1", {"image": "q.io/b:1", "tolerations": []}],
                  "puller": {"tolerations": [{"operator": "Exists"}]}}"#;
    for args in [args("q.io/a:1"), args_with("", gpu)] {
        let mut world = pulling_for(60);
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

fn away(from: u64, until: u64) -> Outage {
    let (from, until) = (Duration::from_secs(from), Duration::from_secs(until));
    Outage { from, until, kind: FaultKind::Transport }
}

/// A node that is dead may keep a run from its end for a while, but not from its beginning.
#[test]
fn others_are_pulled_for_while_nodes_may_be_for_want_of_news() {
    let mut world = nodes(3);
    world.nodes.get_mut("n3").expect("one of three").ready = false;
    world.registry.insert("q.io/a:1".into(), Pull::after(150));
    world.outages.push(away(0, 20));
    run(&world.share(), &args("q.io/a:1")).expect(0, &["ready: `q.io/a:1` on 2 nodes"]);
    // Nor is it left out before it is known to be dead.
    let mut world = nodes(3);
    world.nodes.get_mut("n3").expect("one of three").ready = false;
    world.outages.push(away(0, 20));
    world.at(60, Happening::SetReady("n3", true));
    run(&world.share(), &args("q.io/a:1")).expect(0, &["ready: `q.io/a:1` on 3 nodes"]);
}

/// Where there are percentages to be taken of all of them.
#[test]
fn nodes_that_have_not_reported_are_waited_for_first_where_they_are_counted() {
    for line in ["--max-nodes-at-once 50% q.io/a:1", "--allow-missing 20% q.io/a:1"] {
        let mut world = nodes(10);
        for name in ["n02", "n03", "n04", "n05", "n06", "n07", "n08", "n09"] {
            world.nodes.get_mut(name).expect("one of ten").ready = false;
            world.at(40, Happening::SetReady(name, true));
        }
        world.outages.push(away(0, 20));
        world.registry.insert("q.io/a:1".into(), Pull::after(50));
        if line.starts_with("--allow") {
            for name in ["n01", "n10"] {
                let fails = Pull::fails("manifest unknown");
                world.registry_at.insert((name.into(), "q.io/a:1".into()), fails);
            }
        }
        run(&world.share(), &args(line)).expect(0, &["ready"]);
    }
}

/// What a late node lacks is pulled while others may be for want of news.
#[test]
fn a_late_node_is_pulled_for_before_news_are_waited_for() {
    let mut world = nodes(3);
    world.nodes.get_mut("n3").expect("one of three").ready = false;
    world.registry.insert("q.io/a:1".into(), Pull::after(5));
    world.registry_at.insert(("n4".into(), "q.io/a:1".into()), Pull::after(100));
    world.outages.push(away(0, 20));
    world.at(25, Happening::Join(Box::new(ModelNode::new("n4"))));
    run(&world.share(), &args("--timeout 200s q.io/a:1")).expect(0, &["ready"]);
}

/// An API server that flaps gives nobody rights back.
#[test]
fn rights_that_are_withdrawn_end_it_soon_although_the_api_server_flaps() {
    let mut world = nodes(2);
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    world.at(20, Happening::WithdrawRights);
    for time in (20..270).step_by(4) {
        let from = Duration::from_secs(time);
        let until = from + Duration::from_millis(600);
        world.outages.push(Outage { from, until, kind: FaultKind::Transport });
    }
    let ended = attempt(&world.share(), &args("q.io/a:1"));
    ended.expect(1, &["withdrawn"]);
    assert!(ended.took < Duration::from_secs(40), "{:?}", ended.took);
}

/// Neither events that can not be had nor a webhook that is down nor a single request that times
/// out after 10 s say that the API server was away: a node that dies then is waited for no longer.
#[test]
fn a_node_that_dies_is_dropped_although_some_requests_fail() {
    let hangs = |seconds| FaultKind::Hang(Duration::from_secs(seconds));
    let message = "Internal error occurred: failed calling webhook \"v.example\": no endpoints";
    let webhook = FaultKind::Status { code: 500, message, retry_after: None };
    for (fault, dies_at) in [
        (fault("list events", 0, usize::MAX, hangs(30)), 15),
        (fault("get daemonset", 8, 1, hangs(10)), 15),
        (fault("create daemonset", 0, 8, webhook), 40),
    ] {
        let mut world = nodes(3);
        world.registry.insert("q.io/a:1".into(), Pull::after(20));
        world.registry_at.insert(("n3".into(), "q.io/a:1".into()), Pull::after(10_000));
        world.at(dies_at, Happening::SetReady("n3", false));
        world.faults.push(fault);
        let ended = attempt(&world.share(), &args("--timeout 140s q.io/a:1"));
        ended.expect(0, &["ready: `q.io/a:1` on 2 nodes"]);
    }
}

#[test]
fn a_webhook_that_is_down_is_what_to_mend() {
    let mut world = nodes(1);
    let message = "Internal error occurred: failed calling webhook \"v.example\": no endpoints";
    let kind = FaultKind::Status { code: 500, message, retry_after: None };
    world.faults.push(fault("create daemonset", 0, usize::MAX, kind));
    let ended = attempt(&world.share(), &args("q.io/a:1"));
    ended.expect(3, &["failed calling webhook", "mend the webhook, or let it pass over"]);
}

/// An API server that has just started knows nobody's rights for a moment.
#[test]
fn rights_that_are_missing_when_the_api_server_is_back_are_waited_for() {
    for (code, until, exit) in [(403, 33, 0), (401, 33, 0), (403, 1000, 1), (401, 1000, 1)] {
        let mut world = world();
        world.registry.insert("q.io/a:1".into(), Pull::after(60));
        let message = "User \"x\" cannot do this to resource \"any\"";
        world.outages.push(away(20, 30));
        let kind = FaultKind::Status { code, message, retry_after: None };
        world.outages.push(Outage { kind, ..away(30, until) });
        let ended = attempt(&world.share(), &args("q.io/a:1"));
        ended.expect(exit, &[if exit == 0 { "ready" } else { "withdrawn" }]);
        assert!(exit == 0 || ended.took < Duration::from_secs(45), "{:?}", ended.took);
    }
}

#[test]
fn a_namespace_that_does_not_exist_is_a_usage_error() {
    let mut world = world();
    world.namespace_exists = false;
    let ended = run(&world.share(), &args("--namespace nowhere q.io/a:1"));
    ended.expect(2, &["namespace `nowhere` does not exist", "create it"]);
}
