//! What happens meanwhile: nodes, pods and DaemonSets that change, an API server that errs, rights
//! that are missing, and what others have left.

use std::time::Duration;

use serde_json::json;

use super::plan::{Draft, TROUBLES_END, Weather, seconds};
use super::scene::node_name;
use crate::model::{Fault, FaultKind, Happening, ModelNode, Outage, PodsOnReplace, Stored};

const RBAC: &str = "User \"system:serviceaccount:default:demo\" cannot do this";
const QUOTA: &str = "exceeded quota: few, requested: count/daemonsets.apps=1";
/// Another image than any that is wanted.
const OTHER_IMAGE: &str = "q.io/other:1";

/// Requests as faults name them, the empty one for all: how often each is chosen, and how many of
/// them a fault lets pass at most. Some come all the time, and others a few times in a run.
const REQUESTS: [(u64, (&str, u64)); 12] = [
    (2, ("", 300)),
    (2, ("create daemonset", 4)),
    (2, ("delete daemonset", 4)),
    (2, ("delete pod", 2)),
    (2, ("get daemonset", 150)),
    (2, ("get job", 3)),
    (3, ("get node", 30)),
    (2, ("list daemonsets", 3)),
    (2, ("list events", 40)),
    (2, ("list nodes", 8)),
    (2, ("list pods", 40)),
    (4, ("patch daemonset", 10)),
];
/// Events about pods that can not be made.
const REFUSALS: &str = "list events involvedObject.kind=DaemonSet";
/// The removal of a leftover of the release.
const LEFTOVER: &str = "delete daemonset demo-expire";
const LATER_PAGES: [&str; 2] = ["list nodes continue", "list pods continue"];
const LATER_LEFTOVERS: &str = "list daemonsets continue";
const NEEDED_RIGHTS: [&str; 7] = [
    "create daemonset",
    "delete daemonset",
    "delete pod",
    "get daemonset",
    "get job",
    "list pods",
    "patch daemonset",
];

/// When something happens to which node, and when it is undone.
#[derive(Clone, Copy)]
struct Moment {
    at: u64,
    back: Option<u64>,
    node: &'static str,
}

/// A kind of change, and how likely it is among all of them.
type Change = (u64, fn(&mut Draft, Moment));

/// What may happen where nothing goes wrong.
const HARMLESS: [Change; 3] =
    [(4, Draft::node_joins), (1, Draft::node_is_cordoned), (1, Draft::pod_is_deleted)];

const CHANGES: [Change; 18] = [
    (6, Draft::node_is_cordoned),
    (5, Draft::node_is_not_ready),
    (5, Draft::node_is_cut_off),
    (5, Draft::node_is_tainted),
    (5, Draft::node_is_relabelled),
    (8, Draft::node_joins),
    (5, Draft::node_goes),
    (5, Draft::node_is_replaced),
    (5, Draft::node_is_full),
    (5, Draft::pod_is_deleted),
    (5, Draft::pod_is_evicted),
    (3, Draft::pods_are_refused_by_the_kubelet),
    (6, Draft::pods_are_refused_by_the_api_server),
    (3, Draft::sets_are_deleted),
    (3, Draft::sets_are_edited),
    (3, Draft::sets_are_narrowed),
    (3, Draft::sets_are_restarted),
    (3, Draft::tag_moves),
];

impl Draft {
    // === The cluster ===

    pub fn changes(&mut self) {
        let (n_changes, latest) = match self.weather {
            Weather::Fair => (self.chance.weighed(&[(60, 0), (40, 1)]), TROUBLES_END - 40),
            Weather::Passing => (self.n_changes(), TROUBLES_END - 40),
            Weather::Foul => (self.n_changes(), 120),
        };
        for _ in 0..n_changes {
            let node = node_name(self.chance.below(self.n_nodes.max(1)));
            let at = self.chance.between(1, latest);
            let back = at + self.chance.between(2, 40);
            let back = self.chance.percent(70).then_some(back);
            let change = match self.weather {
                Weather::Fair => self.chance.weighed(&HARMLESS),
                _ => self.chance.weighed(&CHANGES),
            };
            change(self, Moment { at, back, node });
        }
    }

    fn n_changes(&mut self) -> usize {
        self.chance.weighed(&[(25, 0), (25, 1), (25, 2), (15, 4), (10, 7)])
    }

