//! Registries that fail: what is said of each kind of failure, and what becomes of a run.
//!
//! `hack/parts/registry/faults.go` has the faults of the cluster's registry. Registries that nobody
//! reaches or trusts are made here, by files that tell containerd where they are.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Deserializer, Value, json};

use crate::binary::{lines, only_on};
use crate::cluster::{cluster, items_of, moment, text};
use crate::command::{run, until};
use crate::scenario::{Scenario, expect_line, verdict};
use crate::turn::ReservedNodes;
use crate::words::{Said, expect_pull};

/// Until every pull has failed and backs off: containerd gives a TLS handshake 10 s, and tries five
/// times; a first back-off of 10 s may be over when the kubelet looks at the pod again.
const FAILURES: Duration = Duration::from_secs(180);
/// From kubelet's last word about a failure that is certain until the end of the run.
const SOON: Duration = Duration::from_secs(10);
/// Until a pod that gets no further has been made anew.
const MADE_ANEW: Duration = Duration::from_secs(60);
/// A call of crane.
const CALL: Duration = Duration::from_secs(30);
/// The kubelet writes at most 25 events about a pod, and these are enough for three each.
const MOST_CONTAINERS: usize = 8;

// === What is said ===

#[test]
fn failures_mean_what_they_meant_when_they_were_captured() {
    let reserved = ReservedNodes::two();
    let scenario = Scenario::without_helm("faults");
    let held_up = reserved.names::<2>();
    let other = cluster().nodes.iter().find(|it| !held_up.contains(&it.as_str()));
    let other = other.expect("there are three nodes");
    let registries = Registries::of(&scenario);
    let registry = cluster().variable("PREPULL_CLUSTER_REGISTRY");
    let (address, _) = registry.split_once(':').expect("it has a port");
    let http = |answer| format!("http://{}", listen(address, answer));
    let https = |answer| format!("https://{}", listen(address, answer));

    let quick = [
        ("blobs-missing", faulty(&scenario, "404-blobs")),
        ("closed", registries.at("closed", &http(close))),
        ("cut-short", faulty(&scenario, "truncated")),
        ("forbidden", faulty(&scenario, "403")),
        ("invalid-name", "Not/A_Name:1".into()),
        ("limited", faulty(&scenario, "429")),
        ("limited-later", faulty(&scenario, "429-get")),
        ("missing", faulty(&scenario, "404")),
        ("never-pulled", format!("{}/never/one:1", scenario.ns)),
        ("no-name", registries.at("no-name", "https://registry.invalid")),
        ("no-route", registries.at("no-route", "https://192.0.2.1")),
        ("no-tls", registries.at("no-tls", &format!("https://{registry}"))),
        ("other-platform", for_another_platform(&scenario)),
        ("refused", registries.at("refused", &format!("https://{address}:1"))),
        ("reset", registries.at("reset", &http(reset))),
        ("status-500", faulty(&scenario, "500")),
        ("status-502", faulty(&scenario, "502")),
        ("status-503", scenario.unavailable_image("one")),
        ("status-504", faulty(&scenario, "504")),
        ("token-fails", faulty(&scenario, "500-token")),
        ("token-refused", faulty(&scenario, "401-token")),
        ("unauthorized", faulty(&scenario, "401")),
        ("untrusted", registries.at("untrusted", cluster().variable("PREPULL_CLUSTER_API"))),
        ("web-page", faulty(&scenario, "html")),
        ("wrong-bytes", faulty(&scenario, "digest")),
    ];
    let slow = [
        ("hang", faulty(&scenario, "hang")),
        ("no-handshake", registries.at("no-handshake", &https(say_nothing))),
    ];

    let watch = scenario.watch_pods();
    for (number, some) in quick.chunks(MOST_CONTAINERS).enumerate() {
        scenario.create(&pod(&format!("quick-{number}"), other, some));
    }
    // A back-off is shown in a pass that ends during it: none is as long as the other one's pull.
    for (node, image) in held_up.iter().zip(&slow) {
        scenario.create(&pod(image.0, node, std::slice::from_ref(image)));
    }

    let names: Vec<_> = quick.iter().chain(&slow).map(|(name, _)| *name).collect();
    let said = until("the failure of every pull", FAILURES, || {
        let said = what_was_said(&scenario, &watch.said_as_yet());
        let is_complete = |it: &&str| said.get(*it).is_some_and(|it| is_everything(it));
        let missing: Vec<_> = names.iter().filter(|it| !is_complete(it)).collect();
        if missing.is_empty() { Ok(said) } else { Err(format!("not everything of {missing:?}")) }
    });
    for name in names {
        expect_pull(name, &said[name], &scenario.ns);
    }
}

