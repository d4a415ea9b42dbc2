//! The API server, with its rights and its admission.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic;
use std::time::{Duration, SystemTime};

use prepull::cluster::{ApiError, Cause, Cluster, Deletion, Job, NewEvent, Page};
use prepull::evidence::{Event, Pod};
use prepull::kube::Limits;
use prepull::node::Node;
use prepull::puller::{DaemonSet, NAME_LABEL, Puller, RUN_LABEL};
use prepull::run::Signal;
use serde_json::{Value, json};

use super::controller::NODE_SELECTOR_TERMS;
use super::fault::{not_found, status, transport};
use super::{FaultKind, Happening, ModelEvent, ModelNode, ModelPod, Set, Shared, World, timestamp};

const BAD_CERTIFICATE: &str = "the certificate of the API server has expired";

/// What an admission webhook does to a DaemonSet or to its pods.
#[derive(Clone, Debug)]
pub enum Admission {
    DropContainer(String),
    /// Adds preferences about nodes, and wishes about other pods, to the affinity.
    Prefer,
    RewriteImages(&'static str, &'static str),
    /// The same for pods, where a DaemonSet does not show it.
    RewritePods(&'static str, &'static str),
    Sidecar(&'static str),
}

/// What a killed process leaves of itself.
pub struct Killed;

/// The API server of a world, as one process reaches it.
pub struct ModelCluster {
    world: Shared,
    /// Which process it is, where there are several.
    process: usize,
    time: Time,
}

/// Whose affair it is that requests take time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Time {
    /// The world goes on during a request.
    Passes,
    /// Whoever asks sees to it, and is told how much longer than usual this one takes.
    Stands { still: Duration },
}

/// One line of the API server's audit log.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Duration,
    pub process: usize,
    pub request: &'static str,
    pub about: String,
    pub is_ok: bool,
    pub patience: Duration,
}

/// What was done to a DaemonSet at a process's request.
#[derive(Clone, Debug)]
pub struct Change {
    pub process: usize,
    pub verb: Verb,
    /// The run and the release that its labels name.
    pub run: String,
    pub release: String,
    pub owner: Option<String>,
    /// When it may be removed by others, and whether it might be at the time.
    pub expires: Option<SystemTime>,
    pub has_expired: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    Create,
    Delete,
    Patch,
}

impl ModelCluster {
    pub fn new(world: Shared) -> Self {
        Self { world, process: 0, time: Time::Passes }
    }

    /// For a process whose time somebody else keeps.
    pub fn of_process(world: Shared, process: usize) -> Self {
        Self { world, process, time: Time::Stands { still: Duration::ZERO } }
    }

    /// How much longer than usual the last request takes.
    pub fn still(&self) -> Duration {
        match self.time {
            Time::Passes => Duration::ZERO,
            Time::Stands { still } => still,
        }
    }

    /// Sends one request: time passes, faults and rights have their say, then `effect`.
    fn ask<T>(
        &mut self,
        request: &'static str,
        about: &str,
        effect: impl FnOnce(&mut World) -> Result<T, Cause>,
    ) -> Result<T, ApiError> {
        let mut world = self.world.borrow_mut();
        if self.time == Time::Passes {
            let cost = world.pace.request;
            world.advance(cost);
        }
        let at = world.now;
        let patience = world.patience;
        let (result, still) = world.serve(request, about, effect);
        let still = still.min(patience).min(longest(request));
        match &mut self.time {
            Time::Passes => world.advance(still),
            Time::Stands { still: it } => *it = still,
        }
        let (process, is_ok) = (self.process, result.is_ok());
        world.tell(|| match &result {
            Ok(_) => format!("{process} {request} {about}"),
            Err(cause) => format!("{process} {request} {about}: {cause:?}"),
        });
        world.requests.push(Request { at, process, request, about: about.into(), is_ok, patience });
        world.n_asked += 1;
        if world.signal_after == Some(world.n_asked) {
            world.signal = Signal::Stop;
        }
        if world.kill_after == Some(world.n_asked) {
            drop(world);
            panic::resume_unwind(Box::new(Killed));
        }
        result.map_err(|cause| ApiError { request: request.into(), cause })
    }

