//! What becomes of images under each pull policy.

use serde_json::json;

use crate::binary::{lines, only_on};
use crate::cluster::cluster;
use crate::scenario::{Scenario, expect_line, verdict};

#[test]
fn a_tag_that_has_moved_is_followed_under_the_policy_always_alone() {
    let scenario = Scenario::without_helm("moved");
    let image = format!("{}/one:1", scenario.ns);
    let old = scenario.push(&image, &["--seed", "old"]);
    scenario.prepull(&["run", &image]).succeeded();
    let new = scenario.push(&image, &["--seed", "new"]);
    assert_ne!(old, new);

    scenario.prepull(&["run", &image]).succeeded();
    expect_digest(&image, &old);

    let settings = json!({"images": [{"image": image, "pullPolicy": "Always"}]});
    let report = lines(&scenario.prepull(&["run", &format!("--settings={settings}")]).succeeded());
    expect_digest(&image, &new);
    expect_line(&report, &[&image, &new[..19], ": pulled on 3 nodes"]);
}

#[test]
fn nodes_that_hold_different_images_under_one_tag_are_told_apart() {
    let scenario = Scenario::without_helm("apart");
    let image = format!("{}/one:1", scenario.ns);
    let old = scenario.push(&image, &["--seed", "old"]);
    let [first, ..] = cluster().nodes.as_slice() else { panic!("there are nodes") };
    scenario.prepull(&["run", &only_on(&[first]), &image]).succeeded();
    let new = scenario.push(&image, &["--seed", "new"]);

    let report = lines(&scenario.prepull(&["run", &image]).succeeded());

    let words =
        ["note: nodes hold different images under the name", &image, &old[..19], &new[..19]];
    expect_line(&report, &words);
}

fn expect_digest(image: &str, digest: &str) {
    let name = format!("docker.io/{image}");
    for node in &cluster().nodes {
        assert_eq!(cluster().digest_on(node, &name).as_deref(), Some(digest), "{name} on {node}");
    }
}

#[test]
fn an_image_that_may_not_be_pulled_has_to_be_there() {
    let scenario = Scenario::without_helm("never");
    let image = scenario.image("one");
    let settings = json!({"images": [{"image": image, "pullPolicy": "Never"}]});
    let settings = format!("--settings={settings}");

    let report = lines(&scenario.prepull(&["run", &settings]).failed());
    let words = ["cannot pull", &image, "3 nodes", "pull policy"];
    assert!(words.iter().all(|it| verdict(&report).contains(it)), "{report:?}");
    let asked = cluster().read("PREPULL_CLUSTER_ACCESS");
    // The test itself has pushed it, from the address of the registry.
    let from_node =
        |it: &&str| it.contains(&format!("/{}/", scenario.ns)) && it.contains("ns=docker.io");
    let asked: Vec<_> = asked.lines().filter(from_node).collect();
    assert!(asked.is_empty(), "the registry was asked: {asked:?}");

    let name = format!("docker.io/{image}");
    cluster().nodes.iter().for_each(|it| cluster().pull(it, &[&name]));
    let report = lines(&scenario.prepull(&["run", &settings]).succeeded());
    expect_line(&report, &["ready: ", &image, "3 nodes"]);
}
