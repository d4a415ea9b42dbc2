//! The API server, with its faults, its rights and its admission.

use std::collections::BTreeMap;
use std::panic;
use std::time::{Duration, SystemTime};

use prepull::cluster::{ApiError, Cause, Cluster, Deletion, Job, NewEvent, Page};
use prepull::evidence::{Event, Pod};
use prepull::node::Node;
use prepull::puller::{DaemonSet, Puller};
use prepull::run::Signal;
use serde_json::{Value, json};

use super::{ModelEvent, ModelPod, Request, Set, Shared, World, timestamp};

/// What an admission webhook does to a DaemonSet or to its pods.
#[derive(Clone, Debug)]
pub enum Admission {
    DropContainer(&'static str),
    /// Adds preferences about nodes, and wishes about other pods, to the affinity.
    Prefer,
    RewriteImages(&'static str, &'static str),
    Sidecar(&'static str),
}

/// Requests that go wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Such as `list nodes`; with `continue` behind it, the pages after the first.
    pub request: &'static str,
    /// So many of them go well before.
    pub skip: usize,
    pub times: usize,
    pub kind: FaultKind,
}

#[derive(Clone, Debug)]
pub enum FaultKind {
    /// What was asked is done, but the answer says otherwise.
    DoneBut(u16),
    /// No answer for so long, or for as long as the run is patient, and then none at all.
    Hang(Duration),
    /// What was asked is done, but the answer is lost.
    LostAnswer,
    Status {
        code: u16,
        message: &'static str,
        retry_after: Option<Duration>,
    },
    Transport,
}

/// What a killed process leaves of itself.
pub struct Killed;

/// The API server of a world.
pub struct ModelCluster(pub Shared);

impl World {
    fn fault(&mut self, request: &str, about: &str) -> Option<FaultKind> {
        let asked = format!("{request} {about}");
        let fault = self
            .faults
            .iter_mut()
            .find(|it| it.times > 0 && asked.trim_end().starts_with(it.request))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.kind.clone())
    }
}

impl ModelCluster {
    /// Sends one request: time passes, faults and rights have their say, then `effect`.
    fn ask<T>(
        &mut self,
        request: &'static str,
        about: &str,
        effect: impl FnOnce(&mut World) -> Result<T, Cause>,
    ) -> Result<T, ApiError> {
        let mut world = self.0.borrow_mut();
        let cost = world.pace.request;
        world.advance(cost);
        let at = world.now;
        let transport = |cause: &str| Err(Cause::Transport(cause.into()));
        let result = match world.fault(request, about) {
            None if world.denied.contains("*") || world.denied.contains(request) => {
                Err(status(403, "Forbidden", &format!("User \"x\" cannot {request}")))
            }
            None => effect(&mut world),
            Some(FaultKind::DoneBut(code)) => {
                _ = effect(&mut world);
                Err(status(code, "Timeout", "the server was too slow"))
            }
            Some(FaultKind::Hang(time)) => {
                let patience = world.patience;
                world.advance(time.min(patience));
                transport("timed out")
            }
            Some(FaultKind::LostAnswer) => {
                _ = effect(&mut world);
                transport("the connection was reset")
            }
            Some(FaultKind::Status { code, message, retry_after }) => Err(Cause::Status {
                code,
                reason: String::new(),
                message: message.into(),
                retry_after,
            }),
            Some(FaultKind::Transport) => transport("connection refused"),
        };
        let is_ok = result.is_ok();
        let patience = world.patience;
        world.requests.push(Request { at, request, about: about.into(), is_ok, patience });
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
    fn list<T>(
        &mut self,
        request: &'static str,
        about: &str,
        from: Option<&str>,
        items: impl FnOnce(&World) -> BTreeMap<String, T>,
    ) -> Result<Page<T>, ApiError> {
        let about = if from.is_some() { "continue" } else { about };
        self.ask(request, about, |world| {
            let is_after = |key: &str| from.is_none_or(|it| key > it);
            let mut rest = items(world).into_iter().filter(|(key, _)| is_after(key));
            let page: Vec<_> = rest.by_ref().take(world.page).collect();
            let last = page.last().map(|it| it.0.clone());
            let next = last.filter(|_| rest.next().is_some());
            Ok(Page { items: page.into_iter().map(|it| it.1).collect(), next })
        })
    }
}

impl Cluster for ModelCluster {
    fn list_nodes(&mut self, from: Option<&str>) -> Result<Page<Node>, ApiError> {
        self.list("list nodes", "", from, |world| {
            world.nodes.values().map(|it| (it.name.clone(), it.object(world.now))).collect()
        })
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
        self.list("list daemonsets", labels, from, |world| {
            let is_asked = |it: &&Set| has_labels(&it.object["metadata"]["labels"], labels);
            let asked = world.sets.values().filter(is_asked);
            asked.map(|it| (it.name().to_owned(), it.puller())).collect()
        })
    }

