//! A small API server: std only, stateful, and scriptable where a real one fails.
//!
//! It behaves as a real one in what a client can see: pages, selectors, uids, 404 and 409,
//! preconditions, chunked bodies, `Status` objects. Controllers are not in it; what a DaemonSet
//! would do is a hook's ([`Fake::on_create_daemonset`]).
//!
//! ```ignore
//! let fake = Fake::start();
//! fake.world().nodes.push(node("n1"));
//! fake.fail("GET /api/v1/nodes", Fault::status(429).retry_after(3));
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// The `Date` of every answer, unless the world has another one.
pub const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// Go sends a body up to this size with its length, a longer one in chunks.
const LONGEST_UNCHUNKED: usize = 2048;

/// A running server; it stops taking connections when it is dropped.
pub struct Fake {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    stopped: AtomicBool,
    connections: AtomicUsize,
    tls: Option<Arc<ServerConfig>>,
}

/// The objects in the cluster, what was asked for, and how to answer.
#[derive(Default)]
pub struct World {
    pub nodes: Vec<Value>,
    pub daemonsets: Vec<Value>,
    pub pods: Vec<Value>,
    pub events: Vec<Value>,
    pub jobs: Vec<Value>,
    /// Every request, in the order in which they came.
    pub requests: Vec<Seen>,
    /// The `Date` of answers, [`DATE`] if none.
    pub date: Option<String>,
    /// The `Warning` headers of answers, as they stand on the wire.
    pub warnings: Vec<String>,
    /// Compress for clients that take it.
    pub gzip: bool,
    /// Write an empty list as `null`, as Go does with one that nothing was put into.
    pub null_items: bool,
    /// Below which path the API is, as behind a Rancher.
    pub prefix: String,
    /// The only token that is let in; any client is if there is none.
    pub token: Option<String>,
    faults: Vec<(String, Fault)>,
    on_create: Option<Hook>,
    last_uid: u64,
}

type Hook = Box<dyn FnMut(&mut World, &Value) + Send>;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// As on the wire, still percent-encoded.
    pub path: String,
    pub raw_query: String,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// With names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

/// One way to fail one request.
pub enum Fault {
    /// Close the connection in place of an answer; with a request body that was not read, as a
    /// reset.
    Close,
    /// Send the head and half of the body, then close.
    HalfBody,
    /// Never answer.
    Hang,
    /// These bytes as they are, then close.
    Raw(Vec<u8>),
    /// Any answer.
    Reply { code: u16, headers: Vec<(String, String)>, body: String },
    /// Send the head, then a byte every few milliseconds.
    Trickle,
    /// 401, after doing something, such as replacing the token.
    Unauthorized(Box<dyn FnOnce() + Send>),
}

impl Fault {
    /// A `Status` object of this code, with the reason that the API gives it.
    pub fn status(code: u16) -> Self {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        Self::with_status(code, reason, &format!("scripted {code}"))
    }

    pub fn with_status(code: u16, reason: &str, message: &str) -> Self {
        let body = status(code, reason, message).to_string();
        Self::Reply { code, headers: vec![json_type()], body }
    }

    /// The error page of a proxy.
    pub fn html(code: u16, body: &str) -> Self {
        let headers = vec![("Content-Type".into(), "text/html; charset=utf-8".into())];
        Self::Reply { code, headers, body: body.into() }
    }

    pub fn json(code: u16, body: &str) -> Self {
        Self::Reply { code, headers: vec![json_type()], body: body.into() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let Self::Reply { headers, .. } = &mut self else {
            panic!("only a reply has headers");
        };
        headers.push((name.into(), value.into()));
        self
    }

    pub fn retry_after(self, seconds: u32) -> Self {
        self.header("Retry-After", &seconds.to_string())
    }
}

impl Fake {
    /// Serves plain HTTP on 127.0.0.1.
    pub fn start() -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").unwrap(), None)
    }

