//! The endpoint over real sockets. Clients block, the endpoint has its own thread.

mod address;
mod catalogue;
mod conservation;
mod hostile;
mod http;
mod scripts;
mod status;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use super::status::SenderStatus;
use super::{Address, Endpoint, Handle, Sources, View};
use crate::buffer::ledger::Ledger;
use crate::buffer::queue::Limits;
use crate::buffer::{Buffer, WhenFull};
use crate::metrics::Metrics;
use crate::script::Desk;

/// The name of the API socket.
const API: &str = "weir.sock";

const LIMITS: Limits = Limits {
    max_batches: 100,
    max_bytes: 1 << 20,
};

/// A program whose metrics are collected, without which there are no series of any.
const TARGET: &str = "node";

/// Far longer than any answer takes: a test that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Sidecar {
    pub(super) view: Arc<View>,
    /// Of the API socket and what stands beside it.
    directory: TempDir,
    buffer: Arc<Buffer>,
    metrics: Metrics,
}

impl Sidecar {
    pub(super) fn new() -> Self {
        Self::started_at(Instant::now())
    }

    fn started_at(start: Instant) -> Self {
        let senders = vec![status::sender(1, "boundary"), status::sender(2, "emit")];
        Self::with_senders(start, senders)
    }

    fn with_senders(start: Instant, senders: Vec<SenderStatus>) -> Self {
        let buffer = Buffer::new(LIMITS, WhenFull::DropNewest, Ledger::new());
        let metrics = Metrics::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let scripts = Desk::open(&directory.path().join(API), metrics.scripts.clone());
        metrics.targets.target(TARGET);
        let sources = Sources {
            scripts: Arc::new(scripts),
            buffer: Arc::clone(&buffer),
            limits: LIMITS,
            metrics: metrics.clone(),
            senders: Box::new(move || senders.clone()),
            upstream_url: "http://coder.example".to_owned(),
        };
        let view = Arc::new(View::new(sources, start).unwrap());
        Self {
            view,
            directory,
            buffer,
            metrics,
        }
    }

    fn api(&self) -> PathBuf {
        self.directory.path().join(API)
    }

    /// An endpoint for this sidecar on a free port.
    async fn endpoint(&self) -> Handle {
        let endpoint = Endpoint {
            scrape: Some(Address::Tcp("127.0.0.1:0".to_owned())),
            api: None,
        };
        endpoint.start(Arc::clone(&self.view)).await.unwrap()
    }
}

pub(super) struct Answer {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        let code = self.head.split(' ').nth(1).unwrap();
        code.parse().unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body of an answer that was sent in chunks.
    pub(super) fn unchunked(&self) -> Vec<u8> {
        assert_eq!(self.header("transfer-encoding"), Some("chunked"));
        let (mut rest, mut whole) = (&self.body[..], Vec::new());
        loop {
            let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
            let size = std::str::from_utf8(&rest[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let data = &rest[end + 2..];
            whole.extend_from_slice(&data[..size]);
            rest = &data[size..];
            assert_eq!(&rest[..2], b"\r\n");
            rest = &rest[2..];
            if size == 0 {
                assert!(rest.is_empty());
                return whole;
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn connect(endpoint: &Handle) -> TcpStream {
    let stream = TcpStream::connect(endpoint.bound().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request and reads to the end of the connection.
pub(super) fn exchange(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = answer.split_off(end.expect("a whole head") + 4);
    let head = String::from_utf8(answer).unwrap();
    Answer { head, body }
}

pub(super) fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n{headers}\r\n")
}

fn get(endpoint: &Handle, path: &str) -> Answer {
    exchange(connect(endpoint), &request("GET", path, ""))
}

/// The values of a page by series.
fn series(page: &str) -> BTreeMap<&str, f64> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            (series, value.parse().expect("a number"))
        })
        .collect()
}
