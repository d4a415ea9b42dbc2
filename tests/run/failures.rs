//! Pulls that fail, stall or take too long.

use std::time::{Duration, SystemTime};

use crate::bench::{Ended, args, attempt, nodes, run, seconds};
use crate::model::{Admission, FaultKind, Happening, Outage, Pull, Shared, World, epoch};

const NOT_FOUND: &str = "rpc error: code = NotFound desc = failed to pull and unpack image \
                         \"q.io/bad:1\": failed to resolve image: q.io/bad:1: not found";
const TIMEOUT: &str = "rpc error: code = DeadlineExceeded desc = failed to do request: Head \
                       \"https://q.io/v2/\": dial tcp 10.0.0.9:443: i/o timeout";

/// From the first event of a failed pull to the end of the run.
fn after_the_first_failure(world: &Shared) -> Duration {
    let world = world.borrow();
    world.now - world.events.first().expect("a pull failed").at
}

/// Nine good images, each of which takes so long, and a bad one before or behind them.
fn ten_images(good_takes: u64, bad_place: usize) -> (World, String) {
    let mut world = nodes(3);
    let mut images: Vec<_> = (0..9).map(|it| format!("q.io/good{it}:1")).collect();
    for image in &images {
        world.registry.insert(image.clone(), Pull::after(good_takes));
    }
    images.insert(bad_place, "q.io/bad:1".into());
    world.registry.insert("q.io/bad:1".into(), Pull::fails(NOT_FOUND));
    (world, images.join(" "))
}

#[test]
fn a_bad_image_ends_it_soon_wherever_it_stands() {
    for (bad_place, good_takes) in [(0, 20), (9, 2), (4, 10)] {
        let (world, images) = ten_images(good_takes, bad_place);
        let world = world.share();
        let ended = run(&world, &args(&images));
        ended.expect(1, &["`q.io/bad:1`", "3 nodes (n1, n2, n3)", "not found", "check the image"]);
        let took = after_the_first_failure(&world);
        assert!(took <= seconds(12), "{took:?} with the bad image at {bad_place}");
    }
}

/// One image may fail for good on one node, and for now on many.
#[test]
fn the_verdict_names_what_failed_for_good() {
    let mut world = nodes(9);
    world.registry.insert("q.io/a:1".into(), Pull::fails(TIMEOUT));
    let platform = "no match for platform in manifest: not found";
    world.registry_at.insert(("n7".into(), "q.io/a:1".into()), Pull::fails(platform));
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(1, &["`q.io/a:1` on 1 node (n7)", "no match for platform", "; and 1 other"]);
}

#[test]
fn every_node_of_a_single_failure_is_named_where_that_is_asked_for() {
    let mut world = nodes(9);
    world.registry.insert("q.io/a:1".into(), Pull::fails(NOT_FOUND));
    for (line, is_named) in [("q.io/a:1", false), ("-v q.io/a:1", true)] {
        let ended = run(&world.clone().share(), &args(line));
        ended.expect(1, &["on 9 nodes (n1, n2, n3, n4, n5 and 4 more)"]);
        assert_eq!(ended.says("(n1, n2, n3, n4, n5, n6, n7, n8, n9)"), is_named);
    }
}

/// However many images there are, and however many of them fail.
#[test]
fn a_report_has_few_lines_of_a_kind() {
    let mut world = nodes(3);
    let images: Vec<_> = (0..30).map(|it| format!("q.io/bad{it}:1")).collect();
    for image in &images {
        world.registry.insert(image.clone(), Pull::fails(TIMEOUT));
    }
    let ended = run(&world.share(), &args(&images.join(" ")));
    ended.expect(3, &["i/o timeout"]);
    for (start, n_shown, rest) in
        [("q.io/bad", 9, "and 21 more images"), ("cannot pull ", 6, "and 24 more failures")]
    {
        let n_lines = ended.lines.iter().filter(|it| it.starts_with(start)).count();
        assert_eq!(n_lines, n_shown, "{:#?}", ended.lines);
        assert!(ended.lines.iter().any(|it| it == rest), "{:#?}", ended.lines);
    }
}

#[test]
fn one_node_alone_has_two_tries() {
    let mut world = nodes(3);
    let at = ("n2".to_owned(), "q.io/bad:1".to_owned());
    world.registry_at.insert(at, Pull::fails(NOT_FOUND));
    let world = world.share();
    let ended = run(&world, &args("q.io/bad:1 q.io/a:1"));
    ended.expect(1, &["`q.io/bad:1` on 1 node (n2)", "not found"]);
    assert_eq!(ended.report["failures"][0]["nodes"], serde_json::json!(["n2"]));
    let took = after_the_first_failure(&world);
    assert!(took > seconds(10) && took <= seconds(40), "{took:?}");
    assert_eq!(world.borrow().events[0].event.count, 2);
}

