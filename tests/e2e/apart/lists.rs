//! A node with more images than its list has room for.

use crate::binary::{lines, only_on};
use crate::cluster::{LISTING, cluster, items_of};
use crate::command::until;
use crate::scenario::{Scenario, expect_line, verdict};
use crate::turn::ReservedNodes;

/// The room of a list (`nodeStatusMaxImages`), which the largest images get.
const LISTED: usize = 50;

#[test]
fn what_a_full_list_leaves_out_is_unknown_and_a_run_proves_it() {
    let reserved = ReservedNodes::one();
    let scenario = Scenario::apart("lists");
    let node = reserved.name();
    let large: Vec<_> = (0..LISTED).map(|it| scenario.image(&format!("large{it}"))).collect();
    let small = scenario.small_image("small");
    let missing = scenario.small_image("missing");
    let names: Vec<_> = large.iter().chain([&small]).map(|it| format!("docker.io/{it}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    cluster().pull(node, &names);
    until(&format!("a full list of {node}"), LISTING, || {
        let found = cluster().get(&["node", node]);
        let listed = items_of(&found["status"]["images"]);
        let n_large = listed.iter().filter(|it| it.to_string().contains(&scenario.ns)).count();
        assert!(!found.to_string().contains(&small), "{small} is listed");
        match listed.len() == LISTED && n_large > LISTED / 2 {
            true => Ok(()),
            false => Err(format!("{n_large} of {}", listed.len())),
        }
    });
    let only_there = only_on(&[node]);

    let looked = scenario.prepull(&["check", &only_there, &small, &missing]).failed();
    for image in [&small, &missing] {
        expect_line(&lines(&looked), &[&format!("{image}: unknown on 1 node")]);
    }
    let allowed = ["check", "--allow-unknown", &only_there, &small, &missing];
    scenario.prepull(&allowed).succeeded();

    let report = lines(&scenario.prepull(&["run", &only_there, &small, &missing]).succeeded());
    let verdict = verdict(&report);
    assert!(verdict.starts_with("ready: 2 images on 1 node after "), "{verdict}");
    let names = [&small, &missing].map(|it| format!("docker.io/{it}"));
    cluster().expect_held(&[node], &names.each_ref().map(String::as_str));
}
