//! Rules that hold for whatever the chart renders.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::Rendered;

/// Longest name of any object of ours: that of a DNS label (RFC 1123), and of a label's value.
const LONGEST_NAME: usize = 63;

/// Longest name in a namespace, which leaves room for the run's id and a pod's suffix.
const LONGEST_PREFIX: usize = 40;

/// The volumes that the restricted Pod Security Standard allows.
const RESTRICTED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Checks all of them, for a release in the namespace `apps`.
pub fn check(rendered: &Rendered) {
    check_hooks(rendered);
    check_names(rendered);
    check_references(rendered);
    check_labels(rendered);
    if let Some(job) = rendered.find("Job") {
        let violations = restricted_violations(&job["spec"]["template"]["spec"]);
        assert!(violations.is_empty(), "not restricted: {violations:?}");
    }
}

/// Every object is a hook of the same two events, and helm knows in which order to make them.
fn check_hooks(rendered: &Rendered) {
    let mut weights = BTreeSet::new();
    for object in &rendered.objects {
        let kind = &object["kind"];
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "pre-install,pre-upgrade", "of the {kind}");
        assert_eq!(
            annotations["helm.sh/hook-delete-policy"], "before-hook-creation,hook-succeeded",
            "of the {kind}"
        );
        let expected = match kind.as_str() {
            Some("Job") => json!("hook-succeeded,hook-failed"),
            _ => Value::Null,
        };
        assert_eq!(annotations["helm.sh/hook-output-log-policy"], expected, "of the {kind}");
        let weight = annotations["helm.sh/hook-weight"].as_str();
        let weight = weight.unwrap_or_else(|| panic!("the weight of the {kind} is no text"));
        let weight: i32 = weight.parse().expect("a weight is a number");
        assert!(weights.insert((weight, kind.as_str())), "two objects of one kind");
    }
    let numbers: BTreeSet<_> = weights.iter().map(|(weight, _)| weight).collect();
    assert_eq!(numbers.len(), weights.len(), "two objects have one weight: {weights:?}");
    if let Some((_, last)) = weights.last() {
        assert_eq!(*last, Some("Job"), "something would come after the Job that needs it");
    }
}

fn check_names(rendered: &Rendered) {
    for object in &rendered.objects {
        let name = object["metadata"]["name"].as_str().expect("a name is text");
        let (namespace, prefix) = match object["kind"].as_str() {
            Some("ClusterRole" | "ClusterRoleBinding") => (Value::Null, name.replacen(':', "-", 1)),
            _ => (json!("apps"), name.into()),
        };
        assert_eq!(object["metadata"]["namespace"], namespace, "of `{name}`");
        assert!(is_label(&prefix), "`{name}` is no valid name");
    }
    if let Some(job) = rendered.find("Job") {
        let name = job["metadata"]["name"].as_str().expect("a name is text");
        assert!(name.len() <= LONGEST_PREFIX, "`{name}` is too long for what follows it");
    }
}

/// What the objects say of each other is true.
fn check_references(rendered: &Rendered) {
    let Some(job) = rendered.find("Job") else { return };
    let name = &job["metadata"]["name"];
    let account = &job["spec"]["template"]["spec"]["serviceAccountName"];
    if let Some(made) = rendered.find("ServiceAccount") {
        assert_eq!(&made["metadata"]["name"], account);
    }
    for (binding, role) in [("RoleBinding", "Role"), ("ClusterRoleBinding", "ClusterRole")] {
        assert_eq!(rendered.find(binding).is_some(), rendered.find(role).is_some(), "{role}");
        let Some(binding) = rendered.find(binding) else { continue };
        let role_name = &rendered.only(role)["metadata"]["name"];
        assert_eq!(
            binding["roleRef"],
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": role_name})
        );
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": account, "namespace": "apps"}])
        );
    }
    let arguments = rendered.arguments();
    assert!(arguments.contains(&format!("--name={}", name.as_str().expect("a name is text"))));
}

/// The standard labels are on every object, and none that could be taken for the release's own is
/// on the pod.
fn check_labels(rendered: &Rendered) {
    for object in &rendered.objects {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/name"], "prepull");
        assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm");
        for label in ["app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart"] {
            let value = labels[label].as_str();
            let value = value.unwrap_or_else(|| panic!("the label `{label}` is no text"));
            assert!(is_label_value(value), "the label `{label}` has the value `{value}`");
        }
    }
    let Some(job) = rendered.find("Job") else { return };
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/name"], "prepull");
    assert_eq!(labels["app.kubernetes.io/instance"], Value::Null);
}

