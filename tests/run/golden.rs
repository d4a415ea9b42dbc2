//! What people and their scripts read, in whole: reports and manifests. The files in `golden` are
//! written anew by `GOLDEN=write cargo test --test run golden`, and then read by you.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use prepull::args::RunArgs;

use crate::bench::{Ended, args, args_of_a_shell, args_with, nodes, run};
use crate::model::{Happening, ModelNode, PodsOnReplace, Pull, Stored, World};

#[track_caller]
pub fn holds(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/golden").join(name);
    if env::var("GOLDEN").is_ok_and(|it| it == "write") {
        fs::write(&file, text).expect("the folder is there");
    }
    let golden = fs::read_to_string(&file).unwrap_or_default();
    let without = |text: &str, other: &str| {
        let other: Vec<_> = other.lines().collect();
        let lines = text.lines().filter(|it| !other.contains(it));
        lines.map(|it| format!("{it}\n")).collect::<String>()
    };
    assert!(
        text == golden,
        "differs from tests/run/golden/{name}: it has no more\n{}and has\n{}",
        without(&golden, text),
        without(text, &golden)
    );
}

fn shown(line: &str, ended: &Ended) -> String {
    let mut text = format!("$ prepull {line}\n");
    let prefix = if ended.exit == 2 { "prepull: " } else { "" };
    ended.lines.iter().for_each(|it| text += &format!("{prefix}{it}\n"));
    let json = serde_json::to_string_pretty(&ended.report).expect("JSON can be written");
    let event = ended.event.as_deref().unwrap_or("none");
    let last = &ended.termination_message;
    write!(
        text,
        "exit code {}\n\nevent: {event}\n\ntermination message:\n{last}\n\n{json}\n",
        ended.exit
    )
    .expect("text can be written");
    text
}

#[track_caller]
fn report(name: &str, world: World, line: &str) {
    report_of(name, world, line, &args(line));
}

#[track_caller]
fn report_of(name: &str, world: World, line: &str, args: &RunArgs) {
    let ended = run(&world.share(), args);
    holds(&format!("{name}.txt"), &shown(line, &ended));
}

fn held() -> World {
    World::of(vec![
        ModelNode::new("n1").with(&["q.io/a:1", "q.io/b:1"]),
        ModelNode::new("n2").with(&["q.io/a:1"]),
    ])
}

#[test]
fn present() {
    report("present", held(), "q.io/a:1");
}

#[test]
fn pulled() {
    report("pulled", held(), "-v q.io/a:1 q.io/b:1 q.io/c:1");
}

#[test]
fn pulled_around_nodes_that_are_left_out() {
    let mut world = nodes(12);
    for name in ["n01", "n02", "n03", "n04", "n05", "n06", "n07"] {
        world.nodes.get_mut(name).expect("one of twelve").cordoned = true;
    }
    world.nodes.get_mut("n08").expect("one of twelve").ready = false;
    world.registry.insert("q.io/a:1".into(), Pull::after(1000));
    world.registry_at.insert(("n09".into(), "q.io/a:1".into()), Pull::after(3));
    world.registry_at.insert(("n12".into(), "q.io/a:1".into()), Pull::after(50));
    world.at(10, Happening::Cordon("n10")).at(10, Happening::Remove("n11"));
    world.at(20, Happening::Join(Box::new(ModelNode::new("n13"))));
    world.registry_at.insert(("n13".into(), "q.io/a:1".into()), Pull::after(3));
    report("left-out-dropped-late", world, "q.io/a:1");
}

#[test]
fn replaced() {
    let mut world = nodes(2);
    world.registry.insert("q.io/a:1".into(), Pull::after(20));
    world.at(10, Happening::Replace("n2", PodsOnReplace::AreMadeAgain));
    report("replaced", world, "q.io/a:1");
}

#[test]
fn cannot_pull() {
    let mut world = nodes(7);
    let not_found = "rpc error: code = NotFound desc = failed to pull and unpack image \
                     \"q.io/bad:1\": failed to resolve image: q.io/bad:1: not found";
    world.registry.insert("q.io/bad:1".into(), Pull::fails(not_found));
    world.registry.insert("q.io/shy:1".into(), Pull::fails("401 Unauthorized"));
    report("cannot-pull", world.clone(), "q.io/a:1 q.io/bad:1 q.io/shy:1");
    report("cannot-pull-ignored", world, "--failure-policy Ignore q.io/bad:1");
}

#[test]
fn deadline() {
    let mut world = nodes(3);
    world.registry.insert("q.io/slow:1".into(), Pull::after(1000));
    report("deadline", world, "q.io/slow:1");
}

