//! What the kubelet and the controllers really write of the puller's pods, in every state that a
//! pod may be in.
//!
//! `tests/evidence` reads what was captured here, without a cluster. `EVIDENCE=write` captures it
//! anew; otherwise these tests fail when a state looks different from what was captured, as it may
//! with another Kubernetes or containerd.

use std::collections::BTreeSet;
use std::time::Duration;
use std::{env, fs};

use prepull::evidence::{ContainerStatus, Pod};
use prepull::image::{ImageRef, PullPolicy};
use prepull::node::Placement;
use prepull::puller::{Destination, Plan, manifest};
use prepull::settings::PullerSettings;
use serde_json::{Deserializer, Map, Value, json};

use crate::cluster::{cluster, items_of, repository, text};
use crate::command::until;
use crate::scenario::Scenario;
use crate::turn::ReservedNodes;

/// Until the last of the states: the kubelet looks every 10 s at whom to evict.
const CAPTURES: Duration = Duration::from_secs(120);

#[test]
fn pods_look_as_they_did_when_they_were_captured() {
    let reserved = ReservedNodes::two();
    let scenario = Scenario::apart("states");
    let [node, slow_node] = reserved.names();
    let watch = scenario.watch_pods();

    make_pods(&scenario, node, slow_node);

    let mut missing = states();
    until("every state", CAPTURES, || {
        let said = watch.said_as_yet();
        // Its last words may not be complete.
        let seen: Vec<Value> =
            Deserializer::from_str(&said).into_iter().map_while(Result::ok).collect();
        missing.retain(|state| {
            let is_its = |it: &&Value| it["metadata"]["labels"]["prepull.dev/name"] == state.pods;
            let pod = seen.iter().filter(is_its).find(|it| (state.is_reached)(it));
            pod.inspect(|it| expect(state.name, state.proves, it, None)).is_none()
        });
        let names: Vec<_> = missing.iter().map(|it| it.name).collect();
        if names.is_empty() { Ok(()) } else { Err(format!("no {names:?}")) }
    });
}

/// Makes the pods that come into all those states, by what is wrong with each.
fn make_pods(scenario: &Scenario, node: &str, slow_node: &str) {
    let good = scenario.image("good");
    let away = scenario.unavailable_image("away");
    let slow = scenario.slow_image("slow", 8);
    let no_name = ("/containers/1/image", json!("Not/A_Name:1"));
    let profile = json!({"type": "Localhost", "localhostProfile": "missing.json"});
    let limits = |name: &str, value: &str| ("/containers/0/resources/limits", json!({name: value}));
    let sidecar = json!({
        "command": ["/prepull/prepull", "hold"],
        "image": good,
        "name": "sidecar",
        "readinessProbe": {"exec": {"command": ["/prepull/prepull", "--wrong"]}},
        "volumeMounts": [{"mountPath": "/prepull", "name": "prepull"}],
    });
    for (name, node, second, changes) in [
        ("slow", slow_node, &slow, vec![]),
        ("good", node, &scenario.image("second"), vec![]),
        ("away", node, &away, vec![]),
        ("named-wrongly", node, &away, vec![no_name.clone()]),
        (
            "not-created",
            node,
            &scenario.image("third"),
            vec![("/containers/1/securityContext/seccompProfile", profile)],
        ),
        ("out-of-memory", node, &away, vec![limits("memory", "100Ki")]),
        ("too-large", node, &away, vec![("/containers/0/resources/requests/cpu", json!("1000"))]),
        ("out-of-disk", node, &away, vec![no_name, limits("ephemeral-storage", "1")]),
        ("injected", node, &good, vec![("/containers/-", sidecar)]),
    ] {
        let mut set = puller(name, &[&good, second], node);
        for (pointer, value) in changes {
            put(&mut set["spec"]["template"]["spec"], pointer, value);
        }
        scenario.create(&set);
    }
    let mut pod = bound("misplaced", &good, node);
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "elsewhere"});
    scenario.create(&pod);
}

/// A state, whose pods come into it, and how it is told.
struct State {
    name: &'static str,
    pods: &'static str,
    is_reached: fn(&Value) -> bool,
    /// The containers whose images it proves.
    proves: &'static [&'static str],
}

