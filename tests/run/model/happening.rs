//! What happens by itself.

use std::time::Duration;

use prepull::node::Taint;
use prepull::run::Signal;

use super::node::TOO_MANY_PODS;
use super::{Lost, ModelNode, Pull, World};

/// Something that happens by itself, and not because a run asks for it.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A pull ends whose pod is gone.
    Arrive {
        node_uid: String,
        image: String,
    },
    /// The garbage collector takes the pods of a DaemonSet that is gone.
    CollectPods {
        set: String,
    },
    /// The garbage collector takes what an owner had that is gone.
    CollectSets {
        owner: String,
    },
    Cordon(&'static str),
    /// A DaemonSet is made for a client that waits no more.
    CreateLate(Box<serde_json::Value>),
    /// A node that is not ready, and whose kubelet goes on.
    CutOff(&'static str),
    /// The same DaemonSet is deleted for a client that waits no more.
    DeleteLate {
        name: String,
        uid: String,
    },
    DeletePod(&'static str),
    DeleteSets,
    /// The right to this request is taken away.
    Deny(&'static str),
    /// Somebody edits every DaemonSet to run this image in the first container.
    EditSets(&'static str),
    Evict(&'static str),
    Grant(&'static str),
    Join(Box<ModelNode>),
    Label(&'static str, &'static str, &'static str),
    /// The tag of an image stands for something else from now on.
    MoveTag(&'static str),
    /// Somebody edits every DaemonSet to leave this node out.
    NarrowSets(&'static str),
    /// The API server refuses to make pods, in these words, or does so no more.
    RefusePods(Option<&'static str>),
    /// The registry answers differently from now on.
    Registry(&'static str, Pull),
    /// The same for one node.
    RegistryAt(&'static str, &'static str, Pull),
    Remove(&'static str),
    /// A machine of the same name takes the node's place, with an empty disk. The pods that were
    /// bound to the name are made again, or stay, and the new kubelet starts them anew.
    Replace(&'static str, PodsOnReplace),
    /// `kubectl rollout restart`, which deletes no pod here: they are updated `OnDelete`.
    RestartSets,
    /// Tokens are not accepted any more.
    RevokeTokens,
    SetReady(&'static str, bool),
    /// The kubelet of the node refuses every new pod for this reason, or does so no more.
    SetRefusal(&'static str, Option<&'static str>),
    /// Whether the node has room for one more pod.
    SetRoom(&'static str, bool),
    Signal,
    /// The node repels what does not tolerate the key.
    Taint(&'static str, &'static str),
    Uncordon(&'static str),
    Untaint(&'static str, &'static str),
    WithdrawRights,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodsOnReplace {
    AreMadeAgain,
    Stay,
}

impl World {
    pub(super) fn happen(&mut self, happening: Happening) {
        self.tell(|| format!("- {happening:?}"));
        let is_about_one_that_is_gone =
            happening.node().is_some_and(|it| !self.nodes.contains_key(it));
        if is_about_one_that_is_gone {
            return;
        }
        self.seen.extend(happening.name());
        self.last_change = self.now;
        if let Some(node) = happening.troubles() {
            self.troubled.insert(node.into());
        }
        self.change(happening);
        self.sync_soon();
    }

    fn change(&mut self, happening: Happening) {
        let now = self.now;
        let open = |node: &mut ModelNode| node.opened_at = now;
        match happening {
            Happening::Arrive { node_uid, image } => {
                let (listed_at, version) = (now + self.pace.listing, self.version(&image));
                if let Some(node) = self.nodes.values_mut().find(|it| it.uid == node_uid) {
                    node.store(&image, version, listed_at);
                }
            }
            Happening::CollectPods { set } => self.end_pods(|it| it.set == set),
            Happening::CollectSets { owner } => self.collect_sets_of(&owner),
            Happening::Cordon(node) => self.node(node).cordoned = true,
            Happening::CreateLate(object) => _ = self.create_set(*object),
            Happening::CutOff(node) => {
                let node = self.node(node);
                (node.ready, node.lost) = (false, Lost::CutOff);
            }
            Happening::DeleteLate { name, uid } => _ = self.delete_set(&name, &uid),
            Happening::DeletePod(node) => self.end_pods(|it| it.node == node),
            Happening::DeleteSets => {
                self.sets.clear();
                self.end_pods(|_| true);
            }
            Happening::Deny(request) => _ = self.denied.insert(request.into()),
            Happening::EditSets(image) => self.edit_sets(|set| {
                set.edit(|it| {
                    let containers = &mut it["spec"]["template"]["spec"]["containers"];
                    if let Some(first) = containers.get_mut(0) {
                        first["image"] = image.into();
                    }
                });
            }),
            Happening::Evict(node) => {
                let after = self.pace.failed_pod;
                if !self.nodes[node].ready {
                    return;
                }
                let mut pods: Vec<_> =
                    self.pods.extract_if(.., |_, it| it.node == node && it.is_bound).collect();
                for (_, pod) in &mut pods {
                    let before = pod.published.clone();
                    pod.evict(now + after);
                    self.note_steps(&before, pod);
                }
                self.pods.extend(pods);
            }
            Happening::Grant(request) => _ = self.denied.remove(request),
            // A name is taken once.
            Happening::Join(node) if self.nodes.contains_key(&node.name) => {}
            Happening::Join(node) => self.join(*node),
            Happening::Label(node, key, value) => {
                let node = self.node(node);
                node.labels.insert(key.into(), value.into());
                open(node);
            }
            Happening::MoveTag(image) => {
                *self.moves.entry(image.into()).or_default() += 1;
                *self.moves_meanwhile.entry(image.into()).or_default() += 1;
            }
            Happening::NarrowSets(node) => self.edit_sets(|it| it.leave_out(node)),
            Happening::RefusePods(words) => self.refuses_pods = words,
            Happening::Registry(image, pull) => _ = self.registry.insert(image.into(), pull),
            Happening::RegistryAt(node, image, pull) => {
                self.registry_at.insert((node.into(), image.into()), pull);
            }
            Happening::Remove(node) => self.remove(node),
            Happening::Replace(node, pods) => {
                let labels = self.node(node).labels.clone();
                self.nodes.remove(node);
                self.replaced.insert(node.into());
                if pods == PodsOnReplace::AreMadeAgain {
                    self.forget_pods(node);
                }
                self.join(ModelNode { labels, ..ModelNode::new(node) });
            }
            Happening::RestartSets => self.edit_sets(|set| {
                set.edit(|it| {
                    let annotations = &mut it["spec"]["template"]["metadata"]["annotations"];
                    annotations["kubectl.kubernetes.io/restartedAt"] = "now".into();
                });
            }),
            Happening::RevokeTokens => self.are_tokens_revoked = true,
            Happening::SetReady(node, ready) => {
                let machine = self.node(node);
                (machine.ready, machine.lost) = (ready, Lost::Dead);
                open(machine);
                if ready {
                    self.wake_pods(node);
                }
            }
            Happening::SetRoom(node, has_room) => {
                let machine = self.node(node);
                (machine.has_room, machine.lack) = (has_room, TOO_MANY_PODS);
                open(machine);
                if has_room {
                    self.bind_pods(node);
                }
                self.note_room(node);
            }
            Happening::SetRefusal(node, reason) => {
                let machine = self.node(node);
                machine.refuses = reason;
                open(machine);
                self.note_room(node);
            }
            Happening::Signal => self.signal = Signal::Stop,
            Happening::Taint(node, key) => {
                let (key, effect) = (key.into(), "NoSchedule".into());
                self.node(node).taints.push(Taint { key, value: String::new(), effect });
            }
            Happening::Uncordon(node) => {
                let node = self.node(node);
                node.cordoned = false;
                open(node);
            }
            Happening::Untaint(node, key) => {
                let node = self.node(node);
                node.taints.retain(|it| it.key != key);
                open(node);
            }
            Happening::WithdrawRights => _ = self.denied.insert("*".into()),
        }
    }

    /// The node goes, and the pods that are bound to it some time later, unless another machine of
    /// its name takes them over.
    fn remove(&mut self, node: &str) {
        self.nodes.remove(node);
        self.note_room(node);
        self.replaced.insert(node.into());
        if self.pace.orphans.is_zero() {
            self.forget_pods(node);
            return;
        }
        let at = self.now + self.pace.orphans;
        self.pods.retain(|_, it| it.node != node || it.is_bound);
        for pod in self.pods.values_mut().filter(|it| it.node == node) {
            pod.next = Some(at);
        }
    }

    fn forget_pods(&mut self, node: &str) {
        self.pods.retain(|_, it| it.node != node);
    }

    /// The kubelet goes on with the pods that it neglected.
    fn wake_pods(&mut self, node: &str) {
        let soon = self.now + Duration::from_secs(1);
        let neglected = self.pods.values_mut().filter(|it| it.node == node && it.is_bound);
        neglected.for_each(|it| _ = it.next.get_or_insert(soon));
    }

    /// The scheduler finds a place for the pods that wait for one.
    pub(super) fn bind_pods(&mut self, node: &str) {
        let start = self.now + self.pace.start;
        let waiting = self.pods.values_mut().filter(|it| it.node == node && !it.is_bound);
        waiting.for_each(|it| it.bind(start));
    }
}

impl Happening {
    /// The node that it is about, which may be gone by then.
    fn node(&self) -> Option<&'static str> {
        match self {
            Self::Cordon(node)
            | Self::CutOff(node)
            | Self::DeletePod(node)
            | Self::Evict(node)
            | Self::Label(node, ..)
            | Self::Remove(node)
            | Self::Replace(node, _)
            | Self::SetReady(node, _)
            | Self::SetRefusal(node, _)
            | Self::SetRoom(node, _)
            | Self::Taint(node, _)
            | Self::Uncordon(node)
            | Self::Untaint(node, _) => Some(node),
            _ => None,
        }
    }

    /// The node that is no target from now on.
    fn troubles(&self) -> Option<&'static str> {
        match self {
            Self::Cordon(node)
            | Self::CutOff(node)
            | Self::Label(node, ..)
            | Self::Remove(node)
            | Self::Replace(node, _)
            | Self::SetReady(node, false)
            | Self::Taint(node, _) => Some(node),
            _ => None,
        }
    }

    /// What those who count call it, if it is worth counting.
    fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Arrive { .. } | Self::CollectPods { .. } | Self::CollectSets { .. } => {
                return None;
            }
            Self::Registry(..) | Self::RegistryAt(..) => return None,
            Self::CreateLate(_) | Self::DeleteLate { .. } => return None,
            Self::Cordon(_) => "node: cordoned",
            Self::CutOff(_) => "node: cut off",
            Self::DeletePod(_) => "pod: deleted",
            Self::DeleteSets => "DaemonSet: deleted by someone else",
            Self::Deny(_) => "rights: one withdrawn",
            Self::EditSets(_) => "DaemonSet: image edited",
            Self::Evict(_) => "pod: evicted",
            Self::Grant(_) => "rights: one granted late",
            Self::Join(_) => "node: joined",
            Self::Label(..) => "node: relabelled",
            Self::MoveTag(_) => "image: tag moved",
            Self::NarrowSets(_) => "DaemonSet: affinity edited",
            Self::RefusePods(None) => return None,
            Self::RefusePods(Some(_)) => "pod: refused by the API server",
            Self::Remove(_) => "node: gone",
            Self::Replace(_, PodsOnReplace::AreMadeAgain) => "node: replaced, pods made again",
            Self::Replace(_, PodsOnReplace::Stay) => "node: replaced, pods stay",
            Self::RestartSets => "DaemonSet: restarted",
            Self::RevokeTokens => "rights: tokens revoked",
            Self::SetReady(_, false) => "node: not ready",
            Self::SetReady(_, true) => "node: ready again",
            Self::SetRefusal(_, None) => return None,
            Self::SetRefusal(_, Some(_)) => "pod: refused by the kubelet",
            Self::SetRoom(_, false) => "node: full",
            Self::SetRoom(_, true) => "node: room again",
            Self::Signal => return None,
            Self::Taint(..) => "node: tainted",
            Self::Uncordon(_) => "node: uncordoned",
            Self::Untaint(..) => "node: untainted",
            Self::WithdrawRights => "rights: all withdrawn",
        })
    }
}
