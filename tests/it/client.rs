//! The client against the fake API server: what it sends, what it makes of answers, and of none.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use prepull::cluster::{ApiError, Cause, Cluster, Deletion, EventKind, NewEvent};
use prepull::kube::{Access, KubeCluster, Limits};
use prepull::puller::{DaemonSet, Destination, OwnerReference, Plan, manifest};
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::certs::{Authority, Folder, ed25519, expired, not_yet_valid, p256, p384, rsa};
use crate::fake::{Fake, Fault, node, object};

const NS: &str = "ns";

/// Long enough for a slow machine, short enough for a test.
const SHORT: Duration = Duration::from_millis(300);

fn open(fake: &Fake) -> KubeCluster {
    open_url(&fake.url(), None, None)
}

fn open_url(url: &str, ca: Option<&Path>, token: Option<&Path>) -> KubeCluster {
    KubeCluster::open(&Access::at(url, ca, token).unwrap(), NS).unwrap()
}

fn open_with(fake: &Fake, change: impl FnOnce(&mut Limits)) -> KubeCluster {
    let mut limits = Limits::default();
    change(&mut limits);
    let access = Access::at(&fake.url(), None, None).unwrap();
    KubeCluster::open_with(&access, NS, limits).unwrap()
}

/// A client that trusts the authority.
fn trusting(fake: &Fake, folder: &Folder, pem: &str) -> KubeCluster {
    open_url(&fake.url(), Some(&folder.file("ca.crt", pem)), None)
}

fn status(error: ApiError) -> (u16, String, String, Option<Duration>) {
    match error.cause {
        Cause::Status { code, reason, message, retry_after } => {
            (code, reason, message, retry_after)
        }
        other => panic!("{other:?}"),
    }
}

fn transport(error: ApiError) -> String {
    assert!(error.is_transient());
    match error.cause {
        Cause::Transport(text) => text,
        other => panic!("{other:?}"),
    }
}

