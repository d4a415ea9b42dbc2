//! Images that their registry gives to those who know a password.

use serde_json::{Value, json};

use crate::binary::lines;
use crate::cluster::cluster;
use crate::scenario::{Helm, Scenario, verdict};

with_helm_3_and_4!(the_right_pull_secret_opens_the_registry);

const USER: &str = "prepull";
const PASSWORD: &str = "secret";

fn the_right_pull_secret_opens_the_registry(helm: Helm) {
    let scenario = Scenario::new("private", helm);
    let image = private_image(&scenario);
    make_secret(&scenario, "right", PASSWORD, "kubernetes.io/dockerconfigjson");
    let values = json!({"images": [image], "puller": {"imagePullSecrets": [{"name": "right"}]}});

    let installed = scenario.helm("install", values, &[]).succeeded();

    let report = scenario.report(&installed);
    let verdict = verdict(&report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on 3 nodes after ")), "{verdict}");
    cluster().expect_held(&cluster().all_nodes(), &[&image]);
}

#[test]
fn no_other_secret_does_and_the_verdict_says_so() {
    let scenario = Scenario::without_helm("refused");
    let image = private_image(&scenario);
    make_secret(&scenario, "wrong", "guessed", "kubernetes.io/dockerconfigjson");
    make_secret(&scenario, "wrong-type", PASSWORD, "Opaque");
    let denied = "pull access denied";
    let unknown = "check the image name and the pull secrets";
    let missing = "secret `missing` does not exist";
    let runs = [
        (json!([]), [denied, unknown]),
        (secret("missing"), [denied, missing]),
        (secret("wrong"), ["401 Unauthorized", unknown]),
        (secret("wrong-type"), [denied, unknown]),
    ]
    .map(|(secrets, words)| {
        let settings = json!({"puller": {"imagePullSecrets": secrets}}).to_string();
        (scenario.start_prepull(&["run", "--settings", &settings, &image]), words)
    });

    for (run, words) in runs {
        let ended = scenario.end(run).failed();
        let report = lines(&ended);
        for word in [&image, "3 nodes"].iter().chain(&words) {
            assert!(verdict(&report).contains(word), "no `{word}` in {report:?}");
        }
    }
    for node in &cluster().nodes {
        assert!(!cluster().images_on(node).contains(&image), "{node} has {image}");
    }
}

fn private_image(scenario: &Scenario) -> String {
    let image = format!("quay.io/{}/private/one:1", scenario.ns);
    scenario.push(&image, &[]);
    image
}

fn secret(name: &str) -> Value {
    json!([{"name": name}])
}

fn make_secret(scenario: &Scenario, name: &str, password: &str, kind: &str) {
    let config = json!({"auths": {"quay.io": {"username": USER, "password": password}}});
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {".dockerconfigjson": config.to_string()},
        "type": kind,
    });
    scenario.create(&object);
}
