//! Pages are read in little memory, however much of them is not kept.
//!
//! A binary of its own, because its allocator is one for the whole process. The server writes
//! object by object, and so takes little of that memory.

mod bound;

use std::alloc::System;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::TcpListener;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use cap::Cap;
use prepull::cluster::Cluster;
use prepull::kube::{Access, KubeCluster, Limits};
use serde_json::{Map, Value, json};

use crate::bound::MOST_IN_USE;

/// Counts what is in use. It refuses nothing: a test that fails needs memory to say so.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Objects on a page, as many as are asked for.
const OBJECTS: usize = 500;
/// Images of a node, and names of an image: as many as a kubelet lists.
const IMAGES: usize = 50;
const NAMES: usize = 5;
/// Containers of a puller's pod.
const CONTAINERS: usize = 25;

/// Fields that the managers of an object have written, as many as real ones have, and so many that
/// a page is as long as it may be.
const SOME_FIELDS: usize = 60;
const MANY_FIELDS: usize = 1900;

/// The allocator counts for all threads, so that no two pages may be read at a time.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_page_of_nodes_is_read() {
    let _turn = turn();
    let (mut cluster, server) = serve(|number| node(number, SOME_FIELDS));
    let page = cluster.list_nodes(None).expect("the page is good");
    assert_within_bounds(server, 10 << 20, 20 << 20);
    assert_eq!(page.items.len(), OBJECTS);
    let names = page.items.iter().flat_map(|it| &it.status.images).flat_map(|it| &it.names);
    assert_eq!(names.count(), OBJECTS * IMAGES * NAMES);
}

#[test]
fn the_longest_page_of_nodes_is_read() {
    let _turn = turn();
    let (mut cluster, server) = serve(|number| node(number, MANY_FIELDS));
    let page = cluster.list_nodes(None).expect("the page is good");
    let most = Limits::default().list_bytes;
    assert_within_bounds(server, most / 10 * 9, most);
    assert_eq!(page.items.len(), OBJECTS);
}

#[test]
fn a_page_of_pods_is_read() {
    let _turn = turn();
    let (mut cluster, server) = serve(pod);
    let page = cluster.list_pods("a=b", None).expect("the page is good");
    assert_within_bounds(server, 10 << 20, 20 << 20);
    assert_eq!(page.items.len(), OBJECTS);
    let statuses = page.items.iter().map(|it| it.status.container_statuses.len());
    assert_eq!(statuses.sum::<usize>(), OBJECTS * CONTAINERS);
}

#[track_caller]
fn assert_within_bounds(server: JoinHandle<io::Result<u64>>, least: u64, most: u64) {
    let peak = HEAP.max_allocated();
    let length = server.join().expect("the server ends").expect("the page is sent");
    println!("a page of {length} bytes, {peak} bytes in use at most");
    assert!((least..=most).contains(&length), "the page has {length} bytes");
    assert!(peak <= MOST_IN_USE, "{peak} bytes were in use at a time");
}

/// A server that answers one request by a page of these objects, and gives back its length.
fn serve(
    object: impl Fn(usize) -> Value + Send + 'static,
) -> (KubeCluster, JoinHandle<io::Result<u64>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let url = format!("http://{}", listener.local_addr().expect("is bound"));
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        for line in BufReader::new(stream.try_clone()?).lines() {
            if line?.is_empty() {
                break;
            }
        }
        let mut out = BufWriter::new(stream);
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")?;
        out.write_all(b"Connection: close\r\n\r\n")?;
        let mut length = 0;
        let mut write = |text: &str| {
            length += text.len() as u64;
            out.write_all(text.as_bytes())
        };
        write(r#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":["#)?;
        for number in 0..OBJECTS {
            write(if number == 0 { "" } else { "," })?;
            write(&object(number).to_string())?;
        }
        write("]}\n")?;
        out.flush()?;
        Ok(length)
    });
    let access = Access::at(&url, None, None).expect("a good address");
    (KubeCluster::open(&access, "ns").expect("a good configuration"), server)
}

