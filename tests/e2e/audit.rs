//! Who asked the API server for what, by its audit log.

use std::fs;

use serde_json::Value;

use crate::cluster::{cluster, items_of, text};

/// The user that makes the pods of DaemonSets.
const DAEMON_SET_CONTROLLER: &str = "system:serviceaccount:kube-system:daemon-set-controller";

/// A place in the audit log. What comes after it is the present.
pub struct Mark(usize);

impl Mark {
    pub fn now() -> Self {
        let path = cluster().variable("PREPULL_CLUSTER_AUDIT");
        Self(fs::metadata(path).expect("hack/cluster makes it").len() as usize)
    }

    /// What was written since then, of the lines that contain this text.
    fn since(&self, containing: &str) -> Vec<Value> {
        let log = cluster().read("PREPULL_CLUSTER_AUDIT");
        let new = log.get(self.0..).expect("the audit log only grows");
        let lines = new.lines().filter(|it| it.contains(containing));
        lines.filter_map(|it| serde_json::from_str(it).ok()).collect()
    }

    /// The requests of the ServiceAccounts of a namespace, as verb, resource and status.
    pub fn requests_from(&self, ns: &str) -> Vec<(String, String, u64)> {
        let user = format!("system:serviceaccount:{ns}:");
        let requests = self.since(&user);
        let ours = requests.iter().filter(|it| text(&it["user"]["username"]).starts_with(&user));
        ours.map(|it| {
            let status = it["responseStatus"]["code"].as_u64().unwrap_or_default();
            (text(&it["verb"]).into(), text(&it["objectRef"]["resource"]).into(), status)
        })
        .collect()
    }

    /// The names of the DaemonSets that were asked for in a namespace, by whomsoever.
    pub fn pullers_created(&self, ns: &str) -> Vec<String> {
        let created = self.since(ns).into_iter().filter(|it| {
            let object = &it["objectRef"];
            it["verb"] == "create"
                && object["resource"] == "daemonsets"
                && object["namespace"] == ns
        });
        created.map(|it| text(&it["requestObject"]["metadata"]["name"]).into()).collect()
    }

    /// The nodes for which the DaemonSet controller made pods in a namespace, sorted.
    pub fn nodes_of_pods(&self, ns: &str) -> Vec<String> {
        let made = self.since(DAEMON_SET_CONTROLLER).into_iter().filter(|it| {
            let object = &it["objectRef"];
            it["verb"] == "create" && object["resource"] == "pods" && object["namespace"] == ns
        });
        let mut nodes: Vec<_> = made.map(|it| node_of(&it["requestObject"])).collect();
        nodes.sort();
        nodes
    }
}

/// The controller says where a pod goes by a field of the node affinity.
fn node_of(pod: &Value) -> String {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = &pod["spec"]["affinity"]["nodeAffinity"][required]["nodeSelectorTerms"];
    let fields = items_of(terms).iter().flat_map(|it| items_of(&it["matchFields"]));
    let mut names =
        fields.filter(|it| it["key"] == "metadata.name").map(|it| text(&it["values"][0]));
    names.next().unwrap_or("nowhere").into()
}
