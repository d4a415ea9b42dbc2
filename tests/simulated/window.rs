//! A window over the nodes: so many may be unfinished at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::audit::{Mark, Request, nodes_of_pods, running_pods, terms_of};
use crate::cluster::Simulated;
use crate::command::Finished;
use crate::node::SimulatedNode;

const APP: &str = "q.io/team/app:1";
const GPU_APP: &str = "q.io/team/gpu-app:1";

/// A run, its own timeout included.
const RUN: Duration = Duration::from_secs(300);
const PODS_END: Duration = Duration::from_secs(60);

/// A node is stuck that makes no progress for 60 s (`STUCK_AFTER` in `src/run/window.rs`). After
/// that the others want some seconds each.
const TIMEOUT: &str = "130s";

/// Nodes for one of the runs, which go on at the same time: most of their time is waiting.
struct Pool {
    name: &'static str,
    nodes: Vec<SimulatedNode>,
    /// As it is written on the command line, and as a number of nodes.
    window: (&'static str, usize),
}

impl Pool {
    fn new(name: &'static str, window: (&'static str, usize), names: Vec<String>) -> Self {
        let nodes = names.into_iter().map(|it| {
            let mut node = SimulatedNode::new(format!("{name}-{it}"));
            node.labels.insert("pool".into(), name.into());
            node
        });
        Self { name, nodes: nodes.collect(), window }
    }

    /// The settings of a run over the pool: one image for all of its nodes, and one for some.
    fn settings(&self) -> String {
        let selector = format!(r#"{{"pool": "{}"}}"#, self.name);
        let gpu = format!(r#"{{"pool": "{}", "gpu": "yes"}}"#, self.name);
        format!(
            r#"{{"images": ["{APP}", {{"image": "{GPU_APP}", "nodeSelector": {gpu}}}],
                "puller": {{"nodeSelector": {selector}}}}}"#
        )
    }

    fn needs_gpu_app(&self, name: &str) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|it| it.name == name && it.labels.contains_key("gpu"))
    }
}

#[test]
fn no_more_nodes_are_unfinished_than_the_window_lets_in() {
    let cluster = Simulated::take();
    let numbered = |n: usize| (0..n).map(|it| format!("{it:02}"));
    let mut plain = Pool::new("plain", ("7", 7), numbered(60).collect());
    for (number, node) in plain.nodes.iter_mut().enumerate() {
        if number % 5 == 0 {
            node.name += "-slow-3s";
        }
        if number % 3 == 0 {
            node.labels.insert("gpu".into(), "yes".into());
        }
    }
    let share = Pool::new("share", ("10%", 4), numbered(40).collect());
    // The first ones in the alphabet are let in first, and take every place.
    let mut names: Vec<String> = numbered(10).collect();
    names[0] += "-refused";
    names[1] += "-refused";
    let mut stuck = Pool::new("stuck", ("2", 2), names);
    stuck.nodes[2].most_pods = 0;
    let pools = [plain, share, stuck];
    let nodes: Vec<_> = pools.iter().flat_map(|it| it.nodes.clone()).collect();
    cluster.create_nodes(&nodes);
    let mark = Mark::now(&cluster);

    let running = pools.each_ref().map(|pool| {
        let settings = pool.settings();
        let options = ["run", "--output", "json", "--name", pool.name, "--timeout", TIMEOUT];
        let window = ["--max-nodes-at-once", pool.window.0, "--settings", &settings];
        cluster.prepull(&[&options[..], &window[..]].concat())
    });
    let ended = running.map(|it| it.wait(RUN));

    let requests = mark.since(&cluster);
    let [plain, share, stuck] = &ended;
    for (ended, pool) in [(plain, &pools[0]), (share, &pools[1])] {
        assert_eq!(ended.code, Some(0), "{}", ended.said());
        assert_eq!(finished(&requests, pool).len(), pool.nodes.len());
    }
    check_stuck(stuck, &requests, &pools[2]);
    for pool in &pools {
        check_window(&requests, pool);
        check_pods(&requests, pool);
    }
    cluster.until_empty(PODS_END);
}

