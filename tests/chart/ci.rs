//! Every file of `chart/ci` shows one switch, and each is rendered here.

use std::fs;

use serde_json::{Value, json};

use crate::helm::{HELMS, Release, Rendered, root};
use crate::rules;

/// A file of `chart/ci` without its ending, and what it must show.
type File = (&'static str, fn(&Rendered));

const FILES: [File; 11] = [
    ("existing-rights", |rendered| {
        assert_eq!(rendered.objects.len(), 1);
        assert_eq!(pod(rendered)["serviceAccountName"], "pre-puller");
    }),
    ("images", |rendered| {
        let images = rendered.settings()["images"].clone();
        let names: Vec<_> = images.as_array().expect("is a list").iter().map(name).collect();
        let digest = format!("app@sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(
            names,
            [
                "registry.example:5000/team/app:1",
                "demo/web:2",
                "many:1",
                "many:2",
                &digest,
                "apps/gpu:1",
            ]
        );
        assert_eq!(images[5]["tolerations"][0]["key"], "nvidia.com/gpu");
    }),
    ("lenient", |rendered| {
        assert!(rendered.arguments().contains(&"--failure-policy=Ignore".into()));
        let job = rendered.only("Job");
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 10_000_020);
        assert_eq!(job["spec"]["ttlSecondsAfterFinished"], Value::Null);
    }),
    ("names", |rendered| {
        let name = rendered.only("Job")["metadata"]["name"].as_str().expect("a name is text");
        assert!(name.starts_with("images-of-the-release-on-every-"), "`{name}`");
    }),
    ("no-cluster-rights", |rendered| {
        assert!(rendered.find("ClusterRole").is_none());
        assert!(rendered.find("Role").is_some());
    }),
    ("off", |rendered| assert!(rendered.objects.is_empty())),
    ("private-registry", |rendered| {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let container = &pod(rendered)["containers"][0];
        assert_eq!(container["image"], format!("registry.example/prepull:1.10@{digest}"));
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(pod(rendered)["imagePullSecrets"], json!([{"name": "demo-registry"}]));
    }),
    ("security", |rendered| {
        let puller = &rendered.settings()["puller"];
        let note = "costs $5, or $(HOME) $$(HOME) in \"quotes\"";
        assert_eq!(puller["annotations"]["note"], note);
        assert_eq!(puller["podSecurityContext"]["runAsUser"], 1_000_710_000);
        assert_eq!(puller["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(pod(rendered)["securityContext"]["runAsUser"], 1_000_710_000);
    }),
    ("separate-job", |rendered| {
        assert_eq!(pod(rendered)["tolerations"], Value::Null);
        assert_eq!(pod(rendered)["imagePullSecrets"], Value::Null);
        let selector =
            json!({"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "pool": "system"});
        assert_eq!(pod(rendered)["nodeSelector"], selector);
        assert_eq!(rendered.settings()["puller"]["tolerations"], json!([{"operator": "Exists"}]));
    }),
    ("strict", |rendered| {
        assert!(rendered.arguments().contains(&"--strict".into()));
        assert_eq!(rendered.settings()["controlPlane"], "exclude");
    }),
    ("tainted-cluster", |rendered| {
        let puller = &rendered.settings()["puller"];
        assert_eq!(pod(rendered)["tolerations"], puller["tolerations"]);
        assert_eq!(puller["tolerations"][0]["key"], "dedicated");
    }),
];

#[test]
fn every_file_renders_what_it_is_for() {
    for (name, shows) in FILES {
        let mut release = Release::with(json!({}));
        release.file = Some(root().join(format!("chart/ci/{name}-values.yaml")));
        let rendered = release.render();
        rules::check(&rendered);
        shows(&rendered);
    }
}

#[test]
fn no_file_is_forgotten() {
    let mut names: Vec<_> = fs::read_dir(root().join("chart/ci"))
        .expect("chart/ci is in the checkout")
        .map(|it| it.expect("its entries can be read").file_name())
        .map(|it| it.into_string().expect("names are text"))
        .collect();
    names.sort();
    assert_eq!(names, FILES.map(|(name, _)| format!("{name}-values.yaml")));
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let chart = root().join("chart");
    let chart = chart.to_str().expect("the checkout's path is text");
    for helm in HELMS {
        helm.succeed(&["lint", "--strict", chart], &Value::Null);
        for (name, _) in FILES {
            let file = format!("{chart}/ci/{name}-values.yaml");
            helm.succeed(&["lint", "--strict", chart, "--values", &file], &Value::Null);
        }
    }
}

fn name(image: &Value) -> &str {
    let name = if image.is_string() { image } else { &image["image"] };
    name.as_str().expect("an image has a name")
}

fn pod(rendered: &Rendered) -> &Value {
    &rendered.only("Job")["spec"]["template"]["spec"]
}
