//! A proxy between a run and the API server, which sees every request before the API server does
//! and every answer before the run does.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::cluster;
use crate::command::{Running, start, until};

/// Between two looks for a new request.
const PAUSE: Duration = Duration::from_millis(5);

/// `kubectl proxy`, which speaks HTTP without TLS and adds the administrator's token.
pub struct KubectlProxy {
    address: String,
    _running: Running,
}

impl KubectlProxy {
    pub fn start() -> Self {
        let running = start(cluster().command("kubectl").args(["proxy", "--port=0"]));
        let address = until("the address of kubectl proxy", Duration::from_secs(20), || {
            let said = running.said_as_yet();
            let address = said.trim_end().strip_prefix("Starting to serve on ");
            address.map(Into::into).ok_or(said)
        });
        Self { address, _running: running }
    }
}

/// The gate of one run. It has no thread of its own: whoever holds it lets requests through.
pub struct Gate<'a> {
    listener: TcpListener,
    behind: &'a KubectlProxy,
    /// The first lines of the requests that the API server has answered.
    pub passed: Vec<String>,
}

/// A request that the API server has not seen.
pub struct Request {
    client: TcpStream,
    /// `GET /api/v1/nodes?limit=500 HTTP/1.1`
    pub line: String,
    rest: Vec<u8>,
}

/// An answer that the run has not seen.
pub struct Answer {
    client: TcpStream,
    bytes: Vec<u8>,
}

impl<'a> Gate<'a> {
    pub fn before(behind: &'a KubectlProxy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        listener.set_nonblocking(true).expect("it is a socket");
        Self { listener, behind, passed: vec![] }
    }

    /// For `--server`.
    pub fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("it is bound"))
    }

    /// The run's next request, unless the run ends before it.
    pub fn next(&self, run: &mut Running, bound: Duration) -> Option<Request> {
        let began = Instant::now();
        loop {
            match self.listener.accept() {
                Ok((client, _)) => return Some(Request::read(client)),
                Err(_) if !run.is_running() => return None,
                Err(_) => thread::sleep(PAUSE),
            }
            assert!(began.elapsed() < bound, "the run neither asked nor ended within {bound:?}");
        }
    }

    /// Lets a request through, and holds the answer.
    pub fn pass(&mut self, request: Request) -> Answer {
        let mut server = TcpStream::connect(&self.behind.address).expect("kubectl proxy listens");
        // The end of the connection is the end of the answer.
        let head = format!("{}\r\nConnection: close\r\n", request.line);
        server.write_all(head.as_bytes()).expect("kubectl proxy reads");
        server.write_all(&request.rest).expect("kubectl proxy reads");
        let mut bytes = vec![];
        server.read_to_end(&mut bytes).expect("kubectl proxy answers");
        self.passed.push(request.line);
        Answer { client: request.client, bytes }
    }
}

impl Request {
    fn read(client: TcpStream) -> Self {
        let mut reader = BufReader::new(&client);
        let mut line = String::new();
        reader.read_line(&mut line).expect("the run writes");
        let (mut rest, mut length) = (vec![], 0);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).expect("the run writes");
            rest.extend(header.bytes());
            match header.to_ascii_lowercase().split_once(':') {
                Some(("content-length", it)) => length = it.trim().parse().expect("a number"),
                None if header.trim().is_empty() => break,
                _ => {}
            }
        }
        let head = rest.len();
        rest.resize(head + length, 0);
        reader.read_exact(&mut rest[head..]).expect("the run writes its whole request");
        drop(reader);
        Self { client, line: line.trim_end().into(), rest }
    }
}

impl Answer {
    /// `HTTP/1.1 200 OK`
    pub fn status(&self) -> Cow<'_, str> {
        let line = self.bytes.split(|it| *it == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line)
    }

    pub fn give(mut self) {
        // The run may have given up waiting.
        let _ = self.client.write_all(&self.bytes);
        let _ = self.client.shutdown(Shutdown::Write);
    }
}
