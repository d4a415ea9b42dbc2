//! The cluster of `hack/cluster`, and what its API server and its nodes say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::command::{Finished, run, until};

/// A request to the API server; kubectl gives up earlier.
const REQUEST: Duration = Duration::from_secs(60);
/// A build from nothing, on a machine that has other things to do.
const BUILD: Duration = Duration::from_secs(20 * 60);
/// The longest time from the end of a pull until the node's own list has it, with some room
/// (facts/kubernetes.md A: 41 s).
pub const LISTING: Duration = Duration::from_secs(70);

/// Lists of nodes have room for 50 images, and the tests want some of it.
const MOST_LISTED: usize = 35;

pub struct Cluster {
    /// What `hack/cluster env` says.
    env: BTreeMap<String, String>,
    pub nodes: Vec<String>,
    /// The tag of our own image in the cluster's registry.
    pub tag: String,
    /// Locked until this process ends.
    _turn: File,
}

/// The cluster, made sure of once: a test that fails because of another's leftovers costs more
/// than a look.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    match CLUSTER.get_or_init(Cluster::find) {
        Ok(it) => it,
        Err(why) => panic!("{why}"),
    }
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Cluster {
    fn find() -> Result<Self, String> {
        let script = "eval \"$(hack/cluster env)\" && env --null";
        let found = run(in_repository("bash").args(["-euc", script]), REQUEST);
        if found.code != Some(0) || !found.stdout.contains("PREPULL_CLUSTER_NODES=") {
            return Err(format!("there is no cluster: run hack/cluster up: {}", found.stderr));
        }
        let variables = found.stdout.split_terminator('\0').filter_map(|it| it.split_once('='));
        let env: BTreeMap<String, String> =
            variables.map(|(name, value)| (name.into(), value.into())).collect();
        let nodes = env["PREPULL_CLUSTER_NODES"].split(' ').map(Into::into).collect();
        let lock = Path::new(&env["KUBECONFIG"]).with_file_name("e2e.lock");
        let turn = File::create(lock).map_err(|err| err.to_string())?;
        // Two runs at once would cordon each other's nodes, and stand in each other's pulls.
        until("the end of another run of these tests", BUILD, || {
            turn.try_lock().map_err(|err| err.to_string())
        });
        let mut cluster = Self { env, nodes, tag: String::new(), _turn: turn };
        cluster.remove_leftovers();
        cluster.check_nodes()?;
        cluster.tag = cluster.push_own_image()?;
        Ok(cluster)
    }

    /// Removes the namespaces of earlier runs that were killed.
    fn remove_leftovers(&self) {
        for ns in self.names(&["namespaces", "--selector", LABEL]) {
            self.kubectl(&["delete", &ns, "--wait=false", "--ignore-not-found"]);
        }
    }

    fn check_nodes(&self) -> Result<(), String> {
        let nodes = self.get(&["nodes"]);
        if self.nodes.len() != 3 {
            return Err(format!("the tests want 3 nodes, and there are {}", self.nodes.len()));
        }
        for node in items(&nodes) {
            let name = text(&node["metadata"]["name"]);
            let taints = items_of(&node["spec"]["taints"]);
            if node["spec"]["unschedulable"] == true || !taints.is_empty() {
                return Err(format!(
                    "{name} is cordoned or tainted, perhaps by tests that were killed: undo it \
                     with kubectl"
                ));
            }
            let n_listed = items_of(&node["status"]["images"]).len();
            if n_listed > MOST_LISTED {
                return Err(format!(
                    "{name} lists {n_listed} images, and the tests' own ones may not fit into the \
                     list of 50: make room with hack/cluster forget"
                ));
            }
        }
        Ok(())
    }

    /// Builds our own image, unless `PREPULL_ARCHIVE` names a built one, and pushes it with a
    /// tag that says its content: nodes never ask again for a tag that they hold.
    fn push_own_image(&self) -> Result<String, String> {
        let archive = match std::env::var_os("PREPULL_ARCHIVE") {
            Some(it) => PathBuf::from(it),
            None => {
                let built = run(in_repository("hack/image").arg("prepull:e2e"), BUILD);
                if built.code != Some(0) {
                    return Err(format!("hack/image failed: {}", built.said()));
                }
                repository().join("target/prepull.oci.tar")
            }
        };
        let archive = archive.to_string_lossy();
        let script = "tar --extract --to-stdout --file \"$0\" index.json || \
                      tar --extract --to-stdout --file \"$0\" ./index.json";
        let index = run(Command::new("bash").args(["-c", script, &archive]), REQUEST).succeeded();
        let index: Value = serde_json::from_str(&index.stdout).map_err(|err| err.to_string())?;
        let digest = text(&index["manifests"][0]["digest"]).trim_start_matches("sha256:");
        let tag = format!("e2e-{}", &digest[..12]);
        self.hack(&["push", &format!("prepull:{tag}"), "--archive", &archive]);
        Ok(tag)
    }

    /// A program of the path or of the repository, with the cluster's environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = in_repository(program);
        command.env_clear().envs(&self.env);
        command
    }

    pub fn variable(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// The folder that tells containerd's own clients where the registry is.
    fn registry_hosts(&self) -> String {
        let kubeconfig = Path::new(self.variable("KUBECONFIG"));
        kubeconfig.with_file_name("hosts").to_string_lossy().into()
    }

    /// The whole of the file that a variable of `hack/cluster env` names.
    pub fn read(&self, variable: &str) -> String {
        fs::read_to_string(self.variable(variable)).expect("hack/cluster makes it")
    }

    /// Runs kubectl without regard to whether it succeeds.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Finished {
        run(self.command("kubectl").arg("--request-timeout=50s").args(arguments), REQUEST)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).succeeded().stdout
    }

    pub fn get(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = ["get", "--output=json"].iter().chain(arguments).copied().collect();
        serde_json::from_str(&self.kubectl(&arguments)).expect("kubectl writes JSON")
    }

    /// The names `kind/name` of what `kubectl get` finds.
    pub fn names(&self, arguments: &[&str]) -> BTreeSet<String> {
        let arguments: Vec<_> = ["get", "--output=name"].iter().chain(arguments).copied().collect();
        self.kubectl(&arguments).lines().map(Into::into).collect()
    }

    pub fn try_hack(&self, arguments: &[&str]) -> Finished {
        run(self.command("hack/cluster").args(arguments), REQUEST)
    }

    pub fn hack(&self, arguments: &[&str]) -> String {
        self.try_hack(arguments).succeeded().stdout
    }

    pub fn ctr(&self, node: &str, arguments: &[&str]) -> String {
        let arguments: Vec<_> = ["ctr", node].iter().chain(arguments).copied().collect();
        self.hack(&arguments)
    }

    /// Puts images onto a node without its kubelet, by their full names.
    pub fn pull(&self, node: &str, names: &[&str]) {
        let script =
            "for name; do ctr --namespace k8s.io images pull --hosts-dir \"$0\" \"$name\"; done";
        let mut command = self.command("hack/cluster");
        command.args(["exec", node, "bash", "-euc", script, &self.registry_hosts()]).args(names);
        run(&mut command, REQUEST).succeeded();
    }

    /// The digest that an image has on a node, by its full name.
    pub fn digest_on(&self, node: &str, name: &str) -> Option<String> {
        let listed = self.ctr(node, &["images", "ls"]);
        let mut lines = listed.lines().map(|it| it.split_whitespace());
        // NAME TYPE DIGEST ...
        lines.find_map(|mut it| {
            (it.next() == Some(name)).then(|| it.nth(1).unwrap_or_default().into())
        })
    }

    /// Every name of every image that a node's containerd has, asked now.
    pub fn images_on(&self, node: &str) -> BTreeSet<String> {
        self.ctr(node, &["images", "ls", "--quiet"]).lines().map(Into::into).collect()
    }

    /// Fails unless the nodes' containerds have images of all these names.
    pub fn expect_held(&self, nodes: &[&str], names: &[&str]) {
        for node in nodes {
            let there = self.images_on(node);
            for name in names {
                assert!(there.contains(*name), "{node} has no {name}: {there:?}");
            }
        }
    }

    /// The nodes' names, as most of their users want them.
    pub fn all_nodes(&self) -> Vec<&str> {
        self.nodes.iter().map(String::as_str).collect()
    }

    /// Waits until the nodes' own lists have all these names.
    pub fn until_listed(&self, nodes: &[&str], names: &[String]) {
        until(&format!("{names:?} in the lists of {nodes:?}"), LISTING, || {
            let found = self.get(&["nodes"]);
            let missing: Vec<_> = items(&found)
                .iter()
                .filter(|it| nodes.contains(&text(&it["metadata"]["name"])))
                .flat_map(|node| {
                    let listed: BTreeSet<_> = items_of(&node["status"]["images"])
                        .iter()
                        .flat_map(|it| items_of(&it["names"]))
                        .map(text)
                        .collect();
                    let missing = names.iter().filter(|it| !listed.contains(it.as_str()));
                    missing
                        .map(|it| format!("{} lacks {it}", node["metadata"]["name"]))
                        .collect::<Vec<_>>()
                })
                .collect();
            if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
        });
    }
}

