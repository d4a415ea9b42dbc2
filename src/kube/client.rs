//! The requests of a run, as HTTP.
//!
//! One function sends, whatever the request ([`KubeCluster::send`]), and a thin generic one reads
//! the answer, so that the code is in the binary once. Answers are parsed while they arrive: of
//! a page of nodes only the fields that are kept are ever in memory.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER, WARNING};
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use ureq::{Agent, AsSendBody, Body, BodyReader, Timeout};

use super::config::{Access, Server};
use super::tls;
use super::token::Token;
use crate::cluster::{ApiError, Cause, Cluster, Deletion, EventKind, Job, NewEvent, Page};
use crate::evidence::{Event, Pod};
use crate::json;
use crate::node::{Node, null_as_default};
use crate::puller::{DaemonSet, OwnerReference, Puller};
use crate::words::plain;

/// An API server, and the namespace that the puller lives in.
///
/// There is no `Debug`, because the token is in here.
pub struct KubeCluster {
    agent: Agent,
    server: Server,
    ca: Option<Ca>,
    token: Option<Token>,
    namespace: String,
    limits: Limits,
    /// What the server's clock said, and when.
    date: Option<(SystemTime, Instant)>,
    /// All warnings so far, of which so many were taken: the same one comes with every answer.
    warnings: Vec<String>,
    n_taken: usize,
    patience: Duration,
}

/// How long a request may take and how much it may bring.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the connection, TLS included.
    pub connect: Duration,
    /// For reading one object, from the start of the request to the last byte of its answer.
    pub object: Duration,
    /// For one page of a list.
    pub list: Duration,
    /// For creating, changing or deleting an object.
    pub write: Duration,
    /// Of one object, in bytes after decompression.
    pub object_bytes: u64,
    /// Of one page.
    pub list_bytes: u64,
    /// Objects on a page.
    pub page: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            object: Duration::from_secs(10),
            list: Duration::from_secs(30),
            // Admission webhooks may take 10 s each, 30 s if they say so. Who gives up sooner
            // does not know whether the object was made.
            write: Duration::from_secs(30),
            // etcd takes no object above 1.5 MiB as it comes, and 4 MiB were enough if that is
            // raised. A page of 500 nodes of the size that is common (20 KB, KEP-589) is 10 MB.
            object_bytes: 4 << 20,
            list_bytes: 64 << 20,
            page: 500,
        }
    }
}

/// The CA file and what it held when it was last read.
struct Ca {
    path: PathBuf,
    pem: Vec<u8>,
}

impl KubeCluster {
    /// Reads the files, so that what is wrong with them is known before anything is created.
    /// Opens no connection. An error is one line about bad configuration.
    pub fn open(access: &Access, namespace: &str) -> Result<Self, String> {
        Self::open_with(access, namespace, Limits::default())
    }

    /// The same with other limits than the usual ones.
    pub fn open_with(access: &Access, namespace: &str, limits: Limits) -> Result<Self, String> {
        let server = access.server.clone();
        if server.url.parse::<Uri>().is_err() {
            return Err(format!("`{}` is no address of an API server", server.url));
        }
        let token = access.token.as_deref().map(Token::open).transpose()?;
        let ca = access.ca.as_deref().map(Ca::open).transpose()?;
        let agent = agent(ca.as_ref(), &limits)?;
        Ok(Self {
            agent,
            server,
            ca,
            token,
            namespace: namespace.into(),
            limits,
            date: None,
            warnings: vec![],
            n_taken: 0,
            patience: Duration::MAX,
        })
    }
}

impl Cluster for KubeCluster {
    fn list_nodes(&mut self, from: Option<&str>) -> Result<Page<Node>, ApiError> {
        self.list("list nodes".into(), "/api/v1/nodes".into(), None, from)
    }

    fn read_node(&mut self, name: &str) -> Result<Node, ApiError> {
        let target = format!("/api/v1/nodes/{}", encode(name));
        let ask = Ask::get(format!("get node `{name}`"), target);
        let node: Node = self.fetch(&ask)?;
        ask.about(name, &node.metadata.name)?;
        Ok(node)
    }

