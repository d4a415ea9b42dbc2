//! The puller: the DaemonSet that brings a group's images onto its nodes.
//!
//! Its pods run nothing of the images. An init container of our own image copies our static
//! binary into an `emptyDir`, and one regular container for each image runs that copy, so that
//! images without a shell or an entrypoint work and one bad image does not stop the others: the
//! kubelet goes on to the next regular container when a pull fails
//! (`SyncPod` in `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::image::{ImageRef, PullPolicy};
use crate::node::{
    FoundAffinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    Placement, Toleration, null_as_default,
};
use crate::settings::{
    Capabilities, LocalObjectReference, PodSecurityContext, Profile, PullerSettings, Quantity,
    ResourceRequirements, SecurityContext,
};

/// The label whose value is the id of the run that made an object.
pub const RUN_LABEL: &str = "prepull.dev/run";
/// The label whose value is the `--name` of the run: one release, run after run.
pub const NAME_LABEL: &str = "prepull.dev/name";
/// The annotation after whose RFC 3339 time a puller may be removed by anyone of its name.
pub const EXPIRES_ANNOTATION: &str = "prepull.dev/expires";
/// The annotation that tells a retry whether the puller it finds is the one it would make.
pub const SPEC_ANNOTATION: &str = "prepull.dev/spec";

/// Where our binary stands inside the puller's pods.
const BINARY: &str = "/prepull/prepull";
const BINARY_FOLDER: &str = "/prepull";
const BINARY_VOLUME: &str = "prepull";

/// The user of a scratch image; any but root does.
const NOBODY: i64 = 65532;

/// Longest name of a container: a DNS label, RFC 1123.
const LONGEST_LABEL: usize = 63;

/// The name of the init container that copies our binary.
pub const INSTALL: &str = "install";

/// What a puller is made from.
pub struct Plan<'a> {
    /// The DaemonSet's name.
    pub name: String,
    /// The value of [`NAME_LABEL`].
    pub release: &'a str,
    /// The value of [`RUN_LABEL`].
    pub run: &'a str,
    pub owner: Option<&'a OwnerReference>,
    /// RFC 3339.
    pub expires: String,
    /// Our own image, for the init container.
    pub own_image: &'a str,
    /// The images with their place in the user's list, which numbers the containers.
    pub images: Vec<(usize, &'a ImageRef, PullPolicy)>,
    pub placement: &'a Placement,
    pub destination: Destination<'a>,
    pub settings: &'a PullerSettings,
}

/// The nodes a puller goes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination<'a> {
    /// Wherever the group's selector and affinity let it.
    Everywhere,
    /// To the nodes of these names and to no others.
    Nodes(Vec<&'a str>),
}

/// An object that owns the puller: when it goes, the cluster's garbage collector takes the
/// puller too. `blockOwnerDeletion` is left out, because setting it needs rights on the owner's
/// finalizers where `OwnerReferencesPermissionEnforcement` is on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// Makes the manifest of a puller.
pub fn manifest(plan: &Plan<'_>) -> DaemonSet {
    let labels = labels(plan);
    let template = PodTemplate {
        metadata: Metadata {
            annotations: plan.settings.annotations.clone(),
            labels: labels.clone(),
            ..Metadata::default()
        },
        spec: pod_spec(plan),
    };
    let annotations = BTreeMap::from([
        (EXPIRES_ANNOTATION.into(), plan.expires.clone()),
        (SPEC_ANNOTATION.into(), fingerprint(&template)),
    ]);
    DaemonSet {
        api_version: "apps/v1",
        kind: "DaemonSet",
        metadata: Metadata {
            annotations,
            labels,
            name: plan.name.clone(),
            owner_references: plan.owner.cloned().into_iter().collect(),
        },
        spec: DaemonSetSpec {
            revision_history_limit: 0,
            selector: LabelSelector {
                match_labels: BTreeMap::from([
                    (GROUP_LABEL.into(), plan.name.clone()),
                    (RUN_LABEL.into(), plan.run.into()),
                ]),
            },
            template: sent_to(template, terms(plan.placement, &plan.destination)),
            update_strategy: UpdateStrategy { kind: "OnDelete" },
        },
    }
}

