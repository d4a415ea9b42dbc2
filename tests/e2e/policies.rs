//! What the rules of a namespace make of the puller on its way in.

use std::time::Duration;

use serde_json::{Value, json};

use crate::binary::lines;
use crate::cluster::{Change, cluster};
use crate::command::until;
use crate::scenario::{Scenario, expect_line, verdict};

/// Until a policy that was made is in force.
const IN_FORCE: Duration = Duration::from_secs(30);

/// The pod is never ready as a whole, and the DaemonSet says so for ever.
#[test]
fn a_sidecar_that_is_never_ready_is_not_waited_for() {
    let scenario = Scenario::without_helm("sidecar");
    let image = scenario.image("one");
    let away = scenario.unavailable_image("sidecar");
    let sidecar = format!(
        r#"[JSONPatch{{op: "add", path: "/spec/containers/-", value: Object.spec.containers{{
            name: "sidecar", image: "{away}"
        }}}}]"#
    );
    let _policy = policy(&scenario, "pods", &sidecar, &away);

    let report = lines(&scenario.prepull(&["run", &image]).succeeded());

    expect_ready_on_all(&report, &image);
    cluster().expect_held(&cluster().all_nodes(), &[&format!("docker.io/{image}")]);
}

/// What the release's own pods get is the rewritten image, too.
#[test]
fn an_image_that_is_rewritten_is_pulled_as_it_was_rewritten() {
    for (resource, spec) in [("daemonsets", "spec.template.spec"), ("pods", "spec")] {
        let scenario = Scenario::without_helm(&format!("rewritten-{resource}"));
        let image = scenario.image("one");
        let path = spec.replace('.', "/");
        let rewrite = format!(
            r#"[JSONPatch{{
                op: "replace", path: "/{path}/containers/0/image",
                value: "quay.io/" + object.{spec}.containers[0].image
            }}]"#
        );
        let _policy = policy(&scenario, resource, &rewrite, "quay.io/probe");

        let report = lines(&scenario.prepull(&["run", &image]).succeeded());

        expect_ready_on_all(&report, &image);
        let words = format!("was given image `quay.io/{image}` in place of `{image}`");
        expect_line(&report, &["note: on its way in", &words]);
        cluster().expect_held(&cluster().all_nodes(), &[&format!("quay.io/{image}")]);
    }
}

/// A command that was rewritten may prove anything.
#[test]
fn a_command_that_is_rewritten_is_an_error() {
    let scenario = Scenario::without_helm("commanded");
    let image = scenario.image("one");
    let rewrite = r#"[JSONPatch{
        op: "replace", path: "/spec/template/spec/containers/0/command", value: ["/other"]
    }]"#;
    let _policy = policy(&scenario, "daemonsets", rewrite, "/other");

    let report = lines(&scenario.prepull(&["run", &image]).failed());

    let words = ["failed: ", "was given another command", "mutating admission"];
    assert!(words.iter().all(|it| verdict(&report).contains(it)), "{report:?}");
    scenario.until_only(&[], Duration::from_secs(30));
}

/// With these requests the pods would find no room on any node.
#[test]
fn default_requests_of_the_namespace_are_not_the_pullers() {
    let scenario = Scenario::without_helm("requests");
    let image = scenario.image("one");
    scenario.create(&json!({
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "large"},
        "spec": {"limits": [
            {"type": "Container", "defaultRequest": {"cpu": "1000", "memory": "1000Gi"}}
        ]},
    }));

    let report = lines(&scenario.prepull(&["run", &image]).succeeded());

    expect_ready_on_all(&report, &image);
}

#[test]
fn requests_that_no_node_has_room_for_are_a_miss() {
    let scenario = Scenario::without_helm("greedy");
    let image = scenario.image("one");
    let settings = json!({"puller": {"resources": {"requests": {"cpu": "1000"}}}});

    let arguments = ["run", &format!("--settings={settings}"), "--timeout=10s", &image];
    let ended = scenario.prepull(&arguments);

    assert_eq!(ended.code, Some(3), "{}", ended.said());
    let report = lines(&ended);
    let words = ["time ran out", &image, "3 nodes", "no room", "Insufficient cpu"];
    assert!(words.iter().all(|it| verdict(&report).contains(it)), "{report:?}");
    scenario.until_only(&[], Duration::from_secs(30));
}

fn expect_ready_on_all(report: &[String], image: &str) {
    let verdict = verdict(report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on 3 nodes after ")), "{verdict}");
}

/// Makes a policy that changes every new object of a kind in the test's namespace, and waits until
/// new objects have this word in them.
fn policy<'a>(scenario: &'a Scenario, kind: &str, patch: &str, word: &str) -> Change<'a> {
    let ns = scenario.ns.as_str();
    let group = if kind == "pods" { "" } else { "apps" };
    let kinds = "mutatingadmissionpolicies,mutatingadmissionpolicybindings";
    let policy = Change::undone_by(&["delete", kinds, ns, "--ignore-not-found"]);
    scenario.create(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": ns},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
                "resourceRules": [{
                    "apiGroups": [group],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": [kind],
                }],
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
            "reinvocationPolicy": "Never",
        },
    }));
    scenario.create(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": ns},
        "spec": {"policyName": ns},
    }));
    let probe = probe(kind);
    until("the policy to be in force", IN_FORCE, || {
        let made = scenario.try_out(&probe);
        if made.contains(word) { Ok(()) } else { Err(made) }
    });
    policy
}

fn probe(kind: &str) -> Value {
    let labels = json!({"probe": "x"});
    let spec = json!({"containers": [{"name": "probe", "image": "probe", "command": ["/probe"]}]});
    if kind == "pods" {
        let metadata = json!({"name": "probe"});
        return json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    }
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "probe"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    })
}
