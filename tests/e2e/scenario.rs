//! What a test has for itself, and takes away again however it ends.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{LABEL, cluster, items, repository, text};
use crate::command::{Finished, Running, scratch, start, until};
use crate::turn::{Company, Turn};

/// A whole `helm install`: its own timeout is five minutes.
const HELM: Duration = Duration::from_secs(400);
/// Until the last pod has gone; a pull that is under way is never broken off.
const PODS_GONE: Duration = Duration::from_secs(120);
/// What a namespace may have that a release or we put there, and what we put beside it.
const KINDS: &str = "clusterrolebindings,clusterroles,configmaps,controllerrevisions,daemonsets,\
                     deployments,jobs,pods,replicasets,rolebindings,roles,secrets,serviceaccounts";
/// What every namespace has.
const OF_EVERY_NAMESPACE: [&str; 2] = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
/// How helm names what it remembers of a release.
const RELEASE_RECORD: &str = "secret/sh.helm.release.v1.";
/// Marks everything that the chart makes, and the pod of its Job.
pub const OURS: &str = "app.kubernetes.io/name=prepull";

/// Which helm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Helm {
    Three,
    Four,
}

impl Helm {
    fn program(self) -> &'static str {
        match self {
            Self::Three => "helm3",
            Self::Four => "helm4",
        }
    }
}

/// A test's namespace, release and images.
pub struct Scenario {
    pub helm: Helm,
    pub ns: String,
    pub release: String,
    /// For files of the test.
    pub folder: PathBuf,
    pushed: RefCell<Vec<String>>,
    /// What helm said, for those who must understand a failure.
    said: RefCell<Vec<String>>,
    began: Instant,
    // The last field is dropped last, when everything is clean.
    _turn: Turn,
}

impl Scenario {
    pub fn new(name: &str, helm: Helm) -> Self {
        Self::begin(format!("{name}-{}", helm.program()), helm, Company::Shared)
    }

    /// For a test that wants all nodes for itself, to change them.
    pub fn alone(name: &str, helm: Helm) -> Self {
        Self::begin(format!("{name}-{}", helm.program()), helm, Company::Alone)
    }

    /// For a test of the binary alone.
    pub fn without_helm(name: &str) -> Self {
        Self::begin(name.into(), Helm::Four, Company::Shared)
    }

    /// For a test of the binary that changes the nodes it has reserved, and touches no other.
    pub fn apart(name: &str) -> Self {
        Self::begin(name.into(), Helm::Four, Company::Apart)
    }

    fn begin(release: String, helm: Helm, company: Company) -> Self {
        let turn = Turn::take(company);
        let ns = format!("{release}-{}", run_id());
        let folder = scratch().join(&ns);
        fs::create_dir_all(&folder).expect("the target folder is ours");
        let scenario = Self {
            helm,
            ns,
            release,
            folder,
            pushed: RefCell::default(),
            said: RefCell::default(),
            began: Instant::now(),
            _turn: turn,
        };
        scenario.make_namespace();
        scenario
    }