/// The merge patch (RFC 7386) that sends a puller elsewhere. A merge patch replaces a list as a
/// whole.
pub fn destination_patch(placement: &Placement, destination: &Destination<'_>) -> String {
    let affinity = json(&Affinity::required(terms(placement, destination)));
    format!(r#"{{"spec":{{"template":{{"spec":{{"affinity":{affinity}}}}}}}}}"#)
}

/// What an API server, or an admission webhook in it, made of a manifest.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Rewritten images, as sentences. The release's own pods will get the same rewrite, so what
    /// is pulled is still what will be needed.
    pub images: Vec<String>,
    /// Anything else that was ours to say, as sentences: such a puller may prove nothing.
    pub fatal: Vec<String>,
}

/// A change that a run makes itself, when nodes join.
const SENT_ELSEWHERE: &str = "it is sent to other nodes";

/// Compares the object that the API server made with the manifest it was given.
pub fn changes(manifest: &DaemonSet, made: &Puller) -> Changes {
    let mut changes = Changes::default();
    let asked = &manifest.spec.template.spec;
    let got = &made.spec.template.spec;
    for container in asked.init_containers.iter().chain(&asked.containers) {
        let name = &container.name;
        let Some(it) =
            got.init_containers.iter().chain(&got.containers).find(|it| it.name == *name)
        else {
            changes.fatal.push(format!("container `{name}` is gone"));
            continue;
        };
        if it.image != container.image {
            changes.images.push(rewritten(name, &container.image, &it.image));
        }
        if it.command != container.command || it.args != container.args {
            changes.fatal.push(format!("container `{name}` was given another command"));
        }
    }
    if got.affinity.terms() != asked.affinity.terms() {
        changes.fatal.push(SENT_ELSEWHERE.into());
    }
    changes
}

/// Says that an admission webhook rewrote the image of a container.
pub fn rewritten(container: &str, asked: &str, got: &str) -> String {
    format!("on its way in, container `{container}` was given image `{got}` in place of `{asked}`")
}

/// The name of the container for an image, which says the image so that kubectl shows it.
pub fn container_name(place: usize, image: &ImageRef) -> String {
    let mut name = format!("{:02}-", place + 1);
    for c in image.last_component().chars() {
        name.push(if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' });
    }
    name.truncate(LONGEST_LABEL);
    name.truncate(name.trim_end_matches('-').len());
    name
}

/// The label whose value is the DaemonSet's name: the pods of one group of a run.
const GROUP_LABEL: &str = "prepull.dev/group";

fn labels(plan: &Plan<'_>) -> BTreeMap<String, String> {
    let mut labels = plan.settings.labels.clone();
    for (key, value) in [
        ("app.kubernetes.io/managed-by", "prepull"),
        ("app.kubernetes.io/name", "prepull"),
        (GROUP_LABEL, plan.name.as_str()),
        (NAME_LABEL, plan.release),
        (RUN_LABEL, plan.run),
    ] {
        labels.insert(key.into(), value.into());
    }
    labels
}

fn pod_spec(plan: &Plan<'_>) -> PodSpec {
    let settings = plan.settings;
    let install = Container {
        args: vec!["install".into(), BINARY.into()],
        command: vec![],
        image: plan.own_image.into(),
        image_pull_policy: None,
        name: INSTALL.into(),
        resources: resources(settings),
        security_context: security_context(settings),
        volume_mounts: vec![VolumeMount { read_only: false, ..BINARY_MOUNT }],
    };
    let containers = plan.images.iter().map(|(place, image, policy)| Container {
        args: vec![],
        command: vec![BINARY.into(), "hold".into()],
        image: image.as_written().into(),
        image_pull_policy: Some(*policy),
        name: container_name(*place, image),
        resources: resources(settings),
        security_context: security_context(settings),
        volume_mounts: vec![BINARY_MOUNT],
    });
    PodSpec {
        affinity: Affinity::default(),
        automount_service_account_token: false,
        containers: containers.collect(),
        enable_service_links: false,
        image_pull_secrets: settings.image_pull_secrets.clone(),
        init_containers: vec![install],
        priority_class_name: settings.priority_class_name.clone(),
        security_context: pod_security_context(settings),
        service_account_name: match settings.service_account_name.as_str() {
            "" => "default".into(),
            name => name.into(),
        },
        // Zero would remove the API object before the kubelet has ended the containers
        // (`CheckGracefulDelete` in `pkg/registry/core/pod/strategy.go`).
        termination_grace_period_seconds: 1,
        tolerations: plan.placement.tolerations.clone(),
        volumes: vec![Volume { empty_dir: EmptyDir {}, name: BINARY_VOLUME }],
    }
}

/// Requests of an explicit zero keep a LimitRange, or the limits, from becoming the requests, with
/// which the pod might find no room.
fn resources(settings: &PullerSettings) -> ResourceRequirements {
    let mut resources = settings.resources.clone();
    for name in ["cpu", "memory"] {
        resources.requests.entry(name.into()).or_insert_with(|| Quantity("0".into()));
    }
    resources
}

/// Source: the level *restricted* of
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.
fn pod_security_context(settings: &PullerSettings) -> PodSecurityContext {
    if settings.pod_security_context != PodSecurityContext::default() {
        return settings.pod_security_context.clone();
    }
    PodSecurityContext {
        run_as_group: Some(NOBODY),
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY),
        seccomp_profile: Some(Profile { kind: "RuntimeDefault".into(), ..Profile::default() }),
        ..PodSecurityContext::default()
    }
}