    /// Something and, if it is undone, what undoes it.
    fn happens(&mut self, moment: Moment, happening: Happening, undone: Happening) {
        self.world.at(moment.at, happening);
        if let Some(back) = moment.back {
            self.world.at(back, undone);
        }
    }

    fn node_is_cordoned(&mut self, it: Moment) {
        self.happens(it, Happening::Cordon(it.node), Happening::Uncordon(it.node));
    }

    fn node_is_not_ready(&mut self, it: Moment) {
        let (lost, back) =
            (Happening::SetReady(it.node, false), Happening::SetReady(it.node, true));
        self.happens(self.back_if_blind(it), lost, back);
    }

    fn node_is_cut_off(&mut self, it: Moment) {
        let (lost, back) = (Happening::CutOff(it.node), Happening::SetReady(it.node, true));
        self.happens(self.back_if_blind(it), lost, back);
    }

    /// Without a look at the nodes, one that is lost is waited for.
    fn back_if_blind(&self, moment: Moment) -> Moment {
        match self.is_blind && !self.is_foul() {
            true => Moment { back: Some(moment.back.unwrap_or(TROUBLES_END)), ..moment },
            false => moment,
        }
    }

    fn node_is_tainted(&mut self, it: Moment) {
        let key = "special";
        self.happens(it, Happening::Taint(it.node, key), Happening::Untaint(it.node, key));
    }

    fn node_is_relabelled(&mut self, it: Moment) {
        let pool = self.chance.pick(&["cpu", "gpu"]);
        let label = |pool| Happening::Label(it.node, "pool", pool);
        self.happens(it, label(pool), label("gpu"));
    }

    fn node_joins(&mut self, it: Moment) {
        let name = node_name(self.n_nodes + 1 + self.chance.below(30));
        let mut node = ModelNode::new(name);
        if self.chance.percent(40) {
            node.labels.insert("pool".into(), "gpu".into());
        }
        let image = self.chance.pick(&self.images);
        if self.chance.percent(30) {
            node.images.push(Stored::new(image, Duration::ZERO));
        }
        self.world.at(it.at, Happening::Join(Box::new(node)));
    }

    fn node_goes(&mut self, it: Moment) {
        let again = Happening::Join(Box::new(ModelNode::new(it.node)));
        self.happens(it, Happening::Remove(it.node), again);
    }

    fn node_is_replaced(&mut self, it: Moment) {
        let pods = self.chance.pick(&[PodsOnReplace::AreMadeAgain, PodsOnReplace::Stay]);
        self.world.at(it.at, Happening::Replace(it.node, pods));
    }

    fn node_is_full(&mut self, it: Moment) {
        let (full, again) = (Happening::SetRoom(it.node, false), Happening::SetRoom(it.node, true));
        self.happens(it, full, again);
    }

    fn pod_is_deleted(&mut self, it: Moment) {
        self.world.at(it.at, Happening::DeletePod(it.node));
    }

    fn pod_is_evicted(&mut self, it: Moment) {
        self.world.at(it.at, Happening::Evict(it.node));
    }

    fn pods_are_refused_by_the_kubelet(&mut self, it: Moment) {
        let reason = self.chance.pick(&["NodeAffinity", "OutOfcpu", "OutOfpods"]);
        self.world.at(it.at, Happening::DeletePod(it.node));
        let it = Moment { back: Some(it.back.unwrap_or(TROUBLES_END)), ..it };
        let refuses = |reason| Happening::SetRefusal(it.node, reason);
        self.happens(it, refuses(Some(reason)), refuses(None));
    }

    fn pods_are_refused_by_the_api_server(&mut self, it: Moment) {
        if !self.is_foul() {
            return;
        }
        // Once all pods are made it is too late.
        let at = if self.chance.percent(70) { 0 } else { it.at };
        let it = Moment { at, ..it };
        self.happens(it, Happening::RefusePods(Some(QUOTA)), Happening::RefusePods(None));
        self.may(&[1, 3]);
        self.fault_of_a_rare_call(REFUSALS);
    }

    fn sets_are_deleted(&mut self, it: Moment) {
        if self.may_lose_one_more() {
            self.world.at(it.at, Happening::DeleteSets);
        }
    }

    fn sets_are_edited(&mut self, it: Moment) {
        if self.may_lose_one_more() {
            // Pods that are made of it since show the other image under our names.
            let edit = Happening::EditSets(OTHER_IMAGE);
            self.world.at(it.at, edit).at(it.at, Happening::DeletePod(it.node));
        }
    }