    /// One page of a LIST. A continue token is the key of the last object, so that none is there
    /// twice; unlike the real one it shows later pages as they are, and not as they were.
    fn list<O: 'static, T>(
        &mut self,
        request: &'static str,
        about: &str,
        from: Option<&str>,
        items: impl for<'a> FnOnce(&'a World) -> Items<'a, O>,
        show: impl Fn(&O, Duration) -> T,
    ) -> Result<Page<T>, ApiError> {
        let about = if from.is_some() { "continue" } else { about };
        self.ask(request, about, |world| {
            let is_after = |key: &str| from.is_none_or(|it| key > it);
            let mut rest = items(world).filter(|(key, _)| is_after(key));
            let page: Vec<_> = rest.by_ref().take(world.page).collect();
            let last = page.last().map(|it| it.0.clone().into_owned());
            let next = last.filter(|_| rest.next().is_some());
            let items = page.into_iter().map(|it| show(it.1, world.now)).collect();
            Ok(Page { items, next })
        })
    }
}

/// Objects by their keys, in the order of these.
type Items<'a, O> = Box<dyn Iterator<Item = (Cow<'a, str>, &'a O)> + 'a>;

impl World {
    /// What becomes of a request, and how much longer than usual it takes.
    fn serve<T>(
        &mut self,
        request: &'static str,
        about: &str,
        effect: impl FnOnce(&mut World) -> Result<T, Cause>,
    ) -> (Result<T, Cause>, Duration) {
        let at_once = Duration::ZERO;
        let fault = self.fault(request, about);
        let effect = |world: &mut Self| match world.refusal(request) {
            Some(refusal) => Err(refusal),
            None => effect(world),
        };
        match fault {
            None => (effect(self), at_once),
            Some(FaultKind::DoneBut(code)) => {
                _ = effect(self);
                (Err(status(code, "Timeout", "the server was too slow")), at_once)
            }
            Some(FaultKind::Hang(time)) => (Err(transport("timed out")), time),
            Some(FaultKind::LostAnswer) => {
                _ = effect(self);
                (Err(transport("the connection was reset")), at_once)
            }
            Some(FaultKind::Slow(time)) if time > self.patience => {
                _ = effect(self);
                (Err(transport("timed out")), time)
            }
            Some(FaultKind::Slow(time)) => (effect(self), time),
            Some(FaultKind::Status { code, message, retry_after }) => {
                let (reason, message) = (String::new(), message.into());
                (Err(Cause::Status { code, reason, message, retry_after }), at_once)
            }
            Some(FaultKind::Straggler(time)) => {
                self.straggles_for = Some(time);
                _ = effect(self);
                self.straggles_for = None;
                (Err(transport("timed out")), Duration::MAX)
            }
            Some(FaultKind::Transport) => (Err(transport("connection refused")), at_once),
            Some(FaultKind::Unusable) => (Err(Cause::Unusable(BAD_CERTIFICATE.into())), at_once),
        }
    }
}

impl World {
    /// Why whoever asks may not.
    fn refusal(&self, request: &str) -> Option<Cause> {
        if self.are_tokens_revoked {
            return Some(status(401, "Unauthorized", "Unauthorized"));
        }
        let is_denied = self.denied.contains("*") || self.denied.contains(request);
        is_denied.then(|| status(403, "Forbidden", &format!("User \"x\" cannot {request}")))
    }