    /// Serves HTTPS on 127.0.0.1.
    pub fn start_tls(config: ServerConfig) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config))
    }

    pub fn serve(listener: TcpListener, tls: Option<ServerConfig>) -> Self {
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            world: Mutex::default(),
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            tls: tls.map(Arc::new),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else {
                    continue;
                };
                let shared = Arc::clone(&accepting);
                // A connection ends when the client closes it; an error ends it too, and is what
                // the test is about.
                thread::spawn(move || drop(shared.connection(stream)));
            }
        });
        Self { address, scheme, shared }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The state, for as long as the guard lives; the server waits meanwhile.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// Fails the next request whose method and path start like this, as in `GET /api/v1/nodes`.
    /// Faults of the same request come in the order in which they were added.
    pub fn fail(&self, request: &str, fault: Fault) {
        self.world().faults.push((request.into(), fault));
    }

    /// What to do when a DaemonSet has been created, a controller's work for one.
    pub fn on_create_daemonset(&self, hook: impl FnMut(&mut World, &Value) + Send + 'static) {
        self.world().on_create = Some(Box::new(hook));
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.world().requests.clone()
    }

    /// The only request so far.
    pub fn only_request(&self) -> Seen {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(|it| it.into_inner())
    }

    fn connection(&self, stream: TcpStream) -> io::Result<()> {
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.requests(&mut &stream, connection),
            Some(config) => {
                let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(tls, stream);
                let result = self.requests(&mut stream, connection);
                stream.conn.send_close_notify();
                // The client may have gone.
                let _ = stream.flush();
                result
            }
        }
    }

    fn requests(&self, wire: &mut dyn Wire, connection: usize) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let Some(mut seen) = read_head(wire, &mut buffer)? else {
                return Ok(());
            };
            seen.connection = connection;
            let fault = self.world().fault(&seen);
            if let Some(Fault::Close) = fault {
                self.world().requests.push(seen);
                return Ok(());
            }
            read_body(wire, &mut buffer, &mut seen)?;
            let mut world = self.world();
            world.requests.push(seen.clone());
            match fault {
                None => {
                    let reply = world.reply(&seen);
                    drop(world);
                    wire.write_all(&reply.bytes())?;
                }
                Some(Fault::Close) => return Ok(()),
                Some(Fault::HalfBody) => {
                    let reply = world.reply(&seen);
                    drop(world);
                    let (head, body) = (reply.head(), reply.wire_body());
                    wire.write_all(&head)?;
                    return wire.write_all(&body[..body.len() / 2]);
                }
                Some(Fault::Hang) => {
                    drop(world);
                    // Until the client closes.
                    return io::copy(wire, &mut io::sink()).map(drop);
                }
                Some(Fault::Raw(bytes)) => {
                    drop(world);
                    return wire.write_all(&bytes);
                }
                Some(Fault::Reply { code, headers, body }) => {
                    let reply = world.scripted(code, headers, body);
                    drop(world);
                    wire.write_all(&reply.bytes())?;
                }
                Some(Fault::Trickle) => {
                    let reply = world.reply(&seen);
                    drop(world);
                    wire.write_all(&reply.head())?;
                    for byte in reply.wire_body() {
                        wire.write_all(&[byte])?;
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                Some(Fault::Unauthorized(first)) => {
                    drop(world);
                    first();
                    let body = status(401, "Unauthorized", "Unauthorized").to_string();
                    let reply = self.world().scripted(401, vec![json_type()], body);
                    wire.write_all(&reply.bytes())?;
                }
            }
        }
    }
}

/// An answer before it is bytes.
struct Reply {
    code: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn is_chunked(&self) -> bool {
        self.body.len() > LONGEST_UNCHUNKED
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.code);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match self.is_chunked() {
            true => head += "Transfer-Encoding: chunked\r\n\r\n",
            false => head += &format!("Content-Length: {}\r\n\r\n", self.body.len()),
        }
        head.into_bytes()
    }

    fn wire_body(&self) -> Vec<u8> {
        if !self.is_chunked() {
            return self.body.clone();
        }
        let mut bytes = Vec::new();
        for chunk in self.body.chunks(32 << 10) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head(), self.wire_body()].concat()
    }
}

