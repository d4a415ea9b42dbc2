//! An install on nodes that have none of the images.

use std::time::Duration;

use serde_json::json;

use crate::audit::Mark;
use crate::cluster::cluster;
use crate::scenario::{Helm, Scenario, expect_line, verdict};

with_helm_3_and_4!(every_node_has_every_image_when_helm_returns);

fn every_node_has_every_image_when_helm_returns(helm: Helm) {
    let scenario = Scenario::new("cold", helm);
    let images = [scenario.image("one"), scenario.image("two"), scenario.slow_image("three", 2)];
    let mark = Mark::now();

    let installed = scenario.helm("install", json!({"images": images}), &[]);

    let names = images.each_ref().map(|it| format!("docker.io/{it}"));
    let names = names.each_ref().map(String::as_str);
    cluster().expect_held(&cluster().all_nodes(), &names);
    let mut objects = scenario.objects();
    objects.retain(|it| !it.starts_with("pod/"));
    assert!(objects.is_empty(), "left when helm returned: {objects:?}");
    // The cluster would have removed the puller as well, a moment after its Job.
    let requests = mark.requests_from(&scenario.ns);
    let deleted = ("delete".into(), "daemonsets".into(), 200);
    assert!(requests.contains(&deleted), "the run has left its puller to others: {requests:?}");

    let installed = installed.succeeded();
    let report = scenario.report(&installed);
    expect_line(&report, &["3 of 3 nodes", "pull"]);
    for image in &images {
        expect_line(&report, &[image, ": pulled on 3"]);
    }
    let verdict = verdict(&report);
    assert!(verdict.starts_with("ready: 3 images on 3 nodes after "), "{verdict}");

    scenario.until_only(&[], Duration::from_secs(30));
    scenario.uninstall().succeeded();
    assert!(scenario.objects().is_empty(), "left by uninstall: {:?}", scenario.objects());
    assert!(scenario.names(&["secrets"]).is_empty(), "helm still knows the release");
}