    /// Creates a DaemonSet as a client that may do so.
    pub(super) fn create_set(&mut self, mut object: Value) -> Result<Puller, Cause> {
        if !self.namespace_exists {
            return Err(not_found("namespaces"));
        }
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        if self.sets.contains_key(&name) {
            return Err(status(409, "AlreadyExists", "it already exists"));
        }
        for admission in &self.admission {
            let before = object.clone();
            admission.change(&mut object);
            if object != before {
                self.noted.insert(admission.name());
            }
        }
        check_affinity(&object)?;
        self.plant(object);
        let soon = self.now + self.pace.controller;
        let set = self.sets.get_mut(&name).expect("just planted");
        set.sync_at = Some(soon);
        let puller = set.puller();
        let owner = set.owner().filter(|it| self.gone_owners.contains(*it)).map(str::to_owned);
        if let Some(owner) = owner {
            self.then(soon, Happening::CollectSets { owner });
        }
        self.most_unfinished = self.most_unfinished.max(self.n_unfinished());
        Ok(puller)
    }

    /// Deletes a DaemonSet as a client that may do so.
    pub(super) fn delete_set(&mut self, name: &str, uid: &str) -> Result<Deletion, Cause> {
        let found = self.sets.get(name).ok_or_else(|| not_found("daemonsets"))?.uid();
        if found != uid {
            return Err(status(409, "Conflict", "the UID in the precondition does not match"));
        }
        let now = timestamp(self.wall());
        let set = self.sets.get_mut(name).expect("found before");
        let deletion = match set.object["metadata"]["finalizers"].is_array() {
            true => {
                set.object["metadata"]["deletionTimestamp"] = now.into();
                Deletion::UnderWay
            }
            false => {
                self.sets.remove(name);
                Deletion::Done
            }
        };
        self.collect_pods(uid);
        Ok(deletion)
    }

    /// The garbage collector's turn.
    fn collect_pods(&mut self, set: &str) {
        let set = set.to_owned();
        match self.pace.collection {
            Duration::ZERO => self.end_pods(|it| it.set == set),
            after => self.then(self.now + after, Happening::CollectPods { set }),
        }
    }

    /// Takes the owner's name off what it owns, as a client does that deletes the owner alone.
    pub fn orphan(&mut self, owner: &str) {
        for set in self.sets.values_mut().filter(|it| it.owner() == Some(owner)) {
            set.edit(|it| it["metadata"]["ownerReferences"] = json!([]));
        }
        self.gone_owners.insert(owner.into());
    }

    /// What an object that is gone owned goes too.
    pub fn collect_sets_of(&mut self, owner: &str) {
        let owned = self.sets.values().filter(|it| it.owner() == Some(owner));
        let owned: Vec<_> = owned.map(|it| (it.name().to_owned(), it.uid().to_owned())).collect();
        for (name, uid) in owned {
            _ = self.delete_set(&name, &uid);
        }
    }

    fn note_change(&mut self, process: usize, verb: Verb, name: &str) {
        let Some(set) = self.sets.get(name) else { return };
        let label = |key: &str| set.labels().get(key).cloned().unwrap_or_default();
        let expires = set.expires();
        let change = Change {
            process,
            verb,
            run: label(RUN_LABEL),
            release: label(NAME_LABEL),
            owner: set.owner().map(str::to_owned),
            expires,
            has_expired: expires.is_some_and(|it| it < self.wall()),
        };
        self.changes.push(change);
    }
}

impl Cluster for ModelCluster {
    fn list_nodes(&mut self, from: Option<&str>) -> Result<Page<Node>, ApiError> {
        self.list(
            "list nodes",
            "",
            from,
            |world| Box::new(world.nodes.iter().map(|(name, it)| (name.into(), it))),
            ModelNode::object,
        )
    }

    fn read_node(&mut self, name: &str) -> Result<Node, ApiError> {
        self.ask("get node", name, |world| {
            let node = world.nodes.get(name).ok_or_else(|| not_found("nodes"))?;
            Ok(node.object(world.now))
        })
    }

    fn read_job(&mut self, name: &str) -> Result<Job, ApiError> {
        self.ask("get job", name, |world| {
            let start = world.jobs.get(name).ok_or_else(|| not_found("jobs"))?;
            Ok(Job { start_time: Some(*start) })
        })
    }

