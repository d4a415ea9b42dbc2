//! An installer who may not give the hook any right on nodes.

use std::time::Duration;

use serde_json::json;

use crate::audit::Mark;
use crate::cluster::cluster;
use crate::scenario::{Helm, Scenario, expect_line, verdict};

with_helm_3_and_4!(the_images_come_and_the_report_says_what_it_can_not_know);

fn the_images_come_and_the_report_says_what_it_can_not_know(helm: Helm) {
    let scenario = Scenario::new("no-rights", helm);
    let image = scenario.image("one");
    let mark = Mark::now();
    let values = json!({"images": [image], "rbac": {"cluster": false}});

    let installed = scenario.helm("install", values, &[]).succeeded();

    cluster().expect_held(&cluster().all_nodes(), &[&format!("docker.io/{image}")]);
    let report = scenario.report(&installed);
    expect_line(&report, &["note: cannot list nodes", "which nodes it leaves out", "not known"]);
    let verdict = verdict(&report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on 3 nodes after ")), "{verdict}");
    let requests = mark.requests_from(&scenario.ns);
    let on_nodes: Vec<_> = requests.iter().filter(|it| it.1 == "nodes").collect();
    assert!(!on_nodes.is_empty() && on_nodes.iter().all(|it| it.2 == 403), "{on_nodes:?}");
    let not_granted: Vec<_> = requests.iter().filter(|it| it.2 == 403 && it.1 != "nodes").collect();
    assert!(not_granted.is_empty(), "rights that are missing: {not_granted:?}");
    scenario.until_only(&[], Duration::from_secs(30));
}