    fn read_job(&mut self, name: &str) -> Result<Job, ApiError> {
        let target = self.path("/apis/batch/v1", "jobs", Some(name));
        let job: JobObject = self.fetch(&Ask::get(self.words("get", "job", name), target))?;
        let start = job.status.start_time.as_deref();
        Ok(Job { start_time: start.and_then(|it| humantime::parse_rfc3339(it).ok()) })
    }

    fn list_pullers(&mut self, labels: &str, from: Option<&str>) -> Result<Page<Puller>, ApiError> {
        let target = self.path("/apis/apps/v1", "daemonsets", None);
        let request = self.words("list", "daemonsets", "");
        self.list(request, target, Some(("labelSelector", labels)), from)
    }

    fn read_puller(&mut self, name: &str) -> Result<Puller, ApiError> {
        let target = self.path("/apis/apps/v1", "daemonsets", Some(name));
        let ask = Ask::get(self.words("get", "daemonset", name), target);
        let puller: Puller = self.fetch(&ask)?;
        ask.about(name, &puller.metadata.name)?;
        Ok(puller)
    }

    fn create_puller(&mut self, manifest: &DaemonSet) -> Result<Puller, ApiError> {
        let request = self.words("create", "daemonsets", "");
        let body = json(manifest);
        let target = self.path("/apis/apps/v1", "daemonsets", None) + WRITE;
        let ask = Ask::write(request, Method::POST, target, "application/json", &body);
        let puller: Puller = self.fetch(&ask)?;
        ask.about(&manifest.metadata.name, &puller.metadata.name)?;
        Ok(puller)
    }

    fn patch_puller(&mut self, name: &str, patch: &str) -> Result<Puller, ApiError> {
        let request = self.words("patch", "daemonset", name);
        let target = self.path("/apis/apps/v1", "daemonsets", Some(name)) + WRITE;
        let kind = "application/merge-patch+json";
        let ask = Ask::write(request, Method::PATCH, target, kind, patch.as_bytes());
        let puller: Puller = self.fetch(&ask)?;
        ask.about(name, &puller.metadata.name)?;
        Ok(puller)
    }

    fn delete_puller(&mut self, name: &str, uid: &str) -> Result<Deletion, ApiError> {
        let request = self.words("delete", "daemonset", name);
        let target = self.path("/apis/apps/v1", "daemonsets", Some(name));
        self.delete(request, target, uid)
    }

    fn delete_pod(&mut self, name: &str, uid: &str) -> Result<Deletion, ApiError> {
        let request = self.words("delete", "pod", name);
        let target = self.path("/api/v1", "pods", Some(name));
        self.delete(request, target, uid)
    }

    fn create_event(&mut self, event: &NewEvent<'_>) -> Result<(), ApiError> {
        let request = self.words("create", "events", "");
        let target = self.path("/api/v1", "events", None);
        let body = json(&EventBody::of(event, &self.namespace));
        let ask = Ask::write(request, Method::POST, target, "application/json", &body);
        self.fetch::<IgnoredAny>(&ask)?;
        Ok(())
    }

    fn list_pods(&mut self, labels: &str, from: Option<&str>) -> Result<Page<Pod>, ApiError> {
        let target = self.path("/api/v1", "pods", None);
        let request = self.words("list", "pods", "");
        self.list(request, target, Some(("labelSelector", labels)), from)
    }

    fn list_events(&mut self, fields: &str, from: Option<&str>) -> Result<Page<Event>, ApiError> {
        let target = self.path("/api/v1", "events", None);
        let request = self.words("list", "events", "");
        self.list(request, target, Some(("fieldSelector", fields)), from)
    }

    fn server_time(&self) -> Option<SystemTime> {
        let (date, at) = self.date?;
        date.checked_add(at.elapsed())
    }

    fn take_warnings(&mut self) -> Vec<String> {
        let new = self.warnings.split_off(self.n_taken.min(self.warnings.len()));
        self.warnings.extend_from_slice(&new);
        self.n_taken = self.warnings.len();
        new
    }

    fn be_patient_for(&mut self, most: Duration) {
        self.patience = Duration::from_secs(most.as_secs().max(1));
    }
}

