//! Pods that the cluster does not let come into being: the run says why, and soon.

use std::time::Duration;

use serde_json::{Value, json};

use crate::binary::lines;
use crate::cluster::{Change, cluster, moment, text};
use crate::command::until;
use crate::scenario::{Scenario, verdict};
use crate::words::{Said, expect_refusal};

/// From the first refusal until the end of the run: 20 s make it certain, and it is looked for
/// every 10 s.
const SOON: Duration = Duration::from_secs(40);
/// Until a policy, a webhook or a quota that was made is in force.
const IN_FORCE: Duration = Duration::from_secs(30);

/// The name of a run, what refuses its pods in the cluster's words, and what to do about it.
struct Refused {
    name: &'static str,
    puller: Value,
    cause: &'static str,
    advice: &'static str,
}

/// All in one namespace: whatever else refuses a pod does so before its quotas are looked at.
#[test]
fn a_run_ends_soon_that_may_not_make_pods() {
    let scenario = Scenario::without_helm("refused");
    let ns = scenario.ns.as_str();
    let _policy = deny(&scenario, "denied");
    let _webhook = call_nobody(&scenario, "unanswered");
    let level = "pod-security.kubernetes.io/enforce=restricted";
    cluster().kubectl(&["label", "namespace", ns, level]);
    make_quota(&scenario, &json!({"pods": "0"}));

    expect_refused(
        &scenario,
        &[
            Refused {
                name: "denied",
                puller: json!({}),
                cause: "denied request: pods of that name are not wanted",
                advice: "let the policy pass pods that are labelled `prepull.dev/run`",
            },
            Refused {
                name: "no-account",
                puller: json!({"serviceAccountName": "nobody"}),
                cause: "serviceaccount \"nobody\" not found",
                advice: "create it, or correct `puller.serviceAccountName`",
            },
            Refused {
                name: "no-priority",
                puller: json!({"priorityClassName": "none"}),
                cause: "no PriorityClass with name none was found",
                advice: "create it, or correct `puller.priorityClassName`",
            },
            Refused {
                name: "none-allowed",
                puller: json!({}),
                cause: "exceeded quota: quota, requested: pods=1, used: pods=0, limited: pods=0",
                advice: "raise the quota, or lower `puller.resources`",
            },
            Refused {
                name: "unanswered",
                puller: json!({}),
                cause: "failed calling webhook \"unanswered.prepull.example\"",
                advice: "mend the webhook, or let it pass over the namespace",
            },
            Refused {
                name: "unfit",
                puller: json!({"securityContext": {"allowPrivilegeEscalation": true}}),
                cause: "violates PodSecurity \"restricted:latest\"",
                advice: "change the security contexts of the puller, or the namespace's level",
            },
        ],
    );
}

/// Our explicit requests of nothing are none that such a namespace takes.
#[test]
fn a_run_ends_soon_whose_resources_are_not_those_that_are_asked_for() {
    let scenario = Scenario::without_helm("resources");
    make_quota(&scenario, &json!({"limits.memory": "1Gi"}));
    scenario.create(&json!({
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "least"},
        "spec": {"limits": [{"type": "Container", "min": {"cpu": "10m"}}]},
    }));

    expect_refused(
        &scenario,
        &[
            Refused {
                name: "too-little",
                puller: json!({}),
                cause: "minimum cpu usage per Container is 10m, but request is 0",
                advice: "give `puller.resources` what the namespace's LimitRange asks for",
            },
            Refused {
                name: "not-said",
                puller: json!({"resources": {"requests": {"cpu": "10m"}}}),
                cause: "failed quota: quota: must specify limits.memory for: ",
                advice: "give `puller.resources` what the quota asks for",
            },
        ],
    );
}

fn expect_refused(scenario: &Scenario, all: &[Refused]) {
    let image = scenario.image("one");
    let runs: Vec<_> = all
        .iter()
        .map(|it| {
            let settings = json!({"puller": it.puller}).to_string();
            let arguments = ["run", "--name", it.name, "--settings", &settings, &image];
            (it, scenario.start_prepull(&arguments))
        })
        .collect();
    for (refused, run) in runs {
        let Refused { name, cause, advice, .. } = refused;
        let ended = scenario.end(run);
        let report = lines(&ended);
        let verdict = verdict(&report);
        assert_eq!(ended.code, Some(1), "{name}: {report:#?}");
        let start = format!("failed: DaemonSet `{name}-");
        assert!(verdict.starts_with(&start), "{verdict}");
        for word in ["cannot make its pods on 3 nodes: ", cause, advice] {
            assert!(verdict.contains(word), "{name}: no `{word}` in {verdict}");
        }

        let events = refusals(scenario, name);
        let first = events.iter().map(|it| moment(&it["firstTimestamp"])).min();
        let first = first.expect("the controller has told of it");
        let took = ended.ended.duration_since(first).unwrap_or_default();
        println!("{name}: it ended {took:?} after the first refusal");
        assert!(took <= SOON, "{name}: it took {took:?} from the first refusal");
        expect_refusal(name, &[said(&events[0], name)], &scenario.ns);
    }
    scenario.until_only(&[], Duration::from_secs(30));
}