impl World {
    fn fault(&mut self, seen: &Seen) -> Option<Fault> {
        let line = format!("{} {}", seen.method, seen.path);
        let at = self.faults.iter().position(|(request, _)| line.starts_with(request.as_str()))?;
        Some(self.faults.remove(at).1)
    }

    fn scripted(&self, code: u16, mut headers: Vec<(String, String)>, body: String) -> Reply {
        headers.extend(self.common_headers());
        Reply { code, headers, body: body.into_bytes() }
    }

    fn common_headers(&self) -> Vec<(String, String)> {
        let date = self.date.as_deref().unwrap_or(DATE);
        let mut headers = vec![("Date".to_string(), date.to_string())];
        headers.extend(self.warnings.iter().map(|it| ("Warning".into(), it.clone())));
        headers
    }

    fn reply(&mut self, seen: &Seen) -> Reply {
        let (code, value) = match self.answer(seen) {
            Ok((code, value)) => (code, value),
            Err((code, reason, message)) => (code, status(code, reason, &message)),
        };
        let mut body = value.to_string().into_bytes();
        let mut headers = vec![json_type()];
        headers.extend(self.common_headers());
        let takes = seen.headers.get("accept-encoding").is_some_and(|it| it.contains("gzip"));
        if self.gzip && takes {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&body).unwrap();
            body = encoder.finish().unwrap();
            headers.push(("Content-Encoding".into(), "gzip".into()));
        }
        Reply { code, headers, body }
    }

    fn answer(&mut self, seen: &Seen) -> Result<(u16, Value), Refusal> {
        if let Some(token) = &self.token
            && seen.headers.get("authorization") != Some(&format!("Bearer {token}"))
        {
            return Err((401, "Unauthorized", "Unauthorized".into()));
        }
        let Some(path) = seen.path.strip_prefix(&self.prefix) else {
            return Err((404, "NotFound", "the server could not find the resource".into()));
        };
        let segments: Vec<_> = path.split('/').skip(1).map(decode).collect();
        let segments: Vec<_> = segments.iter().map(String::as_str).collect();
        let (resource, ns, name) = match segments.as_slice() {
            ["api", "v1", "nodes"] => ("nodes", None, None),
            ["api", "v1", "nodes", name] => ("nodes", None, Some(*name)),
            ["api", "v1", "namespaces", ns, resource @ ("events" | "pods"), name @ ..]
            | ["apis", "apps", "v1", "namespaces", ns, resource @ "daemonsets", name @ ..]
            | ["apis", "batch", "v1", "namespaces", ns, resource @ "jobs", name @ ..]
                if name.len() < 2 =>
            {
                (*resource, Some(*ns), name.first().copied())
            }
            _ => return Err((404, "NotFound", "the server could not find the resource".into())),
        };
        match (seen.method.as_str(), name) {
            ("GET", None) => self.list(resource, ns, seen),
            ("GET", Some(name)) => {
                let at = self.find(resource, ns, name)?;
                Ok((200, self.objects(resource)[at].clone()))
            }
            ("POST", None) => self.create(resource, ns, seen),
            ("PATCH", Some(name)) => self.patch(resource, ns, name, seen),
            ("DELETE", Some(name)) => self.delete(resource, ns, name, seen),
            _ => Err((405, "MethodNotAllowed", "the method is not allowed".into())),
        }
    }

    fn objects(&mut self, resource: &str) -> &mut Vec<Value> {
        match resource {
            "daemonsets" => &mut self.daemonsets,
            "events" => &mut self.events,
            "jobs" => &mut self.jobs,
            "nodes" => &mut self.nodes,
            "pods" => &mut self.pods,
            _ => panic!("there are no {resource} here"),
        }
    }

    fn find(&mut self, resource: &str, ns: Option<&str>, name: &str) -> Result<usize, Refusal> {
        self.objects(resource)
            .iter()
            .position(|it| it["metadata"]["name"] == name && is_in(it, ns))
            .ok_or_else(|| (404, "NotFound", format!("{resource} \"{name}\" not found")))
    }

    fn list(
        &mut self,
        resource: &str,
        ns: Option<&str>,
        seen: &Seen,
    ) -> Result<(u16, Value), Refusal> {
        let selector = |key: &str| seen.query.get(key).cloned().unwrap_or_default();
        let (labels, fields) = (selector("labelSelector"), selector("fieldSelector"));
        let null_items = self.null_items;
        let mut items: Vec<_> = self
            .objects(resource)
            .iter()
            .filter(|it| is_in(it, ns))
            .filter(|it| equals(&labels).all(|(key, value)| it["metadata"]["labels"][key] == value))
            .filter(|it| {
                equals(&fields).all(|(key, value)| {
                    let pointer = format!("/{}", key.replace('.', "/"));
                    it.pointer(&pointer).is_some_and(|it| it == value)
                })
            })
            .cloned()
            .collect();
        let mut next = String::new();
        let from: usize = match seen.query.get("continue") {
            None => 0,
            Some(token) => token
                .strip_prefix("from=")
                .and_then(|it| it.strip_suffix("&+/"))
                .and_then(|it| it.parse().ok())
                .ok_or((400, "BadRequest", format!("continue key is not valid: {token}")))?,
        };
        items.drain(..from.min(items.len()));
        if let Some(limit) = seen.query.get("limit").and_then(|it| it.parse().ok())
            && items.len() > limit
        {
            items.truncate(limit);
            // What a token has in it is the server's business; these characters must come back.
            next = format!("from={}&+/", from + limit);
        }
        let items = if items.is_empty() && null_items { Value::Null } else { json!(items) };
        let metadata = json!({ "continue": next, "resourceVersion": "1" });
        Ok((200, json!({ "kind": "List", "metadata": metadata, "items": items })))
    }

    fn create(
        &mut self,
        resource: &str,
        ns: Option<&str>,
        seen: &Seen,
    ) -> Result<(u16, Value), Refusal> {
        let mut object = parsed(&seen.body)?;
        let metadata = &mut object["metadata"];
        if let Some(start) = metadata["generateName"].as_str() {
            metadata["name"] = format!("{start}{}", self.last_uid).into();
        }
        let Some(name) = metadata["name"].as_str().map(str::to_string) else {
            return Err((422, "Invalid", "metadata.name: Required value".into()));
        };
        if self.find(resource, ns, &name).is_ok() {
            let message = format!("{resource}.apps \"{name}\" already exists");
            return Err((409, "AlreadyExists", message));
        }
        self.last_uid += 1;
        let metadata = &mut object["metadata"];
        metadata["creationTimestamp"] = json!("1994-11-06T08:49:37Z");
        metadata["generation"] = json!(1);
        metadata["uid"] = json!(format!("uid-{}", self.last_uid));
        if let Some(ns) = ns {
            metadata["namespace"] = json!(ns);
        }
        self.objects(resource).push(object.clone());
        if resource == "daemonsets"
            && let Some(mut hook) = self.on_create.take()
        {
            hook(self, &object);
            self.on_create = Some(hook);
        }
        Ok((201, object))
    }

    fn patch(
        &mut self,
        resource: &str,
        ns: Option<&str>,
        name: &str,
        seen: &Seen,
    ) -> Result<(u16, Value), Refusal> {
        let kind = seen.headers.get("content-type").map(String::as_str).unwrap_or_default();
        if kind != "application/merge-patch+json" {
            return Err((415, "UnsupportedMediaType", format!("{kind} is no merge patch")));
        }
        let patch = parsed(&seen.body)?;
        let at = self.find(resource, ns, name)?;
        let object = &mut self.objects(resource)[at];
        let spec = object["spec"].clone();
        merge(object, &patch);
        if object["spec"] != spec {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            object["metadata"]["generation"] = json!(generation);
        }
        Ok((200, object.clone()))
    }

    fn delete(
        &mut self,
        resource: &str,
        ns: Option<&str>,
        name: &str,
        seen: &Seen,
    ) -> Result<(u16, Value), Refusal> {
        let at = self.find(resource, ns, name)?;
        let uid = self.objects(resource)[at]["metadata"]["uid"].clone();
        let options = if seen.body.is_empty() { json!({}) } else { parsed(&seen.body)? };
        let required = &options["preconditions"]["uid"];
        if !required.is_null() && *required != uid {
            let message = format!(
                "Precondition failed: UID in precondition: {required}, UID in object meta: {uid}"
            );
            return Err((409, "Conflict", message));
        }
        self.objects(resource).remove(at);
        // The garbage collector's part.
        self.pods.retain(|it| {
            let owners = it["metadata"]["ownerReferences"].as_array();
            owners.is_none_or(|owners| owners.iter().all(|it| it["uid"] != uid))
        });
        Ok((200, json!({ "kind": "Status", "status": "Success", "metadata": {} })))
    }
}