    /// Pods need the default ServiceAccount, which is made a moment after the namespace.
    fn make_namespace(&self) {
        let ns = self.ns.as_str();
        let meta = json!({"labels": {LABEL: ""}, "name": ns});
        self.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta}));
        until("the default ServiceAccount", Duration::from_secs(30), || {
            let found = self.names(&["serviceaccount/default", "--ignore-not-found"]);
            if found.is_empty() { Err("nothing".into()) } else { Ok(()) }
        });
    }

    // === Images ===

    /// Pushes an image without an entrypoint that no other test has.
    pub fn image(&self, name: &str) -> String {
        let image = format!("{}/{name}:1", self.ns);
        self.push(&image, &[]);
        image
    }

    /// The same, with a layer that takes the registry so long.
    pub fn slow_image(&self, name: &str, seconds: u32) -> String {
        let image = format!("slow-{seconds}s/{}/{name}:1", self.ns);
        self.push(&image, &[]);
        image
    }

    /// The same, on a node that has it already.
    pub fn slow_image_on(&self, name: &str, seconds: u32, node: &str) -> String {
        let [quick, slow] =
            ["", &format!("slow-{seconds}s/")].map(|it| format!("{it}{}/{name}:1", self.ns));
        self.push(&quick, &[]);
        cluster().hack(&["tag", &quick, &slow]);
        let [quick, full] = [&quick, &slow].map(|it| format!("docker.io/{it}"));
        cluster().pull(node, &[&quick]);
        cluster().ctr(node, &["images", "tag", &quick, &full]);
        slow
    }

    /// An image that is smaller than any other.
    pub fn small_image(&self, name: &str) -> String {
        let image = format!("{}/{name}:1", self.ns);
        self.push_sized(&image, "1KB", &[]);
        image
    }

    /// The name of an image whose registry answers that it is unavailable: pulling it fails, and
    /// may not fail the next time.
    pub fn unavailable_image(&self, name: &str) -> String {
        format!("unavailable/{}/{name}:1", self.ns)
    }

    /// Pushes an image under this name and returns its digest.
    pub fn push(&self, image: &str, arguments: &[&str]) -> String {
        self.push_sized(image, "1MB", arguments)
    }

    pub fn push_sized(&self, image: &str, size: &str, arguments: &[&str]) -> String {
        let arguments: Vec<_> = ["push", image, size].iter().chain(arguments).copied().collect();
        let reference = cluster().hack(&arguments);
        let reference = reference.trim();
        // A node that pulled it by digest does not know the tag, and ctr leaves out the digest.
        self.pushed.borrow_mut().extend([image.into(), reference.into()]);
        let (_, digest) = reference.split_once('@').expect("push prints a digest reference");
        digest.into()
    }

    // === Objects of the test's own ===

    pub fn create(&self, object: &Value) {
        self.kubectl_create(object, &[]);
    }

    /// What the API server would make of an object.
    pub fn try_out(&self, object: &Value) -> String {
        self.kubectl_create(object, &["--dry-run=server", "--output=json"])
    }

    /// Creates what an object of the API is asked for by: an eviction, for one.
    pub fn create_at(&self, path: &str, object: &Value) {
        self.kubectl_create(object, &["--raw", path]);
    }

    fn kubectl_create(&self, object: &Value, arguments: &[&str]) -> String {
        let file = self.folder.join("object.json");
        fs::write(&file, object.to_string()).expect("the folder is ours");
        let file = file.to_string_lossy();
        let create = ["create", "--namespace", &self.ns, "--filename", &file];
        cluster().kubectl(&[&create[..], arguments].concat())
    }

    // === Helm ===

    /// Installs or upgrades a release of our chart, with values on top of those that every test
    /// needs.
    pub fn helm(&self, command: &str, values: Value, arguments: &[&str]) -> Finished {
        self.finish(self.start_helm(command, values, arguments))
    }

    pub fn start_helm(&self, command: &str, mut values: Value, arguments: &[&str]) -> Running {
        values["image"] = json!({"tag": cluster().tag});
        let file = self.folder.join("values.json");
        fs::write(&file, values.to_string()).expect("the folder is ours");
        let chart = repository().join("chart");
        let mut helm = self.helm_command(&[command, &self.release]);
        start(helm.arg(chart).arg("--values").arg(file).args(arguments))
    }

    pub fn uninstall(&self) -> Finished {
        self.finish(start(&mut self.helm_command(&["uninstall", &self.release])))
    }

    /// Waits for a helm that was started.
    pub fn finish(&self, helm: Running) -> Finished {
        self.heard(helm.wait(HELM))
    }

    pub fn heard(&self, finished: Finished) -> Finished {
        let Finished { what, code, .. } = &finished;
        self.said.borrow_mut().push(format!("$ {what}\n{}exit code {code:?}", finished.said()));
        finished
    }

    fn helm_command(&self, arguments: &[&str]) -> Command {
        let mut helm = cluster().command(self.helm.program());
        // Nothing that the user has configured.
        for folder in ["CACHE", "CONFIG", "DATA"] {
            helm.env(format!("HELM_{folder}_HOME"), self.folder.join(folder));
        }
        helm.args(arguments).args(["--namespace", &self.ns]);
        helm
    }

    /// The lines of the hook's log as helm put them on the user's terminal.
    pub fn report(&self, finished: &Finished) -> Vec<String> {
        let lines = finished.stderr.lines().filter(|it| !is_of_client_library(it));
        match self.helm {
            Helm::Three => lines.map(Into::into).collect(),
            // A record for each pod of the Job.
            Helm::Four => lines.flat_map(unquoted_record).collect(),
        }
    }

    // === What there is ===

    pub fn get(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<_> =
            arguments.iter().chain(&["--namespace", &self.ns]).copied().collect();
        cluster().get(&arguments)
    }

    pub fn names(&self, arguments: &[&str]) -> BTreeSet<String> {
        let arguments: Vec<_> =
            arguments.iter().chain(&["--namespace", &self.ns]).copied().collect();
        cluster().names(&arguments)
    }

    /// Everything in the namespace that a new namespace has not, but helm's record of the
    /// release, and our cluster-wide objects.
    pub fn objects(&self) -> BTreeSet<String> {
        let mut objects = self.names(&[KINDS]);
        objects.retain(|it| match it.starts_with("clusterrole") {
            true => self.is_ours(it),
            false => !OF_EVERY_NAMESPACE.contains(&it.as_str()) && !it.starts_with(RELEASE_RECORD),
        });
        objects
    }

    /// The same, and apart from them the pods that are being deleted.
    pub fn objects_and_their_end(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let pods = self.get(&["pods"]);
        let is_going = |it: &&Value| it["metadata"].get("deletionTimestamp").is_some();
        let going = items(&pods).iter().filter(is_going);
        let going: BTreeSet<_> =
            going.map(|it| format!("pod/{}", text(&it["metadata"]["name"]))).collect();
        (&self.objects() - &going, going)
    }

    fn cluster_objects(&self) -> BTreeSet<String> {
        let mut objects = cluster().names(&["clusterroles,clusterrolebindings"]);
        objects.retain(|it| self.is_ours(it));
        objects
    }

    /// Whether an object outside all namespaces is of this one's release.
    fn is_ours(&self, object: &str) -> bool {
        object.contains(&format!("/{}:", self.ns))
    }

    pub fn pods(&self, selector: &str) -> Vec<Value> {
        items(&self.get(&["pods", "--selector", selector])).to_vec()
    }

    /// Starts to write down every change of the namespace's pods.
    pub fn watch_pods(&self) -> Running {
        self.watch("pods")
    }

    pub fn watch(&self, kind: &str) -> Running {
        let mut kubectl = cluster().command("kubectl");
        start(kubectl.args(["get", kind, "--watch", "--output=json", "--namespace", &self.ns]))
    }

    /// Waits until no object but these is left.
    pub fn until_only(&self, left: &[&str], bound: Duration) {
        until(&format!("nothing but {left:?} in namespace {}", self.ns), bound, || {
            let mut objects = self.objects();
            objects.retain(|it| !left.iter().any(|left| it.starts_with(left)));
            if objects.is_empty() { Ok(()) } else { Err(format!("{objects:?}")) }
        });
    }

    /// Waits for an event and returns it: those of this reason whose message contains this.
    pub fn until_event(&self, reason: &str, message: &str) -> Value {
        until(&format!("an event `{reason}` about {message}"), Duration::from_secs(90), || {
            let mut events = self.events(reason, message);
            if events.is_empty() { Err("none".into()) } else { Ok(events.remove(0)) }
        })
    }

    /// Waits until so many pods have told that the pull of an image failed.
    pub fn until_failed_pulls(&self, image: &str, n_pods: usize) {
        let what = format!("{n_pods} failed pulls of {image}");
        until(&what, Duration::from_secs(90), || {
            let events = self.events("Failed", &format!("\"{image}\""));
            let pods: BTreeSet<_> =
                events.iter().map(|it| text(&it["involvedObject"]["uid"])).collect();
            if pods.len() >= n_pods { Ok(()) } else { Err(format!("{pods:?}")) }
        });
    }

    pub fn events(&self, reason: &str, message: &str) -> Vec<Value> {
        let events = self.get(&["events", "--field-selector", &format!("reason={reason}")]);
        let is_it = |it: &&Value| text(&it["message"]).contains(message);
        items(&events).iter().filter(is_it).cloned().collect()
    }

    // === The end ===

    fn explain(&self) {
        println!("--- {}", self.ns);
        self.said.borrow().iter().for_each(|it| println!("{it}"));
        let ns = ["--namespace", &self.ns];
        let states =
            "{range .items[*]}{.metadata.name}: {.status.containerStatuses[*].state}{\"\\n\"}{end}";
        let states = format!("--output=jsonpath={states}");
        let questions: [&[&str]; 4] = [
            &["get", "all,roles,rolebindings,serviceaccounts", "--output=wide"],
            &["get", "events", "--sort-by=.metadata.creationTimestamp"],
            &[
                "logs",
                "--prefix",
                "--all-containers",
                "--ignore-errors",
                "--tail=-1",
                "--selector",
                OURS,
            ],
            &["get", "pods", &states],
        ];
        for question in questions {
            let arguments: Vec<_> = question.iter().chain(&ns).copied().collect();
            let answer = cluster().try_kubectl(&arguments);
            println!("$ {}\n{}", answer.what, answer.said());
        }
    }

    fn clean(&self) {
        cluster().kubectl(&["delete", "namespace", &self.ns, "--wait=false"]);
        for object in self.cluster_objects() {
            cluster().kubectl(&["delete", &object, "--ignore-not-found"]);
        }
        until(&format!("the end of the pods in {}", self.ns), PODS_GONE, || {
            let pods = self.names(&["pods"]);
            if pods.is_empty() { Ok(()) } else { Err(format!("{pods:?}")) }
        });
        let pushed = self.pushed.borrow();
        if !pushed.is_empty() {
            // Lists of nodes have room for 50 images.
            let arguments = ["forget", "--"].into_iter().chain(pushed.iter().map(String::as_str));
            cluster().hack(&arguments.collect::<Vec<_>>());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if !thread::panicking() {
            let took = self.began.elapsed().as_secs_f32();
            self.clean();
            let cleaning = self.began.elapsed().as_secs_f32() - took;
            println!("{}: {took:.1} s, and {cleaning:.1} s of cleaning", self.release);
            return;
        }
        // A second panic would take all tests down.
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.explain();
            self.clean();
        }));
        if tried.is_err() {
            println!("namespace {} could not be cleaned", self.ns);
        }
    }
}

