//! The Job: its deadlines, what ends it, and what its pod may do.

use serde_json::{Value, json};

use crate::helm::{Release, Rendered};
use crate::rules;

/// Helm's own `--timeout`, when none is given.
/// Source: `helm install --help`, "default 5m0s".
const HELM_TIMEOUT: i64 = 300;

#[test]
fn the_job_ends_before_helm_stops_waiting() {
    let job = render(json!({})).only("Job")["spec"].clone();
    let deadline = job["activeDeadlineSeconds"].as_i64().expect("is a number");
    assert!(deadline < HELM_TIMEOUT, "{deadline}");
    assert_eq!(deadline, 290);

    let rendered = render(json!({"timeoutSeconds": 10_000_000}));
    assert_eq!(rendered.only("Job")["spec"]["activeDeadlineSeconds"], 10_000_020);
    assert!(rendered.arguments().contains(&"--timeout=10000000s".into()));
}

#[test]
fn the_binarys_verdict_is_final_and_a_lost_pod_is_not() {
    let job = render(json!({})).only("Job")["spec"].clone();
    assert_eq!(job["backoffLimit"], 1);
    assert_eq!(job["podReplacementPolicy"], "Failed");
    assert_eq!(
        job["podFailurePolicy"]["rules"],
        json!([
            {
                "action": "FailJob",
                "onExitCodes": {"containerName": "prepull", "operator": "In", "values": [1, 2, 3]},
            },
            {
                "action": "Ignore",
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
            },
        ])
    );
    let pod = &job["template"]["spec"];
    assert_eq!(pod["containers"][0]["name"], "prepull");
    // The API server refuses a pod failure policy with any other restart policy.
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod["terminationGracePeriodSeconds"], 30);
}

#[test]
fn a_finished_job_stays_as_long_as_it_is_told_to() {
    for (values, expected) in [
        (json!({}), json!(300)),
        (json!({"job": {"ttlSecondsAfterFinished": 10_000_000}}), json!(10_000_000)),
        (json!({"job": {"ttlSecondsAfterFinished": 5}}), json!(5)),
        (json!({"job": {"ttlSecondsAfterFinished": null}}), Value::Null),
    ] {
        let rendered = render(values);
        assert_eq!(rendered.only("Job")["spec"]["ttlSecondsAfterFinished"], expected);
    }
}

#[test]
fn the_binary_is_called_as_agreed() {
    let arguments = render(json!({})).arguments();
    let (settings, others) = arguments.split_last().expect("there are arguments");
    assert!(settings.starts_with("--settings={"));
    assert_eq!(
        others,
        [
            "run",
            "--name=demo-prepull",
            "--puller-image=prepull:0.1.0",
            "--timeout=270s",
            "--interval=2s",
            "--failure-policy=Fail",
        ]
    );
    let strict = render(json!({"strict": true, "failurePolicy": "Ignore", "interval": "500ms"}));
    assert_eq!(
        strict.arguments()[4..7],
        ["--interval=500ms", "--failure-policy=Ignore", "--strict"]
    );
}

#[test]
fn the_binary_learns_who_it_is() {
    let pod = pod(&render(json!({})));
    let expected = [
        ("PREPULL_JOB_NAME", "metadata.labels['batch.kubernetes.io/job-name']"),
        ("PREPULL_JOB_UID", "metadata.labels['batch.kubernetes.io/controller-uid']"),
        ("PREPULL_POD_NAME", "metadata.name"),
        ("PREPULL_POD_UID", "metadata.uid"),
    ]
    .map(|(name, path)| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
    assert_eq!(pod["containers"][0]["env"], json!(expected));
    assert_eq!(pod["enableServiceLinks"], false);
    // The image's entrypoint is the binary.
    assert_eq!(pod["containers"][0]["command"], Value::Null);
}

#[test]
fn our_image_is_named_by_tag_or_digest_or_both() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for (image, expected) in [
        (json!({}), "prepull:0.1.0".into()),
        (json!({"tag": "2"}), "prepull:2".into()),
        (json!({"digest": digest}), format!("prepull@{digest}")),
        (json!({"tag": "2", "digest": digest}), format!("prepull:2@{digest}")),
        (json!({"repository": "r.example:5000/p"}), "r.example:5000/p:0.1.0".into()),
        (
            json!({"repository": "{{ .Values.global.registry }}/prepull\n"}),
            "mirror.example/prepull:0.1.0".into(),
        ),
        // No registry has such a name, but nothing may be made of it on the way either.
        (json!({"repository": "a$(HOME)$$b"}), "a$(HOME)$$b:0.1.0".into()),
    ] {
        let rendered = render(json!({"image": image, "global": {"registry": "mirror.example"}}));
        assert_eq!(pod(&rendered)["containers"][0]["image"], expected);
        assert_eq!(rendered.arguments()[2], format!("--puller-image={expected}"));
    }
}

