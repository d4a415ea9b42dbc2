//! However large the cluster and however much goes wrong in it, helm shows a log that can be read.

use std::time::Duration;

use prepull::node::Taint;

use crate::bench::{Ended, args, nodes, run};
use crate::model::{Happening, Pull, Stored, World};

const N_NODES: usize = 5000;
const N_IMAGES: usize = 10;
const MOST_LINES: usize = 40;

#[track_caller]
fn expect_few_lines(ended: &Ended) {
    assert!(ended.lines.len() <= MOST_LINES, "{} lines: {:#?}", ended.lines.len(), ended.lines);
}

/// Every node lacks another image than its neighbour.
fn world() -> World {
    let mut world = nodes(N_NODES);
    for (place, node) in world.nodes.values_mut().enumerate() {
        let there = (0..N_IMAGES).filter(|it| place % N_IMAGES != *it);
        node.images.extend(there.map(|it| Stored::new(&image(it), Duration::ZERO)));
        match place % 100 {
            // As many reasons to be left out as there are such nodes.
            0 => {
                let (key, effect) = (format!("key-{place}"), "NoSchedule".into());
                node.taints.push(Taint { key, value: String::new(), effect });
            }
            1 => node.cordoned = true,
            2 => node.ready = false,
            _ => {}
        }
    }
    world
}

fn image(place: usize) -> String {
    format!("q.io/team-{place}/app:1")
}

fn line(options: &str) -> String {
    (0..N_IMAGES).fold(options.to_owned(), |line, it| format!("{line} {}", image(it)))
}

#[test]
fn a_check_of_many_nodes() {
    let ended = run(&world().share(), &args(&line("check")));
    ended.expect(1, &["10 of 10 images"]);
    expect_few_lines(&ended);
}

/// What the runtime says differs from node to node as well.
#[test]
fn many_images_that_fail_on_many_nodes() {
    let mut world = world();
    for (place, node) in world.nodes.keys().enumerate() {
        let (name, image) = (node.clone(), image(place % N_IMAGES));
        let fails = Pull::fails(&format!("failed to resolve image for {name}: not found"));
        world.registry_at.insert((name, image), fails);
    }
    let ended = run(&world.share(), &args(&line("")));
    ended.expect(1, &["not found"]);
    expect_few_lines(&ended);
}

/// Nodes are lost and join meanwhile.
#[test]
fn a_deadline_with_many_nodes_that_wait() {
    let mut world = world();
    for place in 0..N_IMAGES {
        world.registry.insert(image(place), Pull::after(10_000));
    }
    for (at, node) in [(10, "n0011"), (20, "n0022"), (60, "n0033"), (100, "n0044"), (140, "n0055")]
    {
        world.at(at, Happening::Cordon(node)).at(at + 5, Happening::Remove(node));
    }
    let ended = run(&world.share(), &args(&line("")));
    ended.expect(3, &["time ran out"]);
    expect_few_lines(&ended);
}

/// Every kind of line that a log may have, and more of each than are shown.
#[test]
fn everything_at_once() {
    let n_images = 30;
    let mut world = nodes(60);
    for (place, node) in world.nodes.values_mut().enumerate() {
        match place {
            0..12 => {
                let (key, effect) = (format!("key-{place}"), "NoSchedule".into());
                node.taints.push(Taint { key, value: String::new(), effect });
            }
            12..24 => node.has_room = false,
            _ => {}
        }
    }
    world.admission.push(crate::model::Admission::RewritePods("q.io/", "mirror.io/"));
    for place in 0..n_images {
        let fails = Pull { takes: Duration::from_secs(400), ..Pull::fails("not found") };
        world.registry.insert(image(place).replace("q.io", "mirror.io"), fails);
    }
    for (at, node) in [(40, "n30"), (80, "n31"), (120, "n32"), (160, "n33"), (200, "n34")] {
        world.at(at, Happening::Cordon(node));
    }
    let line =
        (0..n_images).fold("--timeout 4h".to_owned(), |line, it| format!("{line} {}", image(it)));
    let ended = run(&world.share(), &args(&line));
    ended.expect(3, &["not found"]);
    expect_few_lines(&ended);
}
