//! A helm whose patience ends before ours.

use std::time::Duration;

use serde_json::json;

use crate::scenario::{Helm, Scenario};
use crate::turn::ReservedNodes;

with_helm_3_and_4!(nothing_stays_when_helm_gives_up);

const TTL: u64 = 5;
/// What the cluster may take to clean up by itself.
const REMOVAL: Duration = Duration::from_secs(60);

fn nothing_stays_when_helm_gives_up(helm: Helm) {
    let node = ReservedNodes::one();
    let scenario = Scenario::new("impatient", helm);
    let image = scenario.slow_image("slow", 12);
    let values = json!({
        "images": [image],
        "job": {"ttlSecondsAfterFinished": TTL},
        "puller": {"nodeSelector": {"kubernetes.io/hostname": node.name()}},
    });

    scenario.helm("install", values, &["--timeout", "8s"]).failed();

    // The rest, the Job included, is the cluster's work: helm takes only our rights away.
    assert!(!scenario.objects().is_empty(), "the Job had ended before helm gave up");
    scenario.until_only(&[], Duration::from_secs(TTL) + REMOVAL);
}