/// A pod that runs nothing, with a container for each of these images.
fn pod(name: &str, node: &str, images: &[(&str, String)]) -> Value {
    let container = |(name, image): &(&str, String)| {
        let policy = if *name == "never-pulled" { "Never" } else { "IfNotPresent" };
        json!({"command": ["/none"], "image": image, "imagePullPolicy": policy, "name": name})
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": images.iter().map(container).collect::<Vec<_>>(),
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
        },
    })
}

/// The first words of each reason, by the names of the containers.
fn what_was_said(scenario: &Scenario, watched: &str) -> BTreeMap<String, Vec<Said>> {
    let mut all: BTreeMap<String, Vec<Said>> = BTreeMap::new();
    let mut note = |container: &str, reason: &Value, message: &Value| {
        let said = all.entry(container.into()).or_default();
        if !said.iter().any(|it| it.reason == text(reason)) {
            said.push(Said { reason: text(reason).into(), message: text(message).into() });
        }
    };
    // The last words of a watch may not be complete.
    let pods = Deserializer::from_str(watched).into_iter::<Value>().map_while(Result::ok);
    for pod in pods {
        for status in items_of(&pod["status"]["containerStatuses"]) {
            let waiting = &status["state"]["waiting"];
            if waiting.get("message").is_some() {
                note(text(&status["name"]), &waiting["reason"], &waiting["message"]);
            }
        }
    }
    for reason in ["Failed", "InspectFailed", "ErrImageNeverPull"] {
        for event in scenario.events(reason, "") {
            let field = text(&event["involvedObject"]["fieldPath"]);
            let container = field.trim_start_matches("spec.containers{").trim_end_matches('}');
            // The others of that reason only repeat the container's waiting reason.
            if !text(&event["message"]).starts_with("Error: ") {
                note(container, &event["reason"], &event["message"]);
            }
        }
    }
    all
}

/// Whether a pull's whole way was seen: the event, the status, and that it is tried again or not.
fn is_everything(said: &[Said]) -> bool {
    let has = |reason: &&str| said.iter().any(|it| it.reason == *reason);
    [
        &["ErrImagePull", "Failed", "ImagePullBackOff"][..],
        &["InspectFailed", "InvalidImageName"],
        &["ErrImageNeverPull"],
    ]
    .iter()
    .any(|reasons| reasons.iter().all(has))
}

// === What becomes of a run ===

#[test]
fn one_bad_image_among_ten_is_named_alone_and_soon() {
    let _nodes = ReservedNodes::all();
    let scenario = Scenario::without_helm("ten");
    let bad = faulty(&scenario, "401");
    let mut images: Vec<_> =
        (1..=9).map(|it| scenario.small_image(&format!("good-{it}"))).collect();
    images.insert(4, bad.clone());
    let mut arguments = vec!["run", "--output=json"];
    arguments.extend(images.iter().map(String::as_str));

    let ended = scenario.prepull(&arguments).failed();

    let report: Value = serde_json::from_str(ended.stdout.lines().last().unwrap_or_default())
        .expect("the last line is the report");
    let failures = items_of(&report["failures"]);
    assert_eq!(failures.len(), 1, "{report:#}");
    assert_eq!(failures[0]["image"], bad.as_str());
    assert_eq!(failures[0]["nodes"], json!(cluster().nodes));
    assert_eq!(failures[0]["advice"], "check the image name and the pull secrets");
    let certain = last_first_failure(&scenario, &bad);
    let took = ended.ended.duration_since(certain).unwrap_or_default();
    assert!(took <= SOON, "it took {took:?} from the third node's word");
}

