//! One node has the images, the others have not.

use serde_json::json;

use crate::audit::Mark;
use crate::cluster::cluster;
use crate::scenario::{Helm, Scenario, expect_line};

with_helm_3_and_4!(pods_go_only_where_something_is_missing);

fn pods_go_only_where_something_is_missing(helm: Helm) {
    let scenario = Scenario::new("partly", helm);
    let images = [scenario.image("one"), scenario.image("two")];
    let [having, others @ ..] = cluster().nodes.as_slice() else { panic!("there are nodes") };
    let names = images.each_ref().map(|it| format!("docker.io/{it}"));
    cluster().pull(having, &names.each_ref().map(String::as_str));
    cluster().until_listed(&[having], &names);

    let mark = Mark::now();
    let installed = scenario.helm("install", json!({"images": images}), &[]).succeeded();

    assert_eq!(mark.nodes_of_pods(&scenario.ns), others, "{having} had everything");
    let report = scenario.report(&installed);
    expect_line(&report, &["2 of 3 nodes", "pull"]);
    for image in &images {
        expect_line(&report, &[image, ": already on 1 node, pulled on 2"]);
    }
}