#[test]
fn two_nodes_that_fail_once_are_not_certain_yet() {
    let mut world = nodes(3);
    for node in ["n1", "n2"] {
        let at = (node.to_owned(), "q.io/bad:1".to_owned());
        world.registry_at.insert(at, Pull::fails(NOT_FOUND));
    }
    let world = world.share();
    run(&world, &args("q.io/bad:1")).expect(1, &["2 nodes (n1, n2)"]);
    assert!(after_the_first_failure(&world) > seconds(10));
}

#[test]
fn what_passes_by_itself_is_waited_for() {
    for message in [TIMEOUT, "429 Too Many Requests", "something nobody has seen before"] {
        let mut world = nodes(3);
        world.registry.insert("q.io/a:1".into(), Pull::fails(message));
        world.at(60, Happening::Registry("q.io/a:1", Pull::after(2)));
        let world = world.share();
        run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
        assert!(world.borrow().events[0].event.count >= 3);
    }
}

/// A registry's replica or its rights may lag behind for a moment.
#[test]
fn one_permanent_failure_that_heals_is_none() {
    let mut world = nodes(2);
    world.registry.insert("q.io/a:1".into(), Pull::fails(NOT_FOUND));
    world.at(9, Happening::Registry("q.io/a:1", Pull::after(2)));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(0, &["ready"]);
    assert_eq!(world.borrow().events[0].event.count, 1);
}

#[test]
fn our_own_image_may_be_the_bad_one() {
    let mut world = nodes(3);
    world.registry.insert("q.io/prepull:1".into(), Pull::fails(NOT_FOUND));
    let world = world.share();
    run(&world, &args("q.io/a:1")).expect(1, &["`q.io/prepull:1`", "3 nodes", "not found"]);
    assert!(after_the_first_failure(&world) <= seconds(12));
}

/// A disk that is full fails pulls, and gets its node a taint.
#[test]
fn a_pull_that_fails_where_nobody_waits_any_more_fails_nothing() {
    for happening in
        [Happening::Taint("n2", "node.kubernetes.io/disk-pressure"), Happening::Remove("n2")]
    {
        let mut world = nodes(3);
        let full = Pull::fails("write /var/lib/x: no space left on device");
        world.registry_at.insert(("n2".into(), "q.io/a:1".into()), full);
        // Before its second attempt, and before it is looked at again for other reasons.
        world.at(10, happening);
        let ended = run(&world.share(), &args("q.io/a:1"));
        ended.expect(0, &["ready: `q.io/a:1` on 2 nodes"]);
        assert!(ended.report["nodes"]["dropped"]["n2"].is_string(), "{:#}", ended.report);
    }
}

fn slow(takes: u64) -> World {
    let mut world = nodes(3);
    world.registry.insert("q.io/slow:1".into(), Pull::after(takes));
    world
}

fn ends_after(ended: &Ended, expected: u64) {
    let took = ended.took;
    assert!(took >= seconds(expected) && took <= seconds(expected + 2), "{took:?}");
}

#[test]
fn a_slow_pull_ends_at_the_deadline_and_says_how_to_go_on() {
    let ended = run(&slow(1000).share(), &args("q.io/slow:1"));
    ended.expect(3, &["time ran out", "`q.io/slow:1`", "n1, n2, n3", "a rerun goes on", "helm"]);
    ends_after(&ended, 270);
}

/// Whatever a run ends for, what is known of its pulls is told.
#[test]
fn failed_pulls_are_told_however_a_run_ends() {
    let why = "cannot pull `q.io/a:1` on 3 nodes (n1, n2, n3): dial tcp 10.0.0.9:443: i/o timeout";
    let failing = || {
        let mut world = nodes(3);
        let away = Pull::fails("dial tcp 10.0.0.9:443: i/o timeout");
        world.registry.insert("q.io/a:1".into(), away);
        world
    };
    let mut stopped = failing();
    stopped.at(60, Happening::Signal);
    let mut withdrawn = failing();
    withdrawn.at(60, Happening::WithdrawRights);
    let mut away = failing();
    let (from, until) = (seconds(60), seconds(1000));
    away.outages.push(Outage { from, until, kind: FaultKind::Transport });
    for (world, exit, verdict) in
        [(stopped, 143, "stopped"), (withdrawn, 1, "withdrawn"), (away, 3, "connection refused")]
    {
        let ended = attempt(&world.share(), &args("q.io/a:1"));
        ended.expect(exit, &[verdict]);
        assert!(ended.says(why), "{:#?}", ended.lines);
        assert_eq!(ended.report["failures"][0]["nodes"].as_array().map(Vec::len), Some(3));
    }
}

/// Numbers that do not change say nothing of what is pulled meanwhile.
#[test]
fn pods_are_looked_at_every_ten_seconds() {
    let world = slow(200).share();
    run(&world, &args("q.io/slow:1")).expect(0, &["ready"]);
    let world = world.borrow();
    let looks = world.requests.iter().filter(|it| it.request == "list pods");
    let looks: Vec<_> = looks.map(|it| it.at).collect();
    assert!(looks.len() > 15, "{looks:?}");
    for pair in looks.windows(2) {
        // At the next poll, and the requests between them take their time.
        assert!(pair[1] - pair[0] < seconds(13), "{looks:?}");
    }
}