fn states() -> Vec<State> {
    vec![
        State {
            name: "pulling",
            pods: "slow",
            is_reached: |pod| {
                let install = &pod["status"]["initContainerStatuses"][0]["state"];
                install.get("terminated").is_some() && waits(pod, 0, "PodInitializing")
            },
            proves: &[],
        },
        State {
            name: "running",
            pods: "good",
            is_reached: |pod| runs(pod, 0) && runs(pod, 1),
            proves: &["01-good", "02-second"],
        },
        State {
            name: "pull-failed",
            pods: "away",
            is_reached: |pod| runs(pod, 0) && waits(pod, 1, "ErrImagePull"),
            proves: &["01-good"],
        },
        State {
            name: "pull-backs-off",
            pods: "away",
            is_reached: |pod| runs(pod, 0) && waits(pod, 1, "ImagePullBackOff"),
            proves: &["01-good"],
        },
        State {
            name: "invalid-image-name",
            pods: "named-wrongly",
            is_reached: |pod| runs(pod, 0) && waits(pod, 1, "InvalidImageName"),
            proves: &["01-good"],
        },
        State {
            name: "create-container-error",
            pods: "not-created",
            is_reached: |pod| runs(pod, 0) && waits(pod, 1, "CreateContainerError"),
            proves: &["01-good", "02-third"],
        },
        State {
            name: "hold-crashes",
            pods: "out-of-memory",
            is_reached: |pod| waits(pod, 0, "CrashLoopBackOff"),
            proves: &["01-good"],
        },
        State {
            name: "unschedulable",
            pods: "too-large",
            is_reached: |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable",
            proves: &[],
        },
        State {
            name: "evicted",
            pods: "out-of-disk",
            // One that is evicted soon may have shown nothing as yet.
            is_reached: |pod| {
                pod["status"]["reason"] == "Evicted" && state(pod, 0).get("terminated").is_some()
            },
            proves: &["01-good"],
        },
        State {
            name: "sidecar-not-ready",
            pods: "injected",
            is_reached: |pod| (0..3).all(|it| runs(pod, it)),
            // The sidecar's own image as well, about which nobody asked.
            proves: &["01-good", "02-good", "sidecar"],
        },
        State {
            name: "wrong-node",
            pods: "misplaced",
            is_reached: |pod| pod["status"]["phase"] == "Failed",
            proves: &[],
        },
    ]
}

fn state(pod: &Value, place: usize) -> &Value {
    &pod["status"]["containerStatuses"][place]["state"]
}

fn waits(pod: &Value, place: usize, reason: &str) -> bool {
    state(pod, place)["waiting"]["reason"] == reason
}

fn runs(pod: &Value, place: usize) -> bool {
    state(pod, place).get("running").is_some()
}

/// The puller that a run would make.
fn puller(name: &str, images: &[&str], node: &str) -> Value {
    let images: Vec<_> =
        images.iter().map(|it| ImageRef::parse(it).expect("it is one of ours")).collect();
    let made = manifest(&Plan {
        name: name.into(),
        release: name,
        run: name,
        owner: None,
        expires: "2000-01-01T00:00:00Z".into(),
        own_image: &format!("prepull:{}", cluster().tag),
        images: images
            .iter()
            .enumerate()
            .map(|(place, it)| (place, it, PullPolicy::IfNotPresent))
            .collect(),
        placement: &Placement::default(),
        destination: Destination::Nodes(vec![node]),
        settings: &PullerSettings::default(),
    });
    serde_json::to_value(made).expect("it is sent as JSON")
}

/// A pod like a puller's that has its node already, so that no scheduler is asked.
pub fn bound(name: &str, image: &str, node: &str) -> Value {
    let template = puller(name, &[image], node)["spec"]["template"].take();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"]});
    pod["metadata"]["name"] = json!(name);
    pod["spec"] = template["spec"].clone();
    pod["spec"]["nodeName"] = json!(node);
    pod
}

/// Puts a value at a place of a pod's spec, by a JSON pointer.
fn put(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("it is a pointer");
    match spec.pointer_mut(parent).expect("the puller has it") {
        Value::Array(items) => items.push(value),
        object => object[key] = value,
    }
}

// === What is kept ===

