//! The values: each one documented, checked by the schema, and at work in exactly one place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::helm::{Release, Rendered, nested, overlay, parse, read, scratch};

/// A value's key, another value for it, the object in which that must show, the place there, and
/// what must stand there. `Settings` is the JSON document for the binary.
type Effect = (&'static str, Value, &'static str, &'static str, Value);

#[test]
fn every_value_is_at_work() {
    let effects = effects();
    let keys: Vec<_> = effects.iter().map(|it| it.0.to_owned()).collect();
    let mut expected = leaves();
    expected.sort();
    assert_eq!(keys, expected, "a key of values.yaml has no effect here, or the other way round");
    let base = json!({"images": ["app:1", "{{ .Values.global.image }}"]});
    let before = Release::with(base.clone()).render();
    for (key, value, object, pointer, expected) in effects {
        let mut values = base.clone();
        overlay(&mut values, &nested(key, value));
        let after = Release::with(values).render();
        assert_ne!(look_up(&before, object, pointer), expected, "{key} changes nothing");
        assert_eq!(look_up(&after, object, pointer), expected, "{key} in {object} {pointer}");
    }
}

fn look_up(rendered: &Rendered, object: &str, pointer: &str) -> Value {
    let found = match object {
        "Arguments" => Some(json!(rendered.arguments())),
        "Settings" => Some(rendered.settings()),
        kind => rendered.find(kind).cloned(),
    };
    found.and_then(|it| it.pointer(pointer).cloned()).unwrap_or_default()
}

fn effects() -> Vec<Effect> {
    vec![
        ("allowMissing", json!("5%"), "Arguments", "/5", json!("--allow-missing=5%")),
        ("controlPlane", json!("exclude"), "Settings", "/controlPlane", json!("exclude")),
        ("enabled", json!(false), "Job", "", Value::Null),
        ("failurePolicy", json!("Ignore"), "Arguments", "/5", json!("--failure-policy=Ignore")),
        ("fullnameOverride", json!("own"), "Job", "/metadata/name", json!("own")),
        ("global", json!({"image": "b:1"}), "Settings", "/images/1", json!("b:1")),
        (
            "image.digest",
            json!(format!("sha256:{}", "0".repeat(64))),
            "Job",
            "/spec/template/spec/containers/0/image",
            json!(format!("prepull@sha256:{}", "0".repeat(64))),
        ),
        (
            "image.pullPolicy",
            json!("Always"),
            "Job",
            "/spec/template/spec/containers/0/imagePullPolicy",
            json!("Always"),
        ),
        ("image.repository", json!("r/p"), "Arguments", "/2", json!("--puller-image=r/p:0.1.0")),
        ("image.tag", json!("2"), "Arguments", "/2", json!("--puller-image=prepull:2")),
        ("images", json!(["c:1"]), "Settings", "/images", json!(["c:1"])),
        ("interval", json!("1m"), "Arguments", "/4", json!("--interval=1m")),
        (
            "job.affinity",
            json!({"podAffinity": {}}),
            "Job",
            "/spec/template/spec/affinity",
            json!({"podAffinity": {}}),
        ),
        (
            "job.annotations",
            json!({"a": "b"}),
            "Job",
            "/spec/template/metadata/annotations/a",
            json!("b"),
        ),
        (
            "job.imagePullSecrets",
            json!([{"name": "s"}]),
            "Job",
            "/spec/template/spec/imagePullSecrets",
            json!([{"name": "s"}]),
        ),
        ("job.labels", json!({"a": "b"}), "Job", "/spec/template/metadata/labels/a", json!("b")),
        (
            "job.nodeSelector",
            json!({"a": "b"}),
            "Job",
            "/spec/template/spec/nodeSelector/a",
            json!("b"),
        ),
        (
            "job.podSecurityContext",
            json!({"fsGroup": 5}),
            "Job",
            "/spec/template/spec/securityContext/fsGroup",
            json!(5),
        ),
        (
            "job.priorityClassName",
            json!("high"),
            "Job",
            "/spec/template/spec/priorityClassName",
            json!("high"),
        ),
        (
            "job.resources",
            json!({"limits": {"cpu": "1"}}),
            "Job",
            "/spec/template/spec/containers/0/resources/limits/cpu",
            json!("1"),
        ),
        (
            "job.securityContext",
            json!({"runAsUser": 5}),
            "Job",
            "/spec/template/spec/containers/0/securityContext/runAsUser",
            json!(5),
        ),
        (
            "job.tolerations",
            json!([{"operator": "Exists"}]),
            "Job",
            "/spec/template/spec/tolerations",
            json!([{"operator": "Exists"}]),
        ),
        ("job.ttlSecondsAfterFinished", json!(7), "Job", "/spec/ttlSecondsAfterFinished", json!(7)),
        ("maxNodesAtOnce", json!("25%"), "Arguments", "/5", json!("--max-nodes-at-once=25%")),
        ("nameOverride", json!("own"), "Job", "/metadata/name", json!("demo-own")),
        ("podsPerNode", json!(3), "Arguments", "/5", json!("--pods-per-node=3")),
        (
            "puller.affinity",
            json!({"nodeAffinity": {}}),
            "Settings",
            "/puller/affinity",
            json!({"nodeAffinity": {}}),
        ),
        ("puller.annotations", json!({"a": "b"}), "Settings", "/puller/annotations/a", json!("b")),
        (
            "puller.imagePullSecrets",
            json!([{"name": "s"}]),
            "Settings",
            "/puller/imagePullSecrets",
            json!([{"name": "s"}]),
        ),
        ("puller.labels", json!({"a": "b"}), "Settings", "/puller/labels/a", json!("b")),
        (
            "puller.nodeSelector",
            json!({"a": "b"}),
            "Settings",
            "/puller/nodeSelector/a",
            json!("b"),
        ),
        (
            "puller.podSecurityContext",
            json!({"fsGroup": 5}),
            "Settings",
            "/puller/podSecurityContext/fsGroup",
            json!(5),
        ),
        (
            "puller.priorityClassName",
            json!("low"),
            "Settings",
            "/puller/priorityClassName",
            json!("low"),
        ),
        (
            "puller.resources",
            json!({"limits": {"cpu": "1"}}),
            "Settings",
            "/puller/resources/limits/cpu",
            json!("1"),
        ),
        (
            "puller.securityContext",
            json!({"runAsUser": 5}),
            "Settings",
            "/puller/securityContext/runAsUser",
            json!(5),
        ),
        (
            "puller.serviceAccountName",
            json!("s"),
            "Settings",
            "/puller/serviceAccountName",
            json!("s"),
        ),
        (
            "puller.tolerations",
            json!([{"operator": "Exists"}]),
            "Settings",
            "/puller/tolerations",
            json!([{"operator": "Exists"}]),
        ),
        ("rbac.cluster", json!(false), "ClusterRole", "", Value::Null),
        ("rbac.create", json!(false), "Role", "", Value::Null),
        (
            "serviceAccount.annotations",
            json!({"a": "b"}),
            "ServiceAccount",
            "/metadata/annotations/a",
            json!("b"),
        ),
        ("serviceAccount.create", json!(false), "ServiceAccount", "", Value::Null),
        ("serviceAccount.name", json!("s"), "ServiceAccount", "/metadata/name", json!("s")),
        ("stallTimeout", json!("2m"), "Arguments", "/5", json!("--stall-timeout=2m")),
        ("strict", json!(true), "Arguments", "/6", json!("--strict")),
        ("timeoutSeconds", json!(60), "Arguments", "/3", json!("--timeout=60s")),
        ("verbose", json!(true), "Arguments", "/6", json!("--verbose")),
    ]
}

#[test]
fn every_value_is_in_the_schema_and_the_other_way_round() {
    let values = parse(&read("chart/values.yaml"));
    same_keys("", &schema(), &values);
}

/// Descends as long as the schema itself does: what it describes by a reference or not at all is
/// Kubernetes' own, and one value for us.
fn same_keys(path: &str, schema: &Value, values: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "the schema lets anything into `{path}`");
    let known: BTreeSet<_> = properties.keys().collect();
    let given = values.as_object().unwrap_or_else(|| panic!("`{path}` is no map in values.yaml"));
    assert_eq!(known, given.keys().collect(), "in `{path}`");
    for (key, property) in properties {
        same_keys(&format!("{path}/{key}"), property, &values[key]);
    }
}

