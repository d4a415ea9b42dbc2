//! Tests that change nodes. Those of one node each run at the same time, and no others meanwhile.

mod avoided;
mod changed;
mod full;
mod kubelet;
mod lists;
mod states;
mod strained;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{cluster, items, items_of, text};
use crate::command::until;

/// Until a kubelet has told of itself; it registers once its API server is there.
const READY: Duration = Duration::from_secs(60);
/// `maxPods` of a kubelet that is told nothing.
const MOST_PODS: &str = "110";

/// A node's kubelet, which runs as it always does when this has gone.
struct Kubelet<'a> {
    node: &'a str,
}

impl<'a> Kubelet<'a> {
    fn stop(node: &'a str) -> Self {
        let kubelet = Self { node };
        cluster().hack(&["kubelet", node, "stop"]);
        kubelet
    }

    fn start(&self, settings: &[&str]) {
        let arguments: Vec<_> =
            ["kubelet", self.node, "start"].iter().chain(settings).copied().collect();
        cluster().hack(&arguments);
    }

    fn until_ready(&self, most_pods: &str) -> Value {
        until(&format!("the readiness of {}", self.node), READY, || {
            let name = format!("metadata.name={}", self.node);
            // Not by its name: it may have been deleted, and not be there again.
            let found = cluster().get(&["nodes", "--field-selector", &name]);
            let Some(node) = items(&found).first() else { return Err("no node".into()) };
            let conditions = items_of(&node["status"]["conditions"]);
            let is_ready =
                conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
            let has_taints = !items_of(&node["spec"]["taints"]).is_empty();
            let has_room = text(&node["status"]["allocatable"]["pods"]) == most_pods;
            match is_ready && !has_taints && has_room {
                true => Ok(node.clone()),
                false => Err(format!("{conditions:?}, {}", node["spec"])),
            }
        })
    }
}

impl Drop for Kubelet<'_> {
    fn drop(&mut self) {
        // A second panic would take all tests down.
        let restored = catch_unwind(AssertUnwindSafe(|| {
            // It may run with settings of the test.
            let _ = cluster().try_hack(&["kubelet", self.node, "stop"]);
            self.start(&[]);
            self.until_ready(MOST_PODS);
        }));
        match restored {
            Ok(()) => {}
            Err(_) if thread::panicking() => println!("{} may have no kubelet", self.node),
            Err(panic) => resume_unwind(panic),
        }
    }
}
