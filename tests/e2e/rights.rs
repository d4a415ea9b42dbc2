//! The hook without one of its rights: what becomes of it is what SECURITY.md says, and no worse.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::audit::Mark;
use crate::binary::{as_pod_of, lines, only_on, waiting_job};
use crate::cluster::{cluster, repository};
use crate::command::{Finished, Running, start};
use crate::scenario::{Scenario, expect_line, verdict};
use crate::turn::ReservedNodes;

/// A right, as scope, resource and verb.
type Right = [&'static str; 3];

/// Makes of each function a test without the right beside it.
macro_rules! without {
    ($($name:ident: $scope:ident $resource:ident $verb:ident),+ $(,)?) => {
        const TRIED: &[Right] =
            &[$([stringify!($scope), stringify!($resource), stringify!($verb)]),+];

        mod without {
            $(#[test]
            fn $name() {
                let right = [stringify!($scope), stringify!($resource), stringify!($verb)];
                super::$name(right);
            })+
        }
    };
}

// Those that wait longest are first.
without!(
    a_look_at_one_node: cluster nodes get,
    a_new_try_of_a_stalled_pod: namespace pods delete,
    a_list_of_daemon_sets: namespace daemonsets list,
    a_list_of_events: namespace events list,
    a_list_of_nodes: cluster nodes list,
    a_list_of_pods: namespace pods list,
    a_look_at_the_daemon_set: namespace daemonsets get,
    a_look_at_the_job: namespace jobs get,
    an_end_of_the_daemon_set: namespace daemonsets delete,
    an_event: namespace events create,
    another_destination: namespace daemonsets patch,
    any_daemon_set: namespace daemonsets create,
);

/// What the Job and the test itself have made, besides what a run makes.
const OF_THE_HOOK: [&str; 4] = ["clusterrole", "job.batch/hook", "role", "serviceaccount/hook"];
const SOON: Duration = Duration::from_secs(30);

#[test]
fn every_right_is_tried() {
    let tried: BTreeSet<_> = TRIED.iter().map(|it| it.map(str::to_owned)).collect();
    assert_eq!(granted().into_iter().collect::<BTreeSet<_>>(), tried);
}

#[test]
fn all_of_them_are_enough() {
    let hook = Hook::without(["no", "right", "missing"]);
    let report = lines(&hook.run().succeeded());
    assert!(!report.iter().any(|it| it.starts_with("note: ")), "{report:?}");
    assert_eq!(hook.scenario.events("ImagesPulled", verdict(&report)).len(), 1);
    hook.expect_clean();
}

fn a_list_of_nodes(right: Right) {
    let hook = Hook::without(right);
    let bounded = hook.start(&["--max-nodes-at-once=1", &hook.image]);
    let report = lines(&hook.run().succeeded());
    expect_line(&report, &["note: cannot list nodes: ", &refused(right), ": the puller runs on "]);
    let ready = format!("ready: `{}` on 1 node after ", hook.image);
    assert!(verdict(&report).starts_with(&ready), "{report:?}");
    let bounded = hook.scenario.end(bounded);
    assert_eq!(bounded.code, Some(2), "{}", bounded.said());
    let words = [&refused(right), "`--max-nodes-at-once` needs the right to list nodes"];
    expect_line(&[bounded.stderr], &words);
    hook.expect_clean();
}

/// The run looks at its targets again when nothing has moved for 30 s.
fn a_look_at_one_node(right: Right) {
    let hook = Hook::without(right);
    let image = hook.scenario.unavailable_image("never");
    let mark = Mark::now();
    let ended = hook.scenario.end(hook.start(&["--timeout=40s", &image]));
    assert_eq!(ended.code, Some(3), "{}", ended.said());
    let requests = mark.requests_from(&hook.scenario.ns);
    let mut on_nodes = requests.iter().filter(|it| it.1 == "nodes");
    let tried = on_nodes.any(|it| it.0 == "get" && it.2 == 403);
    let listed = on_nodes.any(|it| it.0 == "list" && it.2 == 200);
    assert!(tried && listed, "{requests:?}");
    hook.expect_clean();
}

// No run does without these.
use self::{
    expect_failure as a_list_of_pods, expect_failure as a_look_at_the_daemon_set,
    expect_failure as any_daemon_set,
};

/// A run that sends its puller nowhere else does not miss it.
fn another_destination(right: Right) {
    let hook = Hook::without(right);
    let nodes = cluster().all_nodes();
    let (first, others) = nodes.split_at(1);
    let one_by_one = hook.start_on(others, &["--max-nodes-at-once=1", &hook.image]);
    expect_refused(&hook.scenario.end(one_by_one), right);
    let all_at_once = hook.start_on(first, &[&hook.image]);
    hook.scenario.end(all_at_once).succeeded();
    hook.expect_clean();
}

fn a_list_of_daemon_sets(right: Right) {
    expect_note(right, "leftovers of earlier runs are not looked for");
}

fn a_look_at_the_job(right: Right) {
    expect_note(right, "the deadline counts from now on");
}

fn an_end_of_the_daemon_set(right: Right) {
    let hook = Hook::without(right);
    let report = lines(&hook.run().succeeded());
    expect_line(&report, &["note: cannot delete daemonset `", &refused(right)]);
    expect_line(&report, &["note: ", "may be left: it goes with the Job `"]);
    assert_eq!(hook.scenario.names(&["daemonsets"]).len(), 1);
    cluster().kubectl(&["delete", "job", "hook", "--namespace", &hook.scenario.ns]);
    hook.expect_clean();
}

/// One node has the image, so that the pod on the other one may be taken for stalled.
fn a_new_try_of_a_stalled_pod(right: Right) {
    let reserved = ReservedNodes::two();
    let [quick, slow] = reserved.names();
    let hook = Hook::without(right);
    let image = hook.scenario.slow_image_on("slow", 20, quick);
    let run = hook.start_on(&[quick, slow], &["--stall-timeout=10s", &image]);
    let report = lines(&hook.scenario.end(run).succeeded());
    let words = ["note: cannot delete pod `", &refused(right), "are left as they are"];
    expect_line(&report, &words);
    hook.expect_clean();
}

fn a_list_of_events(right: Right) {
    let hook = Hook::without(right);
    let image = format!("{}/never-pushed:1", hook.scenario.ns);
    let report = lines(&hook.scenario.end(hook.start(&[&image])).failed());
    let words = ["note: cannot list events ", &refused(right), "are read from pods alone"];
    expect_line(&report, &words);
    assert!(verdict(&report).contains(&format!("cannot pull `{image}` on 1 node")), "{report:?}");
    assert!(verdict(&report).ends_with(": check the image name and the tag"), "{report:?}");
    hook.expect_clean();
}

fn an_event(right: Right) {
    let hook = Hook::without(right);
    let mark = Mark::now();
    hook.run().succeeded();
    let requests = mark.requests_from(&hook.scenario.ns);
    assert!(requests.contains(&("create".into(), "events".into(), 403)), "{requests:?}");
    assert!(hook.scenario.events("ImagesPulled", "").is_empty());
    hook.expect_clean();
}

fn expect_failure(right: Right) {
    let hook = Hook::without(right);
    expect_refused(&hook.run(), right);
    hook.expect_clean();
}

fn expect_refused(ended: &Finished, right: Right) {
    assert_eq!(ended.code, Some(1), "{}", ended.said());
    let report = lines(ended);
    let verdict = verdict(&report);
    let [_, resource, verb] = right;
    // Of one object or of several.
    let failed = format!("failed: cannot {verb} {}", resource.trim_end_matches('s'));
    let advice = "grant this right to the ServiceAccount of the Job";
    for words in [&failed, &refused(right), advice] {
        assert!(verdict.contains(words), "no `{words}` in: {verdict}");
    }
}

fn expect_note(right: Right, what: &str) {
    let hook = Hook::without(right);
    let report = lines(&hook.run().succeeded());
    expect_line(&report, &["note: cannot ", &refused(right), what]);
    hook.expect_clean();
}

/// How the API server says it.
fn refused([_, resource, verb]: Right) -> String {
    format!("cannot {verb} resource \"{resource}\"")
}

/// The rights of the table in SECURITY.md.
fn granted() -> Vec<[String; 3]> {
    let document = fs::read_to_string(repository().join("SECURITY.md")).expect("it is there");
    let rows = document.lines().map(|it| it.trim_matches(['|', ' ']).split(" | "));
    let rights = rows.filter_map(|mut it| {
        let scope = it.next().filter(|it| ["cluster", "namespace"].contains(it))?;
        let resource = it.next()?.split(',').next()?;
        Some([scope, resource, it.next()?].map(str::to_owned))
    });
    rights.collect()
}

/// A hook that lacks a right.
struct Hook {
    scenario: Scenario,
    image: String,
    job: Value,
    token: PathBuf,
}

impl Hook {
    fn without(right: Right) -> Self {
        let [_, resource, verb] = right;
        let scenario = Scenario::without_helm(&format!("no-{verb}-{resource}"));
        let kept = granted().into_iter().filter(|it| *it != right);
        let (cluster_wide, own): (Vec<_>, Vec<_>) = kept.partition(|it| it[0] == "cluster");
        let (ns, everywhere) = (&scenario.ns, format!("{}:hook", scenario.ns));
        let account = json!({"kind": "ServiceAccount", "name": "hook", "namespace": ns});
        let rbac = "rbac.authorization.k8s.io";
        let role = |kind: &str, name: &str, rights: &[[String; 3]]| {
            let rules: Vec<_> = rights.iter().map(rule).collect();
            json!({
                "apiVersion": format!("{rbac}/v1"),
                "kind": kind,
                "metadata": {"name": name},
                "rules": rules,
            })
        };
        let binding = |kind: &str, name: &str| {
            json!({
                "apiVersion": format!("{rbac}/v1"),
                "kind": format!("{kind}Binding"),
                "metadata": {"name": name},
                "roleRef": {"apiGroup": rbac, "kind": kind, "name": name},
                "subjects": [account],
            })
        };
        let items = [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hook"}}),
            role("ClusterRole", &everywhere, &cluster_wide),
            binding("ClusterRole", &everywhere),
            role("Role", "hook", &own),
            binding("Role", "hook"),
            waiting_job("hook"),
        ];
        scenario.create(&json!({"apiVersion": "v1", "kind": "List", "items": items}));
        let job = scenario.get(&["job", "hook"]);
        let token = cluster().kubectl(&["create", "token", "hook", "--namespace", ns]);
        let token = scenario.private_file("token-of-hook", &token);
        let image = scenario.image("one");
        Self { scenario, image, job, token }
    }

    /// Pulls the hook's image, on one node.
    fn run(&self) -> Finished {
        self.scenario.end(self.start(&[&self.image]))
    }

    fn start(&self, arguments: &[&str]) -> Running {
        self.start_on(&cluster().all_nodes()[..1], arguments)
    }

    fn start_on(&self, nodes: &[&str], arguments: &[&str]) -> Running {
        let nodes = only_on(nodes);
        let arguments = [&["run", &nodes], arguments].concat();
        let mut command = self.scenario.prepull_with(&self.token, &arguments);
        start(command.envs(as_pod_of(&self.job)))
    }

    /// Nothing is left of the run.
    fn expect_clean(&self) {
        self.scenario.until_only(&OF_THE_HOOK, SOON);
    }
}

fn rule([_, resource, verb]: &[String; 3]) -> Value {
    let group = match resource.as_str() {
        "daemonsets" => "apps",
        "jobs" => "batch",
        _ => "",
    };
    json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
}