#[test]
fn every_property_of_the_schema_is_described() {
    let mut n_properties = 0;
    let schema = schema();
    let mut waiting = vec![&schema];
    while let Some(node) = waiting.pop() {
        for (key, property) in node["properties"].as_object().into_iter().flatten() {
            let description = property["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.'), "`{key}` is described by `{description}`");
            n_properties += 1;
        }
        waiting.extend(node.as_object().into_iter().flat_map(|it| it.values()));
        waiting.extend(node.as_array().into_iter().flatten());
    }
    assert!(n_properties > leaves().len(), "only {n_properties} properties were found");
}

/// A comment says what the schema's one line cannot.
#[test]
fn every_value_has_a_comment() {
    let text = read("chart/values.yaml");
    let lines: Vec<_> = text.lines().collect();
    let mut commented = BTreeSet::new();
    let mut path: Vec<&str> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some((key, _)) = line.trim_start().split_once(':') else { continue };
        if key.starts_with(['#', '-']) {
            continue;
        }
        path.truncate(indent / 2);
        path.push(key);
        if index > 0 && lines[index - 1].trim_start().starts_with('#') {
            commented.insert(path.join("."));
        }
    }
    for key in leaves() {
        assert!(commented.contains(&key), "`{key}` has no comment above it");
        if let Some((parent, _)) = key.split_once('.') {
            assert!(commented.contains(parent), "`{parent}` has no comment above it");
        }
    }
}

