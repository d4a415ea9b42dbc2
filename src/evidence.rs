//! What pods and events prove: which image is on which node, and why one is not.
//!
//! The rule of proof: a container of a pod of ours, found by the container's *name*, shows that
//! its image is on the pod's node. `status.image` is no echo of the spec (a runtime answers with
//! whichever name of the image comes first), `status.phase` and the numbers of the DaemonSet
//! count other things.

use serde::Deserialize;

use crate::node::null_as_default;

/// The waiting reasons that the kubelet gives only after a container's image was pulled: in
/// `startContainer` everything that can fail with one of these comes after `EnsureImageExists`.
///
/// Source: `pkg/kubelet/kuberuntime/kuberuntime_container.go`.
const WAITING_AFTER_PULL: [&str; 7] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "PostStartHookError",
    "PreCreateHookError",
    "PreStartHookError",
    "RunContainerError",
];

/// The reason the kubelet writes over *every* container without a final state when it ends a
/// pod, also over those that never started; it proves nothing.
///
/// Source: `TerminatePod` in `pkg/kubelet/status/status_manager.go`.
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

/// The part of a Pod object that proves something.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Pod {
    pub metadata: PodMetadata,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PodMetadata {
    pub name: String,
    pub uid: String,
    #[serde(deserialize_with = "null_as_default")]
    pub owner_references: Vec<PodOwner>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PodOwner {
    pub uid: String,
    pub controller: bool,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    pub node_name: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    pub phase: String,
    pub reason: String,
    pub message: String,
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<PodCondition>,
    #[serde(deserialize_with = "null_as_default")]
    pub init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "null_as_default")]
    pub container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PodCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct ContainerStatus {
    pub name: String,
    #[serde(rename = "imageID")]
    pub image_id: String,
    pub state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct ContainerState {
    pub running: Option<Running>,
    pub terminated: Option<Stopped>,
    pub waiting: Option<Stopped>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Running {}

/// Why a container does not run, yet or any more.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Stopped {
    pub reason: String,
    pub message: String,
}

/// The part of a core/v1 Event that explains something.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct Event {
    pub involved_object: ObjectReference,
    pub reason: String,
    pub message: String,
    /// How often it happened; 0 where an events.k8s.io/v1 series counts instead.
    #[serde(deserialize_with = "null_as_default")]
    pub count: u32,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectReference {
    pub uid: String,
    /// Such as `spec.containers{01-app}`.
    pub field_path: String,
}

impl Pod {
    /// The uid of the controller that made the pod.
    pub fn controller(&self) -> Option<&str> {
        let owner = self.metadata.owner_references.iter().find(|it| it.controller)?;
        Some(&owner.uid)
    }

    /// Why the scheduler finds no node for the pod, in its words.
    pub fn unschedulable(&self) -> Option<&str> {
        let condition = self.status.conditions.iter().find(|it| {
            it.kind == "PodScheduled" && it.status == "False" && it.reason == "Unschedulable"
        })?;
        Some(&condition.message)
    }

    /// The node a pod is bound to, or will be: the DaemonSet controller names it in the spec
    /// only through an affinity, and the scheduler fills `nodeName` in.
    pub fn node_name(&self) -> Option<&str> {
        (!self.spec.node_name.is_empty()).then_some(self.spec.node_name.as_str())
    }
}

impl ContainerStatus {
    /// Whether this status proves that the container's image is on the pod's node.
    pub fn proves_image(&self) -> bool {
        if !self.image_id.is_empty() || self.state.running.is_some() {
            return true;
        }
        if let Some(terminated) = &self.state.terminated {
            return terminated.reason != STATUS_UNKNOWN;
        }
        self.state
            .waiting
            .as_ref()
            .is_some_and(|it| WAITING_AFTER_PULL.contains(&it.reason.as_str()))
    }
}

impl Event {
    /// The container the event is about: the name inside the braces of
    /// `spec.containers{NAME}` or `spec.initContainers{NAME}`.
    pub fn container(&self) -> Option<&str> {
        let (_, rest) = self.involved_object.field_path.split_once('{')?;
        rest.strip_suffix('}')
    }
}