#[test]
fn stopped() {
    let mut world = nodes(3);
    world.registry.insert("q.io/slow:1".into(), Pull::after(1000));
    world.at(20, Happening::Signal);
    report("stopped", world, "q.io/slow:1");
}

#[test]
fn no_nodes() {
    let mut world = nodes(3);
    world.nodes.values_mut().for_each(|it| it.cordoned = true);
    report("no-nodes", world.clone(), "q.io/a:1");
    report("no-nodes-strict", world, "--strict q.io/a:1");
}

#[test]
fn only_looked() {
    report("check-present", held(), "check q.io/a:1");
    report("check-missing", held(), "check q.io/a:1 q.io/b:1");
    report("check-unknown", held(), "check q.io/a:latest");
    report("check-unknown-allowed", held(), "check --allow-unknown q.io/a:latest");
    report("dry-run", held(), "--dry-run q.io/a:1 q.io/b:1");
}

#[test]
fn refused() {
    let mut world = nodes(1);
    world.namespace_exists = false;
    report("no-namespace", world, "--namespace nowhere q.io/a:1");
    let mut world = nodes(1);
    world.denied.insert("create daemonset".into());
    report("may-not-create", world, "q.io/a:1");
    let mut world = nodes(1);
    world.registry.insert("q.io/a:1".into(), Pull::after(100));
    world.at(20, Happening::WithdrawRights);
    report("rights-withdrawn", world, "q.io/a:1");
}

#[test]
fn forgiven() {
    let mut world = nodes(3);
    world.nodes.get_mut("n2").expect("one of three").has_room = false;
    report("forgiven", world.clone(), "q.io/a:1");
    report("forgiven-strict", world, "--strict q.io/a:1");
}

#[test]
fn moved_tag() {
    let mut world = nodes(2);
    for (name, digit) in [("n1", "1"), ("n2", "2")] {
        let stored = &mut world.nodes.get_mut(name).expect("one of two").images;
        stored.push(Stored::new("q.io/a:1", Duration::ZERO));
        let names = &mut stored.last_mut().expect("one was pushed").names;
        // The kubelet lists digests first.
        names.insert(0, format!("q.io/a@sha256:{}", digit.repeat(64)));
    }
    report("moved-tag", world, "q.io/a:1");
}

#[test]
fn nothing_owns_it() {
    let line = "q.io/a:1";
    // The id of such a run is a word by chance.
    let mut args = args_of_a_shell(line);
    args.config.id = "0123456789abcdef".into();
    report_of("nothing-owns-it", nodes(1), line, &args);
}

/// The DaemonSet that a run makes.
fn manifest(args: &RunArgs) -> String {
    let mut world = nodes(2);
    world.kill_after = Some(4);
    let world = world.share();
    assert!(run(&world, args).is_killed);
    let world = world.borrow();
    let mut object = world.sets.values().next().expect("it was made").object.clone();
    for key in ["creationTimestamp", "generation", "uid"] {
        object["metadata"].as_object_mut().expect("metadata").remove(key);
    }
    // The standard library may hash otherwise one day.
    object["metadata"]["annotations"]["prepull.dev/spec"] = "the fingerprint".into();
    serde_json::to_string_pretty(&object).expect("JSON can be written") + "\n"
}

#[test]
fn manifests() {
    let digest = "0".repeat(64);
    let plain = args(&format!("q.io/a:1 b@sha256:{digest}"));
    holds("manifest.json", &manifest(&plain));
    let settings = r#"{
        "images": [{
            "image": "Registry.example:5000/team/my_app.x:V1",
            "pullPolicy": "Always",
            "tolerations": []
        }],
        "controlPlane": "exclude",
        "puller": {
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "zone", "operator": "NotIn", "values": ["z"]}
                ]}]
            }}},
            "annotations": {"example.org/note": "x"},
            "imagePullSecrets": [{"name": "pull"}],
            "labels": {
                "team": "x",
                "app.kubernetes.io/name": "theirs",
                "prepull.dev/run": "theirs",
                "prepull.dev/name": "theirs",
                "prepull.dev/group": "theirs"
            },
            "podSecurityContext": {"runAsUser": 7},
            "priorityClassName": "high",
            "resources": {"limits": {"cpu": 1, "memory": "64Mi"}, "requests": {"cpu": "10m"}},
            "securityContext": {"privileged": false},
            "serviceAccountName": "puller",
            "tolerations": [{"operator": "Exists"}]
        }
    }"#;
    holds("manifest-with-settings.json", &manifest(&args_with("", settings)));
}
