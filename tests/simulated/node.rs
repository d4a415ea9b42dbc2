//! Node objects, as a kubelet would register them.

use std::collections::BTreeMap;

use prepull::node::Taint;
use serde_json::{Value, json};

/// What the kubelet of every node has pulled.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// A node that is Ready and has nothing special, until its fields say otherwise.
#[derive(Clone)]
pub struct SimulatedNode {
    /// Says how it pulls: see `hack/cluster --help`.
    pub name: String,
    /// Besides the operating system.
    pub labels: BTreeMap<String, String>,
    /// Type to status, of those that are not as on a healthy node.
    pub conditions: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    /// Besides the sandbox's.
    pub images: Vec<String>,
    pub most_pods: u32,
}

impl SimulatedNode {
    pub fn new(name: String) -> Self {
        Self {
            name,
            labels: BTreeMap::new(),
            conditions: BTreeMap::new(),
            taints: vec![],
            unschedulable: false,
            images: vec![],
            most_pods: 110,
        }
    }

    pub fn manifest(&self) -> Value {
        let mut labels = self.labels.clone();
        labels.entry("kubernetes.io/os".into()).or_insert_with(|| "linux".into());
        labels.insert("kubernetes.io/hostname".into(), self.name.clone());
        let annotations = self.conditions.iter();
        let annotations: BTreeMap<_, _> =
            annotations.map(|(kind, it)| (format!("conditions.simulated/{kind}"), it)).collect();
        let taints = self.taints.iter();
        let taints: Vec<_> = taints
            .map(|it| json!({"key": it.key, "value": it.value, "effect": it.effect}))
            .collect();
        let images = [PAUSE].into_iter().chain(self.images.iter().map(String::as_str));
        let images: Vec<_> = images.map(|it| json!({"names": [it], "sizeBytes": 1000})).collect();
        let room = json!({"cpu": "8", "memory": "32Gi", "pods": self.most_pods.to_string()});
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels, "annotations": annotations},
            "spec": {"taints": taints, "unschedulable": self.unschedulable},
            "status": {
                "allocatable": room,
                "capacity": room,
                "images": images,
                "nodeInfo": {
                    "architecture": "amd64",
                    "bootID": "",
                    "containerRuntimeVersion": "containerd://2.4.2",
                    "kernelVersion": "6.1.0",
                    "kubeProxyVersion": "",
                    "kubeletVersion": "v1.36.3",
                    "machineID": "",
                    "operatingSystem": "linux",
                    "osImage": "simulated",
                    "systemUUID": "",
                },
            },
        })
    }
}