/// The nodes that are stuck are named, each for its own reason, and all others have everything.
fn check_stuck(ended: &Finished, requests: &[Request], pool: &Pool) {
    assert_eq!(ended.code, Some(3), "{}", ended.said());
    let report: Value = serde_json::from_str(&ended.stdout).expect("the report is JSON");
    let healthy: Vec<_> = pool.nodes[3..].iter().map(|it| it.name.as_str()).collect();
    assert_eq!(finished(requests, pool).into_keys().collect::<Vec<_>>(), healthy);
    let [refused @ .., full] = [0, 1, 2].map(|it| &pool.nodes[it].name);
    assert_eq!(report["nodes"]["forgiven"], json!({full: "no room for another pod"}));
    let failures = report["failures"].as_array().expect("a report has failures");
    let [failure] = failures.as_slice() else { panic!("{failures:?}") };
    assert_eq!(failure["nodes"], json!(refused));
    let message = failure["message"].as_str().unwrap_or_default();
    assert!(message.contains("connection refused"), "{message}");
}

/// The nodes of a pool and when they had everything.
fn finished<'a>(requests: &'a [Request], pool: &Pool) -> BTreeMap<&'a str, SystemTime> {
    let nodes = nodes_of_pods(requests);
    let mut running: BTreeMap<&str, Vec<SystemTime>> = BTreeMap::new();
    for (pod, at) in running_pods(requests) {
        if pod.starts_with(&format!("{}-", pool.name)) {
            running.entry(nodes[pod]).or_default().push(at);
        }
    }
    let finished = running.into_iter().filter_map(|(node, at)| {
        let n_pods = if pool.needs_gpu_app(node) { 2 } else { 1 };
        Some((node, *at.iter().max()?)).filter(|_| at.len() == n_pods)
    });
    finished.collect()
}

/// Follows where the pullers of a run were sent, and how many nodes were unfinished then.
fn check_window(requests: &[Request], pool: &Pool) {
    let (_, size) = pool.window;
    let finished = finished(requests, pool);
    let pullers = format!("{}-", pool.name);
    let mut sent: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut most = 0;
    for it in requests.iter().filter(|it| it.is_ours() && it.resource == "daemonsets") {
        let name = it.body["metadata"]["name"].as_str().unwrap_or(&it.name);
        if !name.starts_with(&pullers) || !matches!(it.verb.as_str(), "create" | "patch") {
            continue;
        }
        let fields = terms_of(&it.body).iter().map(|it| &it["matchFields"][0]["values"][0]);
        sent.insert(name, fields.filter_map(Value::as_str).collect());
        let is_unfinished = |node: &&&str| finished.get(**node).is_none_or(|at| *at > it.answered);
        let unfinished: BTreeSet<_> = sent.values().flatten().filter(is_unfinished).collect();
        assert!(unfinished.len() <= size, "a window of {size} with {unfinished:?} in it");
        most = most.max(unfinished.len());
    }
    assert_eq!(most, size, "the window was never full");
}

/// Follows the pods themselves: on how many nodes there was one that had not yet run, and whether
/// those that had stayed until the pullers went.
fn check_pods(requests: &[Request], pool: &Pool) {
    let is_of_pool = |it: &&Request| it.name.starts_with(&format!("{}-", pool.name));
    let of_pool = |verb: &str, resource: &str| {
        requests.iter().filter(is_of_pool).filter(|it| it.is(verb, resource)).collect::<Vec<_>>()
    };
    let gone = of_pool("delete", "daemonsets").iter().map(|it| it.received).min();
    let gone = gone.expect("the pullers were deleted");
    let nodes = nodes_of_pods(requests);
    let running = running_pods(requests);
    let mut deleted: BTreeMap<&str, SystemTime> = BTreeMap::new();
    for it in of_pool("delete", "pods") {
        deleted.entry(&it.name).or_insert(it.received);
        let stayed = it.received >= gone || !running.contains_key(it.name.as_str());
        assert!(stayed, "{} had finished and was deleted", it.name);
    }
    // From when to when a node had a pod that had not yet run.
    let unfinished: Vec<_> = of_pool("create", "pods/binding")
        .into_iter()
        .map(|it| {
            let name = it.name.as_str();
            let end = running.get(name).or(deleted.get(name)).copied();
            (nodes[name], it.answered, end.unwrap_or(gone))
        })
        .collect();
    let at_once = unfinished.iter().map(|(_, at, _)| {
        let then = unfinished.iter().filter(|(_, from, until)| from <= at && at < until);
        then.map(|(node, ..)| *node).collect::<BTreeSet<_>>()
    });
    let (_, size) = pool.window;
    let fullest = at_once.max_by_key(BTreeSet::len).expect("there were pods");
    assert_eq!(fullest.len(), size, "a window of {size} with {fullest:?} in it");
}
