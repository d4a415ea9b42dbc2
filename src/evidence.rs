//! What pods and events prove: which image is on which node, and why one is not.
//!
//! The rule of proof: a container of a pod of ours, found by the container's *name*, shows that
//! its image is on the pod's node. `status.image` is no echo of the spec (a runtime answers with
//! whichever name of the image comes first), `status.phase` and the numbers of the DaemonSet
//! count other things.

use serde::Deserialize;

use crate::node::{FoundAffinity, null_as_default};

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

/// An object of the cluster, and not another one that is given the same name later.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub name: String,
    pub uid: String,
}

/// The part of a Pod object that proves something.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Pod {
    pub metadata: PodMetadata,
    pub spec: PodSpec,
    pub status: PodStatus,
}

/// The part of a pod's metadata that tells it and its maker from others.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PodMetadata {
    pub name: String,
    pub uid: String,
    /// RFC 3339, in whole seconds.
    pub creation_timestamp: String,
    #[serde(deserialize_with = "null_as_default")]
    pub owner_references: Vec<PodOwner>,
}

/// One of a pod's owners, of which its DaemonSet is the controller.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PodOwner {
    pub uid: String,
    pub controller: bool,
}

/// The part of a pod spec that names its node and its images.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Names the node before the scheduler does: the DaemonSet controller makes a pod for one node.
    pub affinity: FoundAffinity,
    #[serde(deserialize_with = "null_as_default")]
    pub containers: Vec<PodContainer>,
    #[serde(deserialize_with = "null_as_default")]
    pub init_containers: Vec<PodContainer>,
    pub node_name: String,
}

/// A container as it came out of admission, which may rewrite its image.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PodContainer {
    pub image: String,
    pub name: String,
}

/// What the scheduler and the kubelet say of a pod.
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

/// Of these only `PodScheduled` is read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PodCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// What the kubelet says of one container.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct ContainerStatus {
    pub name: String,
    #[serde(rename = "imageID")]
    pub image_id: String,
    pub state: ContainerState,
}

/// One of three states; a container of which nothing is known has none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct ContainerState {
    pub running: Option<Running>,
    pub terminated: Option<Stopped>,
    pub waiting: Option<Stopped>,
}

/// That a container runs, which is all that is read of it.
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
    pub metadata: EventMetadata,
    pub involved_object: ObjectReference,
    pub reason: String,
    pub message: String,
    /// How often it happened; 0 where an events.k8s.io/v1 series counts instead.
    #[serde(deserialize_with = "null_as_default")]
    pub count: i64,
}

/// What tells an event that is counted up from another one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct EventMetadata {
    pub uid: String,
}

/// What an event is about.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectReference {
    pub uid: String,
    /// Such as `spec.containers{01-app}`.
    pub field_path: String,
}

impl Pod {
    /// What it takes to delete this pod and no other of its name.
    pub fn named(&self) -> Named {
        Named { name: self.metadata.name.clone(), uid: self.metadata.uid.clone() }
    }

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

    /// The node that the pod is bound to.
    pub fn node_name(&self) -> Option<&str> {
        (!self.spec.node_name.is_empty()).then_some(self.spec.node_name.as_str())
    }