/// Holds a pod's state against the one that was captured under this name, and what the program
/// reads in it against what the node's containerd has.
pub fn expect(name: &str, proves: &[&str], pod: &Value, node: Option<&Value>) {
    let held = held(pod);
    let proved = proved(pod);
    // What a pod showed of the machine before is no proof, and Targets takes it for none.
    let created = |it: &Value| text(&it["metadata"]["creationTimestamp"]).to_owned();
    let is_proof = node.is_none_or(|it| created(it) < created(pod));
    let mut captured = json!({"containers": Map::new(), "pod": trimmed(pod, POD)});
    for (container, is_held) in held {
        let is_proved = proved.contains(&container);
        assert_eq!(is_proved, proves.contains(&container.as_str()), "{name}: {container}: {pod}");
        assert!(is_held || !is_proved || !is_proof, "{name}: {container} is not there: {pod}");
        captured["containers"][container] = json!({"held": is_held, "proved": is_proved});
    }
    if let Some(node) = node {
        captured["node"] = trimmed(node, NODE);
    }
    let file = repository().join("tests/evidence").join(format!("{name}.json"));
    if env::var("EVIDENCE").is_ok_and(|it| it == "write") {
        let ns = text(&pod["metadata"]["namespace"]);
        // Namespaces end with a word of this run of the tests.
        let (lasting, _) = ns.rsplit_once('-').expect("it is one of ours");
        let captured = serde_json::to_string_pretty(&captured).expect("it is JSON");
        fs::write(&file, captured.replace(ns, lasting) + "\n").expect("the folder is there");
    }
    let before =
        fs::read_to_string(&file).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
    let before: Value = serde_json::from_str(&before).expect("it was written here");
    assert_eq!(shape(&captured), shape(&before), "{name} is not what was captured: {pod}");
}

/// The fields of a pod that the program reads, and those that a reader wants to see.
const POD: &str = r#"{
    "metadata": {
        "creationTimestamp": {}, "name": {}, "ownerReferences": [{"controller": {}, "uid": {}}],
        "uid": {}
    },
    "spec": {"affinity": {}, "containers": [{"image": {}, "name": {}}], "nodeName": {}},
    "status": {
        "conditions": [{"message": {}, "reason": {}, "status": {}, "type": {}}],
        "containerStatuses": [
            {"image": {}, "imageID": {}, "name": {}, "ready": {}, "restartCount": {}, "state": {}}
        ],
        "initContainerStatuses": [{"image": {}, "imageID": {}, "name": {}, "state": {}}],
        "message": {}, "phase": {}, "reason": {}
    }
}"#;
/// The same of a node.
const NODE: &str = r#"{
    "metadata": {"creationTimestamp": {}, "name": {}, "uid": {}},
    "spec": {"taints": {}, "unschedulable": {}},
    "status": {"conditions": [{"reason": {}, "status": {}, "type": {}}]}
}"#;

/// The fields of a value that a pattern names; an empty object stands for everything.
fn trimmed(value: &Value, pattern: &str) -> Value {
    keep(value, &serde_json::from_str(pattern).expect("it is JSON"))
}

fn keep(value: &Value, pattern: &Value) -> Value {
    match (value, pattern) {
        (_, Value::Object(fields)) if fields.is_empty() => value.clone(),
        (Value::Object(object), Value::Object(fields)) => {
            let kept = fields.iter().filter_map(|(name, it)| {
                object.get(name).map(|value| (name.clone(), keep(value, it)))
            });
            Value::Object(kept.collect())
        }
        (Value::Array(items), Value::Array(patterns)) => {
            items.iter().map(|it| keep(it, &patterns[0])).collect()
        }
        _ => value.clone(),
    }
}

/// The pod's containers, and whether the node's containerd has their images now.
fn held(pod: &Value) -> Vec<(String, bool)> {
    let there = match text(&pod["spec"]["nodeName"]) {
        "" => BTreeSet::new(),
        node => cluster().images_on(node),
    };
    let is_there = |image: &Value| {
        ImageRef::parse(text(image)).is_ok_and(|it| there.contains(&it.listed_name()))
    };
    let containers = items_of(&pod["spec"]["containers"]).iter();
    containers.map(|it| (text(&it["name"]).into(), is_there(&it["image"]))).collect()
}

/// The containers whose images the pod's status proves, by the program's own judgement.
fn proved(pod: &Value) -> BTreeSet<String> {
    let pod: Pod = serde_json::from_value(pod.clone()).expect("the program reads it");
    let statuses = pod.status.container_statuses.into_iter();
    statuses.filter(ContainerStatus::proves_image).map(|it| it.name).collect()
}

/// What is the same each time: not the names, the moments and the words.
fn shape(captured: &Value) -> Value {
    let status = &captured["pod"]["status"];
    let container = |it: &Value| {
        let state = it["state"].as_object().into_iter().flatten().next();
        let (kind, state) = state.expect("a container is in some state");
        json!([it["name"], kind, state["reason"]])
    };
    let containers = items_of(&status["containerStatuses"]).iter().map(container);
    let proved = captured["containers"].as_object().into_iter().flatten();
    json!({
        "proved": proved.map(|(name, it)| json!([name, it["proved"]])).collect::<Vec<_>>(),
        "phase": status["phase"],
        "reason": status["reason"],
        "statuses": containers.collect::<Vec<_>>(),
    })
}