#[test]
fn bad_values_are_refused() {
    for (values, complaint) in [
        (json!({"image": null}), "missing property 'image'"),
        (json!({"timeoutSeconds": null}), "missing property 'timeoutSeconds'"),
        (json!({"imgaes": ["a:1"]}), "additional properties 'imgaes' not allowed"),
        (json!({"images": "a:1"}), "at '/images': got string, want array"),
        (json!({"images": [1]}), "at '/images/0'"),
        (json!({"images": [{"pullPolicy": "Always"}]}), "missing property 'image'"),
        (json!({"images": [{"image": "a", "pullpolicy": "Always"}]}), "'pullpolicy' not allowed"),
        (json!({"images": [{"image": "a", "pullPolicy": "always"}]}), "/images/0/pullPolicy"),
        (
            json!({"images": [{"image": "a", "affinity": {"podAffinity": {}}}]}),
            "'podAffinity' not allowed",
        ),
        (json!({"images": [{"image": "a", "tolerations": null}]}), "/images/0/tolerations"),
        (json!({"image": {"repository": ""}}), "/image/repository"),
        (json!({"image": {"tag": 1.1}}), "at '/image/tag': got number, want string"),
        (json!({"image": {"tag": "a b"}}), "/image/tag"),
        (json!({"image": {"digest": "sha256:123"}}), "/image/digest"),
        (json!({"image": {"pullPolicy": "Sometimes"}}), "/image/pullPolicy"),
        (json!({"image": {"registry": "r"}}), "'registry' not allowed"),
        (json!({"timeoutSeconds": 0}), "/timeoutSeconds"),
        (json!({"timeoutSeconds": 1.5}), "/timeoutSeconds"),
        (json!({"timeoutSeconds": "270s"}), "/timeoutSeconds"),
        (json!({"interval": 2}), "/interval"),
        (json!({"allowMissing": -1}), "/allowMissing"),
        (json!({"allowMissing": "101%"}), "/allowMissing"),
        (json!({"allowMissing": null}), "allowMissing"),
        (json!({"stallTimeout": "9s"}), "/stallTimeout"),
        (json!({"stallTimeout": 30}), "/stallTimeout"),
        (json!({"maxNodesAtOnce": 0}), "/maxNodesAtOnce"),
        (json!({"maxNodesAtOnce": "5"}), "/maxNodesAtOnce"),
        (json!({"maxNodesAtOnce": "0%"}), "/maxNodesAtOnce"),
        (json!({"maxNodesAtOnce": "101%"}), "/maxNodesAtOnce"),
        (json!({"podsPerNode": 0}), "/podsPerNode"),
        (json!({"podsPerNode": 11}), "/podsPerNode"),
        (json!({"interval": "2"}), "/interval"),
        (json!({"interval": "0s"}), "/interval"),
        (json!({"interval": "99ms"}), "/interval"),
        (json!({"failurePolicy": "fail"}), "/failurePolicy"),
        (json!({"strict": "yes"}), "/strict"),
        (json!({"controlPlane": "Exclude"}), "/controlPlane"),
        (json!({"enabled": "false"}), "/enabled"),
        (json!({"global": []}), "/global"),
        (json!({"puller": {"tolerations": null, "toleration": []}}), "'toleration' not allowed"),
        (json!({"puller": {"tolerations": [{"kye": "a"}]}}), "'kye' not allowed"),
        (
            json!({"puller": {"tolerations": [{"effect": "NoExec"}]}}),
            "/puller/tolerations/0/effect",
        ),
        (json!({"puller": {"nodeSelector": {"a": true}}}), "/puller/nodeSelector/a"),
        (json!({"puller": {"affinity": {"podAntiAffinity": {}}}}), "'podAntiAffinity' not allowed"),
        (
            json!({"puller": {"affinity": {"nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [],
            }}}}),
            "'preferredDuringSchedulingIgnoredDuringExecution' not allowed",
        ),
        (json!({"puller": {"imagePullSecrets": ["registry"]}}), "/puller/imagePullSecrets/0"),
        (json!({"puller": {"imagePullSecrets": [{}]}}), "missing property 'name'"),
        (json!({"puller": {"resources": {"claims": []}}}), "'claims' not allowed"),
        (json!({"puller": {"resources": {"limits": {"cpu": true}}}}), "limits/cpu"),
        (json!({"puller": {"podSecurityContext": {"runAsRoot": true}}}), "'runAsRoot' not allowed"),
        (json!({"puller": {"podSecurityContext": {"runAsUser": "5"}}}), "runAsUser"),
        (json!({"puller": {"securityContext": {"fsGroup": 5}}}), "'fsGroup' not allowed"),
        (json!({"puller": {"labels": {"a": 1}}}), "/puller/labels/a"),
        (json!({"puller": {"annotations": {"a": true}}}), "/puller/annotations/a"),
        (json!({"job": {"backoffLimit": 6}}), "'backoffLimit' not allowed"),
        (json!({"job": {"ttlSecondsAfterFinished": 0}}), "/job/ttlSecondsAfterFinished"),
        (json!({"job": {"tolerations": {}}}), "/job/tolerations"),
        (json!({"job": {"imagePullSecrets": ["registry"]}}), "/job/imagePullSecrets"),
        (json!({"job": {"annotations": {"a": true}}}), "/job/annotations/a"),
        (json!({"serviceAccount": {"create": "true"}}), "/serviceAccount/create"),
        (json!({"serviceAccount": {"create": null}}), "missing property 'create'"),
        (json!({"rbac": {"clusterRole": true}}), "'clusterRole' not allowed"),
        (json!({"rbac": {"cluster": null}}), "missing property 'cluster'"),
        (json!({"nameOverride": "Images"}), "/nameOverride"),
        (json!({"fullnameOverride": "a_b"}), "/fullnameOverride"),
        (json!({"fullnameOverride": "a:b"}), "/fullnameOverride"),
        (json!({"fullnameOverride": "a-"}), "/fullnameOverride"),
    ] {
        let mut release = Release::with(values);
        if release.values["images"].is_null() {
            release.values["images"] = json!(["app:1"]);
        }
        for refusal in release.refusals() {
            let is_schema = refusal.contains("don't meet the specifications of the schema");
            assert!(is_schema && refusal.contains(complaint), "{}: {refusal}", release.values);
        }
    }
}

