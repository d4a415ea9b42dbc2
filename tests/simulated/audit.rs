//! Who asked the API server for what, by its audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::time::SystemTime;

use serde_json::Value;

use crate::cluster::Simulated;

/// A place in the audit log. What comes after it is the present.
pub struct Mark(u64);

/// A request that was answered.
pub struct Request {
    pub received: SystemTime,
    pub answered: SystemTime,
    agent: String,
    pub verb: String,
    /// With the subresource, as in `pods/status`.
    pub resource: String,
    pub name: String,
    /// What was sent, where the log has it.
    pub body: Value,
}

impl Mark {
    pub fn now(cluster: &Simulated) -> Self {
        let mut log = log(cluster);
        Self(log.seek(SeekFrom::End(0)).expect("the audit log is a file"))
    }

    /// What was asked since then with success, the first one first.
    pub fn since(&self, cluster: &Simulated) -> Vec<Request> {
        let mut log = log(cluster);
        log.seek(SeekFrom::Start(self.0)).expect("the audit log only grows");
        let lines = BufReader::new(log).lines().map(|it| it.expect("the audit log is text"));
        let mut requests: Vec<_> = lines.filter_map(|it| request(&it)).collect();
        requests.sort_by_key(|it| it.answered);
        requests
    }
}

impl Request {
    /// Whether the program under test asked.
    pub fn is_ours(&self) -> bool {
        self.agent.starts_with("prepull/")
    }

    pub fn is(&self, verb: &str, resource: &str) -> bool {
        self.verb == verb && self.resource == resource
    }
}

fn log(cluster: &Simulated) -> File {
    File::open(cluster.variable("PREPULL_CLUSTER_AUDIT")).expect("hack/cluster makes it")
}

fn request(line: &str) -> Option<Request> {
    let mut event: Value = serde_json::from_str(line).expect("the audit log has an event a line");
    if event["responseStatus"]["code"].as_u64()? >= 300 {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let resource = match object["subresource"].as_str() {
        Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
        None => text(&object["resource"]),
    };
    let moment = |value: &Value| humantime::parse_rfc3339(&text(value)).expect("a moment");
    let received = moment(&event["requestReceivedTimestamp"]);
    let answered = moment(&event["stageTimestamp"]);
    let (verb, name) = (text(&event["verb"]), text(&object["name"]));
    let agent = text(&event["userAgent"]);
    let body = event["requestObject"].take();
    Some(Request { received, answered, agent, verb, resource, name, body })
}

/// The nodes that the scheduler sent pods to, by the pods' names.
pub fn nodes_of_pods(requests: &[Request]) -> BTreeMap<&str, &str> {
    let bindings = requests.iter().filter(|it| it.is("create", "pods/binding"));
    let pairs = bindings.map(|it| (it.name.as_str(), it.body["target"]["name"].as_str()));
    pairs.map(|(pod, node)| (pod, node.expect("a binding names the node"))).collect()
}

/// When the containers of pods were reported to run, by the pods' names.
pub fn running_pods(requests: &[Request]) -> BTreeMap<&str, SystemTime> {
    let running = requests.iter().filter(|it| {
        let statuses = it.body["status"]["containerStatuses"].as_array();
        let mut statuses = statuses.into_iter().flatten();
        it.is("patch", "pods/status") && statuses.any(|it| it["state"]["running"].is_object())
    });
    running.map(|it| (it.name.as_str(), it.received)).collect()
}

/// The alternatives of the required node affinity in a DaemonSet or a patch of one.
pub fn terms_of(daemon_set: &Value) -> &[Value] {
    let affinity = &daemon_set["spec"]["template"]["spec"]["affinity"]["nodeAffinity"];
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    required["nodeSelectorTerms"].as_array().expect("a puller has terms")
}