fn security_context(settings: &PullerSettings) -> SecurityContext {
    if settings.security_context != SecurityContext::default() {
        return settings.security_context.clone();
    }
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: vec!["ALL".into()], ..Capabilities::default() }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// Where the pods go, as alternatives of a required node affinity. The group's selector is
/// written as expressions of it, so that a later patch has one list to replace.
fn terms(placement: &Placement, destination: &Destination<'_>) -> NodeSelector {
    if let Destination::Nodes(names) = destination {
        let terms = names.iter().map(|name| NodeSelectorTerm {
            match_expressions: vec![],
            match_fields: vec![requirement("metadata.name", "In", &[name])],
        });
        return at_least_one(terms.collect());
    }
    let mut everywhere: Vec<_> = placement
        .node_selector
        .iter()
        .map(|(key, value)| requirement(key, "In", &[value]))
        .collect();
    everywhere.extend(placement.excluded_label().map(|it| requirement(it, "DoesNotExist", &[])));
    let required = placement.required();
    let mut terms: Vec<_> = required.map(|it| it.node_selector_terms.clone()).unwrap_or_default();
    // An empty term matches nothing; with more added to it, it would match something.
    terms.retain(|it| *it != NodeSelectorTerm::default());
    if required.is_none() {
        terms.push(NodeSelectorTerm::default());
    }
    for term in &mut terms {
        term.match_expressions.extend(everywhere.iter().cloned());
    }
    at_least_one(terms)
}

/// The API server refuses a selector without terms. One that is empty matches nothing.
fn at_least_one(mut terms: Vec<NodeSelectorTerm>) -> NodeSelector {
    if terms.is_empty() {
        terms.push(NodeSelectorTerm::default());
    }
    NodeSelector { node_selector_terms: terms }
}

fn requirement(key: &str, operator: &str, values: &[&str]) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: key.into(),
        operator: operator.into(),
        values: values.iter().map(|it| (*it).into()).collect(),
    }
}

fn sent_to(mut template: PodTemplate, terms: NodeSelector) -> PodTemplate {
    template.spec.affinity = Affinity::required(terms);
    template
}

/// A fingerprint of the template without its destination, which changes during a run.
fn fingerprint(template: &PodTemplate) -> String {
    let mut hasher = DefaultHasher::new();
    json(template).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("a value without maps of other keys than text is JSON")
}

// === The DaemonSet as it is written ===

/// The manifest of a puller.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonSet {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub metadata: Metadata,
    pub spec: DaemonSetSpec,
}

/// Metadata of the DaemonSet, and, without a name, of its pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
}

/// Updates on deletion alone and keeps no history: a puller is sent elsewhere by its affinity.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonSetSpec {
    revision_history_limit: u8,
    selector: LabelSelector,
    pub template: PodTemplate,
    update_strategy: UpdateStrategy,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct LabelSelector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct UpdateStrategy {
    #[serde(rename = "type")]
    kind: &'static str,
}

