//! The structured settings: what the binary reads is what the user wrote.

use serde_json::{Value, json};

use crate::helm::{Release, overlay, parse, read};
use crate::kubelet;

#[test]
fn every_form_of_an_image_arrives() {
    let digest = format!("app@sha256:{}", "0123456789abcdef".repeat(4));
    let gpu = json!({
        "image": "{{ .Release.Name }}/gpu:1",
        "pullPolicy": "Always",
        "nodeSelector": {"accelerator": "nvidia"},
        "affinity": {"nodeAffinity": {}},
        "tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 10_000_000}],
    });
    let mut rendered_gpu = gpu.clone();
    rendered_gpu["image"] = json!("demo/gpu:1");
    for (given, expected) in [
        (json!(["app:1", digest]), json!(["app:1", digest])),
        (json!([" app:1\n"]), json!(["app:1"])),
        // The order is the user's: containers are numbered by it.
        (json!(["b:1", "a:1", "b:1"]), json!(["b:1", "a:1", "b:1"])),
        (json!(["{{ .Release.Name }}:1"]), json!(["demo:1"])),
        (json!(["{{ .Values.global.web }}:1"]), json!(["registry.example/web:1"])),
        (json!(["{{ .Values.global.all | join \" \" }}", "z:1"]), json!(["x:1", "y:1", "z:1"])),
        (json!(["", "a:1", "{{ .Values.global.missing }}"]), json!(["a:1"])),
        (json!([gpu]), json!([rendered_gpu])),
        // No tolerations at all and the puller's are different wishes.
        (
            json!([{"image": "a:1", "tolerations": []}]),
            json!([{"image": "a:1", "tolerations": []}]),
        ),
        (
            json!([{"image": "{{ .Values.global.all | join \"\\n\" }}", "pullPolicy": "Never"}]),
            json!([
                {"image": "x:1", "pullPolicy": "Never"},
                {"image": "y:1", "pullPolicy": "Never"},
            ]),
        ),
    ] {
        let globals = json!({"web": "registry.example/web", "all": ["x:1", "y:1"]});
        let rendered = Release::with(json!({"images": given, "global": globals})).render();
        assert_eq!(rendered.settings()["images"], expected, "of {given}");
    }
}

/// In a template here `.Values.image` is the chart's own, and seldom what a parent's author means.
#[test]
fn an_image_that_is_none_of_the_users_is_refused() {
    let own = "{{ .Values.image.repository }}:{{ .Chart.AppVersion }}";
    let map = "{{ .Values.global.image }}:1";
    for (image, complaint) in [
        (own, "is prepull's own image; in a template here `.Values.image` is prepull's"),
        ("{{ include \"prepull.image\" . }}", "is prepull's own image"),
        ("{{ .Values.global.missing }}:1", "`:1` is no image reference"),
        ("registry.example/{{ .Values.global.missing }}", "is no image reference"),
        ("{{ .Values.global.missing | toString }}:1", "is no image reference"),
        (map, "`map[name:app]:1` is no image reference: a template in it renders a map or nothing"),
        (
            map,
            "it sees `.Values.global`, `.Release` and `.Capabilities`, but not your chart's other",
        ),
    ] {
        for entry in [json!(image), json!({"image": image, "pullPolicy": "Always"})] {
            let global = json!({"image": {"name": "app"}});
            let release = Release::with(json!({"images": ["a:1", entry], "global": global}));
            for refusal in release.refusals() {
                assert!(refusal.contains(complaint), "{entry}: {refusal}");
            }
        }
    }
    // Neither the repository nor the tag alone makes it prepull's.
    let near = json!(["{{ .Values.image.repository }}:other", "app:{{ .Chart.AppVersion }}"]);
    let settings = Release::with(json!({"images": near})).render().settings();
    assert_eq!(settings["images"].as_array().map(Vec::len), Some(2));
}

#[test]
fn verbose_says_more() {
    for (verbose, n_flags) in [(true, 1), (false, 0)] {
        let values = json!({"images": ["app:1"], "verbose": verbose});
        let arguments = Release::with(values).render().arguments();
        assert_eq!(arguments.iter().filter(|it| *it == "--verbose").count(), n_flags);
    }
}