/// The label of the namespaces that these tests make.
pub const LABEL: &str = "prepull-e2e";

/// Something done with kubectl, and how to undo it.
pub struct Change<'a> {
    undo: Vec<&'a str>,
}

impl<'a> Change<'a> {
    pub fn make(arguments: &[&str], undo: &[&'a str]) -> Self {
        // Undone whatever comes, also if kubectl fails in the middle.
        let change = Self::undone_by(undo);
        cluster().kubectl(arguments);
        change
    }

    pub fn undone_by(undo: &[&'a str]) -> Self {
        Self { undo: undo.to_vec() }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let undone = cluster().try_kubectl(&self.undo);
        println!("{}: {}", undone.what, undone.said());
    }
}

fn in_repository(program: &str) -> Command {
    let mut command = match program.contains('/') {
        true => Command::new(repository().join(program)),
        false => Command::new(program),
    };
    command.current_dir(repository());
    command
}

/// The items of a list as `kubectl get` writes it.
pub fn items(list: &Value) -> &[Value] {
    items_of(&list["items"])
}

pub fn items_of(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A moment as the API server writes it.
pub fn moment(value: &Value) -> SystemTime {
    humantime::parse_rfc3339(text(value))
        .unwrap_or_else(|err| panic!("{value} is no moment: {err}"))
}