/// The query of a request that writes. `Warn` rather than `Strict`: to a server older than a
/// field of ours, `Strict` would make that field an error, where the warning is enough and the
/// object that it made is read back anyway.
///
/// Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation>
const WRITE: &str = "?fieldManager=prepull&fieldValidation=Warn";

/// One request, in the reader's words and in the server's.
struct Ask<'a> {
    /// What an error says that could not be done.
    request: String,
    method: Method,
    /// Path and query below the server's URL.
    target: String,
    body: Option<(&'static str, &'a [u8])>,
    kind: Kind,
}

/// What kind of answer a request has, which decides how long and how large it may be.
#[derive(Clone, Copy)]
enum Kind {
    List,
    Object,
    Write,
}

impl<'a> Ask<'a> {
    fn get(request: String, target: String) -> Self {
        Self { request, method: Method::GET, target, body: None, kind: Kind::Object }
    }

    fn write(
        request: String,
        method: Method,
        target: String,
        content_type: &'static str,
        body: &'a [u8],
    ) -> Self {
        Self { request, method, target, body: Some((content_type, body)), kind: Kind::Write }
    }

    fn failed(&self, cause: Cause) -> ApiError {
        ApiError { request: self.request.clone(), cause }
    }

    /// Refuses an object of another name than the one that was asked for: a JSON document that
    /// is no such object at all reads as one without a name.
    fn about(&self, asked: &str, answered: &str) -> Result<(), ApiError> {
        match asked == answered {
            true => Ok(()),
            false => {
                Err(self.failed(Cause::Transport("the answer is about something else".into())))
            }
        }
    }
}

/// An answer whose body is still to come.
struct Answer {
    body: Capped,
    wait: Duration,
}

/// A body that may not be longer than it should. ureq's own limit counts compressed bytes, of
/// which a thousandth would do to fill the memory.
struct Capped {
    body: BodyReader<'static>,
    most: u64,
    n_read: u64,
}

impl Read for Capped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.body.read(buffer)?;
        self.n_read += n as u64;
        match self.n_read > self.most {
            true => Err(ureq::Error::BodyExceedsLimit(self.most).into_io()),
            false => Ok(n),
        }
    }
}

impl KubeCluster {
    /// One page of a list.
    fn list<T: DeserializeOwned>(
        &mut self,
        request: String,
        mut target: String,
        selector: Option<(&str, &str)>,
        from: Option<&str>,
    ) -> Result<Page<T>, ApiError> {
        target += &format!("?limit={}", self.limits.page);
        for (key, value) in selector.into_iter().chain(from.map(|it| ("continue", it))) {
            target += &format!("&{key}={}", encode(value));
        }
        let mut ask = Ask::get(request, target);
        ask.kind = Kind::List;
        let list: List<T> = self.fetch(&ask)?;
        let next = Some(list.metadata.next).filter(|it| !it.is_empty());
        // Each token stands for a place further on.
        if next.is_some() && next.as_deref() == from {
            return Err(ask.failed(Cause::Transport("the list has no end".into())));
        }
        Ok(Page { items: list.items, next })
    }

    /// Deletes an object of this uid. The answer is a Status when it is gone, and the object itself
    /// while something of it is still to end.
    ///
    /// Source: `DeleteResource` in `apiserver/pkg/endpoints/handlers/delete.go`.
    fn delete(&mut self, request: String, target: String, uid: &str) -> Result<Deletion, ApiError> {
        let body = json(&DeleteOptions {
            api_version: "v1",
            kind: "DeleteOptions",
            preconditions: Preconditions { uid },
            propagation_policy: "Background",
        });
        let ask = Ask::write(request, Method::DELETE, target, "application/json", &body);
        let answer: Deleted = self.fetch(&ask)?;
        Ok(match answer.kind.as_str() {
            "Status" => Deletion::Done,
            _ => Deletion::UnderWay,
        })
    }

    fn fetch<T: DeserializeOwned>(&mut self, ask: &Ask<'_>) -> Result<T, ApiError> {
        let Answer { body, wait } = self.send(ask).map_err(|it| ask.failed(it))?;
        // Reads to the end, without which the connection could not be used again.
        json::read(&mut BufReader::with_capacity(BUFFER, body))
            .map_err(|error| ask.failed(self.unreadable(error, wait)))
    }

