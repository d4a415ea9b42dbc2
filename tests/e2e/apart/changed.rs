//! Nodes that change while a run waits for them.

use std::time::Duration;

use serde_json::json;

use crate::binary::{lines, only_on};
use crate::cluster::{Change, cluster};
use crate::scenario::{Scenario, expect_line, verdict};
use crate::turn::ReservedNodes;

const POOL: &str = "prepull-e2e/pool";
const TAINT: &str = "prepull-e2e/changed";

/// The run looks at its targets again when nothing has moved for 30 s.
#[test]
fn a_node_that_ceases_to_be_eligible_is_not_waited_for() {
    let reserved = ReservedNodes::all();
    let scenario = Scenario::apart("ceases");
    let [cordoned, tainted, relabelled] = reserved.names();
    let image = scenario.unavailable_image("one");
    let [pool, other_pool] = ["mine", "other"].map(|it| format!("{POOL}={it}"));
    let (no_pool, taint, no_taint) =
        (format!("{POOL}-"), format!("{TAINT}=x:NoSchedule"), format!("{TAINT}-"));
    let _labels = [cordoned, tainted, relabelled]
        .map(|it| Change::make(&["label", "node", it, &pool], &["label", "node", it, &no_pool]));
    let settings = json!({"puller": {"nodeSelector": {POOL: "mine"}}});
    let run = scenario.start_prepull(&["run", &format!("--settings={settings}"), &image]);
    scenario.until_failed_pulls(&image, 3);

    let _cordon = Change::make(&["cordon", cordoned], &["uncordon", cordoned]);
    let _taint =
        Change::make(&["taint", "node", tainted, &taint], &["taint", "node", tainted, &no_taint]);
    cluster().kubectl(&["label", "node", relabelled, &other_pool, "--overwrite"]);

    let report = lines(&scenario.end(run).succeeded());
    expect_line(&report, &["no longer waiting for 3 nodes"]);
    for (node, why) in
        [(cordoned, "cordoned"), (tainted, TAINT), (relabelled, "node selector does not match")]
    {
        expect_line(&report, &["no longer waited for: ", &format!("{node} ("), why]);
    }
    scenario.until_only(&[], Duration::from_secs(30));
}

#[test]
fn a_node_that_becomes_eligible_is_pulled_for() {
    let reserved = ReservedNodes::two();
    let scenario = Scenario::apart("becomes");
    let [left_out, waited_for] = reserved.names();
    let image = scenario.slow_image("slow", 4);
    let (taint, no_taint) = (format!("{TAINT}=x:NoSchedule"), format!("{TAINT}-"));
    let cordon = Change::make(&["cordon", left_out], &["uncordon", left_out]);
    let taint =
        Change::make(&["taint", "node", left_out, &taint], &["taint", "node", left_out, &no_taint]);
    let run = scenario.start_prepull(&["run", &only_on(&[left_out, waited_for]), &image]);
    scenario.until_event("Pulling", &format!("\"{image}\""));

    drop((cordon, taint));

    let report = lines(&scenario.end(run).succeeded());
    cluster().expect_held(&[left_out, waited_for], &[&format!("docker.io/{image}")]);
    expect_line(&report, &["to pull on 1 of 1 node"]);
    expect_line(&report, &["joined meanwhile: ", left_out]);
    let verdict = verdict(&report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on 2 nodes after ")), "{verdict}");
    scenario.until_only(&[], Duration::from_secs(30));
}