    fn sets_are_narrowed(&mut self, it: Moment) {
        if self.may_lose_one_more() {
            self.world.at(it.at, Happening::NarrowSets(it.node));
        }
    }

    /// A run makes a DaemonSet again twice, and gives up the third time.
    fn may_lose_one_more(&mut self) -> bool {
        if self.n_losses == 2 && !self.is_foul() {
            return false;
        }
        self.n_losses += 1;
        if self.n_losses > 2 {
            self.may(&[1]);
        }
        true
    }

    fn sets_are_restarted(&mut self, it: Moment) {
        self.world.at(it.at, Happening::RestartSets);
    }

    fn tag_moves(&mut self, it: Moment) {
        let image = self.chance.pick(&self.images);
        self.world.at(it.at, Happening::MoveTag(image));
    }

    // === The API server ===

    pub fn faults(&mut self) {
        if self.weather == Weather::Fair {
            return;
        }
        for _ in 0..self.chance.weighed(&[(30, 0), (25, 1), (20, 2), (15, 4), (10, 7)]) {
            let fault = self.fault();
            self.world.faults.push(fault);
        }
        self.outages();
        self.rights();
    }

    fn fault(&mut self) -> Fault {
        let status = |code, message| FaultKind::Status { code, message, retry_after: None };
        let chance = &mut self.chance;
        let (skip, times) = (chance.below(2) as usize, chance.between(1, 3) as usize);
        match chance.below(if self.weather == Weather::Foul { 18 } else { 12 }) {
            0 => {
                let request = chance.pick(&LATER_PAGES);
                self.expiry(request)
            }
            1 => {
                let (request, kind) = ("create daemonset", status(409, "it already exists"));
                Fault { request, skip, times, kind }
            }
            12 => {
                let request = chance.pick(&["create daemonset", "delete daemonset"]);
                let kind = FaultKind::Straggler(seconds(chance.between(20, 70)));
                self.may(&[3]);
                Fault { request, skip, times: 1, kind }
            }
            13 => {
                self.may(&[1, 3]);
                Fault { request: "create daemonset", skip: 0, times, kind: status(403, QUOTA) }
            }
            14 | 15 => {
                let (request, latest) = match chance.percent(60) {
                    // At some time, or when what was made is to be removed.
                    true => chance.pick(&[("", 100), ("delete daemonset", 0)]),
                    false => chance.weighed(&REQUESTS),
                };
                let skip = chance.below(latest + 1) as usize;
                let times = chance.pick(&[1, usize::MAX]);
                self.may(&[1, 3]);
                Fault { request, skip, times, kind: FaultKind::Unusable }
            }
            _ => {
                let (request, latest) = self.chance.weighed(&REQUESTS);
                self.fault_at(request, latest)
            }
        }
    }

    /// A fault that may befall any request, as often at an early place as anywhere.
    fn fault_at(&mut self, request: &'static str, latest: u64) -> Fault {
        let chance = &mut self.chance;
        let latest = if chance.percent(50) { latest.min(2) } else { latest };
        let (skip, times) = (chance.below(latest + 1) as usize, chance.between(1, 3) as usize);
        let soon = seconds(chance.below(10));
        let status = |code, message, retry_after| FaultKind::Status { code, message, retry_after };
        let kind = match chance.below(if self.weather == Weather::Foul { 12 } else { 10 }) {
            0 => FaultKind::LostAnswer,
            1 => FaultKind::Transport,
            2 => FaultKind::Hang(seconds(chance.below(12))),
            3 => status(429, "slow down", Some(soon)),
            4 => status(429, "slow down", None),
            5 => status(500, "no leader", None),
            6 => status(503, "starting", Some(soon)),
            7 => status(503, "starting", None),
            8 => FaultKind::DoneBut(504),
            9 => FaultKind::Slow(seconds(chance.below(8))),
            10 => {
                self.may(&[1, 3]);
                status(401, "Unauthorized", None)
            }
            _ => {
                self.may(&[1, 3]);
                status(403, RBAC, None)
            }
        };
        Fault { request, skip, times, kind }
    }

