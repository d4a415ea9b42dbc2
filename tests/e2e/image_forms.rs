//! Images of every kind, named in every way.

use std::fs;

use serde_json::json;

use crate::cluster::cluster;
use crate::scenario::{Helm, Scenario, expect_line};

with_helm_3_and_4!(every_form_of_an_image_is_pulled);

/// Images without a shell, with and without an entrypoint, by each form of a reference.
pub struct Forms {
    pub images: Vec<String>,
    /// As a node's containerd and kubelet know them, in the same order.
    pub names: Vec<String>,
}

impl Forms {
    pub fn push(scenario: &Scenario) -> Self {
        let ns = &scenario.ns;
        let binary = own_binary(scenario);
        let repositories = ["own-binary", "no-entrypoint", "digest", "both"];
        let [own_binary, no_entrypoint, digest, both] =
            repositories.map(|it| format!("quay.io/{ns}/{it}"));
        let short = format!("{ns}-app1");
        scenario.push(&format!("{own_binary}:1"), &["--binary", &binary]);
        scenario.push(&format!("{no_entrypoint}:1"), &[]);
        let digest = format!("{digest}@{}", scenario.push(&format!("{digest}:1"), &[]));
        let digest_of_both = scenario.push(&format!("{both}:1"), &[]);
        scenario.push(&format!("{short}:1"), &[]);
        Self {
            images: vec![
                format!("{own_binary}:1"),
                format!("{no_entrypoint}:1"),
                digest.clone(),
                format!("{both}:1@{digest_of_both}"),
                format!("{short}:1"),
            ],
            names: vec![
                format!("{own_binary}:1"),
                format!("{no_entrypoint}:1"),
                digest,
                // With a digest the tag does not count, and nodes do not keep it.
                format!("{both}@{digest_of_both}"),
                format!("docker.io/library/{short}:1"),
            ],
        }
    }
}

/// A program that no other image has, so that nothing but the test's images goes with them. What
/// stands behind the end of a program does not matter to it.
fn own_binary(scenario: &Scenario) -> String {
    let mut program = fs::read(cluster().variable("PREPULL_CLUSTER_PAUSE")).expect("it is there");
    program.extend(scenario.ns.as_bytes());
    let file = scenario.folder.join("app");
    fs::write(&file, program).expect("the folder is ours");
    file.to_string_lossy().into()
}

fn every_form_of_an_image_is_pulled(helm: Helm) {
    let scenario = Scenario::new("forms", helm);
    let forms = Forms::push(&scenario);

    let installed = scenario.helm("install", json!({"images": forms.images}), &[]);

    let names: Vec<_> = forms.names.iter().map(String::as_str).collect();
    cluster().expect_held(&cluster().all_nodes(), &names);
    let report = scenario.report(&installed.succeeded());
    for image in &forms.images {
        expect_line(&report, &[image, ": pulled on 3"]);
    }
}