/// What the restricted Pod Security Standard would refuse in a pod.
///
/// Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
pub fn restricted_violations(pod: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    for field in ["hostIPC", "hostNetwork", "hostPID"] {
        if pod[field] == true {
            violations.push(field.to_owned());
        }
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let kinds = volume.as_object().expect("a volume is a map").keys();
        if !kinds.filter(|it| *it != "name").all(|it| RESTRICTED_VOLUMES.contains(&it.as_str())) {
            violations.push(format!("volume {}", volume["name"]));
        }
    }
    let shared = &pod["securityContext"];
    if shared["runAsUser"] == 0 {
        violations.push("runAsUser".into());
    }
    let containers = pod["containers"].as_array().into_iter().flatten();
    for container in containers.chain(pod["initContainers"].as_array().into_iter().flatten()) {
        let own = &container["securityContext"];
        let effective =
            |field: &str| if own[field].is_null() { &shared[field] } else { &own[field] };
        let profile = &effective("seccompProfile")["type"];
        let capabilities = &own["capabilities"];
        let added = capabilities["add"].as_array().cloned().unwrap_or_default();
        let dropped = capabilities["drop"].as_array().cloned().unwrap_or_default();
        for (field, allowed) in [
            ("allowPrivilegeEscalation", own["allowPrivilegeEscalation"] == false),
            ("capabilities.add", added.iter().all(|it| it == "NET_BIND_SERVICE")),
            ("capabilities.drop", dropped.iter().any(|it| it == "ALL")),
            ("privileged", own["privileged"] != true),
            ("runAsNonRoot", *effective("runAsNonRoot") == true),
            ("runAsUser", own["runAsUser"] != 0),
            ("seccompProfile", profile == "RuntimeDefault" || profile == "Localhost"),
        ] {
            if !allowed {
                violations.push(format!("{field} of {}", container["name"]));
            }
        }
    }
    violations
}

fn is_label(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_label_value(value: &str) -> bool {
    let is_edge = |it: char| it.is_ascii_alphanumeric();
    value.len() <= LONGEST_NAME
        && value.chars().all(|it| is_edge(it) || matches!(it, '-' | '_' | '.'))
        && value.starts_with(is_edge)
        && value.ends_with(is_edge)
}

#[test]
fn the_restricted_standard_is_known() {
    let good = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "a",
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
            },
        }],
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    assert_eq!(restricted_violations(&good), Vec::<String>::new());
    for (pointer, value, violation) in [
        ("/hostNetwork", json!(true), "hostNetwork"),
        ("/securityContext/runAsUser", json!(0), "runAsUser"),
        ("/securityContext/runAsNonRoot", json!(false), "runAsNonRoot of \"a\""),
        ("/securityContext/seccompProfile", json!({}), "seccompProfile of \"a\""),
        ("/containers/0/securityContext/runAsUser", json!(0), "runAsUser of \"a\""),
        ("/containers/0/securityContext/runAsNonRoot", json!(false), "runAsNonRoot of \"a\""),
        ("/containers/0/securityContext/privileged", json!(true), "privileged of \"a\""),
        (
            "/containers/0/securityContext/allowPrivilegeEscalation",
            Value::Null,
            "allowPrivilegeEscalation of \"a\"",
        ),
        (
            "/containers/0/securityContext/capabilities",
            json!({"drop": ["NET_RAW"]}),
            "capabilities.drop of \"a\"",
        ),
        (
            "/containers/0/securityContext/capabilities",
            json!({"add": ["SYS_TIME"], "drop": ["ALL"]}),
            "capabilities.add of \"a\"",
        ),
        ("/volumes/0", json!({"name": "v", "hostPath": {}}), "volume \"v\""),
    ] {
        let mut bad = good.clone();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
        match bad.pointer_mut(parent).expect("the parent exists") {
            Value::Array(list) => list[key.parse::<usize>().expect("an index")] = value,
            map => map[key] = value,
        }
        assert_eq!(restricted_violations(&bad), [violation], "{pointer}");
    }
}