/// The controller's events about the pods of a run.
fn refusals(scenario: &Scenario, name: &str) -> Vec<Value> {
    let mut events = scenario.events("FailedCreate", "Error creating: ");
    let start = format!("{name}-");
    events.retain(|it| text(&it["involvedObject"]["name"]).starts_with(&start));
    events
}

/// The words of an event, without the names that were made for this run and for the pod.
fn said(event: &Value, name: &str) -> Said {
    let set = text(&event["involvedObject"]["name"]);
    let message = text(&event["message"]).replace(set, name);
    let pod = format!("pods \"{name}-");
    let message = match message.split_once(&pod) {
        Some((before, rest)) => {
            let (_, behind) = rest.split_once('"').expect("it is quoted");
            format!("{before}{pod}\"{behind}")
        }
        None => message,
    };
    Said { reason: text(&event["reason"]).into(), message }
}

/// What a quota is checked against is known a moment after it was made.
fn make_quota(scenario: &Scenario, hard: &Value) {
    scenario.create(&json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "quota"},
        "spec": {"hard": hard},
    }));
    until("the quota to be in force", IN_FORCE, || {
        let quota = scenario.get(&["resourcequota", "quota"]);
        if quota["status"]["hard"] == *hard { Ok(()) } else { Err(quota.to_string()) }
    });
}

/// Denies the pods of the runs of this name.
fn deny<'a>(scenario: &'a Scenario, name: &'a str) -> Change<'a> {
    let ns = scenario.ns.as_str();
    let kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings";
    let policy = Change::undone_by(&["delete", kinds, ns, "--ignore-not-found"]);
    scenario.create(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": ns},
        "spec": {
            "matchConstraints": matching(ns, name),
            "validations": [
                {"expression": "false", "message": "pods of that name are not wanted"}
            ],
        },
    }));
    scenario.create(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": ns},
        "spec": {"policyName": ns, "validationActions": ["Deny"]},
    }));
    until_refused(scenario, name, "denied request");
    policy
}

/// Has a webhook called about the pods of the runs of this name, at an address where nobody is.
fn call_nobody<'a>(scenario: &'a Scenario, name: &'a str) -> Change<'a> {
    let ns = scenario.ns.as_str();
    let kind = "validatingwebhookconfigurations";
    let webhook = Change::undone_by(&["delete", kind, ns, "--ignore-not-found"]);
    let mut call = matching(ns, name);
    call["rules"] = call["resourceRules"].take();
    let call_of = call.as_object_mut().expect("it was made so");
    call_of.remove("resourceRules");
    call_of.extend([
        ("name".into(), json!(format!("{name}.prepull.example"))),
        ("admissionReviewVersions".into(), json!(["v1"])),
        ("clientConfig".into(), json!({"url": "https://127.0.0.1:1/"})),
        ("sideEffects".into(), json!("None")),
    ]);
    scenario.create(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": ns},
        "webhooks": [call],
    }));
    until_refused(scenario, name, "failed calling webhook");
    webhook
}

/// New pods of the runs of a name, as admission is told of them.
fn matching(ns: &str, name: &str) -> Value {
    json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
        "objectSelector": {"matchLabels": {"prepull.dev/name": name}},
        "resourceRules": [{
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["pods"],
        }],
    })
}

/// Waits until a pod of that name is refused with these words.
fn until_refused(scenario: &Scenario, name: &str, words: &str) {
    let labels = format!("--labels=prepull.dev/name={name}");
    until(&format!("the refusal of {name}"), IN_FORCE, || {
        let tried = cluster().try_kubectl(&[
            "run",
            "probe",
            "--image=probe",
            &labels,
            "--dry-run=server",
            "--namespace",
            &scenario.ns,
        ]);
        if tried.stderr.contains(words) { Ok(()) } else { Err(tried.said()) }
    });
}