/// What the pods of a puller are made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodTemplate {
    metadata: Metadata,
    pub spec: PodSpec,
}

/// The pods of a puller, which need no API access, and a second to end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    pub affinity: Affinity,
    automount_service_account_token: bool,
    pub containers: Vec<Container>,
    enable_service_links: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    image_pull_secrets: Vec<LocalObjectReference>,
    pub init_containers: Vec<Container>,
    #[serde(skip_serializing_if = "String::is_empty")]
    priority_class_name: String,
    security_context: PodSecurityContext,
    service_account_name: String,
    termination_grace_period_seconds: u8,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tolerations: Vec<Toleration>,
    volumes: Vec<Volume>,
}

/// A container that pulls one image, or that brings the binary it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    pub image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    pub name: String,
    resources: ResourceRequirements,
    security_context: SecurityContext,
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMount {
    mount_path: &'static str,
    name: &'static str,
    read_only: bool,
}

const BINARY_MOUNT: VolumeMount =
    VolumeMount { mount_path: BINARY_FOLDER, name: BINARY_VOLUME, read_only: true };

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    empty_dir: EmptyDir,
    name: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct EmptyDir {}

/// The nodes that the pods may go to, always as a requirement.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

impl Affinity {
    fn required(selector: NodeSelector) -> Self {
        Self {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(selector),
            }),
        }
    }

    fn terms(&self) -> &[NodeSelectorTerm] {
        self.node_affinity
            .as_ref()
            .and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref())
            .map(|it| it.node_selector_terms.as_slice())
            .unwrap_or_default()
    }
}

/// The names of the nodes that a puller is sent to, where it is sent by names.
pub fn named_nodes(terms: &[NodeSelectorTerm]) -> BTreeSet<String> {
    let fields = terms.iter().flat_map(|it| &it.match_fields);
    fields.flat_map(|it| it.values.iter().cloned()).collect()
}

/// Whether pods of a puller that is there already may go to all of the nodes that the manifest
/// names, or, if it names none, to wherever its affinity lets them.
pub fn reaches(manifest: &DaemonSet, found: &Puller) -> bool {
    let wanted = manifest.spec.template.spec.affinity.terms();
    let found = found.spec.template.spec.affinity.terms();
    match named_nodes(wanted) {
        names if names.is_empty() => found == wanted,
        names => names.is_subset(&named_nodes(found)),
    }
}

/// Whether a puller that is there already does what the manifest would, wherever it goes: an
/// earlier try of the same Job made it, and nobody changed it since but that try.
pub fn does_the_same(manifest: &DaemonSet, found: &Puller) -> bool {
    let annotation = |it: &BTreeMap<String, String>| it.get(SPEC_ANNOTATION).cloned();
    let changes = changes(manifest, found);
    annotation(&manifest.metadata.annotations) == annotation(&found.metadata.annotations)
        // A webhook may have rewritten them, or somebody since: there is no telling which.
        && changes.images.is_empty()
        && changes.fatal.iter().all(|it| it == SENT_ELSEWHERE)
}

// === The DaemonSet as it is read ===

/// The part of a DaemonSet that a run reads.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Puller {
    pub metadata: PullerMetadata,
    pub spec: PullerSpec,
    pub status: PullerStatus,
}

/// Who a DaemonSet is, whose it is, and whether it stays.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PullerMetadata {
    #[serde(deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
    pub creation_timestamp: String,
    /// Not empty while it is being deleted.
    pub deletion_timestamp: String,
    pub generation: i64,
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    pub name: String,
    pub uid: String,
}

/// The part of the spec that may have been changed on its way in, or since.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PullerSpec {
    pub template: PullerTemplate,
}

/// What its pods are made of.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PullerTemplate {
    pub spec: PullerPodSpec,
}

/// Where its pods go, and what they pull.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PullerPodSpec {
    pub affinity: FoundAffinity,
    pub containers: Vec<PullerContainer>,
    pub init_containers: Vec<PullerContainer>,
}

/// A container, to be held against the one that was asked for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PullerContainer {
    pub args: Vec<String>,
    pub command: Vec<String>,
    pub image: String,
    pub name: String,
}