    /// Sends a request and gives back its answer if that is a good one.
    fn send(&mut self, ask: &Ask<'_>) -> Result<Answer, Cause> {
        let (wait, most) = match ask.kind {
            Kind::List => (self.limits.list, self.limits.list_bytes),
            Kind::Object => (self.limits.object, self.limits.object_bytes),
            Kind::Write => (self.limits.write, self.limits.object_bytes),
        };
        let wait = wait.min(self.patience);
        let path = ask.target.split('?').next().unwrap_or_default();
        if path.split('/').skip(1).any(|it| matches!(it, "" | "." | "..")) {
            // `GET /api/v1/nodes/` is a list, not a node.
            return Err(Cause::Unusable("there is no such name".into()));
        }
        if let Some(token) = &mut self.token {
            token.renew();
        }
        let mut response = self.exchange(ask, wait)?;
        if response.status() == StatusCode::UNAUTHORIZED && self.token_changed() {
            response = self.exchange(ask, wait)?;
        }
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        let (parts, body) = response.into_parts();
        let kind = text(&parts.headers, CONTENT_TYPE.as_str());
        if !kind.is_empty() && !kind.contains("json") {
            return Err(Cause::Transport(format!(
                "the answer is `{}` and no JSON, so it is not from an API server; \
                 check what stands between",
                self.line(&kind, MESSAGE)
            )));
        }
        Ok(Answer { body: Capped { body: body.into_reader(), most, n_read: 0 }, wait })
    }

    /// Whether the token file holds another token than the one that was refused.
    fn token_changed(&mut self) -> bool {
        self.token.as_mut().is_some_and(|token| {
            let refused = token.last().to_string();
            token.renew() != refused
        })
    }

    /// One round over the wire, and a second one if the server has a certificate of a new CA
    /// which is in the CA file by now. The kubelet renews that file too.
    fn exchange(&mut self, ask: &Ask<'_>, wait: Duration) -> Result<Response<Body>, Cause> {
        let response = match self.round(ask, wait) {
            Err(Failed::Http(error)) if is_untrusted(&error) && self.renew_ca() => {
                self.round(ask, wait)
            }
            other => other,
        };
        let response = response.map_err(|failed| match failed {
            Failed::Http(error) => self.broken(error, wait, WAITING),
            Failed::Request(cause) => Cause::Unusable(cause),
        })?;
        self.note(response.headers());
        Ok(response)
    }

