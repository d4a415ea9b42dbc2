//! A node whose disk is full, and one whose kubelet may not pull as often as it wants to.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Kubelet, MOST_PODS};
use crate::cluster::{cluster, text};
use crate::command::until;
use crate::scenario::Scenario;
use crate::turn::ReservedNodes;
use crate::words::{Said, expect_pull};

/// Until the kubelet has tried often enough.
const FAILURES: Duration = Duration::from_secs(90);

#[test]
fn failures_of_a_node_mean_what_they_meant_when_they_were_captured() {
    let reserved = ReservedNodes::one();
    let scenario = Scenario::apart("strained");
    let node = reserved.name();
    let image = scenario.image("one");
    let missing: Vec<_> = (1..=8).map(|it| format!("{}/missing:{it}", scenario.ns)).collect();
    let kubelet = Kubelet::stop(node);
    kubelet.start(&["registryPullQPS: 1", "registryBurst: 1"]);
    kubelet.until_ready(MOST_PODS);

    scenario.create(&pod("eager", node, &missing));
    let too_often = until_said(&scenario, "pull QPS exceeded");
    expect_pull("too-often", &[too_often], &scenario.ns);

    let _full = FullDisk::of(node);
    scenario.create(&pod("large", node, &[image]));
    let disk_full = until_said(&scenario, "no space left on device");
    expect_pull("disk-full", &[disk_full], &scenario.ns);
}

/// A pod that runs nothing, with a container for each of these images.
fn pod(name: &str, node: &str, images: &[String]) -> Value {
    let container = |(place, image): (usize, &String)| json!({"command": ["/none"], "image": image, "name": format!("image-{place}")});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": images.iter().enumerate().map(container).collect::<Vec<_>>(),
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
        },
    })
}

/// Waits until the kubelet has told of a failed pull in these words.
fn until_said(scenario: &Scenario, words: &str) -> Said {
    until(&format!("`{words}`"), FAILURES, || {
        let events = scenario.events("Failed", "Failed to pull image ");
        let is_it = |it: &&Value| text(&it["message"]).contains(words);
        match events.iter().find(is_it) {
            Some(it) => Ok(Said { reason: "Failed".into(), message: text(&it["message"]).into() }),
            None => Err(format!("{events:?}")),
        }
    })
}

/// A node whose containerd has room for nothing more than what it has, until this goes: what it
/// pulls into is a memory file system of that size.
struct FullDisk<'a> {
    node: &'a str,
}

impl<'a> FullDisk<'a> {
    fn of(node: &'a str) -> Self {
        let disk = Self { node };
        // A manifest fits, and a layer does not.
        let script = format!(
            "{FOLDERS}
            mkdir $small
            size=$(($(du --summarize --block-size 1K $content | cut --fields 1) + 512))
            mount -t tmpfs -o size=${{size}}K tmpfs $small
            cp --archive $content/. $small
            mount --bind $small $content"
        );
        cluster().hack(&["exec", node, "bash", "-euc", &script]);
        disk
    }
}

impl Drop for FullDisk<'_> {
    fn drop(&mut self) {
        let script = format!(
            "{FOLDERS}
            umount --lazy $content || true
            umount --lazy $small || true
            rmdir $small"
        );
        let undone = cluster().try_hack(&["exec", self.node, "bash", "-uc", &script]);
        println!("{}: {}", self.node, undone.said());
    }
}

const FOLDERS: &str = "
    content=/var/lib/containerd/io.containerd.content.v1.content
    small=/run/prepull-small";