    fn list_pullers(&mut self, labels: &str, from: Option<&str>) -> Result<Page<Puller>, ApiError> {
        let selector = selector(labels);
        self.list(
            "list daemonsets",
            labels,
            from,
            |world| {
                let asked =
                    world.sets.values().filter(move |it| has_labels(it.labels(), &selector));
                Box::new(asked.map(|it| (it.name().into(), it)))
            },
            |it: &Set, _| it.puller(),
        )
    }

    fn read_puller(&mut self, name: &str) -> Result<Puller, ApiError> {
        self.ask("get daemonset", name, |world| {
            Ok(world.sets.get(name).ok_or_else(|| not_found("daemonsets"))?.puller())
        })
    }

    fn create_puller(&mut self, manifest: &DaemonSet) -> Result<Puller, ApiError> {
        let object = serde_json::to_value(manifest).expect("a manifest is JSON");
        let (process, name) = (self.process, &manifest.metadata.name);
        self.ask("create daemonset", name, |world| {
            if let Some(after) = world.straggles_for {
                world.then(world.now + after, Happening::CreateLate(Box::new(object)));
                return Ok(Puller::default());
            }
            let made = world.create_set(object)?;
            world.note_change(process, Verb::Create, name);
            Ok(made)
        })
    }

    fn patch_puller(&mut self, name: &str, patch: &str) -> Result<Puller, ApiError> {
        let patch = serde_json::from_str(patch).expect("a patch is JSON");
        let process = self.process;
        self.ask("patch daemonset", name, |world| {
            let set = world.sets.get_mut(name).ok_or_else(|| not_found("daemonsets"))?;
            let mut changed = set.object.clone();
            merge(&mut changed, &patch);
            check_affinity(&changed)?;
            let before = set.puller();
            set.edit(|it| *it = changed);
            let puller = set.puller();
            world.note_numbers(&before, &puller);
            world.note_change(process, Verb::Patch, name);
            world.sync_soon();
            world.most_unfinished = world.most_unfinished.max(world.n_unfinished());
            Ok(puller)
        })
    }

    fn delete_puller(&mut self, name: &str, uid: &str) -> Result<Deletion, ApiError> {
        let process = self.process;
        self.ask("delete daemonset", name, |world| {
            if let Some(after) = world.straggles_for {
                let (name, uid) = (name.into(), uid.into());
                world.then(world.now + after, Happening::DeleteLate { name, uid });
                return Ok(Deletion::Done);
            }
            world.note_change(process, Verb::Delete, name);
            world.delete_set(name, uid).inspect_err(|_| _ = world.changes.pop())
        })
    }

    fn delete_pod(&mut self, name: &str, uid: &str) -> Result<Deletion, ApiError> {
        self.ask("delete pod", name, |world| {
            let found = world.pods.iter().find(|(_, it)| it.name == name);
            match found.map(|(key, _)| key.clone()) {
                None => Err(not_found("pods")),
                Some(key) if key != uid => Err(status(409, "Conflict", "the UID does not match")),
                Some(key) => {
                    world.end_pods(|it| it.uid == key);
                    Ok(Deletion::UnderWay)
                }
            }
        })
    }

    fn create_event(&mut self, event: &NewEvent<'_>) -> Result<(), ApiError> {
        let told = format!("{} {}", event.reason, event.message);
        self.ask("create events", event.reason, |world| {
            world.told.push(told);
            Ok(())
        })
    }

    fn list_pods(&mut self, labels: &str, from: Option<&str>) -> Result<Page<Pod>, ApiError> {
        let selector = selector(labels);
        self.list(
            "list pods",
            labels,
            from,
            |world| {
                let asked =
                    world.pods.iter().filter(move |(_, it)| has_labels(&it.labels, &selector));
                Box::new(asked.map(|(uid, it)| (uid.into(), it)))
            },
            |it: &ModelPod, _| it.object(),
        )
    }