    fn round(&self, ask: &Ask<'_>, wait: Duration) -> Result<Response<Body>, Failed> {
        let url = format!("{}{}", self.server.url, ask.target);
        let mut request = Request::builder().method(ask.method.clone()).uri(url);
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.last()))
                .map_err(|_| Failed::Request("the token cannot be put into a header".into()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        match ask.body {
            None => self.run(request.body(()), wait),
            Some((kind, body)) => self.run(request.header(CONTENT_TYPE, kind).body(body), wait),
        }
    }

    fn run<B: AsSendBody>(
        &self,
        request: Result<Request<B>, ureq::http::Error>,
        wait: Duration,
    ) -> Result<Response<Body>, Failed> {
        let request = request
            .map_err(|error| Failed::Request(format!("the request cannot be made: {error}")))?;
        let request = self.agent.configure_request(request).timeout_global(Some(wait)).build();
        self.agent.run(request).map_err(Failed::Http)
    }

    /// Reads the CA file again and tells whether it has changed and is good.
    fn renew_ca(&mut self) -> bool {
        let Some(old) = &self.ca else {
            return false;
        };
        let Ok(new) = Ca::open(&old.path) else {
            return false;
        };
        if new.pem == old.pem {
            return false;
        }
        let Ok(agent) = agent(Some(&new), &self.limits) else {
            return false;
        };
        self.agent = agent;
        self.ca = Some(new);
        true
    }

    /// Takes the server's clock and warnings from the headers of any answer.
    fn note(&mut self, headers: &HeaderMap) {
        if let Ok(date) = httpdate::parse_http_date(&text(headers, DATE.as_str())) {
            self.date = Some((date, Instant::now()));
        }
        for value in headers.get_all(WARNING) {
            for warning in warnings(&String::from_utf8_lossy(value.as_bytes())) {
                let warning = self.line(&warning, WARNING_TEXT);
                if self.warnings.len() < MOST_WARNINGS && !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
            }
        }
    }

    /// An answer other than 2xx.
    fn refusal(&self, response: Response<Body>) -> Cause {
        let (parts, body) = response.into_parts();
        let mut content = Vec::new();
        // What has come before the body broke off is better than nothing.
        let _ = body.into_reader().take(STATUS_BYTES).read_to_end(&mut content);
        let status: Status = json::read(&mut content.as_slice()).unwrap_or_default();
        let code = parts.status.as_u16();
        let seconds = text(&parts.headers, RETRY_AFTER.as_str())
            .trim()
            .parse()
            .ok()
            .or(status.details.and_then(|it| it.retry_after_seconds).filter(|it| *it > 0));
        let message = match status.message.as_str() {
            "" => self.start_of(&parts, &content),
            message => self.line(message, MESSAGE),
        };
        Cause::Status {
            code,
            reason: self.line(&status.reason, MESSAGE),
            message,
            retry_after: seconds.map(|it: u64| Duration::from_secs(it).min(LONGEST_PAUSE)),
        }
    }

    /// What an answer says that has no Status object in it, a proxy's error page for one.
    fn start_of(&self, parts: &ureq::http::response::Parts, content: &[u8]) -> String {
        let mut message: String = parts.status.canonical_reason().unwrap_or_default().into();
        if parts.status.is_redirection() {
            message += &format!(
                " to `{}`, which is not followed; name the API server itself with --server",
                self.line(&text(&parts.headers, LOCATION.as_str()), START)
            );
            return message;
        }
        let start = self.line(&String::from_utf8_lossy(content), START);
        if !start.is_empty() {
            if !message.is_empty() {
                message += ": ";
            }
            message += &start;
        }
        message
    }

    /// Foreign text on one line, without control characters, not endless, and without the token,
    /// which a proxy that shows the headers it was sent would put there.
    fn line(&self, text: &str, most: usize) -> String {
        let text = match &self.token {
            Some(token) => text.replace(token.last(), "…"),
            None => text.into(),
        };
        let mut line = String::new();
        for word in text.split(|it: char| it.is_whitespace() || it.is_control()) {
            if word.is_empty() {
                continue;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if let Some((end, _)) = line.char_indices().nth(most) {
            line.truncate(end);
            line.push('…');
        }
        line
    }

    /// An answer that is not the JSON it should be.
    fn unreadable(&self, error: serde_json::Error, wait: Duration) -> Cause {
        use serde_json::error::Category;
        match error.classify() {
            Category::Io => {
                let error = io::Error::from(error);
                self.broken(ureq::Error::from(error), wait, READING)
            }
            Category::Eof => Cause::Transport("the answer broke off".into()),
            Category::Syntax | Category::Data => Cause::Transport(format!(
                "the answer is not what an API server gives: {}",
                self.line(&error.to_string(), MESSAGE)
            )),
        }
    }

    /// No answer, or a part of one.
    #[cold]
    fn broken(&self, error: ureq::Error, wait: Duration, phase: &str) -> Cause {
        let authority = &self.server.authority;
        if let Some(error) = tls_error(&error) {
            let ca = self.ca.as_ref().map(|it| it.path.as_path()).unwrap_or(Path::new(""));
            let text = self.line(&tls::explain(error, &self.server, ca), MESSAGE);
            return match tls::is_lasting(error) {
                true => Cause::Unusable(text),
                false => Cause::Transport(text),
            };
        }
        Cause::Transport(match error {
            ureq::Error::Timeout(Timeout::Connect) => {
                let seconds = humantime::format_duration(self.limits.connect);
                format!("timed out after {seconds} while connecting to {authority}")
            }
            ureq::Error::Timeout(_) => {
                format!("timed out after {} while {phase}", humantime::format_duration(wait))
            }
            ureq::Error::Io(error) | ureq::Error::Decompress(_, error) if is_end(&error) => {
                match phase {
                    READING => "the answer broke off".into(),
                    _ => format!("{authority} closed the connection before it answered"),
                }
            }
            ureq::Error::Io(error) if phase == READING => {
                format!("the answer cannot be read: {}", plain(&error))
            }
            ureq::Error::Io(error) if is_no_host(&error.to_string()) => {
                format!("connect to {authority}: there is no such host")
            }
            ureq::Error::Io(error) => format!("connect to {authority}: {}", plain(&error)),
            ureq::Error::BodyExceedsLimit(most) => {
                format!("the answer is longer than {} KiB", most >> 10)
            }
            ureq::Error::Decompress(..) => "the compressed answer is damaged".into(),
            ureq::Error::HostNotFound => format!("connect to {authority}: there is no such host"),
            ureq::Error::Protocol(error) => {
                self.line(&format!("{authority} does not speak HTTP: {error}"), MESSAGE)
            }
            other => self.line(&other.to_string(), MESSAGE),
        })
    }

    fn path(&self, group: &str, resource: &str, name: Option<&str>) -> String {
        let mut path = format!("{group}/namespaces/{}/{resource}", encode(&self.namespace));
        if let Some(name) = name {
            path.push('/');
            path += &encode(name);
        }
        path
    }

    /// `list pods in namespace `x``, or ``get job `y` in namespace `x```.
    fn words(&self, verb: &str, resource: &str, name: &str) -> String {
        match name {
            "" => format!("{verb} {resource} in namespace `{}`", self.namespace),
            _ => format!("{verb} {resource} `{name}` in namespace `{}`", self.namespace),
        }
    }
}

/// Why a round had no response.
enum Failed {
    Http(ureq::Error),
    Request(String),
}

impl Ca {
    fn open(path: &Path) -> Result<Self, String> {
        let pem = fs::read(path).map_err(|error| {
            format!(
                "cannot read CA file `{}`: {}; without it no API server can be trusted",
                path.display(),
                plain(&error)
            )
        })?;
        Ok(Self { path: path.into(), pem })
    }
}

fn agent(ca: Option<&Ca>, limits: &Limits) -> Result<Agent, String> {
    let mut config = Agent::config_builder()
        // An API server is no website: whatever the environment says about proxies is meant for
        // other traffic, and would show them the token.
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("prepull/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_global(Some(limits.object))
        // The header of an answer must fit into the one, a header of ours into the other.
        .input_buffer_size(HEADER_BYTES)
        .output_buffer_size(HEADER_BYTES / 2)
        .max_response_header_size(HEADER_BYTES);
    if let Some(ca) = ca {
        config = config.tls_config(tls::config(tls::roots(&ca.path, &ca.pem)?));
    }
    Ok(config.build().new_agent())
}

/// Whether the other side has closed the connection, in good order or not.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
    )
}

/// Whether a lookup, which has nothing but words for it, says that a name has no address. One that
/// could not be done now is another matter.
///
/// Source: `gai_strerror` of musl and glibc for `EAI_AGAIN`, the two texts that are excepted.
fn is_no_host(text: &str) -> bool {
    text.starts_with("failed to lookup address information")
        && !text.contains("Try again")
        && !text.contains("Temporary failure in name resolution")
}

/// The TLS failure inside an error, which ureq hands on either way.
fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn is_untrusted(error: &ureq::Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)))
}