    /// The node that the DaemonSet controller made the pod for.
    pub fn meant_for(&self) -> Option<&str> {
        let mut fields = self.spec.affinity.terms().iter().flat_map(|it| &it.match_fields);
        Some(fields.find(|it| it.key == "metadata.name")?.values.first()?)
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

impl ContainerStatus {
    /// The image as the runtime tells it, if it tells more than the id of the image's
    /// configuration: `docker.io/library/app@sha256:...`. The same image may have been pulled from
    /// several repositories, and this is any of them.
    pub fn digested_name(&self) -> Option<&str> {
        self.image_id.contains('@').then_some(&self.image_id)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> ContainerStatus {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn statuses_prove_what_comes_after_the_pull() {
        for (state, proves) in [
            (r#"{"running": {"startedAt": "2024-01-01T00:00:00Z"}}"#, true),
            (r#"{"terminated": {"exitCode": 0, "reason": "Completed"}}"#, true),
            (r#"{"terminated": {"exitCode": 137, "reason": "OOMKilled"}}"#, true),
            (r#"{"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}"#, false),
            (r#"{"waiting": {"reason": "CrashLoopBackOff"}}"#, true),
            (r#"{"waiting": {"reason": "CreateContainerConfigError"}}"#, true),
            (r#"{"waiting": {"reason": "CreateContainerError"}}"#, true),
            (r#"{"waiting": {"reason": "PostStartHookError"}}"#, true),
            (r#"{"waiting": {"reason": "PreCreateHookError"}}"#, true),
            (r#"{"waiting": {"reason": "PreStartHookError"}}"#, true),
            (r#"{"waiting": {"reason": "RunContainerError"}}"#, true),
            (r#"{"waiting": {"reason": "ContainerCreating"}}"#, false),
            (r#"{"waiting": {"reason": "ErrImageNeverPull"}}"#, false),
            (r#"{"waiting": {"reason": "ErrImagePull"}}"#, false),
            (r#"{"waiting": {"reason": "ImageInspectError"}}"#, false),
            (r#"{"waiting": {"reason": "ImagePullBackOff"}}"#, false),
            (r#"{"waiting": {"reason": "InvalidImageName"}}"#, false),
            (r#"{"waiting": {"reason": "PodInitializing"}}"#, false),
            (r#"{"waiting": {"reason": "RegistryUnavailable"}}"#, false),
            (r#"{"waiting": {"reason": "SignatureValidationFailed"}}"#, false),
            (r#"{"waiting": {"reason": "SomethingNew"}}"#, false),
            (r#"{"waiting": {}}"#, false),
            ("{}", false),
        ] {
            let json = format!(r#"{{"name": "01-a", "imageID": "", "state": {state}}}"#);
            assert_eq!(status(&json).proves_image(), proves, "{state}");
        }
    }

    #[test]
    fn an_image_id_proves_whatever_the_state_is() {
        for state in [
            "{}",
            r#"{"waiting": {"reason": "ImagePullBackOff"}}"#,
            r#"{"terminated": {"reason": "ContainerStatusUnknown"}}"#,
        ] {
            let json = format!(r#"{{"name": "a", "imageID": "sha256:1", "state": {state}}}"#);
            assert!(status(&json).proves_image(), "{state}");
        }
    }

    /// As the kubelet and the API server write them: fields that are unknown here, and `null`.
    #[test]
    fn a_pod_is_read_as_it_comes() {
        let pod: Pod = serde_json::from_str(
            r#"{
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "p", "uid": "u", "labels": {"a": "b"}, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "other"},
                    {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "set",
                     "controller": true, "blockOwnerDeletion": true}
                ]},
                "spec": {"containers": []},
                "status": {"phase": "Pending", "containerStatuses": null, "conditions": [
                    {"type": "Initialized", "status": "False", "reason": "x"},
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                     "message": "Too many pods"}
                ]}
            }"#,
        )
        .unwrap();
        assert_eq!(pod.controller(), Some("set"));
        assert_eq!(pod.node_name(), None);
        assert_eq!(pod.unschedulable(), Some("Too many pods"));
        let gated = r#"{"status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
        ]}}"#;
        let gated: Pod = serde_json::from_str(gated).unwrap();
        assert_eq!(gated.unschedulable(), None);
        let bare: Pod = serde_json::from_str("{}").unwrap();
        assert_eq!((bare.controller(), bare.unschedulable()), (None, None));
        let null = r#"{"metadata": {"ownerReferences": null}, "spec": {"nodeName": "n1"}}"#;
        let bound: Pod = serde_json::from_str(null).unwrap();
        assert_eq!(bound.node_name(), Some("n1"));
    }

    #[test]
    fn an_event_names_its_container() {
        for (path, container) in [
            ("spec.containers{03-mlflow}", Some("03-mlflow")),
            ("spec.initContainers{install}", Some("install")),
            ("spec.containers{broken", None),
            ("spec.containers", None),
            ("", None),
        ] {
            let json = format!(
                r#"{{"involvedObject": {{"uid": "u", "fieldPath": "{path}"}}, "count": null}}"#
            );
            let event: Event = serde_json::from_str(&json).unwrap();
            assert_eq!(event.container(), container, "{path}");
            assert_eq!(event.count, 0);
        }
    }
}