    fn list_events(&mut self, fields: &str, from: Option<&str>) -> Result<Page<Event>, ApiError> {
        let selector = selector(fields);
        self.list(
            "list events",
            fields,
            from,
            |world| {
                let asked = world.events.iter().enumerate().filter(move |(_, it)| {
                    selector.iter().all(|(field, value)| match field.as_str() {
                        "involvedObject.kind" => it.about == value,
                        "involvedObject.uid" => it.event.involved_object.uid == *value,
                        "reason" => it.event.reason == *value,
                        "type" => it.kind == value,
                        other => panic!("the model knows no field `{other}` of events"),
                    })
                });
                Box::new(asked.map(|(place, it)| (format!("{place:06}").into(), it)))
            },
            |it: &ModelEvent, _| it.event.clone(),
        )
    }

    fn be_patient_for(&mut self, most: Duration) {
        self.world.borrow_mut().patience = most;
    }

    fn server_time(&self) -> Option<SystemTime> {
        let world = self.world.borrow();
        (world.n_asked > 0).then(|| world.wall())
    }

    fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.world.borrow_mut().warnings)
    }
}

impl Admission {
    /// What those who count call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::DropContainer(_) => "webhook: drops a container",
            Self::Prefer => "webhook: adds preferences",
            Self::RewriteImages(..) => "webhook: rewrites DaemonSets",
            Self::RewritePods(..) => "webhook: rewrites pods",
            Self::Sidecar(_) => "webhook: adds a sidecar",
        }
    }

    /// What becomes of a DaemonSet on its way in.
    fn change(&self, object: &mut Value) {
        let spec = &mut object["spec"]["template"]["spec"];
        if let Self::Prefer = self {
            let term = json!({"weight": 1, "preference": {"matchExpressions": [
                {"key": "spot", "operator": "DoesNotExist"}
            ]}});
            let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
            spec["affinity"]["nodeAffinity"][preferred] = json!([term]);
            spec["affinity"]["podAffinity"] = json!({"somethingNew": []});
            spec["affinity"]["podAntiAffinity"] = json!({});
            return;
        }
        let Some(containers) = spec["containers"].as_array_mut() else { return };
        match self {
            Self::DropContainer(name) => containers.retain(|it| it["name"] != name.as_str()),
            Self::RewriteImages(from, to) => {
                for it in containers {
                    let image = it["image"].as_str().unwrap_or_default();
                    it["image"] = image.replace(from, to).into();
                }
            }
            Self::Prefer | Self::RewritePods(..) | Self::Sidecar(_) => {}
        }
    }
}

/// What the API server refuses.
///
/// Source: `ValidateNodeSelector` and `ValidateNodeFieldSelectorRequirement` in
/// `pkg/apis/core/validation/validation.go`.
fn check_affinity(object: &Value) -> Result<(), Cause> {
    let Some(Value::Array(terms)) = object.pointer(NODE_SELECTOR_TERMS) else { return Ok(()) };
    let is_valid =
        |it: &Value| it["operator"] == "In" && it["values"].as_array().map(Vec::len) == Some(1);
    let fields = terms.iter().filter_map(|it| it["matchFields"].as_array());
    match !terms.is_empty() && fields.flatten().all(is_valid) {
        true => Ok(()),
        false => Err(status(422, "Invalid", "spec.template.spec.affinity: Invalid value")),
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => _ = target.as_object_mut().expect("just made one").remove(key),
            value => merge(&mut target[key], value),
        }
    }
}

/// How long the client waits for an answer at most.
fn longest(request: &str) -> Duration {
    let limits = Limits::default();
    match request.split(' ').next() {
        Some("get") => limits.object,
        Some("list") => limits.list,
        _ => limits.write,
    }
}

fn selector(written: &str) -> Vec<(String, String)> {
    let pairs = written.split(',').map(|it| it.split_once('=').expect("only equality is used"));
    pairs.map(|(key, value)| (key.into(), value.into())).collect()
}

fn has_labels(labels: &BTreeMap<String, String>, selector: &[(String, String)]) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