/// Percent-encodes what comes from outside, for a path segment or the value of a query.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value without maps of other keys than text is JSON")
}

/// A header's text, empty if there is none.
fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|it| String::from_utf8_lossy(it.as_bytes()));
    value.unwrap_or_default().into_owned()
}

/// The texts of one `Warning` header: `299 - "text"`, several of them parted by commas, each with
/// a date perhaps. As client-go does, only code 299 is taken.
///
/// Source: RFC 7234, section 5.5; `ParseWarningHeader` in `apimachinery/pkg/util/net/http.go`.
fn warnings(header: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((code, after)) = rest.split_once(' ') else {
            return texts;
        };
        let Some((_agent, after)) = after.trim_start().split_once(' ') else {
            return texts;
        };
        let Some((text, after)) = quoted(after.trim_start()) else {
            return texts;
        };
        if code == "299" && !text.is_empty() {
            texts.push(text);
        }
        rest = match quoted(after.trim_start()) {
            Some((_date, after)) => after,
            None => after,
        };
    }
}

/// A quoted string at the start of a text, without its quotes and escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut inner = String::new();
    let mut letters = text.strip_prefix('"')?.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((inner, &text[1 + at + 1..])),
            '\\' => inner.push(letters.next()?.1),
            _ => inner.push(letter),
        }
    }
    None
}