/// Three nodes are certain: the moment of the last one's first failure.
fn last_first_failure(scenario: &Scenario, image: &str) -> SystemTime {
    let mut first: BTreeMap<String, SystemTime> = BTreeMap::new();
    for event in scenario.events("Failed", &format!("\"{image}\"")) {
        let at = moment(&event["firstTimestamp"]);
        let known = first.entry(text(&event["involvedObject"]["uid"]).into()).or_insert(at);
        *known = at.min(*known);
    }
    first.into_values().max().expect("kubelets have told of it")
}

#[test]
fn faults_that_pass_are_waited_for() {
    let reserved = ReservedNodes::one();
    let scenario = Scenario::without_helm("passing");
    let images = ["429", "500", "hang"].map(|it| faulty(&scenario, it));
    let [limited, broken, hanging] = images.each_ref().map(String::as_str);
    let here = only_on(&[reserved.name()]);

    let run = scenario.start_prepull(&["run", &here, limited, broken, hanging]);
    for image in &images {
        scenario.until_failed_pulls(image, 1);
    }
    for image in &images {
        mend(image);
    }
    let report = lines(&scenario.end(run).succeeded());

    assert!(verdict(&report).starts_with("ready: 3 images on 1 node after "), "{report:#?}");
    let names = images.map(|it| format!("docker.io/{it}"));
    cluster().expect_held(&[reserved.name()], &names.each_ref().map(String::as_str));
}

#[test]
fn a_fault_that_stays_is_named_when_time_runs_out() {
    let scenario = Scenario::without_helm("lasting");
    let runs = [
        ("429", "429 Too Many Requests: the registry limits pulls"),
        ("500", "500 Internal Server Error: wait until the registry is well again"),
    ]
    .map(|(fault, words)| {
        let image = faulty(&scenario, fault);
        let run = scenario.start_prepull(&["run", "--timeout=25s", &image]);
        (run, image, words)
    });

    for (run, image, words) in runs {
        let ended = scenario.end(run);
        let report = lines(&ended);
        assert_eq!(ended.code, Some(3), "{report:#?}");
        let verdict = verdict(&report);
        for word in ["failed: time ran out after 25s: ", &image, "3 nodes", words] {
            assert!(verdict.contains(word), "no `{word}` in {verdict}");
        }
    }
}

#[test]
fn a_pull_secret_that_does_not_exist_is_named() {
    let scenario = Scenario::without_helm("secretless");
    let image = format!("quay.io/{}/private/one:1", scenario.ns);
    scenario.push(&image, &[]);
    let settings = json!({"puller": {"imagePullSecrets": [{"name": "nowhere"}]}}).to_string();

    let report = lines(&scenario.prepull(&["run", "--settings", &settings, &image]).failed());

    let words = format!("secret `nowhere` does not exist in namespace `{}`", scenario.ns);
    assert!(verdict(&report).contains(&words), "{report:#?}");
}

