//! Runs that are stopped or killed, after every single request they make.

use std::time::Duration;

use prepull::puller::OwnerReference;

use crate::bench::{Ended, args, args_with, attempt, nodes, of_an_earlier_try, run};
use crate::model::{Fault, FaultKind, Pull, World, epoch};

/// Two groups, so that a stop may come in between them.
fn settings() -> &'static str {
    r#"{"images": ["q.io/a:1", {"image": "q.io/b:1", "nodeSelector": {"pool": "gpu"}}]}"#
}

fn world() -> World {
    let mut world = nodes(3);
    world.nodes.get_mut("n2").expect("one of three").labels.insert("pool".into(), "gpu".into());
    world.registry.insert("q.io/a:1".into(), Pull::after(3));
    world
}

/// Requests of a run that nothing disturbs.
fn n_requests() -> usize {
    let world = world().share();
    run(&world, &args_with("", settings())).expect(0, &["ready"]);
    world.borrow().n_asked
}

#[test]
fn a_signal_after_any_request_leaves_nothing() {
    let n = n_requests();
    assert!(n > 15);
    let mut n_stopped = 0;
    for k in 1..=n {
        let mut world = world();
        world.signal_after = Some(k);
        let ended = run(&world.share(), &args_with("", settings()));
        match ended.exit {
            143 => n_stopped += 1,
            // From the closing look on it is at its end, and the two pullers are cleaned up.
            0 => assert!(k + 2 >= n, "exit 0 after request {k} of {n}"),
            other => panic!("exit {other} after request {k}: {:#?}", ended.lines),
        }
    }
    assert_eq!(n_stopped, n - 3);
}

#[test]
fn a_signal_during_a_wait_ends_it_at_once() {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(100));
    world.at(31, crate::model::Happening::Signal);
    let ended = run(&world.share(), &args("q.io/a:1"));
    ended.expect(143, &["stopped by a signal"]);
    assert!(ended.took.as_millis() < 31_500, "{:?}", ended.took);
}

fn killed_then_again(k: usize, listing_seconds: u64, between: u64) -> (World, Ended) {
    let mut world = world();
    world.pace.listing = std::time::Duration::from_secs(listing_seconds);
    world.kill_after = Some(k);
    let world = world.share();
    assert!(run(&world, &args_with("", settings())).is_killed);
    world.borrow_mut().kill_after = None;
    world.borrow_mut().advance(std::time::Duration::from_secs(between));
    let ended = run(&world, &args_with("", settings()));
    let world = world.borrow().clone();
    (world, ended)
}

#[test]
fn a_second_try_ends_what_a_killed_one_began() {
    for k in 1..=n_requests() {
        let (_, ended) = killed_then_again(k, 40, 3);
        ended.expect(0, &["ready"]);
    }
}

/// The first try pulled everything, and the nodes list it by the time of the second one, which
/// costs one look as ever: what the first try made goes with the Job.
#[test]
fn a_second_try_may_have_nothing_to_do() {
    let mut n_idle = 0;
    for k in 1..=n_requests() {
        let (world, ended) = killed_then_again(k, 0, 10);
        ended.expect(0, &["ready"]);
        n_idle += usize::from(world.n_asked == 1);
    }
    assert!(n_idle > 5);
}

/// A second try that is stopped removes the puller of the first, too, if it knows of it.
#[test]
fn a_stopped_second_try_leaves_nothing_that_it_knows_of() {
    let n = n_requests();
    for k in 1..=n {
        let mut world = world();
        world.kill_after = Some(n / 2);
        let world = world.share();
        assert!(run(&world, &args_with("", settings())).is_killed);
        world.borrow_mut().kill_after = None;
        world.borrow_mut().signal_after = Some(k);
        run(&world, &args_with("", settings()));
    }
}

/// Nobody deletes the owner for its success where that is no Job.
#[test]
fn a_pod_that_starts_again_removes_what_it_made_before() {
    let mut args = args("q.io/a:1");
    args.config.owner = Some(OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: "by-hand".into(),
        uid: args.config.id.clone(),
    });
    let mut world = nodes(2);
    world.pace.listing = Duration::ZERO;
    world.kill_after = Some(8);
    let world = world.share();
    assert!(run(&world, &args).is_killed);
    assert_eq!(world.borrow().sets.len(), 1);
    world.borrow_mut().kill_after = None;
    world.borrow_mut().advance(Duration::from_secs(20));
    attempt(&world, &args).expect(0, &["had `q.io/a:1` already"]);
    assert!(world.borrow().sets.is_empty());
}

/// It has no time to look for what it may have made, and removes it all the same.
#[test]
fn a_second_try_after_the_deadline_removes_what_the_first_one_made() {
    let mut world = nodes(2);
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    world.kill_after = Some(20);
    let world = world.share();
    assert!(run(&world, &args("q.io/a:1")).is_killed);
    assert_eq!(world.borrow().sets.len(), 1);
    world.borrow_mut().kill_after = None;
    let now = world.borrow().now;
    world.borrow_mut().advance(Duration::from_secs(275) - now);
    let ended = attempt(&world, &args("q.io/a:1"));
    ended.expect(3, &["2 nodes (n1, n2) yet: its turn has not come"]);
    assert!(world.borrow().sets.is_empty());
}

/// Where nothing may be read, nothing is known to be left.
#[test]
fn what_an_earlier_try_may_have_made_is_not_told_to_be_left() {
    let mut world = nodes(2);
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    world.denied.insert("get daemonset".into());
    world.jobs.insert("demo-prepull".into(), epoch() - Duration::from_secs(500));
    let ended = attempt(&world.share(), &args("q.io/a:1"));
    ended.expect(3, &["time ran out"]);
    assert!(!ended.says("may be left"), "{:#?}", ended.lines);
}

/// The page behind it can not be had.
#[test]
fn what_was_seen_of_an_earlier_try_is_told_to_be_left() {
    let mut world = nodes(2);
    world.page = 1;
    world.plant(of_an_earlier_try());
    let mut of_another = of_an_earlier_try();
    of_another["metadata"]["name"] = "demo-other-1".into();
    of_another["metadata"]["labels"]["prepull.dev/run"] = "other".into();
    world.plant(of_another);
    for request in ["list daemonsets continue", "get daemonset"] {
        let kind = FaultKind::Unusable;
        world.faults.push(Fault { request, skip: 0, times: usize::MAX, kind });
    }
    let ended = attempt(&world.share(), &args("q.io/a:1"));
    assert!(ended.says("`demo-0f8fad5bd9-1` may be left"), "{:#?}", ended.lines);
}