// === The API types that only the client sees ===

/// One page of any list. Neither field may be missing: an answer that is no list at all must not
/// read as a cluster without nodes.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct List<T> {
    metadata: ListMetadata,
    /// Go writes `null` for a list that nothing was ever put into.
    #[serde(deserialize_with = "null_as_default")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct JobObject {
    #[serde(default)]
    status: JobStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JobStatus {
    start_time: Option<String>,
}

/// What an API server answers in place of an object.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    reason: String,
    message: String,
    details: Option<StatusDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusDetails {
    retry_after_seconds: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeleteOptions<'a> {
    api_version: &'static str,
    kind: &'static str,
    preconditions: Preconditions<'a>,
    propagation_policy: &'static str,
}

#[derive(Serialize)]
struct Preconditions<'a> {
    uid: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Deleted {
    kind: String,
}

/// An event of core/v1, which `kubectl describe` shows with the object it is about.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventBody<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: EventName<'a>,
    involved_object: Involved<'a>,
    #[serde(rename = "type")]
    event_type: &'static str,
    reason: &'a str,
    message: &'a str,
    first_timestamp: &'a str,
    last_timestamp: &'a str,
    count: u32,
    source: Source,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventName<'a> {
    generate_name: String,
    namespace: &'a str,
}

#[derive(Serialize)]
struct Involved<'a> {
    #[serde(flatten)]
    object: &'a OwnerReference,
    namespace: &'a str,
}

#[derive(Serialize)]
struct Source {
    component: &'static str,
}

impl<'a> EventBody<'a> {
    fn of(event: &'a NewEvent<'_>, namespace: &'a str) -> Self {
        Self {
            api_version: "v1",
            kind: "Event",
            metadata: EventName { generate_name: format!("{}.", event.about.name), namespace },
            involved_object: Involved { object: event.about, namespace },
            event_type: match event.kind {
                EventKind::Normal => "Normal",
                EventKind::Warning => "Warning",
            },
            reason: event.reason,
            message: event.message,
            first_timestamp: &event.time,
            last_timestamp: &event.time,
            count: 1,
            source: Source { component: "prepull" },
        }
    }
}

/// The buffer between the body and the JSON parser, which reads byte by byte.
const BUFFER: usize = 16 << 10;

const HEADER_BYTES: usize = 64 << 10;

/// Longest pause that a server may ask for, whose own longest is 32 s (API Priority and
/// Fairness).
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Most characters of a message; a webhook's denial may be long, and is worth its length.
const MESSAGE: usize = 1000;

/// Most different warnings that are passed on.
const MOST_WARNINGS: usize = 10;

/// Most characters of a body that is no Status object.
const START: usize = 120;

/// Most bytes that are read of an answer other than 2xx.
const STATUS_BYTES: u64 = 64 << 10;

/// Most characters of a warning.
const WARNING_TEXT: usize = 500;

/// The phases of a request, as a message says them.
const READING: &str = "reading the answer";
const WAITING: &str = "waiting for the answer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_that_fails_for_now_says_nothing_of_the_host() {
        for (why, is_none) in [
            ("Name does not resolve", true),
            ("Name or service not known", true),
            ("No address associated with hostname", true),
            ("Try again", false),
            ("Temporary failure in name resolution", false),
        ] {
            let text = format!("failed to lookup address information: {why}");
            assert_eq!(is_no_host(&text), is_none, "{why}");
        }
        assert!(!is_no_host("Connection refused (os error 111)"));
    }
}