#[test]
fn everything_a_user_writes_arrives_unchanged() {
    let texts = dangerous_map();
    let together = DANGEROUS.map(|(text, _)| text).concat();
    let requirement = json!({
        "key": "k",
        "operator": "In",
        "values": DANGEROUS.map(|(text, _)| text),
    });
    let values = json!({
        "images": ["app:1", {"image": "b:1", "nodeSelector": texts}],
        "controlPlane": "exclude",
        "puller": {
            "imagePullSecrets": [{"name": "registry"}],
            "nodeSelector": texts,
            "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [requirement]}],
                },
            }},
            "tolerations": [{"key": "k", "value": together, "tolerationSeconds": 10_000_000}],
            "resources": {"requests": {"cpu": 1, "memory": "1Mi"}, "limits": {"cpu": 0.5}},
            "podSecurityContext": {"runAsUser": 1_000_710_000, "supplementalGroups": [1]},
            "securityContext": {"capabilities": {"drop": ["ALL"]}},
            "priorityClassName": together,
            "serviceAccountName": "$(HOME)",
            "labels": texts,
            "annotations": texts,
        },
    });
    let mut expected = parse(&read("chart/values.yaml"));
    overlay(&mut expected, &values);
    let settings = Release::with(values).render().settings();
    assert_eq!(settings["images"], expected["images"]);
    assert_eq!(settings["controlPlane"], expected["controlPlane"]);
    assert_eq!(settings["puller"], expected["puller"]);
    let keys: Vec<_> = settings.as_object().expect("is a map").keys().collect();
    assert_eq!(keys, ["controlPlane", "images", "puller"]);
}

#[test]
fn the_jobs_own_texts_arrive_unchanged() {
    let texts = dangerous_map();
    let values = json!({
        "images": ["app:1"],
        "job": {"annotations": texts, "labels": texts},
        "serviceAccount": {"annotations": texts},
    });
    let rendered = Release::with(values).render();
    let pod = &rendered.only("Job")["spec"]["template"]["metadata"];
    let account = &rendered.only("ServiceAccount")["metadata"];
    for map in [&pod["annotations"], &pod["labels"], &account["annotations"]] {
        for (key, text) in texts.as_object().expect("is a map") {
            assert_eq!(&map[key], text);
        }
    }
}

#[test]
fn names_of_pull_secrets_are_templates() {
    let secrets = json!([
        {"name": "{{ .Release.Name }}-registry"},
        {"name": "{{ .Values.global.missing }}"},
        {"name": " plain\n"},
    ]);
    let expected = json!([{"name": "demo-registry"}, {"name": "plain"}]);
    for values in [
        json!({"puller": {"imagePullSecrets": secrets}}),
        json!({"puller": {"imagePullSecrets": secrets}, "job": {"imagePullSecrets": secrets}}),
    ] {
        let mut release = Release::with(values);
        release.values["images"] = json!(["app:1"]);
        let rendered = release.render();
        assert_eq!(rendered.settings()["puller"]["imagePullSecrets"], expected);
        let pod = &rendered.only("Job")["spec"]["template"]["spec"];
        assert_eq!(pod["imagePullSecrets"], expected);
    }
}

#[test]
fn empty_values_stay_empty() {
    let settings = Release::with(json!({"images": ["app:1"]})).render().settings();
    for field in ["affinity", "nodeSelector", "resources"] {
        assert_eq!(settings["puller"][field], json!({}), "{field}");
    }
    assert_eq!(settings["puller"]["tolerations"], json!([]));
    assert_eq!(settings["puller"]["imagePullSecrets"], Value::Array(vec![]));
    assert_eq!(settings["puller"]["priorityClassName"], "");
    assert_eq!(settings["puller"]["serviceAccountName"], "default");
}

/// Without this, the tests above could pass because nothing in them needs to be escaped.
#[test]
fn the_dangerous_texts_are_dangerous() {
    for (text, is_changed) in DANGEROUS {
        let expanded = kubelet::expand(text, kubelet::VARIABLES);
        assert_eq!(expanded != text, is_changed, "`{text}`");
    }
}

/// All of them in one map, as keys and as values.
fn dangerous_map() -> Value {
    DANGEROUS.iter().map(|(text, _)| (format!("key {text}"), json!(text))).collect()
}

/// Texts that something on the way might change, and whether the kubelet would if they were not
/// escaped.
const DANGEROUS: [(&str, bool); 18] = [
    ("$(HOME)", true),
    ("$$(HOME)", true),
    ("$$$(HOME)$", true),
    ("$$$$", true),
    ("$()", true),
    ("$(UNKNOWN)", false),
    ("$(HOME", false),
    ("ends with $", false),
    ("$ $5 ${HOME} $é", false),
    ("{{ .Release.Name }}", false),
    ("\"quoted\" 'twice' \\ \\\\ \\n", false),
    ("<a> & \u{ad} \u{1f980} é", false),
    ("line\nline\n\ttab\r\n", false),
    ("# no comment: - no list", false),
    ("yes", false),
    ("1e3", false),
    ("null", false),
    ("", false),
];