#[test]
fn the_deadline_counts_from_the_start_of_the_job() {
    let start = |before: u64| -> SystemTime { epoch() - seconds(before) };
    for (before, timeout, expected) in [(100, "270s", 170), (0, "60s", 60), (500, "270s", 0)] {
        let mut world = slow(1000);
        world.jobs.insert("demo-prepull".into(), start(before));
        let ended = run(&world.share(), &args(&format!("--timeout {timeout} q.io/slow:1")));
        ended.expect(3, &["time ran out"]);
        ends_after(&ended, expected);
    }
}

/// Everything arrived, but the DaemonSet's numbers did not say so yet.
#[test]
fn a_last_look_at_the_deadline_finds_what_is_there() {
    let mut world = slow(52);
    world.admission.push(Admission::Sidecar("istio-proxy"));
    // 4 s for the pod and our own image, 52 s for this one: with a container that is never ready
    // the numbers do not call for a look, and the last regular one is at 50 s or so.
    run(&world.share(), &args("--timeout 58s q.io/slow:1")).expect(0, &["ready"]);
}

#[test]
fn the_policy_ignore_reports_and_exits_0() {
    let (world, images) = ten_images(1, 0);
    let ended = run(&world.share(), &args(&format!("--failure-policy Ignore {images}")));
    ended.expect(0, &["failed: ", "`q.io/bad:1`", "not found", "`Ignore`"]);
    let ended = run(&slow(1000).share(), &args("--failure-policy Ignore q.io/slow:1"));
    ended.expect(0, &["failed: time ran out", "`Ignore`"]);
}

/// Wrong usage is nobody's bad luck, and who stops a run knows of it.
#[test]
fn the_policy_ignore_is_about_failures_alone() {
    let args = args("--failure-policy Ignore q.io/slow:1");
    let mut world = slow(1000);
    world.at(20, Happening::Signal);
    run(&world.share(), &args).expect(143, &["stopped"]);
    let mut world = slow(1000);
    world.namespace_exists = false;
    run(&world.share(), &args).expect(2, &["does not exist"]);
}

#[test]
fn a_container_that_does_not_start_has_its_image() {
    for reason in [
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "PostStartHookError",
        "RunContainerError",
    ] {
        let mut world = nodes(3);
        let pull = Pull { waits_with: Some(reason), ..Pull::after(3) };
        world.registry.insert("q.io/a:1".into(), pull);
        let ended = run(&world.share(), &args("q.io/a:1 q.io/b:1"));
        ended.expect(0, &["ready"]);
        assert!(ended.took < seconds(30), "{:?}", ended.took);
    }
}

/// The kubelet writes `ContainerStatusUnknown` over containers that never started.
#[test]
fn a_pod_that_was_evicted_mid_pull_proves_nothing() {
    let mut world = slow(40);
    world.at(10, Happening::Evict("n2"));
    let world = world.share();
    let ended = run(&world, &args("q.io/slow:1"));
    ended.expect(0, &["ready"]);
    // The second pod had to pull from the start.
    assert!(ended.took > seconds(10 + 15 + 40), "{:?}", ended.took);
}

#[test]
fn nothing_that_others_write_breaks_a_line() {
    let (mut world, images) = ten_images(1, 0);
    world.registry.insert("q.io/bad:1".into(), Pull::fails("first\r\nsecond: manifest unknown"));
    run(&world.share(), &args(&images)).expect(1, &["first second: manifest unknown"]);
}

#[test]
fn no_control_character_comes_out() {
    let (mut world, images) = ten_images(1, 0);
    world
        .registry
        .insert("q.io/bad:1".into(), Pull::fails("\u{1b}[31m\ta\u{7}\u{9b}b: name unknown"));
    let ended = run(&world.share(), &args(&images));
    ended.expect(1, &["[31m a b: name unknown"]);
    assert!(ended.lines.iter().all(|it| !it.contains(char::is_control)), "{:?}", ended.lines);
}

/// What ended the run comes first, however many nodes wait for something else.
#[test]
fn the_verdict_names_the_certain_failure() {
    let mut world = nodes(3);
    let at = ("n2".to_owned(), "q.io/bad:1".to_owned());
    world.registry_at.insert(at, Pull::fails(NOT_FOUND));
    world.registry.insert("q.io/away:1".into(), Pull::fails(TIMEOUT));
    let ended = run(&world.share(), &args("q.io/away:1 q.io/bad:1"));
    ended.expect(1, &["failed: cannot pull `q.io/bad:1` on 1 node (n2)"]);
    assert_eq!(ended.report["failures"][1]["image"], "q.io/away:1");
}
