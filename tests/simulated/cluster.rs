//! The cluster of `hack/cluster simulated`, and what its API server says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prepull::cluster::{ApiError, Cluster, Page};
use prepull::kube::{Access, KubeCluster};
use prepull::node::Node;
use serde_json::{Value, json};

use crate::command::{Running, run, scratch, start, until};
use crate::node::SimulatedNode;

/// Everything namespaced is in this one, which a new cluster has.
pub const NAMESPACE: &str = "default";

/// A request to the API server, or a few hundred of them.
const REQUEST: Duration = Duration::from_secs(120);
/// Until what a test has left is gone: twenty thousand pods at worst.
const CLEARING: Duration = Duration::from_secs(300);
/// Pods that are deleted by one request.
const MOST_DELETED: usize = 3000;
/// Until another process that runs these tests has ended.
const TURN: Duration = Duration::from_secs(20 * 60);
/// Until the controllers have seen a thousand new nodes.
const SETTLING: Duration = Duration::from_secs(120);

/// Conditions by their type, with the status in which the node lifecycle controller makes a taint
/// of them, and its key.
///
/// Source: `nodeConditionToTaintKeyStatusMap` in
/// `pkg/controller/nodelifecycle/node_lifecycle_controller.go`.
const CONDITION_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", "node.kubernetes.io/not-ready"),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
const CORDON_TAINT: &str = "node.kubernetes.io/unschedulable";

/// The cluster, empty and for one test alone, until it is dropped.
pub struct Simulated {
    env: BTreeMap<String, String>,
    ca: PathBuf,
    token: PathBuf,
    _others: MutexGuard<'static, ()>,
    _other_processes: File,
}

static TURNS: Mutex<()> = Mutex::new(());

impl Simulated {
    pub fn take() -> Self {
        let others = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let script = "eval \"$(hack/cluster simulated env)\" && env --null";
        let found = run(in_repository("bash").args(["-euc", script]), REQUEST);
        assert_eq!(
            found.code,
            Some(0),
            "there are no simulated nodes: run hack/cluster simulated up: {}",
            found.stderr
        );
        let variables = found.stdout.split_terminator('\0').filter_map(|it| it.split_once('='));
        let env: BTreeMap<String, String> =
            variables.map(|(name, value)| (name.into(), value.into())).collect();
        let lock = Path::new(&env["KUBECONFIG"]).with_file_name("tests.lock");
        let turn = File::create(lock).expect("the cluster's folder is ours");
        until("the end of another run of these tests", TURN, || {
            turn.try_lock().map_err(|err| err.to_string())
        });
        let mut cluster = Self {
            env,
            ca: scratch().join("ca.crt"),
            token: scratch().join("token"),
            _others: others,
            _other_processes: turn,
        };
        let value = |path: &str| cluster.kubectl(&["config", "view", "--raw", "--output", path]);
        let ca = value("jsonpath={.clusters[0].cluster.certificate-authority-data}");
        let token = value("jsonpath={.users[0].user.token}");
        write_private(&cluster.ca, &decoded(&ca));
        write_private(&cluster.token, &token);
        cluster.clear();
        cluster
    }

    /// Removes every node, DaemonSet and pod.
    fn clear(&mut self) {
        let daemon_sets = format!("/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets");
        // More would not be deleted within the API server's own bound on a request.
        let pods = format!(
            "/api/v1/namespaces/{NAMESPACE}/pods?gracePeriodSeconds=0&limit={MOST_DELETED}"
        );
        // The controller may be about to create some more pods of a DaemonSet that goes.
        until("an empty cluster", CLEARING, || {
            for path in [&daemon_sets, &pods, "/api/v1/nodes"] {
                self.kubectl(&["delete", "--raw", path]);
            }
            match self.names(&["daemonsets,pods,nodes"]) {
                left if left.is_empty() => Ok(()),
                left => Err(format!("{} objects, first {:?}", left.len(), left[0])),
            }
        });
    }

    pub fn variable(&self, name: &str) -> &str {
        &self.env[name]
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let mut command = self.command("kubectl");
        command.arg("--request-timeout=110s").args(arguments);
        run(&mut command, REQUEST).succeeded().stdout
    }

    fn command(&self, program: &str) -> Command {
        let mut command = in_repository(program);
        command.env_clear().envs(&self.env);
        command
    }

    /// The API server, by the program's own client.
    pub fn api(&self) -> KubeCluster {
        let server = self.variable("PREPULL_CLUSTER_API");
        let access = Access::at(server, Some(&self.ca), Some(&self.token));
        KubeCluster::open(&access.expect("it is https with a CA"), NAMESPACE)
            .expect("the files are there")
    }