/// The README's table is made of the chart's own files, so that it can never say anything else.
#[test]
fn the_readme_lists_the_values() {
    let table = table();
    let file = scratch("readme").join("values-table.md");
    fs::write(&file, &table).expect("cargo's temporary folder can be written");
    let readme = read("README.md");
    let shown = readme
        .split_once("<!-- values -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- /values -->"))
        .map(|(shown, _)| shown.trim());
    assert_eq!(
        shown,
        Some(table.trim()),
        "put the content of {} between the two marks in README.md",
        file.display()
    );
}

/// One row a value: its key, its default as JSON, and the schema's description.
fn table() -> String {
    let values = parse(&read("chart/values.yaml"));
    let schema = schema();
    let mut table = String::from("| key | default | what it is |\n| --- | --- | --- |\n");
    for key in leaves() {
        let (default, property) =
            key.split('.').fold((&values, &schema), |(value, schema), part| {
                (&value[part], &schema["properties"][part])
            });
        let description = property["description"].as_str().expect("another test sees to it");
        let row = format!("`{key}` | `{default}` | {description}");
        assert_eq!(row.matches('|').count(), 2, "a bar in `{row}` would end its cell");
        table.push_str(&format!("| {row} |\n"));
    }
    table
}

/// The dotted keys of all values, in the order of values.yaml.
fn leaves() -> Vec<String> {
    let mut ordered = BTreeMap::new();
    let text = read("chart/values.yaml");
    collect_leaves("", &schema(), &mut |key| {
        // The YAML is read into sorted maps, so that the order comes from the text itself.
        let position = key.split('.').fold(0, |start, part| {
            let indent = if start == 0 { "\n" } else { "\n  " };
            let found = text[start..].find(&format!("{indent}{part}:"));
            start + found.unwrap_or_else(|| panic!("`{key}` is not in values.yaml")) + 1
        });
        ordered.insert(position, key.to_owned());
    });
    ordered.into_values().collect()
}

fn collect_leaves(path: &str, schema: &Value, found: &mut dyn FnMut(&str)) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if property["properties"].is_object() {
            collect_leaves(&key, property, found);
        } else {
            found(&key);
        }
    }
}

fn schema() -> Value {
    serde_json::from_str(&read("chart/values.schema.json")).expect("the schema is JSON")
}