/// The numbers of a DaemonSet, which say when to look at pods and prove nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PullerStatus {
    pub current_number_scheduled: u32,
    pub desired_number_scheduled: u32,
    pub number_ready: u32,
    pub observed_generation: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(written: &str) -> ImageRef {
        ImageRef::parse(written).unwrap()
    }

    fn placement() -> Placement {
        crate::node::with_defaults(Placement::default())
    }

    fn made_of(
        images: &[&str],
        settings: &PullerSettings,
        destination: Destination<'_>,
    ) -> DaemonSet {
        let images: Vec<_> = images.iter().map(|it| image(it)).collect();
        manifest(&Plan {
            name: "demo-0f8fad5bd9-1".into(),
            release: "demo",
            run: "0f8fad5b-d9cb-469f-a165-70867728950e",
            owner: None,
            expires: "2024-01-01T00:00:00Z".into(),
            own_image: "q.io/prepull:1",
            images: images
                .iter()
                .enumerate()
                .map(|(i, it)| (i, it, PullPolicy::IfNotPresent))
                .collect(),
            placement: &placement(),
            destination,
            settings,
        })
    }

    fn plain() -> DaemonSet {
        let names = Destination::Nodes(vec!["n1", "n2"]);
        made_of(&["a:1", "b:1"], &PullerSettings::default(), names)
    }

    /// What the API server would answer.
    fn read_back(manifest: &DaemonSet) -> Puller {
        serde_json::from_str(&json(manifest)).unwrap()
    }

    /// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>: what the level
    /// *restricted* asks of every pod and of every container.
    #[test]
    fn pods_are_restricted() {
        let spec: serde_json::Value = serde_json::from_str(&json(&plain())).unwrap();
        let spec = &spec["spec"]["template"]["spec"];
        let pod = &spec["securityContext"];
        assert_eq!(pod["runAsNonRoot"], true);
        assert_ne!(pod["runAsUser"], 0);
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(spec[key].is_null(), "{key}");
        }
        assert!(spec["volumes"].as_array().unwrap().iter().all(|it| it["emptyDir"].is_object()));
        assert_eq!(spec["automountServiceAccountToken"], false);
        let list = |key: &str| spec[key].as_array().unwrap().clone();
        for container in list("initContainers").iter().chain(&list("containers")) {
            let own = &container["securityContext"];
            assert_eq!(own["allowPrivilegeEscalation"], false);
            assert_eq!(own["capabilities"], serde_json::json!({"drop": ["ALL"]}));
            assert!(own["privileged"].is_null() && own["runAsUser"].is_null());
            assert!(container["ports"].is_null());
            let zero = serde_json::json!({"cpu": "0", "memory": "0"});
            assert_eq!(container["resources"]["requests"], zero);
        }
    }

    #[test]
    fn labels_of_others_do_not_replace_ours() {
        let ours = plain();
        let mut settings = PullerSettings::default();
        for key in ours.metadata.labels.keys() {
            settings.labels.insert(key.clone(), "theirs".into());
        }
        settings.labels.insert("team".into(), "x".into());
        let made = made_of(&["a:1"], &settings, Destination::Everywhere);
        let pods = &made.spec.template.metadata.labels;
        assert_eq!(pods, &made.metadata.labels);
        for (key, value) in &ours.metadata.labels {
            assert_eq!(&pods[key], value, "{key}");
        }
        assert_eq!(pods["team"], "x");
        for (key, value) in &made.spec.selector.match_labels {
            assert_eq!(&pods[key], value, "{key}");
        }
    }

    #[test]
    fn a_container_is_named_for_its_image() {
        let long = format!("q.io/{}:1", "x".repeat(100));
        for (place, written, name) in [
            (0, "q.io/team/mlflow:1", "01-mlflow"),
            (8, "a_b.c__d", "09-a-b-c--d"),
            (
                41,
                "q.io/x-y@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "42-x-y",
            ),
            (99, "nginx", "100-nginx"),
        ] {
            assert_eq!(container_name(place, &image(written)), name);
        }
        let name = container_name(0, &image(&long));
        assert_eq!(name.len(), 63);
        let cut = format!("q.io/{}-{}:1", "x".repeat(59), "y".repeat(20));
        assert_eq!(container_name(0, &image(&cut)).len(), 62, "no dash at the end");
    }

    fn terms_of(manifest: &DaemonSet) -> serde_json::Value {
        serde_json::to_value(manifest.spec.template.spec.affinity.terms()).unwrap()
    }

    #[test]
    fn named_nodes_are_alternatives() {
        let term = |name: &str| {
            serde_json::json!({"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [name]}
            ]})
        };
        assert_eq!(terms_of(&plain()), serde_json::json!([term("n1"), term("n2")]));
    }

    #[test]
    fn everywhere_is_where_selector_and_affinity_let_it() {
        let everywhere = made_of(&["a:1"], &PullerSettings::default(), Destination::Everywhere);
        assert_eq!(
            terms_of(&everywhere),
            serde_json::json!([{"matchExpressions": [
                {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]},
                {
                    "key": "eks.amazonaws.com/compute-type",
                    "operator": "NotIn",
                    "values": ["fargate"]
                },
                {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
            ]}])
        );
        let own = NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![
                    NodeSelectorTerm {
                        match_expressions: vec![requirement("a", "Exists", &[])],
                        match_fields: vec![],
                    },
                    // It matches nothing, and must not come to match something.
                    NodeSelectorTerm::default(),
                    NodeSelectorTerm {
                        match_expressions: vec![],
                        match_fields: vec![requirement("metadata.name", "NotIn", &["n1"])],
                    },
                ],
            }),
        };
        let placement = Placement {
            affinity: Some(own),
            control_plane: crate::node::ControlPlane::Exclude,
            node_selector: BTreeMap::from([("pool".into(), "gpu".into())]),
            ..Placement::default()
        };
        let found = terms(&placement, &Destination::Everywhere);
        let both = [
            requirement("pool", "In", &["gpu"]),
            requirement("node-role.kubernetes.io/control-plane", "DoesNotExist", &[]),
        ];
        assert_eq!(found.node_selector_terms.len(), 2);
        assert_eq!(found.node_selector_terms[0].match_expressions[1..], both);
        assert_eq!(found.node_selector_terms[1].match_expressions, both);
        assert_eq!(found.node_selector_terms[1].match_fields.len(), 1);
    }

    #[test]
    fn nowhere_is_a_term_that_matches_nothing() {
        let nowhere = NodeSelector { node_selector_terms: vec![NodeSelectorTerm::default()] };
        assert_eq!(terms(&placement(), &Destination::Nodes(vec![])), nowhere);
        let own = NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(nowhere.clone()),
        };
        let placement = Placement { affinity: Some(own), ..placement() };
        assert_eq!(terms(&placement, &Destination::Everywhere), nowhere);
    }

    #[test]
    fn a_patch_replaces_the_destination_alone() {
        let patch = destination_patch(&placement(), &Destination::Nodes(vec!["n3"]));
        let patch: serde_json::Value = serde_json::from_str(&patch).unwrap();
        let pointer = "/spec/template/spec/affinity/nodeAffinity/\
                       requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/\
                       matchFields/0/values/0";
        assert_eq!(patch.pointer(pointer).unwrap(), "n3");
        assert_eq!(patch["spec"]["template"]["spec"].as_object().unwrap().len(), 1);
        assert_eq!(patch["spec"]["template"].as_object().unwrap().len(), 1);
    }

    #[test]
    fn what_comes_back_unchanged_has_no_changes() {
        assert_eq!(changes(&plain(), &read_back(&plain())), Changes::default());
        assert!(does_the_same(&plain(), &read_back(&plain())));
    }

    #[test]
    fn what_admission_changed_is_told() {
        let mut made = read_back(&plain());
        made.spec.template.spec.containers[0].image = "mirror.io/a:1".into();
        made.spec.template.spec.containers.push(PullerContainer::default());
        let found = changes(&plain(), &made);
        assert_eq!(found.fatal, [] as [&str; 0]);
        let told = "on its way in, container `01-a` was given image `mirror.io/a:1` in place of \
                    `a:1`";
        assert_eq!(found.images, [told]);
        assert!(!does_the_same(&plain(), &made));

        for (change, told) in [
            (
                (|it: &mut Puller| it.spec.template.spec.containers.truncate(1)) as fn(&mut Puller),
                "container `02-b` is gone",
            ),
            (|it| it.spec.template.spec.init_containers.clear(), "container `install` is gone"),
            (
                |it| it.spec.template.spec.containers[1].command = vec!["sh".into()],
                "container `02-b` was given another command",
            ),
            (
                |it| it.spec.template.spec.init_containers[0].args.push("x".into()),
                "container `install` was given another command",
            ),
            (|it| it.spec.template.spec.affinity = FoundAffinity::default(), SENT_ELSEWHERE),
        ] {
            let mut made = read_back(&plain());
            change(&mut made);
            let found = changes(&plain(), &made);
            assert_eq!((found.images, found.fatal), (vec![], vec![told.to_owned()]));
            let is_ours = does_the_same(&plain(), &made) && reaches(&plain(), &made);
            assert!(!is_ours, "{told}");
        }
    }

    /// As webhooks for spot nodes and for zones write it.
    #[test]
    fn preferences_that_admission_added_are_no_change() {
        let mut object = serde_json::to_value(plain()).unwrap();
        let affinity = &mut object["spec"]["template"]["spec"]["affinity"];
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        affinity["nodeAffinity"][preferred] = serde_json::json!([{"weight": 1, "preference": {}}]);
        affinity["podAffinity"] = serde_json::json!({preferred: []});
        affinity["podAntiAffinity"] = serde_json::json!({preferred: [{"weight": 9}]});
        let made: Puller = serde_json::from_value(object).unwrap();
        assert_eq!(changes(&plain(), &made), Changes::default());
        assert!(does_the_same(&plain(), &made));
    }

    /// The API server makes requests of limits, with which the pod might find no room.
    #[test]
    fn limits_alone_request_nothing() {
        let settings = PullerSettings {
            resources: ResourceRequirements {
                limits: BTreeMap::from([("memory".into(), Quantity("64Mi".into()))]),
                requests: BTreeMap::from([("cpu".into(), Quantity("1m".into()))]),
            },
            ..PullerSettings::default()
        };
        let made = made_of(&["a:1"], &settings, Destination::Everywhere);
        let made = serde_json::to_value(made).unwrap();
        let spec = &made["spec"]["template"]["spec"];
        for container in [&spec["initContainers"][0], &spec["containers"][0]] {
            let resources = serde_json::json!({
                "limits": {"memory": "64Mi"}, "requests": {"cpu": "1m", "memory": "0"}
            });
            assert_eq!(container["resources"], resources);
        }
    }

    #[test]
    fn an_earlier_try_may_have_gone_to_more_nodes() {
        let settings = PullerSettings::default();
        let to = |destination| made_of(&["a:1"], &settings, destination);
        let found = read_back(&to(Destination::Nodes(vec!["n1", "n2", "n3"])));
        for (wanted, same) in [
            (Destination::Nodes(vec!["n2"]), true),
            (Destination::Nodes(vec!["n1", "n2", "n3"]), true),
            (Destination::Nodes(vec!["n1", "n4"]), false),
            (Destination::Everywhere, false),
        ] {
            assert!(does_the_same(&to(wanted.clone()), &found));
            assert_eq!(reaches(&to(wanted.clone()), &found), same, "{wanted:?}");
        }
        let everywhere = read_back(&to(Destination::Everywhere));
        assert!(reaches(&to(Destination::Everywhere), &everywhere));
        let other = made_of(&["b:1"], &settings, Destination::Nodes(vec!["n2"]));
        assert!(!does_the_same(&other, &found));
    }

    #[test]
    fn the_fingerprint_is_of_all_but_the_destination() {
        let settings = PullerSettings::default();
        let spec = |it: DaemonSet| it.metadata.annotations[SPEC_ANNOTATION].clone();
        let one = spec(made_of(&["a:1"], &settings, Destination::Nodes(vec!["n1"])));
        assert_eq!(one, spec(made_of(&["a:1"], &settings, Destination::Everywhere)));
        assert_ne!(one, spec(made_of(&["a:2"], &settings, Destination::Everywhere)));
        let labelled = PullerSettings {
            labels: BTreeMap::from([("a".into(), "b".into())]),
            ..PullerSettings::default()
        };
        assert_ne!(one, spec(made_of(&["a:1"], &labelled, Destination::Everywhere)));
    }
}
