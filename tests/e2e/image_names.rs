//! Images that have more than one name.

use std::collections::BTreeSet;

use crate::binary::{lines, only_on};
use crate::cluster::{LISTING, cluster, items_of, text};
use crate::command::until;
use crate::scenario::{Scenario, expect_line};

/// `MaxNamesPerImageInNodeStatus`; ctr, unlike the kubelet, gives an image no name by its digest.
const MOST_NAMES: usize = 5;

#[test]
fn names_that_a_list_leaves_out_are_unknown_and_a_run_proves_them() {
    let scenario = Scenario::without_helm("six-names");
    let node = cluster().nodes[0].as_str();
    let first = scenario.image("one");
    let tags: Vec<_> = (1..=6).map(|it| first.replace(":1", &format!(":{it}"))).collect();
    tags[1..].iter().for_each(|it| _ = cluster().hack(&["tag", &first, it]));
    let names: Vec<_> = tags.iter().map(|it| format!("docker.io/{it}")).collect();
    cluster().pull(node, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let listed = until(&format!("{MOST_NAMES} names in the list"), LISTING, || {
        let found = cluster().get(&["node", node]);
        let images = items_of(&found["status"]["images"]);
        let entry = images.iter().find(|it| it.to_string().contains(&scenario.ns));
        let listed: BTreeSet<_> = entry
            .iter()
            .flat_map(|it| items_of(&it["names"]))
            .map(|it| text(it).to_owned())
            .collect();
        if listed.len() == MOST_NAMES { Ok(listed) } else { Err(format!("{listed:?}")) }
    });
    let is_listed = |tag: &&String| listed.contains(&format!("docker.io/{tag}"));
    let (listed, cut): (Vec<&String>, Vec<&String>) = tags.iter().partition(is_listed);
    assert_eq!((listed.len(), cut.len()), (MOST_NAMES, 1), "{listed:?}");
    let only_there = only_on(&[node]);

    let looked = lines(&scenario.prepull(&["check", &only_there, listed[0], cut[0]]).failed());
    expect_line(&looked, &[listed[0], ": already on 1 node"]);
    expect_line(&looked, &[cut[0], ": unknown on 1 node"]);

    let report = lines(&scenario.prepull(&["run", &only_there, cut[0]]).succeeded());
    expect_line(&report, &[&format!("ready: `{}` on 1 node after ", cut[0])]);
}

/// To the kubelet an image is there when its name is: content alone is not enough for it.
#[test]
fn another_name_of_content_that_is_there_is_pulled() {
    let scenario = Scenario::without_helm("two-names");
    let node = cluster().nodes[1].as_str();
    let first = scenario.image("one");
    let second = format!("quay.io/{}/other:1", scenario.ns);
    cluster().hack(&["tag", &first, &second]);
    cluster().pull(node, &[&format!("docker.io/{first}")]);
    assert!(!cluster().images_on(node).contains(&second), "{node} knows {second} already");

    let report = lines(&scenario.prepull(&["run", &only_on(&[node]), &second]).succeeded());

    expect_line(&report, &[&second, ": pulled on 1 node"]);
    cluster().expect_held(&[node], &[&second]);
}

/// `x`, `docker.io/library/x` and `index.docker.io/x` are one image.
#[test]
fn every_spelling_of_a_name_is_the_same_image() {
    let scenario = Scenario::without_helm("spellings");
    let short = format!("{}-app:1", scenario.ns);
    scenario.push(&short, &[]);
    let full = format!("docker.io/library/{short}");
    let spellings = ["", "docker.io/", "index.docker.io/", "docker.io/library/"]
        .map(|it| format!("{it}{short}"));

    let with_spellings = |command| {
        let arguments = [command].into_iter().chain(spellings.iter().map(String::as_str));
        lines(&scenario.prepull(&arguments.collect::<Vec<_>>()).succeeded())
    };

    let report = with_spellings("run");
    for spelling in &spellings {
        expect_line_about(&report, spelling, ": pulled on 3 nodes");
    }
    cluster().expect_held(&cluster().all_nodes(), &[&full]);

    cluster().until_listed(&cluster().all_nodes(), &[full]);
    let looked = with_spellings("check");
    for spelling in &spellings {
        expect_line_about(&looked, spelling, ": already on 3 nodes");
    }
}

/// A short name is a part of the longer ones.
fn expect_line_about(report: &[String], image: &str, words: &str) {
    let is_it = |it: &&String| it.starts_with(image) && it.ends_with(words);
    assert!(report.iter().any(|it| is_it(&it)), "nothing about {image} in {report:#?}");
}