    /// The continue token of a list expires, several times in a row or whenever it is used.
    fn expiry(&mut self, request: &'static str) -> Fault {
        if self.n_nodes <= 12 {
            self.world.page = 2;
        }
        let skip = self.chance.pick(&[0, 0, 1, 2]);
        let mut times = self.chance.between(1, 3) as usize;
        if self.is_foul() && self.chance.percent(50) {
            self.may(&[1, 3]);
            times = usize::MAX;
        }
        let kind = FaultKind::Status { code: 410, message: "expired", retry_after: None };
        Fault { request, skip, times, kind }
    }

    /// The same for events, of which there are few where no pull fails.
    pub fn events_expire(&mut self) {
        if self.chance.percent(25) {
            let fault = self.expiry("list events continue");
            self.world.faults.push(fault);
        }
    }

    /// A fault of what few runs ask for, where this one may.
    pub fn fault_of_a_rare_call(&mut self, request: &'static str) {
        if self.weather != Weather::Fair && self.chance.percent(70) {
            let fault = self.fault_at(request, 0);
            self.world.faults.push(fault);
        }
    }

    fn outages(&mut self) {
        if !self.chance.percent(10) {
            return;
        }
        let from = self.chance.below(60);
        let longest = if self.is_foul() { 400 } else { 30 };
        let until = from + self.chance.between(3, longest);
        if until > TROUBLES_END {
            self.may(&[3]);
        }
        let kind = match self.chance.below(3) {
            0 => FaultKind::Transport,
            1 => FaultKind::Hang(seconds(30)),
            _ => FaultKind::Status { code: 503, message: "starting", retry_after: None },
        };
        self.world.outages.push(Outage { from: seconds(from), until: seconds(until), kind });
    }

    fn rights(&mut self) {
        let Self { chance, world, .. } = self;
        if chance.percent(4) {
            // A binding takes a moment to work.
            let request = chance.pick(&["create daemonset", "get job", "list nodes"]);
            world.denied.insert(request.into());
            world.at(2, Happening::Grant(request));
        }
        if chance.percent(4) {
            let request = chance.pick(&["get node", "list daemonsets", "list events"]);
            world.denied.insert(request.into());
            self.facts.insert("rights: one that is not needed is missing");
        }
        if self.is_blind {
            world.denied.insert("list nodes".into());
        }
        if !self.is_foul() {
            return;
        }
        if self.is_blind {
            // A window needs the right.
            self.may(&[2]);
        }
        let Self { chance, world, .. } = self;
        if chance.percent(8) {
            let request = chance.pick(&NEEDED_RIGHTS);
            if chance.percent(60) {
                world.denied.insert(request.into());
                self.facts.insert("rights: one is missing");
            } else {
                world.at(chance.between(2, 100), Happening::Deny(request));
            }
            self.may(&[1, 3]);
        }
        if self.chance.percent(9) {
            let at = self.chance.between(1, 60);
            let how = self.chance.pick(&[Happening::RevokeTokens, Happening::WithdrawRights]);
            self.world.at(at, how);
            self.may(&[1, 3]);
        }
        if self.chance.percent(6) {
            self.world.namespace_exists = false;
            self.may(&[2]);
        }
    }

    /// DaemonSets of earlier runs, of this release and of others.
    pub fn leftovers(&mut self) {
        if !self.chance.percent(20) {
            return;
        }
        // A third of them are of the release, and a page may have no more than two.
        let is_long = self.weather != Weather::Fair && self.chance.percent(30);
        let n_leftovers = self.chance.between(1, 3) + if is_long { 12 } else { 0 };
        if is_long {
            let fault = self.expiry(LATER_LEFTOVERS);
            self.world.faults.push(fault);
        }
        for n in 0..n_leftovers {
            let release = self.chance.pick(&["demo", "demo-2", "other"]);
            let (expires, word) = self.chance.pick(&[
                ("2023-12-31T23:59:59Z", "expired"),
                ("2024-01-01T00:00:20Z", "expires-soon"),
                ("2024-01-01T02:00:00Z", "runs"),
            ]);
            self.world.plant(json!({
                "metadata": {
                    "name": format!("{release}-{word}-{n}"),
                    "labels": {"prepull.dev/name": release, "prepull.dev/run": format!("old-{n}")},
                    "annotations": {"prepull.dev/expires": expires},
                },
                "spec": {"template": {"metadata": {}, "spec": {
                    "containers": [], "initContainers": []
                }}},
            }));
        }
        self.fault_of_a_rare_call(LEFTOVER);
    }
}
