//! An API server of two nodes and one DaemonSet, which says whatever it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::{Value, json};

/// The Job of the run.
pub const JOB: &str = "job";

/// The uid of the DaemonSet, whoever made it.
const PULLER_UID: &str = "5e7";

pub struct Server {
    pub url: String,
    world: Arc<Mutex<World>>,
}

/// The status and the body of what the server gives to a LIST.
pub struct Answers {
    pub events: (u16, Vec<u8>),
    pub nodes: (u16, Vec<u8>),
    pub pods: (u16, Vec<u8>),
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
        Self { events: list(&[]), nodes: list(&[node("n1"), node("n2")]), pods: list(&[]) }
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

/// A pod of the DaemonSet on the first node, with these statuses of its containers.
pub fn pod(statuses: &Value) -> Value {
    json!({
        "metadata": {
            "name": "p1",
            "uid": "p1-uid",
            "ownerReferences": [{"kind": "DaemonSet", "uid": PULLER_UID, "controller": true}]
        },
        "spec": {"nodeName": "n1"},
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
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    }
}

impl World {
    fn answer(&mut self, method: &str, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let resource = path.rsplit('/').next().unwrap_or_default();
        match (method, resource) {
            // A second page is the last one.
            ("GET", _) if query.contains("continue=") => list(&[]),
            ("GET", "daemonsets") => list(&[]),
            ("GET", "events") => self.answers.events.clone(),
            ("GET", "nodes") => self.answers.nodes.clone(),
            ("GET", "pods") => self.answers.pods.clone(),
            ("GET", "n1" | "n2") => (200, node(resource).to_string().into()),
            ("GET", JOB) => (200, r#"{"status": {"startTime": "1970-01-01T00:00:00Z"}}"#.into()),
            ("POST", "daemonsets") => {
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
            ("POST", _) => (201, body.into()),
            ("DELETE", _) if path.contains("/pods/") => (200, "{}".into()),
            ("DELETE", _) => {
                let found = self.found(200);
                self.puller = None;
                found
            }
            _ => self.found(200),
        }
    }

    fn found(&self, status: u16) -> (u16, Vec<u8>) {
        match &self.puller {
            Some(puller) => (status, puller.to_string().into()),
            None => (404, json!({"reason": "NotFound", "message": "not found"}).to_string().into()),
        }
    }
}