    fn read_puller(&mut self, name: &str) -> Result<Puller, ApiError> {
        self.ask("get daemonset", name, |world| {
            Ok(world.sets.get(name).ok_or_else(|| not_found("daemonsets"))?.puller())
        })
    }

    fn create_puller(&mut self, manifest: &DaemonSet) -> Result<Puller, ApiError> {
        let mut object = serde_json::to_value(manifest).expect("a manifest is JSON");
        let name = manifest.metadata.name.clone();
        self.ask("create daemonset", &name.clone(), |world| {
            if !world.namespace_exists {
                return Err(not_found("namespaces"));
            }
            if world.sets.contains_key(&name) {
                return Err(status(409, "AlreadyExists", "it already exists"));
            }
            world.admission.iter().for_each(|it| it.change(&mut object));
            world.plant(object);
            let soon = world.now + world.pace.controller;
            let set = world.sets.get_mut(&name).expect("just planted");
            set.sync_at = Some(soon);
            let puller = set.puller();
            world.most_unfinished = world.most_unfinished.max(world.n_unfinished());
            Ok(puller)
        })
    }

    fn patch_puller(&mut self, name: &str, patch: &str) -> Result<Puller, ApiError> {
        let patch = serde_json::from_str(patch).expect("a patch is JSON");
        self.ask("patch daemonset", name, |world| {
            let set = world.sets.get_mut(name).ok_or_else(|| not_found("daemonsets"))?;
            set.edit(|it| merge(it, &patch));
            let puller = set.puller();
            world.sync_soon();
            world.most_unfinished = world.most_unfinished.max(world.n_unfinished());
            Ok(puller)
        })
    }

    fn delete_puller(&mut self, name: &str, uid: &str) -> Result<Deletion, ApiError> {
        self.ask("delete daemonset", name, |world| {
            let found = world.sets.get(name).ok_or_else(|| not_found("daemonsets"))?.uid();
            if found != uid {
                return Err(status(409, "Conflict", "the UID in the precondition does not match"));
            }
            world.drop_pods(|it| it.set == uid);
            let now = timestamp(world.wall());
            let set = world.sets.get_mut(name).expect("found before");
            match set.object["metadata"]["finalizers"].is_array() {
                true => {
                    set.object["metadata"]["deletionTimestamp"] = now.into();
                    Ok(Deletion::UnderWay)
                }
                false => {
                    _ = world.sets.remove(name);
                    Ok(Deletion::Done)
                }
            }
        })
    }

    fn delete_pod(&mut self, name: &str, uid: &str) -> Result<Deletion, ApiError> {
        self.ask("delete pod", name, |world| {
            world.drop_pods(|it| it.uid == uid);
            Ok(Deletion::UnderWay)
        })
    }

    fn create_event(&mut self, event: &NewEvent<'_>) -> Result<(), ApiError> {
        self.ask("create events", event.reason, |world| Ok(()))
    }

    fn list_pods(&mut self, labels: &str, from: Option<&str>) -> Result<Page<Pod>, ApiError> {
        self.list("list pods", labels, from, |world| {
            let is_asked = |it: &&ModelPod| has_labels(&it.labels, labels);
            let asked = world.pods.values().filter(is_asked);
            asked.map(|it| (it.name.clone(), it.object())).collect()
        })
    }

    fn list_events(&mut self, fields: &str, from: Option<&str>) -> Result<Page<Event>, ApiError> {
        self.list("list events", fields, from, |world| {
            let is_asked = |it: &&ModelEvent| {
                it.event.involved_object.field_path.is_empty() == fields.contains("DaemonSet")
                    && fields.ends_with(&format!("type={}", it.kind))
            };
            // The name of an event is its pod's and the time.
            let key = |place, it: &Event| format!("{}.{place:06}", it.involved_object.uid);
            let asked = world.events.iter().filter(is_asked).enumerate();
            asked.map(|(place, it)| (key(place, &it.event), it.event.clone())).collect()
        })
    }

    fn be_patient_for(&mut self, most: Duration) {
        self.0.borrow_mut().patience = most;
    }

    fn server_time(&self) -> Option<SystemTime> {
        let world = self.0.borrow();
        (world.n_asked > 0).then(|| world.wall())
    }

    fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().warnings)
    }
}

impl Admission {
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
            Self::DropContainer(name) => containers.retain(|it| it["name"] != *name),
            Self::RewriteImages(from, to) => {
                for it in containers {
                    let image = it["image"].as_str().unwrap_or_default();
                    it["image"] = image.replace(from, to).into();
                }
            }
            Self::Prefer | Self::Sidecar(_) => {}
        }
    }
}

fn status(code: u16, reason: &str, message: &str) -> Cause {
    let (reason, message) = (reason.into(), message.into());
    Cause::Status { code, reason, message, retry_after: None }
}

fn not_found(what: &str) -> Cause {
    status(404, "NotFound", &format!("{what} not found"))
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

fn has_labels(labels: &Value, selector: &str) -> bool {
    selector.split(',').all(|it| {
        let (key, value) = it.split_once('=').expect("only equality is used");
        labels[key] == value
    })
}
