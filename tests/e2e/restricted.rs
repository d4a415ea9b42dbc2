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
    // Of helm's, and of ours: the API server warns of pods that it would refuse, too.
    let said = installed.said();
    let warns = ["level=WARN", "violate", "PodSecurity"];
    let of_helm = said.lines().filter(|line| warns.iter().any(|it| line.contains(it)));
    let of_ours = report.iter().map(String::as_str).filter(|it| it.starts_with("warning"));
    let warnings: Vec<_> = of_helm.chain(of_ours).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}
