//! Runs that are stopped or killed, after every single request they make.

use crate::bench::{Ended, args, args_with, nodes, run};
use crate::model::{Pull, World};

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
