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
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Placement, Toleration,
    null_as_default,
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
            changes.images.push(format!(
                "container `{name}` was given image `{}` in place of `{}`",
                it.image, container.image
            ));
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

/// Requests of an explicit zero keep a LimitRange from putting its default there, with which the
/// pod might find no room.
fn resources(settings: &PullerSettings) -> ResourceRequirements {
    let mut resources = settings.resources.clone();
    if resources.requests.is_empty() && resources.limits.is_empty() {
        for name in ["cpu", "memory"] {
            resources.requests.insert(name.into(), Quantity("0".into()));
        }
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
        return NodeSelector { node_selector_terms: terms.collect() };
    }
    let mut everywhere: Vec<_> = placement
        .node_selector
        .iter()
        .map(|(key, value)| requirement(key, "In", &[value]))
        .collect();
    everywhere
        .extend(placement.excluded_labels().iter().map(|it| requirement(it, "DoesNotExist", &[])));
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

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonSet {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub metadata: Metadata,
    pub spec: DaemonSetSpec,
}

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

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodTemplate {
    metadata: Metadata,
    pub spec: PodSpec,
}

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

/// A pod's affinity as a puller has it; other parts, which an admission webhook may have added,
/// are not read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
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

    /// Whether a pod with this affinity may go to all of these nodes, or, if none are named, to
    /// wherever the other affinity lets it.
    fn reaches(&self, wanted: &Self) -> bool {
        let named = |it: &Self| -> BTreeSet<String> {
            let fields = it.terms().iter().flat_map(|it| &it.match_fields);
            fields.flat_map(|it| it.values.iter().cloned()).collect()
        };
        match named(wanted) {
            names if names.is_empty() => self == wanted,
            names => names.is_subset(&named(self)),
        }
    }
}

/// Whether a puller that is there already does what the manifest would: an earlier try of the
/// same Job made it, and nobody changed it since but that try.
pub fn does_the_same(manifest: &DaemonSet, found: &Puller) -> bool {
    let annotation = |it: &BTreeMap<String, String>| it.get(SPEC_ANNOTATION).cloned();
    annotation(&manifest.metadata.annotations) == annotation(&found.metadata.annotations)
        && changes(manifest, found).fatal.iter().all(|it| it == SENT_ELSEWHERE)
        && found.spec.template.spec.affinity.reaches(&manifest.spec.template.spec.affinity)
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

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PullerMetadata {
    #[serde(deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
    pub creation_timestamp: String,
    pub generation: i64,
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    pub name: String,
    pub uid: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PullerSpec {
    pub template: PullerTemplate,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PullerTemplate {
    pub spec: PullerPodSpec,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PullerPodSpec {
    pub affinity: Affinity,
    pub containers: Vec<PullerContainer>,
    pub init_containers: Vec<PullerContainer>,
}

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
