//! A namespace that allows nothing but restricted pods.

use serde_json::json;

use crate::cluster::cluster;
use crate::scenario::{Helm, Scenario, verdict};

with_helm_3_and_4!(a_restricted_namespace_needs_no_settings);

fn a_restricted_namespace_needs_no_settings(helm: Helm) {
    let scenario = Scenario::new("restricted", helm);
    for mode in ["enforce", "warn"] {
        let label = format!("pod-security.kubernetes.io/{mode}=restricted");
        cluster().kubectl(&["label", "namespace", &scenario.ns, &label]);
    }
    let image = scenario.image("one");

    let installed = scenario.helm("install", json!({"images": [image]}), &[]).succeeded();

    let report = scenario.report(&installed);
    let verdict = verdict(&report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on 3 nodes")), "{verdict}");
    // Of helm and of ours: the API server warns of pods that it would refuse, too.
    let said = installed.said();
    let is_warning = |it: &&str| it.to_lowercase().contains("warn") || it.contains("PodSecurity");
    let warnings: Vec<_> = said.lines().filter(is_warning).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}