    /// Starts the binary against the API server.
    pub fn prepull(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prepull"));
        command
            .args(arguments)
            .args(["--server", self.variable("PREPULL_CLUSTER_API")])
            .arg("--certificate-authority")
            .arg(&self.ca)
            .arg("--token-file")
            .arg(&self.token)
            .args(["--namespace", NAMESPACE, "--puller-image", "prepull:simulated"]);
        start(&mut command)
    }

    /// Creates objects, a few hundred at a time: so many requests kubectl sends without a pause.
    pub fn create(&self, objects: &[Value]) {
        let running: Vec<_> = objects
            .chunks(250)
            .enumerate()
            .map(|(i, items)| {
                let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
                let file = scratch().join(format!("objects-{i}.json"));
                fs::write(&file, list.to_string()).expect("scratch is ours");
                let mut command = self.command("kubectl");
                command.args(["create", "--validate=false", "--output=name"]);
                start(command.args(["--namespace", NAMESPACE, "--filename"]).arg(&file))
            })
            .collect();
        for it in running {
            it.wait(REQUEST).succeeded();
        }
    }

    /// Creates nodes and waits until the node lifecycle controller has made taints of their
    /// cordons and conditions. Gives them back as the program reads them.
    pub fn create_nodes(&self, nodes: &[SimulatedNode]) -> Vec<Node> {
        let manifests: Vec<_> = nodes.iter().map(SimulatedNode::manifest).collect();
        self.create(&manifests);
        until(&format!("{} nodes with their taints", nodes.len()), SETTLING, || {
            let found = self.nodes();
            let unsettled: Vec<_> =
                found.iter().filter(|it| !is_settled(it)).map(|it| &it.metadata.name).collect();
            match found.len() == nodes.len() && unsettled.is_empty() {
                true => Ok(found),
                false => Err(format!("{} nodes, unsettled {unsettled:?}", found.len())),
            }
        })
    }

    /// Waits until nothing is left of a run.
    pub fn until_empty(&self, bound: Duration) {
        until("the end of every DaemonSet and pod", bound, || {
            match self.names(&["daemonsets,pods"]) {
                names if names.is_empty() => Ok(()),
                names => Err(format!("{} objects, first {:?}", names.len(), names[0])),
            }
        });
    }

    /// The names `kind/name` of what `kubectl get` finds.
    fn names(&self, arguments: &[&str]) -> Vec<String> {
        let all = ["get", "--namespace", NAMESPACE, "--output=name", "--chunk-size=0"];
        let arguments: Vec<_> = all.iter().chain(arguments).copied().collect();
        self.kubectl(&arguments).lines().map(Into::into).collect()
    }

    pub fn nodes(&self) -> Vec<Node> {
        let mut api = self.api();
        every(|from| api.list_nodes(from))
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // A second panic would end the process, and the first one says more.
        if !std::thread::panicking() {
            self.clear();
        }
    }
}

/// All pages of a list.
pub fn every<T>(mut list: impl FnMut(Option<&str>) -> Result<Page<T>, ApiError>) -> Vec<T> {
    let mut items = vec![];
    let mut from: Option<String> = None;
    loop {
        let page = list(from.as_deref()).unwrap_or_else(|err| panic!("{err}"));
        items.extend(page.items);
        from = page.next;
        if from.is_none() {
            return items;
        }
    }
}

/// Whether the taints of cordon and conditions are those that they should be.
fn is_settled(node: &Node) -> bool {
    let status_of = |kind: &str| {
        let mut conditions = node.status.conditions.iter();
        conditions.find(|it| it.kind == kind).map(|it| it.status.as_str())
    };
    let mut wanted = BTreeSet::new();
    for (kind, status, key) in CONDITION_TAINTS {
        match status_of(kind) {
            None => return false,
            Some(found) if found == status => {
                wanted.insert((key, "NoSchedule"));
                if kind == "Ready" {
                    wanted.insert((key, "NoExecute"));
                }
            }
            Some(_) => {}
        }
    }
    if node.spec.unschedulable {
        wanted.insert((CORDON_TAINT, "NoSchedule"));
    }
    let is_the_controllers =
        |key: &str, effect: &str| match CONDITION_TAINTS.iter().find(|(_, _, it)| *it == key) {
            Some(("Ready", ..)) => effect != "PreferNoSchedule",
            Some(_) => effect == "NoSchedule",
            None => key == CORDON_TAINT && effect == "NoSchedule",
        };
    let taints = node.spec.taints.iter().map(|it| (it.key.as_str(), it.effect.as_str()));
    let found: BTreeSet<_> = taints.filter(|it| is_the_controllers(it.0, it.1)).collect();
    found == wanted
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("scratch is ours");
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("scratch is ours");
}

fn decoded(base64: &str) -> String {
    let file = scratch().join("base64");
    write_private(&file, base64);
    run(Command::new("base64").arg("--decode").arg(&file), REQUEST).succeeded().stdout
}

fn in_repository(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}
