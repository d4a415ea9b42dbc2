//! Nodes that the release can not run on, from the beginning.

use std::time::Duration;

use serde_json::json;

use crate::audit::Mark;
use crate::cluster::{Change, cluster};
use crate::scenario::{Helm, Scenario, expect_line, verdict};

with_helm_3_and_4!(cordoned_and_tainted_nodes_are_left_out);

const TAINT: &str = "prepull-e2e/taint";

fn cordoned_and_tainted_nodes_are_left_out(helm: Helm) {
    let scenario = Scenario::alone("avoided", helm);
    let image = scenario.image("one");
    let [cordoned, tainted, free] = cluster().nodes.as_slice() else { panic!("there are three") };
    let taint = format!("{TAINT}=x:NoSchedule");
    let untaint = format!("{TAINT}-");
    let _cordoned = Change::make(&["cordon", cordoned], &["uncordon", cordoned]);
    let _tainted =
        Change::make(&["taint", "node", tainted, &taint], &["taint", "node", tainted, &untaint]);

    let mark = Mark::now();
    let installed = scenario.helm("install", json!({"images": [image]}), &["--timeout", "60s"]);

    let report = scenario.report(&installed.succeeded());
    expect_line(&report, &["left out 2 of 3 nodes", cordoned, TAINT, tainted]);
    let verdict = verdict(&report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on 1 node after ")), "{verdict}");
    assert_eq!(mark.nodes_of_pods(&scenario.ns), [free.as_str()]);
    cluster().expect_held(&[free], &[&format!("docker.io/{image}")]);
    scenario.until_only(&[], Duration::from_secs(30));
}