/// Fails unless a line of a report has all these words.
pub fn expect_line(report: &[String], words: &[&str]) {
    let found = report.iter().any(|line| words.iter().all(|it| line.contains(it)));
    assert!(found, "no line with {words:?} in {report:#?}");
}

/// The last line, which is to be the whole verdict.
pub fn verdict(report: &[String]) -> &str {
    report.last().expect("there is a report")
}

/// The lines of a record such as `level=INFO msg="one\ntwo"`.
fn unquoted_record(line: &str) -> Vec<String> {
    let Some((_, quoted)) = line.split_once(" msg=") else { return vec![] };
    // Go quotes as JSON does, but for characters that our reports have not.
    let message: String = serde_json::from_str(quoted).unwrap_or_else(|_| quoted.into());
    message.lines().map(Into::into).collect()
}

/// Whether a line is of Kubernetes' Go libraries, which tell in between of watches that ended:
/// `I1121 10:10:02.040617   31763 reflector.go:664] "Warning: watch ended with error"`.
fn is_of_client_library(line: &str) -> bool {
    let head = line.as_bytes().get(..5);
    head.is_some_and(|it| b"IWEF".contains(&it[0]) && it[1..].iter().all(u8::is_ascii_digit))
}

/// A word for this run of the tests.
fn run_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| format!("{:05x}", RandomState::new().build_hasher().finish() & 0xf_ffff))
}