#[test]
fn a_node_may_lack_an_image_if_that_is_allowed() {
    let scenario = Scenario::without_helm("allowed");
    let image = scenario.image("one");
    let nodes = cluster().all_nodes();
    let [lacking, holding @ ..] = nodes.as_slice() else { panic!("there are three nodes") };
    for node in holding {
        cluster().pull(node, &[&format!("docker.io/{image}")]);
    }
    let images = json!([{"image": image, "pullPolicy": "Never"}]);
    let settings = json!({"images": images}).to_string();

    let arguments = ["run", "--allow-missing=1", "--settings", &settings];
    let report = lines(&scenario.prepull(&arguments).succeeded());

    let verdict = verdict(&report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on ")), "{report:#?}");
    let why = "is not present with pull policy of Never";
    for word in [&format!("but not on {lacking}, forgiven: "), why] {
        assert!(verdict.contains(word), "no `{word}` in {verdict}");
    }
    expect_line(&report, &["warning: 1 node may lack images: ", lacking]);
}

/// The back-off of a new pod is a fresh one.
#[test]
fn a_pod_that_stalls_alone_is_made_anew() {
    let reserved = ReservedNodes::one();
    let scenario = Scenario::without_helm("stalling");
    let node = reserved.name();
    let image = faulty_on(&scenario, "500", node);
    let watch = scenario.watch_pods();

    let run = scenario.start_prepull(&["run", "--stall-timeout=10s", &image]);
    until("a pod that is made anew", MADE_ANEW, || {
        let said = run.said_as_yet();
        if said.contains("get no further, and are made anew") { Ok(()) } else { Err(said) }
    });
    mend(&image);
    let report = lines(&scenario.end(run).succeeded());

    assert!(verdict(&report).starts_with(&format!("ready: `{image}` on ")), "{report:#?}");
    let watched = watch.said_as_yet();
    let pods = Deserializer::from_str(&watched).into_iter::<Value>().map_while(Result::ok);
    let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pod in pods {
        let uid = text(&pod["metadata"]["uid"]).into();
        made.entry(text(&pod["spec"]["nodeName"]).into()).or_default().insert(uid);
    }
    for other in &cluster().nodes {
        let is_right = if other == node { made[other].len() > 1 } else { made[other].len() == 1 };
        assert!(is_right, "{made:#?}");
    }
}

// === Registries ===

/// Pushes an image whose repository fails in this way for nodes.
pub fn faulty(scenario: &Scenario, fault: &str) -> String {
    let image = format!("{}/fault-{fault}/one:1", scenario.ns);
    // Less than half of it arrives where a fault stops it, and containerd counts in mebibytes.
    scenario.push_sized(&image, "3MB", &[]);
    image
}

/// The same on this node alone; the others have it.
pub fn faulty_on(scenario: &Scenario, fault: &str, node: &str) -> String {
    let sound = scenario.image("sound");
    let faulty = format!("{}/fault-{fault}/one:1", scenario.ns);
    cluster().hack(&["tag", &sound, &faulty]);
    let [sound, full] = [&sound, &faulty].map(|it| format!("docker.io/{it}"));
    for other in cluster().nodes.iter().filter(|it| *it != node) {
        cluster().pull(other, &[&sound]);
        cluster().ctr(other, &["images", "tag", "--force", &sound, &full]);
    }
    faulty
}

/// Ends the fault of an image's repository.
pub fn mend(image: &str) {
    let (repository, _) = image.rsplit_once(':').expect("it has a tag");
    cluster().hack(&["tag", image, &format!("{repository}:mended")]);
}

fn for_another_platform(scenario: &Scenario) -> String {
    let image = scenario.small_image("elsewhere");
    let there = format!("{}/{image}", cluster().variable("PREPULL_CLUSTER_REGISTRY"));
    for arguments in [
        ["mutate", "--set-platform=linux/riscv64", &there],
        ["index", "append", &format!("--manifest={there}")],
    ] {
        let mut crane = cluster().command("crane");
        run(crane.args(arguments).args(["--insecure", "--tag", &there]), CALL).succeeded();
    }
    image
}

/// Registries of names of their own, which go with the test.
struct Registries<'a> {
    scenario: &'a Scenario,
    /// The folder that tells containerd where registries are.
    hosts: PathBuf,
    made: RefCell<Vec<PathBuf>>,
}

impl<'a> Registries<'a> {
    fn of(scenario: &'a Scenario) -> Self {
        let hosts = Path::new(cluster().variable("KUBECONFIG")).with_file_name("hosts");
        Self { scenario, hosts, made: RefCell::default() }
    }

    /// The name of an image in a registry at this address.
    fn at(&self, word: &str, url: &str) -> String {
        let name = format!("{word}.{}.example", self.scenario.ns);
        let folder = self.hosts.join(&name);
        self.made.borrow_mut().push(folder.clone());
        fs::create_dir(&folder).expect("no other test has the name");
        fs::write(folder.join("hosts.toml"), format!("server = \"{url}\"\n"))
            .expect("the folder is ours");
        format!("{name}/one:1")
    }
}

impl Drop for Registries<'_> {
    fn drop(&mut self) {
        self.made.borrow().iter().for_each(|it| _ = fs::remove_dir_all(it));
    }
}

/// Listens until the process ends, and does this with every connection.
fn listen(address: &str, answer: fn(TcpStream) -> io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("the host has that address");
    let place = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The other side's end of it tells what came of it.
            thread::spawn(move || _ = answer(stream));
        }
    });
    place
}

fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.read(&mut [0; 4096]).map(drop)
}

/// What is left unread makes a reset of the end.
fn reset(stream: TcpStream) -> io::Result<()> {
    stream.peek(&mut [0; 1]).map(drop)
}

fn say_nothing(mut stream: TcpStream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink()).map(drop)
}