fn unusable(error: ApiError) -> String {
    assert!(!error.is_transient());
    match error.cause {
        Cause::Unusable(text) => text,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_holds(text: &str, part: &str) {
    assert!(text.contains(part), "`{part}` is not in: {text}");
    assert!(!text.contains('\n'), "more than one line: {text}");
}

fn daemonset(name: &str) -> DaemonSet {
    manifest(&Plan {
        name: name.into(),
        release: "app",
        run: "run-1",
        owner: None,
        expires: "2026-01-01T00:00:00Z".into(),
        own_image: "prepull:1",
        images: vec![],
        placement: &Default::default(),
        destination: Destination::Nodes(vec!["n1"]),
        settings: &Default::default(),
    })
}

// === What is sent ===

#[test]
fn a_list_says_who_asks_and_what_it_takes() {
    let fake = Fake::start();
    open(&fake).list_nodes(None).unwrap();
    let seen = fake.only_request();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/api/v1/nodes"));
    assert_eq!(seen.raw_query, "limit=500");
    assert_eq!(seen.headers["accept"], "application/json");
    assert_eq!(seen.headers["accept-encoding"], "gzip");
    assert_eq!(seen.headers["user-agent"], concat!("prepull/", env!("CARGO_PKG_VERSION")));
    assert!(!seen.headers.contains_key("authorization"));
    assert!(!seen.headers.contains_key("cookie"));
}

#[test]
fn a_path_below_the_server_is_kept() {
    let fake = Fake::start();
    fake.world().prefix = "/k8s/clusters/c-1".into();
    fake.world().nodes.push(node("n1"));
    let mut cluster = open_url(&format!("{}/k8s/clusters/c-1/", fake.url()), None, None);
    assert_eq!(cluster.list_nodes(None).unwrap().items.len(), 1);
}

#[test]
fn what_comes_from_outside_is_percent_encoded() {
    let fake = Fake::start();
    let access = Access::at(&fake.url(), None, None).unwrap();
    let mut cluster = KubeCluster::open(&access, "a/b").unwrap();
    cluster.read_puller("x?y#z %").unwrap_err();
    cluster.list_pods("app=x y,k&=é", None).unwrap();
    cluster.list_events("involvedObject.uid=1&limit=1", None).unwrap();
    let [read, pods, events] = fake.requests().try_into().unwrap();
    assert_eq!(read.path, "/apis/apps/v1/namespaces/a%2Fb/daemonsets/x%3Fy%23z%20%25");
    assert_eq!(pods.query["labelSelector"], "app=x y,k&=é");
    assert_eq!(events.query["fieldSelector"], "involvedObject.uid=1&limit=1");
    assert_eq!(events.query["limit"], "500");
}

#[test]
fn a_name_that_is_none_is_not_sent() {
    let fake = Fake::start();
    fake.world().nodes.push(node("n1"));
    for name in ["", ".", ".."] {
        assert_holds(&unusable(open(&fake).read_node(name).unwrap_err()), "no such name");
    }
    assert!(fake.requests().is_empty());
}

#[test]
fn a_connection_is_used_again() {
    let fake = Fake::start();
    fake.world().nodes.extend((0..40).map(|n| node(&format!("n{n}"))));
    let mut cluster = open(&fake);
    cluster.list_nodes(None).unwrap();
    cluster.read_node("n1").unwrap();
    cluster.read_node("n-missing").unwrap_err();
    cluster.create_puller(&daemonset("x")).unwrap();
    cluster.delete_puller("x", "uid-1").unwrap();
    cluster.list_pods("a=b", None).unwrap();
    assert!(fake.requests().iter().all(|it| it.connection == 0), "{:?}", fake.requests());
}

#[test]
fn proxies_in_the_environment_are_ignored() {
    let fake = Fake::start();
    let mut holds_it = node("n1");
    holds_it["status"]["images"] = json!([{ "names": ["docker.io/library/a:1"] }]);
    fake.world().nodes.push(holds_it);
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_prepull"));
    // One that is asked never answers, and the time ends.
    command.args(["check", "--server", &fake.url(), "--timeout", "10s", "a:1"]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        command.env(name, &url);
    }
    let output = command.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(proxy.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "{told}");
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(fake.requests().len(), 1);
}

// === Each method of the trait ===

#[test]
fn nodes_are_read() {
    let fake = Fake::start();
    fake.world().nodes.push(node("n1"));
    let mut cluster = open(&fake);
    let listed = cluster.list_nodes(None).unwrap().items.remove(0);
    let read = cluster.read_node("n1").unwrap();
    assert_eq!(listed, read);
    assert_eq!((read.metadata.name.as_str(), read.metadata.uid.as_str()), ("n1", "uid-of-n1"));
    let error = cluster.read_node("n2").unwrap_err();
    assert_eq!(error.request, "get node `n2`");
    assert_eq!(error.code(), Some(404));
}

#[test]
fn a_job_gives_its_start() {
    let fake = Fake::start();
    let mut job = object(NS, "job", &[]);
    fake.world().jobs.push(job.clone());
    assert_eq!(open(&fake).read_job("job").unwrap().start_time, None);
    assert_eq!(fake.only_request().path, "/apis/batch/v1/namespaces/ns/jobs/job");
    job["status"]["startTime"] = json!("1994-11-06T08:49:37Z");
    fake.world().jobs = vec![job];
    let start = open(&fake).read_job("job").unwrap().start_time.unwrap();
    assert_eq!(start, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
    let error = open(&fake).read_job("other").unwrap_err();
    assert_eq!(error.request, "get job `other` in namespace `ns`");
}

#[test]
fn a_puller_is_made_changed_and_removed() {
    let fake = Fake::start();
    let mut cluster = open(&fake);
    let made = cluster.create_puller(&daemonset("x")).unwrap();
    assert_eq!((made.metadata.uid.as_str(), made.metadata.generation), ("uid-1", 1));

    let patched = cluster.patch_puller("x", r#"{"spec":{"revisionHistoryLimit":3}}"#).unwrap();
    assert_eq!(patched.metadata.generation, 2);
    assert_eq!(cluster.read_puller("x").unwrap(), patched);
    assert_eq!(cluster.list_pullers("prepull.dev/run=run-1", None).unwrap().items, [patched]);
    assert_eq!(cluster.list_pullers("prepull.dev/run=run-2", None).unwrap().items, []);

    let error = cluster.delete_puller("x", "another").unwrap_err();
    assert_eq!(error.request, "delete daemonset `x` in namespace `ns`");
    assert_eq!(status(error).0, 409);
    cluster.delete_puller("x", "uid-1").unwrap();
    assert!(fake.world().daemonsets.is_empty());
    let (code, reason, ..) = status(cluster.delete_puller("x", "uid-1").unwrap_err());
    assert_eq!((code, reason.as_str()), (404, "NotFound"));

    let requests = fake.requests();
    let [create, patch, _, list, _, _, delete, _] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    assert_eq!(create.method, "POST");
    assert_eq!(create.path, "/apis/apps/v1/namespaces/ns/daemonsets");
    assert_eq!(create.raw_query, "fieldManager=prepull&fieldValidation=Warn");
    assert_eq!(create.headers["content-type"], "application/json");
    let sent: Value = serde_json::from_str(&create.body).unwrap();
    assert_eq!(sent, serde_json::to_value(daemonset("x")).unwrap());
    assert_eq!(patch.method, "PATCH");
    assert_eq!(patch.headers["content-type"], "application/merge-patch+json");
    assert_eq!(patch.raw_query, "fieldManager=prepull&fieldValidation=Warn");
    assert_eq!(list.query["labelSelector"], "prepull.dev/run=run-1");
    assert_eq!(delete.path, "/apis/apps/v1/namespaces/ns/daemonsets/x");
    assert_eq!(
        serde_json::from_str::<Value>(&delete.body).unwrap(),
        json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": "uid-1" },
            "propagationPolicy": "Background",
        })
    );
}

#[test]
fn a_puller_that_is_there_is_a_conflict() {
    let fake = Fake::start();
    let mut cluster = open(&fake);
    cluster.create_puller(&daemonset("x")).unwrap();
    let error = cluster.create_puller(&daemonset("x")).unwrap_err();
    assert_eq!(error.request, "create daemonsets in namespace `ns`");
    let (code, reason, ..) = status(error);
    assert_eq!((code, reason.as_str()), (409, "AlreadyExists"));
}

#[test]
fn a_hook_does_what_a_controller_would() {
    let fake = Fake::start();
    fake.on_create_daemonset(|world, made| {
        let mut pod = object(NS, "x-1", &[("a", "b")]);
        let owner = json!({ "uid": made["metadata"]["uid"], "controller": true });
        pod["metadata"]["ownerReferences"] = json!([owner]);
        world.pods.push(pod);
    });
    let mut cluster = open(&fake);
    cluster.create_puller(&daemonset("x")).unwrap();
    let pods = cluster.list_pods("a=b", None).unwrap().items;
    assert_eq!(pods[0].controller(), Some("uid-1"));
    cluster.delete_puller("x", "uid-1").unwrap();
    assert!(fake.world().pods.is_empty());
}

#[test]
fn deletion_that_is_only_accepted_is_success() {
    let fake = Fake::start();
    fake.fail("DELETE", Fault::json(202, r#"{"metadata":{"name":"x"}}"#));
    open(&fake).delete_puller("x", "uid-1").unwrap();
}

/// It answers with the object for as long as that has finalizers, or containers that run.
#[test]
fn an_api_server_says_whether_an_object_is_gone() {
    let fake = Fake::start();
    let mut cluster = open(&fake);
    for (kind, expected) in
        [("Status", Deletion::Done), ("DaemonSet", Deletion::UnderWay), ("Pod", Deletion::UnderWay)]
    {
        for _ in 0..2 {
            fake.fail("DELETE", Fault::json(200, &json!({"kind": kind}).to_string()));
        }
        assert_eq!(cluster.delete_puller("x", "uid-1").unwrap(), expected, "{kind}");
        assert_eq!(cluster.delete_pod("x-1", "uid-2").unwrap(), expected, "{kind}");
    }
}

#[test]
fn an_event_is_about_its_object() {
    let fake = Fake::start();
    let about = OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: "job".into(),
        uid: "uid-of-job".into(),
    };
    let time = "2026-01-01T00:00:00Z";
    for (kind, written) in [(EventKind::Normal, "Normal"), (EventKind::Warning, "Warning")] {
        let (reason, message) = ("ImagesLate", "time ran out");
        let event = NewEvent { about: &about, kind, reason, message, time: time.into() };
        open(&fake).create_event(&event).unwrap();
        let sent = fake.requests().pop().unwrap();
        assert_eq!(
            (sent.method.as_str(), sent.path.as_str()),
            ("POST", "/api/v1/namespaces/ns/events")
        );
        assert_eq!(
            serde_json::from_str::<Value>(&sent.body).unwrap(),
            json!({
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": { "generateName": "job.", "namespace": "ns" },
                "involvedObject": {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": "job",
                    "namespace": "ns",
                    "uid": "uid-of-job",
                },
                "type": written,
                "reason": reason,
                "message": message,
                "firstTimestamp": time,
                "lastTimestamp": time,
                "count": 1,
                "source": { "component": "prepull" },
            })
        );
    }
}

#[test]
fn pods_and_events_are_selected() {
    let fake = Fake::start();
    let mut event = object(NS, "e1", &[]);
    event["involvedObject"] = json!({ "uid": "u1" });
    event["reason"] = json!("Failed");
    let mut world = fake.world();
    world.pods = vec![object(NS, "p1", &[("a", "1")]), object(NS, "p2", &[("a", "2")])];
    world.pods.push(object("other", "p3", &[("a", "1")]));
    world.events = vec![event, object(NS, "e2", &[])];
    drop(world);
    let mut cluster = open(&fake);
    let pods = cluster.list_pods("a=1", None).unwrap().items;
    assert_eq!(pods.iter().map(|it| &it.metadata.name).collect::<Vec<_>>(), ["p1"]);
    let events = cluster.list_events("involvedObject.uid=u1,reason=Failed", None).unwrap().items;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].reason, "Failed");
    fake.fail("GET", Fault::status(403));
    let error = cluster.list_events("a=b", None).unwrap_err();
    assert_eq!(error.request, "list events in namespace `ns`");
}

// === Lists ===

#[test]
fn lists_come_in_pages() {
    let fake = Fake::start();
    fake.world().nodes.extend((0..1201).map(|n| node(&format!("n{n}"))));
    let mut cluster = open(&fake);
    let first = cluster.list_nodes(None).unwrap();
    let second = cluster.list_nodes(first.next.as_deref()).unwrap();
    let third = cluster.list_nodes(second.next.as_deref()).unwrap();
    assert_eq!(third.next, None);
    let sizes = [&first, &second, &third].map(|it| it.items.len());
    assert_eq!(sizes, [500, 500, 201]);
    assert_eq!(third.items[200].metadata.name, "n1200");
    let tokens: Vec<_> =
        fake.requests().iter().map(|it| it.query.get("continue").cloned()).collect();
    assert_eq!(tokens, [None, Some("from=500&+/".into()), Some("from=1000&+/".into())]);
}

#[test]
fn a_page_above_ten_megabytes_is_read() {
    let fake = Fake::start();
    let mut big = node("n");
    big["metadata"]["annotations"] = json!({ "text": "é\"x".repeat(50_000) });
    fake.world().nodes = vec![big; 60];
    for gzip in [false, true] {
        fake.world().gzip = gzip;
        let page = open(&fake).list_nodes(None).unwrap();
        assert_eq!(page.items.len(), 60, "gzip {gzip}");
        assert_eq!(page.items[59].metadata.name, "n");
    }
}

#[test]
fn an_empty_list_may_be_null() {
    let fake = Fake::start();
    fake.world().null_items = true;
    assert_eq!(open(&fake).list_nodes(None).unwrap().items, []);
    let body = String::from_utf8(raw_get(&fake)).unwrap();
    assert_holds(body.lines().last().unwrap(), r#""items":null"#);
}

/// What the fake says to anybody, to be sure that it does say it.
fn raw_get(fake: &Fake) -> Vec<u8> {
    let mut stream = TcpStream::connect(fake.address()).unwrap();
    stream.write_all(b"GET /api/v1/nodes HTTP/1.1\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn what_is_no_list_is_no_empty_cluster() {
    for body in [
        "{}",
        "[]",
        "null",
        r#"{"kind":"Status","status":"Success","metadata":{}}"#,
        r#"{"metadata":{},"items":{}}"#,
        r#"{"items":[]}"#,
    ] {
        let fake = Fake::start();
        fake.fail("GET", Fault::json(200, body));
        let text = transport(open(&fake).list_nodes(None).unwrap_err());
        assert_holds(&text, "the answer is not what an API server gives: ");
    }
}

#[test]
fn an_object_of_another_name_is_refused() {
    let fake = Fake::start();
    let mut cluster = open(&fake);
    for body in ["{}", r#"{"metadata":{"name":"y"}}"#] {
        for _ in 0..4 {
            fake.fail("", Fault::json(200, body));
        }
        let about = "the answer is about something else";
        assert_eq!(transport(cluster.read_node("x").unwrap_err()), about);
        assert_eq!(transport(cluster.read_puller("x").unwrap_err()), about);
        assert_eq!(transport(cluster.patch_puller("x", "{}").unwrap_err()), about);
        assert_eq!(transport(cluster.create_puller(&daemonset("x")).unwrap_err()), about);
    }
}

#[test]
fn an_endless_answer_is_cut() {
    let fake = Fake::start();
    fake.world().nodes.extend((0..100).map(|n| node(&format!("n{n}"))));
    fake.world().gzip = true;
    let mut cluster = open_with(&fake, |it| it.list_bytes = 10 << 10);
    let text = transport(cluster.list_nodes(None).unwrap_err());
    assert_eq!(text, "the answer is longer than 10 KiB");

    // To the byte, and an object has a cap of its own.
    let exactly = fake.world().nodes[1].to_string().len() as u64;
    for (most, fits) in [(exactly - 1, false), (exactly, true)] {
        let mut cluster = open_with(&fake, |it| it.object_bytes = most);
        assert_eq!(cluster.read_node("n1").is_ok(), fits, "{most}");
        assert_eq!(cluster.list_nodes(None).unwrap().items.len(), 100);
    }
}

#[test]
fn an_expired_page_is_a_410() {
    let fake = Fake::start();
    fake.fail("GET /api/v1/nodes", Fault::status(410));
    let (code, reason, ..) = status(open(&fake).list_nodes(Some("old")).unwrap_err());
    assert_eq!((code, reason.as_str()), (410, "Expired"));
}

// === Answers that are refusals ===

#[test]
fn a_status_object_keeps_its_reason_and_message() {
    let fake = Fake::start();
    let message = "nodes is forbidden: User \"x\" cannot\n list resource\u{1b}[31m \"nodes\"";
    fake.fail("GET", Fault::with_status(403, "Forbidden", message));
    let error = open(&fake).list_nodes(None).unwrap_err();
    let line = "nodes is forbidden: User \"x\" cannot list resource [31m \"nodes\"";
    assert_eq!(
        error.to_string(),
        format!("cannot list nodes: the API server answered 403: {line}")
    );
    assert!(!error.is_transient());
    assert_eq!(status(error), (403, "Forbidden".into(), line.into(), None));
}

#[test]
fn a_page_of_a_proxy_is_cut_to_one_line() {
    let fake = Fake::start();
    let html = format!("<html>\r\n<head>\t<title>\u{7}oh</title>\n{}", "é".repeat(1000));
    fake.fail("GET", Fault::html(502, &html));
    let error = open(&fake).list_nodes(None).unwrap_err();
    assert!(error.is_transient());
    let (code, reason, message, _) = status(error);
    assert_eq!((code, reason.as_str()), (502, ""));
    assert!(message.starts_with("Bad Gateway: <html> <head> <title> oh</title> éé"), "{message}");
    assert!(message.ends_with("é…"), "{message}");
    assert_eq!(message.chars().count(), "Bad Gateway: ".len() + 120 + 1);
}

#[test]
fn refusals_without_a_status_say_what_there_is() {
    for (code, body, expected) in [
        (500, "", "Internal Server Error"),
        (500, "\n", "Internal Server Error"),
        (500, r#"{"error":"x"}"#, r#"Internal Server Error: {"error":"x"}"#),
        (500, r#"{"message":5}"#, r#"Internal Server Error: {"message":5}"#),
        (599, "plain", "plain"),
    ] {
        let fake = Fake::start();
        fake.fail("GET", Fault::json(code, body));
        assert_eq!(status(open(&fake).list_nodes(None).unwrap_err()).2, expected);
    }
}

#[test]
fn a_refusal_that_breaks_off_is_still_one() {
    let fake = Fake::start();
    let raw = "HTTP/1.1 503 X\r\nContent-Length: 900\r\nRetry-After: 2\r\n\r\nhalf a se";
    fake.fail("GET", Fault::Raw(raw.into()));
    let (code, _, message, retry_after) = status(open(&fake).list_nodes(None).unwrap_err());
    assert_eq!((code, message.as_str()), (503, "Service Unavailable: half a se"));
    assert_eq!(retry_after, Some(Duration::from_secs(2)));
}

#[test]
fn a_huge_refusal_is_not_read_to_its_end() {
    let fake = Fake::start();
    let body = json!({ "a": "x".repeat(1 << 20), "message": "late" }).to_string();
    fake.fail("GET", Fault::json(500, &body));
    let (code, _, message, _) = status(open(&fake).list_nodes(None).unwrap_err());
    assert_eq!(code, 500);
    assert!(message.starts_with("Internal Server Error: {\"a\":\"xxx"), "{message}");
}

#[test]
fn retry_after_is_read_in_seconds() {
    let fake = Fake::start();
    fake.fail("GET", Fault::status(429).retry_after(3));
    let error = open(&fake).list_nodes(None).unwrap_err();
    assert!(error.is_transient());
    assert_eq!(status(error).3, Some(Duration::from_secs(3)));

    for (header, body, expected) in [
        (Some("7"), "{}", Some(7)),
        (Some(" 7 "), "{}", Some(7)),
        (Some("3600"), "{}", Some(60)),
        (Some("0"), "{}", Some(0)),
        (Some("Sun, 06 Nov 1994 08:49:37 GMT"), "{}", None),
        (Some("-1"), "{}", None),
        (Some("99999999999999999999"), "{}", None),
        (None, r#"{"details":{"retryAfterSeconds":5}}"#, Some(5)),
        (None, r#"{"details":{"retryAfterSeconds":0}}"#, None),
        (Some("7"), r#"{"details":{"retryAfterSeconds":5}}"#, Some(7)),
        (None, r#"{"details":null}"#, None),
        (None, "{}", None),
    ] {
        let fake = Fake::start();
        let mut fault = Fault::json(429, body);
        if let Some(value) = header {
            fault = fault.header("Retry-After", value);
        }
        fake.fail("GET", fault);
        let retry_after = status(open(&fake).list_nodes(None).unwrap_err()).3;
        assert_eq!(retry_after, expected.map(Duration::from_secs), "{header:?} {body}");
    }
}

#[test]
fn redirects_are_not_followed() {
    let fake = Fake::start();
    let elsewhere = Fake::start();
    let location = format!("{}/api/v1/nodes", elsewhere.url());
    fake.fail("GET", Fault::json(302, "{}").header("Location", &location));
    let (code, _, message, _) = status(open(&fake).list_nodes(None).unwrap_err());
    assert_eq!(code, 302);
    assert_holds(&message, &format!("Found to `{location}`, which is not followed"));
    assert!(elsewhere.requests().is_empty());
}

// === Answers that are none ===

#[test]
fn html_with_200_is_no_answer_of_an_api_server() {
    let fake = Fake::start();
    let mut cluster = open(&fake);
    fake.fail("GET", Fault::html(200, "<html>log in"));
    let text = transport(cluster.list_nodes(None).unwrap_err());
    assert_holds(&text, "the answer is `text/html; charset=utf-8` and no JSON");
    assert_holds(&text, "not from an API server");
    fake.fail("DELETE", Fault::html(200, "<html>log in"));
    assert_holds(&transport(cluster.delete_puller("x", "u").unwrap_err()), "text/html");
    fake.fail("GET", Fault::json(200, "<html>log in"));
    let text = transport(cluster.list_nodes(None).unwrap_err());
    assert_holds(&text, "not what an API server gives: expected value at line 1 column 1");
}

#[test]
fn half_an_answer_is_none() {
    for gzip in [false, true] {
        let fake = Fake::start();
        fake.world().gzip = gzip;
        fake.world().nodes.push(node("n1"));
        let mut cluster = open(&fake);
        fake.fail("GET", Fault::HalfBody);
        assert_eq!(transport(cluster.read_node("n1").unwrap_err()), "the answer broke off");
        let mut big = node("n2");
        // Does not compress to less than one chunk.
        let noise = (0..90_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_string());
        big["metadata"]["annotations"] = json!({ "text": noise.collect::<String>() });
        fake.world().nodes.push(big);
        fake.fail("GET", Fault::HalfBody);
        assert_eq!(transport(cluster.list_nodes(None).unwrap_err()), "the answer broke off");
        assert_eq!(cluster.list_nodes(None).unwrap().items.len(), 2);
    }
}

#[test]
fn an_answer_that_ends_too_early_is_none() {
    // Neither length nor chunks: the end of the connection is the end of the body.
    let fake = Fake::start();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    fake.fail("GET", Fault::Raw(format!("{head}{{\"items\":[").into()));
    assert_eq!(transport(open(&fake).list_nodes(None).unwrap_err()), "the answer broke off");
}

#[test]
fn damaged_compression_is_named() {
    let fake = Fake::start();
    let fault = Fault::json(200, "not gzip at all").header("Content-Encoding", "gzip");
    fake.fail("GET", fault);
    let text = transport(open(&fake).list_nodes(None).unwrap_err());
    assert_eq!(text, "the compressed answer is damaged");
}

#[test]
fn a_server_that_hangs_up_is_named() {
    let fake = Fake::start();
    let mut cluster = open(&fake);
    let closed = format!("{} closed the connection before it answered", fake.address());
    fake.fail("GET", Fault::Close);
    assert_eq!(transport(cluster.list_nodes(None).unwrap_err()), closed);
    // With a body that nobody reads the kernel sends a reset.
    fake.fail("POST", Fault::Close);
    assert_eq!(transport(cluster.create_puller(&daemonset("x")).unwrap_err()), closed);
    // A connection that has been good before is no better.
    cluster.list_nodes(None).unwrap();
    fake.fail("GET", Fault::Close);
    assert_eq!(transport(cluster.list_nodes(None).unwrap_err()), closed);
    cluster.list_nodes(None).unwrap();
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut cluster = open_url(&format!("http://{address}"), None, None);
    let error = cluster.list_nodes(None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot list nodes: connect to {address}: connection refused")
    );
    transport(error);
}

#[test]
fn a_host_that_is_not_there_is_named() {
    // Longer than a name may be, so that the answer is not that of any name server.
    let host = format!("{}.invalid", vec!["a".repeat(63); 4].join("."));
    let mut cluster = open_url(&format!("http://{host}:80"), None, None);
    let text = transport(cluster.list_nodes(None).unwrap_err());
    assert_eq!(text, format!("connect to {host}:80: there is no such host"));
}

#[test]
fn what_is_no_http_is_named() {
    let fake = Fake::start();
    fake.fail("GET", Fault::Raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()));
    let text = transport(open(&fake).list_nodes(None).unwrap_err());
    assert_holds(&text, &format!("{} does not speak HTTP: ", fake.address()));
}

#[test]
fn a_server_that_hangs_is_left() {
    let fake = Fake::start();
    fake.fail("GET", Fault::Hang);
    let mut cluster = open_with(&fake, |it| it.object = SHORT);
    let text = transport(cluster.read_node("n1").unwrap_err());
    assert_eq!(text, "timed out after 300ms while waiting for the answer");
    // Lists and writes have times of their own.
    fake.fail("POST", Fault::Hang);
    let mut cluster = open_with(&fake, |it| it.write = SHORT);
    let text = transport(cluster.create_puller(&daemonset("x")).unwrap_err());
    assert_eq!(text, "timed out after 300ms while waiting for the answer");
    let mut cluster = open_with(&fake, |it| it.list = SHORT);
    fake.fail("GET", Fault::Hang);
    let text = transport(cluster.list_nodes(None).unwrap_err());
    assert_eq!(text, "timed out after 300ms while waiting for the answer");
}

/// However long a request of its kind may take otherwise.
#[test]
fn a_client_is_as_patient_as_it_is_told() {
    let fake = Fake::start();
    fake.world().nodes.push(node("n1"));
    let mut cluster = open(&fake);
    cluster.be_patient_for(Duration::from_secs(1));
    fake.fail("GET", Fault::Hang);
    fake.fail("GET", Fault::Trickle);
    fake.fail("POST", Fault::Hang);
    let start = Instant::now();
    let text = transport(cluster.list_nodes(None).unwrap_err());
    assert_eq!(text, "timed out after 1s while waiting for the answer");
    let text = transport(cluster.list_nodes(None).unwrap_err());
    assert_eq!(text, "timed out after 1s while reading the answer");
    let text = transport(cluster.create_puller(&daemonset("x")).unwrap_err());
    assert_eq!(text, "timed out after 1s while waiting for the answer");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    // For the next request it is told anew.
    let mut cluster = open_with(&fake, |it| it.object = SHORT);
    cluster.be_patient_for(Duration::MAX);
    fake.fail("GET", Fault::Hang);
    let text = transport(cluster.read_node("n1").unwrap_err());
    assert_eq!(text, "timed out after 300ms while waiting for the answer");
}

#[test]
fn a_server_that_trickles_is_left() {
    let fake = Fake::start();
    fake.world().nodes.push(node("n1"));
    fake.fail("GET", Fault::Trickle);
    let mut cluster = open_with(&fake, |it| it.list = SHORT);
    let text = transport(cluster.list_nodes(None).unwrap_err());
    assert_eq!(text, "timed out after 300ms while reading the answer");
}

#[test]
fn a_handshake_that_hangs_is_left() {
    // The kernel takes the connection, nobody reads it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let folder = Folder::new();
    let ca = folder.file("ca.crt", &Authority::new("ca").pem);
    let access = Access::at(&format!("https://{address}"), Some(&ca), None).unwrap();
    let limits = Limits { connect: SHORT, ..Limits::default() };
    let mut cluster = KubeCluster::open_with(&access, NS, limits).unwrap();
    let text = transport(cluster.list_nodes(None).unwrap_err());
    assert_eq!(text, format!("timed out after 300ms while connecting to {address}"));
}

// === Signals ===

/// The binary, and what it says.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(words: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prepull"));
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// Reads on until a line has this in it.
    #[track_caller]
    fn line_with(&mut self, words: &str) {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "it ended without `{words}`");
            if line.contains(words) {
                return;
            }
        }
    }

    fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Its exit code, and the lines since the last one that was read.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, rest.lines().map(Into::into).collect())
    }
}

#[test]
fn a_signal_ends_a_run_without_an_api_server_at_once() {
    let mut process = Process::start(&["-v", "--server", "http://127.0.0.1:1", "a:1"]);
    // By now signals are heard.
    assert!(process.line().contains("cannot list nodes"));
    let start = Instant::now();
    process.terminate();
    let (code, mut lines) = process.end();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(code, Some(143), "{lines:?}");
    lines.retain(|it| !it.contains("trying again"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("stopped by a signal after "), "{lines:?}");
}

/// Waits for a request of this method, whose path has this part.
#[track_caller]
fn wait_for(fake: &Fake, method: &str, part: &str) {
    let begun = Instant::now();
    while !fake.requests().iter().any(|it| it.method == method && it.path.contains(part)) {
        assert!(begun.elapsed() < Duration::from_secs(20), "there is no {method} of {part}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signal_during_a_long_wait_ends_it_at_once() {
    let fake = Fake::start();
    fake.world().nodes.push(node("n1"));
    let url = fake.url();
    let mut process = Process::start(&["--server", &url, "--interval", "12s", "a:1"]);
    // Nothing but the wait follows it.
    process.line_with("made DaemonSet");
    let start = Instant::now();
    process.terminate();
    let (code, lines) = process.end();
    assert_eq!(code, Some(143), "{lines:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(fake.world().daemonsets.is_empty());
}

/// Cleaning up makes its pauses as ever, although the signal that began it is still known.
#[test]
fn cleaning_up_after_a_signal_makes_pauses() {
    let fake = Fake::start();
    fake.world().nodes.push(node("n1"));
    let url = fake.url();
    let process = Process::start(&["--server", &url, "--interval", "100ms", "a:1"]);
    wait_for(&fake, "GET", "/daemonsets/");
    for _ in 0..3 {
        fake.fail("DELETE", Fault::status(500));
    }
    let start = Instant::now();
    process.terminate();
    let (code, lines) = process.end();
    assert_eq!(code, Some(143), "{lines:?}");
    let n_deletes = fake.requests().iter().filter(|it| it.method == "DELETE").count();
    assert_eq!(n_deletes, 4);
    assert!(fake.world().daemonsets.is_empty());
    // Half of 0.5, 1 and 2 s at least.
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1700) && took < Duration::from_secs(8), "{took:?}");
}

/// Without cleaning up and without a report: what is left goes with its owner.
#[test]
fn a_second_signal_ends_the_process_at_once() {
    let fake = Fake::start();
    fake.world().nodes.push(node("n1"));
    let url = fake.url();
    let process = Process::start(&["--server", &url, "--interval", "100ms", "a:1"]);
    wait_for(&fake, "GET", "/daemonsets/");
    fake.fail("DELETE", Fault::Hang);
    process.terminate();
    wait_for(&fake, "DELETE", "/daemonsets/");
    process.terminate();
    let (code, lines) = process.end();
    assert_eq!(code, Some(143), "{lines:?}");
    assert!(!lines.iter().any(|it| it.contains("stopped by a signal")), "{lines:?}");
    assert_eq!(fake.requests().iter().filter(|it| it.method == "DELETE").count(), 1);
    assert_eq!(fake.world().daemonsets.len(), 1);
}

// === Usage ===

/// Helm's Job tells by it that a second try would end the same way.
#[test]
fn bad_usage_is_exit_code_2() {
    let settings = r#"{"puller": {"tolerations": [{"key": "a", "operator": "Is"}]}}"#;
    for (words, complaint) in [
        (&["-v", "check", "a:1"][..], "put the command `check` first"),
        (&["--dry-run=true", "a:1"], "`--dry-run` takes no value"),
        (&["a:1", "--settings", settings], "operator `Is`"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_prepull")).args(words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_holds(stderr.trim_end(), complaint);
        assert!(output.stdout.is_empty());
    }
}

// === Headers ===

#[test]
fn the_clock_of_the_server_goes_on() {
    let fake = Fake::start();
    let mut cluster = open(&fake);
    assert_eq!(cluster.server_time(), None);
    cluster.list_nodes(None).unwrap();
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let first = cluster.server_time().unwrap();
    assert!(first >= date && first < date + Duration::from_secs(60), "{first:?}");
    let patience = Instant::now() + Duration::from_secs(10);
    while cluster.server_time().unwrap() == first {
        assert!(Instant::now() < patience, "the clock stands still");
        thread::yield_now();
    }
    // A refusal has a clock too, and what is no date changes nothing.
    fake.world().date = Some("Sun, 06 Nov 1994 09:49:37 GMT".into());
    cluster.read_node("n1").unwrap_err();
    assert!(cluster.server_time().unwrap() >= date + Duration::from_secs(3600));
    fake.world().date = Some("yesterday".into());
    cluster.list_nodes(None).unwrap();
    assert!(cluster.server_time().unwrap() >= date + Duration::from_secs(3600));
}

#[test]
fn warnings_are_gathered_once() {
    let fake = Fake::start();
    fake.world().warnings = vec![
        r#"299 - "would violate PodSecurity \"restricted:latest\": x\\y""#.into(),
        r#"299 - "one, two", 299 - "three" "Sun, 06 Nov 1994 08:49:37 GMT", 299 - "four""#.into(),
        r#"299 - "one, two""#.into(),
        r#"199 - "another code""#.into(),
        r#"299 - """#.into(),
        r#"299 - "never closed"#.into(),
        "299".into(),
        "299 - \"t\ta\u{b}b\"".replace('\u{b}', " "),
    ];
    let mut cluster = open(&fake);
    cluster.list_nodes(None).unwrap();
    cluster.read_node("n1").unwrap_err();
    let expected = [
        r#"would violate PodSecurity "restricted:latest": x\y"#,
        "one, two",
        "three",
        "four",
        "t a b",
    ];
    assert_eq!(cluster.take_warnings(), expected);
    assert!(cluster.take_warnings().is_empty());
    cluster.list_nodes(None).unwrap();
    assert!(cluster.take_warnings().is_empty(), "a warning comes once in a run");
}

#[test]
fn warnings_do_not_pile_up() {
    let fake = Fake::start();
    fake.world().warnings = (0..90).map(|n| format!("299 - \"{n}{}\"", "é".repeat(300))).collect();
    let mut cluster = open(&fake);
    cluster.list_nodes(None).unwrap();
    assert_eq!(cluster.take_warnings().len(), 10);
}

// === The token ===

#[test]
fn the_token_is_read_for_every_request() {
    let fake = Fake::start();
    let folder = Folder::new();
    let token = folder.file("token", "first\n");
    let mut cluster = open_url(&fake.url(), None, Some(&token));
    cluster.list_nodes(None).unwrap();
    folder.file("token", " second ");
    cluster.list_nodes(None).unwrap();
    // A token that cannot be read leaves the one before.
    for nonsense in ["", "\n", "not a token", "töken", "a\r\nb"] {
        folder.file("token", nonsense);
        cluster.list_nodes(None).unwrap();
    }
    std::fs::remove_file(&token).unwrap();
    cluster.list_nodes(None).unwrap();
    let sent: Vec<_> =
        fake.requests().iter().map(|it| it.headers["authorization"].clone()).collect();
    assert_eq!(sent[0], "Bearer first");
    assert_eq!(sent.len(), 8);
    assert!(sent[1..].iter().all(|it| it == "Bearer second"), "{sent:?}");
}

#[test]
fn a_401_is_tried_again_with_another_token_only() {
    let fake = Fake::start();
    let folder = Folder::new();
    let token = folder.file("token", "old");
    let mut cluster = open_url(&fake.url(), None, Some(&token));
    fake.world().token = Some("new".into());

    // The same token again would be refused again.
    assert_eq!(status(cluster.list_nodes(None).unwrap_err()).0, 401);
    assert_eq!(fake.requests().len(), 1);

    // The kubelet renews it between the request and its answer.
    let rotated = token.clone();
    let rotate = move || std::fs::write(&rotated, "new").unwrap();
    fake.fail("POST", Fault::Unauthorized(Box::new(rotate)));
    cluster.create_puller(&daemonset("x")).unwrap();
    let requests = fake.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[1].headers["authorization"], "Bearer old");
    assert_eq!(requests[2].headers["authorization"], "Bearer new");
    assert_eq!(requests[1].body, requests[2].body);

    // Once is enough.
    let (again, file) = (token.clone(), token);
    fake.fail("GET", Fault::Unauthorized(Box::new(move || std::fs::write(&again, "3").unwrap())));
    fake.fail("GET", Fault::Unauthorized(Box::new(move || std::fs::write(&file, "4").unwrap())));
    assert_eq!(status(cluster.list_nodes(None).unwrap_err()).0, 401);
    assert_eq!(fake.requests().len(), 5);
}

#[test]
fn without_a_token_a_401_is_final() {
    let fake = Fake::start();
    fake.world().token = Some("x".into());
    assert_eq!(status(open(&fake).list_nodes(None).unwrap_err()).0, 401);
    fake.only_request();
}

#[test]
fn the_token_never_comes_out() {
    const TOKEN: &str = "eyJ-a-secret-token";
    let fake = Fake::start();
    let folder = Folder::new();
    let token = folder.file("token", TOKEN);
    let echo = format!("you sent Authorization: Bearer {TOKEN}, did you");
    fake.world().warnings = vec![format!("299 - \"{echo}\"")];
    let access = Access::at(&fake.url(), None, Some(&token)).unwrap();
    let mut said = format!("{access:?}");
    let mut cluster = KubeCluster::open(&access, NS).unwrap();
    for fault in [
        Fault::html(200, &echo),
        Fault::html(502, &echo),
        Fault::json(200, &format!(r#"{{"metadata":{{}},"items":"{TOKEN}"}}"#)),
        Fault::with_status(500, TOKEN, &echo),
        Fault::json(200, "{}").header("Content-Type", &format!("text/{TOKEN}")),
        Fault::json(307, "").header("Location", &format!("http://x/{TOKEN}")),
        Fault::html(200, "").header("Content-Type", TOKEN),
        Fault::Raw(format!("{TOKEN}\r\n\r\n").into()),
        Fault::Close,
        Fault::HalfBody,
    ] {
        fake.fail("GET", fault);
        let error = cluster.list_nodes(None).unwrap_err();
        said += &format!("{error} {error:?}\n");
    }
    said += &cluster.take_warnings().join("\n");
    // What is too long to be shown is no way out either.
    let long = format!("{}{TOKEN}", "x".repeat(115));
    fake.fail("GET", Fault::html(502, &long));
    said += &cluster.list_nodes(None).unwrap_err().to_string();
    assert_eq!(fake.requests()[0].headers["authorization"], format!("Bearer {TOKEN}"));
    assert!(said.contains("you sent Authorization: Bearer …"), "{said}");
    for at in 0..TOKEN.len() - 6 {
        assert!(!said.contains(&TOKEN[at..at + 6]), "{said}");
    }
}

// === Configuration ===

#[test]
fn bad_files_are_found_before_any_request() {
    let folder = Folder::new();
    let good_ca = folder.file("good.crt", &Authority::new("ca").pem);
    let good_token = folder.file("good-token", "token");
    let missing = folder.path().join("missing");
    let url = "https://127.0.0.1:1";
    let error = |ca: &Path, token: &Path| {
        let access = Access::at(url, Some(ca), Some(token)).unwrap();
        let error = KubeCluster::open(&access, NS).err().expect("this is bad configuration");
        assert!(!error.contains('\n') && !error.ends_with('.'), "{error}");
        error
    };
    let no_file = "no such file or directory";
    let text = error(&good_ca, &missing);
    assert_holds(&text, &format!("cannot read token file `{}`: {no_file}; ", missing.display()));
    assert_holds(&error(&good_ca, folder.path()), "is a directory");
    for (content, fault) in [
        ("", "is empty"),
        (" \n", "is empty"),
        ("two words", "something else"),
        ("töken", "something else"),
    ] {
        assert_holds(&error(&good_ca, &folder.file("token", content)), fault);
    }
    let text = error(&missing, &good_token);
    assert_holds(&text, &format!("cannot read CA file `{}`: {no_file}; ", missing.display()));

    let good = Authority::new("ca").pem;
    let key = p256().serialize_pem();
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (content, fault) in [
        (String::new(), "holds no certificate"),
        ("rubbish".into(), "holds no certificate"),
        (key, "holds no certificate"),
        (nonsense.into(), "certificate 1 in CA file"),
        (format!("{good}{nonsense}"), "certificate 2 in CA file"),
        (format!("{good}{}", &good[..good.len() / 2]), "certificate 2 in CA file"),
        (good.replace("MII", "M!I"), "certificate 1 in CA file"),
    ] {
        assert_holds(&error(&folder.file("ca", &content), &good_token), fault);
    }
}

#[test]
fn a_pod_has_all_it_needs() {
    let ca = Authority::new("ca");
    let fake = Fake::start_tls(ca.server());
    fake.world().token = Some("token".into());
    let folder = Folder::new();
    folder.file("ca.crt", &ca.pem);
    folder.file("token", "token");
    let address = fake.address();
    let env = |name: &str| match name {
        "KUBERNETES_SERVICE_HOST" => Some(address.ip().to_string()),
        "KUBERNETES_SERVICE_PORT" => Some(address.port().to_string()),
        _ => None,
    };
    let access = Access::in_cluster(&env, folder.path()).unwrap();
    let error = access.namespace().unwrap_err();
    assert_holds(&error, "cannot read namespace file");
    assert_holds(&error, "--namespace");
    folder.file("namespace", "\n");
    assert_holds(&access.namespace().unwrap_err(), "is empty");
    folder.file("namespace", "ns\n");
    let namespace = access.namespace().unwrap();
    assert_eq!(namespace, "ns");
    let mut cluster = KubeCluster::open(&access, &namespace).unwrap();
    cluster.list_nodes(None).unwrap();
    cluster.list_pods("a=b", None).unwrap();
    assert_eq!(fake.requests()[1].path, "/api/v1/namespaces/ns/pods");
}

#[test]
fn ipv6_works() {
    let listener = TcpListener::bind("[::1]:0").expect("no IPv6 loopback; enable IPv6 on `lo`");
    let ca = Authority::new("ca");
    let leaf = ca.issue(&["::1"], &p256());
    let fake = Fake::serve(listener, Some(leaf.config(rustls::ALL_VERSIONS)));
    let folder = Folder::new();
    let mut cluster = trusting(&fake, &folder, &ca.pem);
    cluster.list_nodes(None).unwrap();
    let port = fake.address().port();
    assert_eq!(fake.only_request().headers["host"], format!("[::1]:{port}"));
}

// === TLS ===

#[test]
fn servers_of_every_kind_are_trusted() {
    let folder = Folder::new();
    for (ca_name, ca) in [
        ("P-256", Authority::new("ca")),
        ("P-384", Authority::with_key("ca", p384())),
        ("RSA", Authority::with_key("ca", rsa())),
    ] {
        for (name, key) in
            [("P-256", p256()), ("P-384", p384()), ("RSA", rsa()), ("Ed25519", ed25519())]
        {
            for version in [&TLS12, &TLS13] {
                let leaf = ca.issue(&["127.0.0.1"], &key);
                let fake = Fake::start_tls(leaf.config(&[version]));
                let result = trusting(&fake, &folder, &ca.pem).list_nodes(None);
                assert!(result.is_ok(), "{name} by {ca_name}, {version:?}: {result:?}");
            }
        }
    }
}

#[test]
fn every_suite_and_group_of_ours_works() {
    let folder = Folder::new();
    let ca = Authority::new("ca");
    let (ecdsa, rsa) = (ca.issue(&["127.0.0.1"], &p256()), ca.issue(&["127.0.0.1"], &rsa()));
    for (leaf, suite) in [
        (&ecdsa, cipher_suite::TLS13_AES_128_GCM_SHA256),
        (&ecdsa, cipher_suite::TLS13_AES_256_GCM_SHA384),
        (&ecdsa, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (&ecdsa, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (&rsa, cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        (&rsa, cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ] {
        for group in [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1] {
            let fake = Fake::start_tls(leaf.config_with(suite, group));
            let result = trusting(&fake, &folder, &ca.pem).list_nodes(None);
            assert!(result.is_ok(), "{suite:?} {:?}: {result:?}", group.name());
        }
    }
}

#[test]
fn a_server_with_other_tastes_is_named() {
    let ca = Authority::new("ca");
    let leaf = ca.issue(&["127.0.0.1"], &p256());
    for suite in [
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ] {
        let fake = Fake::start_tls(leaf.config_with(suite, kx_group::X25519));
        let folder = Folder::new();
        let text = unusable(trusting(&fake, &folder, &ca.pem).list_nodes(None).unwrap_err());
        assert_holds(&text, "agrees to no TLS version, cipher and key exchange that prepull knows");
    }
}

#[test]
fn names_and_addresses_are_both_matched() {
    let ca = Authority::new("ca");
    let folder = Folder::new();
    let leaf = ca.issue(&["localhost"], &p256());
    let fake = Fake::start_tls(leaf.config(rustls::ALL_VERSIONS));
    let path = folder.file("ca.crt", &ca.pem);
    let url = format!("https://localhost:{}", fake.address().port());
    open_url(&url, Some(&path), None).list_nodes(None).unwrap();
}

#[test]
fn a_bundle_may_hold_several_authorities() {
    let (old, new) = (Authority::new("ca"), Authority::new("ca"));
    let folder = Folder::new();
    let bundle = format!("# old\n{}\n# new, and a key that is not for here\n{}", old.pem, new.pem);
    let bundle = bundle + &p256().serialize_pem();
    for ca in [old, new] {
        let fake = Fake::start_tls(ca.server());
        trusting(&fake, &folder, &bundle).list_nodes(None).unwrap();
    }
}

#[test]
fn an_unknown_authority_is_named() {
    let folder = Folder::new();
    for name in ["other", "ca"] {
        let fake = Fake::start_tls(Authority::new(name).server());
        let mut cluster = trusting(&fake, &folder, &Authority::new("ca").pem);
        let error = cluster.list_nodes(None).unwrap_err();
        let ca = folder.path().join("ca.crt");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot list nodes: the certificate of {} is signed by none of the CAs in `{}`; \
                 check that the file is of this cluster and that no proxy stands between",
                fake.address(),
                ca.display()
            )
        );
        unusable(error);
        assert!(fake.requests().is_empty());
    }
}

#[test]
fn a_wrong_name_says_what_was_looked_for() {
    let ca = Authority::new("ca");
    let folder = Folder::new();
    let names = ["10.96.0.1", "kubernetes", "kubernetes.default.svc", "fd00::1"];
    let leaf = ca.issue(&names, &p256());
    let fake = Fake::start_tls(leaf.config(rustls::ALL_VERSIONS));
    let text = unusable(trusting(&fake, &folder, &ca.pem).list_nodes(None).unwrap_err());
    assert_holds(&text, "is not for `127.0.0.1`, only for `10.96.0.1`, `kubernetes`, ");
    assert_holds(&text, "`kubernetes.default.svc`, `fd00::1`; use one of these");
    let url = format!("https://localhost:{}", fake.address().port());
    let path = folder.path().join("ca.crt");
    let text = unusable(open_url(&url, Some(&path), None).list_nodes(None).unwrap_err());
    assert_holds(&text, "is not for `localhost`, only for ");

    let fake = Fake::start_tls(ca.issue(&[], &p256()).config(rustls::ALL_VERSIONS));
    let text = unusable(trusting(&fake, &folder, &ca.pem).list_nodes(None).unwrap_err());
    assert_holds(&text, "has no subject alternative name, `127.0.0.1` was looked for");
}

#[test]
fn a_certificate_out_of_its_time_is_named() {
    let ca = Authority::new("ca");
    let folder = Folder::new();
    let leaf = ca.issue_with(&["127.0.0.1"], &p256(), expired);
    let fake = Fake::start_tls(leaf.config(rustls::ALL_VERSIONS));
    let text = unusable(trusting(&fake, &folder, &ca.pem).list_nodes(None).unwrap_err());
    assert_holds(&text, "has expired on 2002-03-04T00:00:00Z");

    let leaf = ca.issue_with(&["127.0.0.1"], &p256(), not_yet_valid);
    let fake = Fake::start_tls(leaf.config(rustls::ALL_VERSIONS));
    let text = unusable(trusting(&fake, &folder, &ca.pem).list_nodes(None).unwrap_err());
    assert_holds(&text, "is not valid before 2901-02-03T00:00:00Z");
}

#[test]
fn a_certificate_of_another_purpose_is_named() {
    let ca = Authority::new("ca");
    let folder = Folder::new();
    let leaf = ca.issue_with(&["127.0.0.1"], &p256(), |it| {
        it.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let fake = Fake::start_tls(leaf.config(rustls::ALL_VERSIONS));
    let text = unusable(trusting(&fake, &folder, &ca.pem).list_nodes(None).unwrap_err());
    assert_holds(&text, "is not meant for servers");

    let fake = Fake::start_tls(ca.own().config(rustls::ALL_VERSIONS));
    let text = unusable(trusting(&fake, &folder, &ca.pem).list_nodes(None).unwrap_err());
    assert_holds(&text, "is that of a CA; issue one for the server itself");
}

#[test]
fn a_ca_file_that_was_renewed_is_read_again() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = Folder::new();
    let fake = Fake::start_tls(new.server());
    let mut cluster = trusting(&fake, &folder, &old.pem);
    assert_holds(&unusable(cluster.list_nodes(None).unwrap_err()), "none of the CAs");
    // Bad files leave the trust as it is.
    folder.file("ca.crt", "rubbish");
    assert_holds(&unusable(cluster.list_nodes(None).unwrap_err()), "none of the CAs");
    folder.file("ca.crt", &new.pem);
    cluster.list_nodes(None).unwrap();
    cluster.list_nodes(None).unwrap();
    assert_eq!(fake.requests().len(), 2);
}

#[test]
fn plain_http_and_tls_do_not_meet() {
    let ca = Authority::new("ca");
    let folder = Folder::new();
    let path = folder.file("ca.crt", &ca.pem);
    let talkative = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = talkative.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = talkative.accept().unwrap();
        let mut some = [0; 64];
        let _ = stream.read(&mut some);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let mut cluster = open_url(&format!("https://{address}"), Some(&path), None);
    let text = unusable(cluster.list_nodes(None).unwrap_err());
    assert_holds(&text, &format!("{address} does not speak TLS"));

    let fake = Fake::start_tls(ca.server());
    let mut cluster = open_url(&format!("http://{}", fake.address()), None, None);
    transport(cluster.list_nodes(None).unwrap_err());
}