fn node(number: usize, n_fields: usize) -> Value {
    let name = format!("ip-10-0-{}-{}.eu-west-1.compute.internal", number / 250, number % 250);
    let names = |image: usize| {
        let repository = format!("registry.example/team-{}/service-{image}", image % 7);
        let digests = (2..NAMES).map(|it| format!("{repository}@{}", digest(image + it)));
        let tags = (0..2).map(|it| format!("{repository}:1.{it}.{number}"));
        digests.chain(tags).collect::<Vec<_>>()
    };
    let images = (0..IMAGES).map(|it| json!({"names": names(it), "sizeBytes": 123_456_789 + it}));
    json!({
        "metadata": {
            "name": name,
            "uid": uid(number),
            "resourceVersion": "123456789",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": "m5.large",
                "topology.kubernetes.io/zone": "eu-west-1a"
            },
            "annotations": {"csi.volume.kubernetes.io/nodeid": "{\"ebs.csi.aws.com\":\"i-0\"}"},
            "managedFields": managed_fields(n_fields)
        },
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "providerID": "aws:///i-0"},
        "status": {
            "capacity": {"cpu": "2", "memory": "8Gi", "pods": "110"},
            "allocatable": {"cpu": "2", "memory": "8Gi", "pods": "110"},
            "conditions": conditions(&["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]),
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"containerRuntimeVersion": "containerd://2.4.2", "osImage": "Debian"},
            "images": images.collect::<Vec<_>>()
        }
    })
}

fn pod(number: usize) -> Value {
    let image = |it: usize| format!("registry.example/team/service-{it}:1");
    let container = |it: usize| {
        json!({
            "name": format!("{it:02}-service"),
            "image": image(it),
            "command": ["/prepull/prepull", "hold"],
            "resources": {"requests": {"cpu": "0", "memory": "0"}},
            "volumeMounts": [{"name": "prepull", "readOnly": true, "mountPath": "/prepull"}],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
            "securityContext": {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true}
        })
    };
    let status = |it: usize| {
        json!({
            "name": format!("{it:02}-service"),
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            "lastState": {},
            "ready": true,
            "restartCount": 0,
            "image": image(it),
            "imageID": format!("registry.example/team/service-{it}@{}", digest(it)),
            "containerID": format!("containerd://{}", &digest(number)["sha256:".len()..]),
            "started": true
        })
    };
    json!({
        "metadata": {
            "name": format!("demo-prepull-a53c47d0ef-1-{number:05}"),
            "uid": uid(number),
            "ownerReferences": [{"kind": "DaemonSet", "uid": uid(0), "controller": true}],
            "managedFields": managed_fields(SOME_FIELDS)
        },
        "spec": {
            "containers": (0..CONTAINERS).map(container).collect::<Vec<_>>(),
            "nodeName": format!("n{number}")
        },
        "status": {
            "phase": "Running",
            "conditions": conditions(&["Initialized", "Ready", "PodScheduled"]),
            "containerStatuses": (0..CONTAINERS).map(status).collect::<Vec<_>>()
        }
    })
}

fn conditions(kinds: &[&str]) -> Value {
    let condition = |kind: &&str| {
        json!({
            "type": kind,
            "status": if kind.ends_with("Pressure") { "False" } else { "True" },
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status"
        })
    };
    kinds.iter().map(condition).collect()
}

/// What server-side apply writes down, which nobody asks for.
fn managed_fields(n_fields: usize) -> Value {
    let field = |it| (format!("f:example.com/annotation-{it:04}"), json!({".": {}, "f:value": {}}));
    let fields: Map<_, _> = (0..n_fields).map(field).collect();
    json!([{
        "manager": "kubelet",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:annotations": fields}}
    }])
}

fn digest(number: usize) -> String {
    format!("sha256:{number:064x}")
}

fn uid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}