#[test]
fn the_pod_may_do_nothing_but_talk() {
    let pod = pod(&render(json!({})));
    assert_eq!(rules::restricted_violations(&pod), Vec::<String>::new());
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["runAsGroup"], 65532);
    assert_eq!(pod["volumes"], Value::Null);
    assert_eq!(
        pod["nodeSelector"],
        json!({"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"})
    );
    for resource in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
        assert!(container["resources"].pointer(resource).is_some(), "{resource} is not set");
    }
}

#[test]
fn openshift_chooses_the_ids() {
    for (values, expected) in [
        (json!({}), Value::Null),
        (json!({"job": {"podSecurityContext": {"fsGroup": 65532}}}), Value::Null),
        (
            json!({
                "job": {"podSecurityContext": {"runAsUser": 1_000_710_000}},
                "puller": {"podSecurityContext": {"runAsUser": 1_000_710_000}},
            }),
            json!(1_000_710_000),
        ),
    ] {
        let mut release = Release::with(values);
        release.values["images"] = json!(["app:1"]);
        release.api_versions = "security.openshift.io/v1";
        let rendered = release.render();
        rules::check(&rendered);
        let contexts = [
            pod(&rendered)["securityContext"].clone(),
            rendered.settings()["puller"]["podSecurityContext"].clone(),
        ];
        for context in contexts {
            assert_eq!(context["runAsUser"], expected);
            assert_eq!(context["runAsGroup"], Value::Null);
            assert_eq!(context["fsGroup"], Value::Null);
            assert_eq!(context["runAsNonRoot"], true);
            assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
        }
    }
}

#[test]
fn one_more_id_does_not_lift_the_other_restrictions() {
    let context = json!({"podSecurityContext": {"runAsUser": 1000}});
    let rendered = render(json!({"job": context, "puller": context}));
    let expected = json!({
        "runAsGroup": 65532,
        "runAsNonRoot": true,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    assert_eq!(pod(&rendered)["securityContext"], expected);
    assert_eq!(rendered.settings()["puller"]["podSecurityContext"], expected);
}

#[test]
fn the_pod_goes_where_the_pullers_may_go() {
    let tolerations = json!([{"key": "dedicated", "operator": "Exists"}]);
    let secrets = json!([{"name": "registry"}]);
    let puller = json!({"tolerations": tolerations, "imagePullSecrets": secrets});
    let others = json!([{"name": "other"}]);
    for (job, expected_tolerations, expected_secrets) in [
        (json!({}), tolerations.clone(), secrets.clone()),
        (json!({"tolerations": null, "imagePullSecrets": null}), tolerations.clone(), secrets),
        (json!({"tolerations": [], "imagePullSecrets": []}), Value::Null, Value::Null),
        (
            json!({"tolerations": [{"operator": "Exists"}], "imagePullSecrets": others}),
            json!([{"operator": "Exists"}]),
            others.clone(),
        ),
    ] {
        let pod = pod(&render(json!({"puller": puller, "job": job})));
        assert_eq!(pod["tolerations"], expected_tolerations, "{job}");
        assert_eq!(pod["imagePullSecrets"], expected_secrets, "{job}");
    }
}

#[test]
fn autoscalers_and_meshes_leave_the_pod_alone() {
    let job = render(json!({})).only("Job").clone();
    let metadata = &job["spec"]["template"]["metadata"];
    assert_eq!(
        metadata["annotations"],
        json!({
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            "karpenter.sh/do-not-disrupt": "true",
            "linkerd.io/inject": "disabled",
        })
    );
    assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false");
}

#[test]
fn a_default_can_be_taken_away() {
    let rendered = render(json!({
        "job": {
            "annotations": {"linkerd.io/inject": null},
            "labels": null,
            "nodeSelector": {"kubernetes.io/arch": null, "kubernetes.io/os": null},
            "podSecurityContext": null,
            "resources": null,
            "securityContext": null,
        },
        "puller": {
            "annotations": {"linkerd.io/inject": null},
            "labels": null,
            "podSecurityContext": null,
            "securityContext": null,
        },
    }));
    let metadata = &rendered.only("Job")["spec"]["template"]["metadata"];
    assert_eq!(metadata["annotations"]["linkerd.io/inject"], Value::Null);
    assert_eq!(metadata["labels"], json!({"app.kubernetes.io/name": "prepull"}));
    let pod = pod(&rendered);
    assert_eq!(pod["nodeSelector"], Value::Null);
    assert_eq!(pod["securityContext"], Value::Null);
    assert_eq!(pod["containers"][0]["resources"], Value::Null);
    assert_eq!(pod["containers"][0]["securityContext"], Value::Null);
    let puller = &rendered.settings()["puller"];
    assert_eq!(puller["annotations"], json!({}));
    assert_eq!(puller["labels"], Value::Null);
    assert_eq!(puller["podSecurityContext"], json!({}));
}

fn render(mut values: Value) -> Rendered {
    values["images"] = json!(["app:1"]);
    Release::with(values).render()
}

fn pod(rendered: &Rendered) -> Value {
    rendered.only("Job")["spec"]["template"]["spec"].clone()
}