/// Code, reason and message of a `Status`.
type Refusal = (u16, &'static str, String);

/// A Ready node with a name.
pub fn node(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name,
            "uid": format!("uid-of-{name}"),
            "labels": { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" },
        },
        "spec": {},
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "images": [],
            "nodeInfo": { "containerRuntimeVersion": "containerd://2.1.4" },
        },
    })
}

/// An object with nothing but metadata.
pub fn object(ns: &str, name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let uid = format!("uid-of-{name}");
    json!({ "metadata": { "namespace": ns, "name": name, "uid": uid, "labels": labels } })
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message, "details": null,
    })
}

fn json_type() -> (String, String) {
    ("Content-Type".into(), "application/json".into())
}

fn is_in(object: &Value, ns: Option<&str>) -> bool {
    ns.is_none_or(|ns| object["metadata"]["namespace"] == ns)
}

fn equals(selector: &str) -> impl Iterator<Item = (&str, &str)> {
    selector.split(',').filter_map(|it| it.split_once('='))
}

fn parsed(body: &str) -> Result<Value, Refusal> {
    serde_json::from_str(body).map_err(|error| (400, "BadRequest", error.to_string()))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
            _ => merge(&mut target[key], value),
        }
    }
}

/// Reads as far as the empty line; nothing if the client closed before a request.
fn read_head(wire: &mut dyn Wire, buffer: &mut Vec<u8>) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
            break at;
        }
        if !read_more(wire, buffer)? {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_string();
    let target = words.next().unwrap_or_default();
    let (path, raw_query) = target.split_once('?').unwrap_or((target, ""));
    let query = raw_query
        .split('&')
        .filter_map(|it| it.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect();
    let headers = lines
        .filter_map(|it| it.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()))
        .collect();
    Ok(Some(Seen {
        method,
        path: path.into(),
        raw_query: raw_query.into(),
        query,
        headers,
        body: String::new(),
        connection: 0,
    }))
}

/// Only bodies of a known length are read; any other is a fault of the client's.
fn read_body(wire: &mut dyn Wire, buffer: &mut Vec<u8>, seen: &mut Seen) -> io::Result<()> {
    assert!(!seen.headers.contains_key("transfer-encoding"), "the client sent chunks: {seen:?}");
    let length = seen.headers.get("content-length").map_or(0, |it| it.parse().unwrap());
    while buffer.len() < length {
        if !read_more(wire, buffer)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    seen.body = String::from_utf8_lossy(&buffer[..length]).into_owned();
    buffer.drain(..length);
    Ok(())
}

fn read_more(wire: &mut dyn Wire, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut some = [0; 4096];
    let n = wire.read(&mut some)?;
    buffer.extend(&some[..n]);
    Ok(n > 0)
}

/// Undoes percent-encoding; a `+` is a space, as Go reads a query.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
                let digits = str::from_utf8(&digits).unwrap_or("??");
                bytes.push(u8::from_str_radix(digits, 16).expect("percent-encoding is two digits"));
            }
            b'+' => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}
