//! An API server of two nodes and one DaemonSet, which says whatever it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::{Value, json};

/// The Job of the run.
pub const JOB: &str = "job";

/// When the Job started, and what the server's clock says.
const START: &str = "1970-01-01T00:00:00Z";
const DATE: &str = "Thu, 01 Jan 1970 00:00:01 GMT";

/// The uid of the DaemonSet, whoever made it.
const PULLER_UID: &str = "5e7";

pub struct Server {
    pub url: String,
    world: Arc<Mutex<World>>,
}

/// The status and the body of what the server gives.
pub struct Answers {
    pub events: (u16, Vec<u8>),
    pub nodes: (u16, Vec<u8>),
    pub pods: (u16, Vec<u8>),
    /// What it gives to every request of one kind in place of its answer.
    pub other: Option<(Request, u16, Vec<u8>)>,
}

/// What a run asks an API server for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Request {
    CreateEvent,
    CreatePuller,
    DeletePod,
    DeletePuller,
    ListEvents,
    ListNodes,
    ListPods,
    ListPullers,
    PatchPuller,
    ReadJob,
    ReadNode,
    ReadPuller,
}

impl Request {
    pub const ALL: [Self; 12] = [
        Self::CreateEvent,
        Self::CreatePuller,
        Self::DeletePod,
        Self::DeletePuller,
        Self::ListEvents,
        Self::ListNodes,
        Self::ListPods,
        Self::ListPullers,
        Self::PatchPuller,
        Self::ReadJob,
        Self::ReadNode,
        Self::ReadPuller,
    ];

    fn of(method: &str, path: &str) -> Self {
        let has = |it: &str| path.split('/').any(|part| part == it);
        let is = |it: &str| path.rsplit('/').next() == Some(it);
        match method {
            "DELETE" if has("daemonsets") => Self::DeletePuller,
            "DELETE" if has("pods") => Self::DeletePod,
            "GET" if is("daemonsets") => Self::ListPullers,
            "GET" if is("events") => Self::ListEvents,
            "GET" if is("nodes") => Self::ListNodes,
            "GET" if is("pods") => Self::ListPods,
            "GET" if has("daemonsets") => Self::ReadPuller,
            "GET" if has("jobs") => Self::ReadJob,
            "GET" if has("nodes") => Self::ReadNode,
            "PATCH" if has("daemonsets") => Self::PatchPuller,
            "POST" if is("daemonsets") => Self::CreatePuller,
            "POST" if is("events") => Self::CreateEvent,
            _ => panic!("there is no such request: {method} {path}"),
        }
    }
}

#[derive(Default)]
struct World {
    answers: Answers,
    /// The DaemonSet as it was made.
    puller: Option<Value>,
}

impl Default for Answers {
    /// Nodes that lack everything, no pod yet, and no event.
    fn default() -> Self {
        let nodes = list(&[node("n1"), node("n2")]);
        Self { events: list(&[]), nodes, pods: list(&[]), other: None }
    }
}

/// A page with these items, the last one of its list.
pub fn list(items: &[Value]) -> (u16, Vec<u8>) {
    (200, json!({"metadata": {}, "items": items}).to_string().into())
}

/// A ready node with nothing on it.
fn node(name: &str) -> Value {
    let uid = format!("{name}-uid");
    json!({
        "metadata": {"name": name, "uid": uid, "labels": {"kubernetes.io/os": "linux"}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": [{"names": ["registry.k8s.io/pause:3.10"]}]
        }
    })
}

/// The pod of the DaemonSet on the node of this number, with these statuses of its containers.
pub fn pod(number: u8, statuses: &Value) -> Value {
    json!({
        "metadata": {
            "name": format!("p{number}"),
            "uid": format!("p{number}-uid"),
            "ownerReferences": [{"kind": "DaemonSet", "uid": PULLER_UID, "controller": true}]
        },
        "spec": {"nodeName": format!("n{number}")},
        "status": {"phase": "Pending", "containerStatuses": statuses}
    })
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("is bound");
        let world = Arc::new(Mutex::new(World::default()));
        let of_threads = Arc::clone(&world);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, world) = (stream.expect("a connection"), Arc::clone(&of_threads));
                // A client that gives up in the middle of an answer is nobody's fault.
                thread::spawn(move || serve(stream, &world));
            }
        });
        Self { url: format!("http://{address}"), world }
    }

    pub fn set(&self, answers: Answers) {
        *lock(&self.world) = World { answers, puller: None };
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the requests of one connection until the client closes it.
fn serve(stream: TcpStream, world: &Mutex<World>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().ok()?,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (status, body) = lock(world).answer(&method, &target, &body);
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ndate: {DATE}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    }
}

impl World {
    fn answer(&mut self, method: &str, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request::of(method, path);
        if let Some((_, status, body)) = self.answers.other.as_ref().filter(|it| it.0 == request) {
            return (*status, body.clone());
        }
        // A second page is the last one.
        if query.contains("continue=") {
            return list(&[]);
        }
        match request {
            Request::CreateEvent => (201, body.into()),
            Request::CreatePuller => {
                let mut puller: Value = serde_json::from_slice(body).expect("a manifest is JSON");
                puller["metadata"]["uid"] = PULLER_UID.into();
                puller["metadata"]["generation"] = 1.into();
                puller["status"] = json!({
                    "observedGeneration": 1,
                    "desiredNumberScheduled": 2,
                    "currentNumberScheduled": 2
                });
                self.puller = Some(puller);
                self.found(201)
            }
            Request::DeletePod => (200, "{}".into()),
            Request::DeletePuller => {
                let found = self.found(200);
                self.puller = None;
                found
            }
            Request::ListEvents => self.answers.events.clone(),
            Request::ListNodes => self.answers.nodes.clone(),
            Request::ListPods => self.answers.pods.clone(),
            Request::ListPullers => list(&[]),
            Request::PatchPuller | Request::ReadPuller => self.found(200),
            Request::ReadJob => (200, json!({"status": {"startTime": START}}).to_string().into()),
            Request::ReadNode => match path.rsplit('/').next() {
                Some(name @ ("n1" | "n2")) => (200, node(name).to_string().into()),
                _ => not_found(),
            },
        }
    }

    fn found(&self, status: u16) -> (u16, Vec<u8>) {
        match &self.puller {
            Some(puller) => (status, puller.to_string().into()),
            None => not_found(),
        }
    }
}

fn not_found() -> (u16, Vec<u8>) {
    (404, json!({"reason": "NotFound", "message": "not found"}).to_string().into())
}
