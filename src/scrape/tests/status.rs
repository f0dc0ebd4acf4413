//! The status document, over the API socket and as a table.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Handle, Sidecar, exchange, get, request};
use crate::buffer::batch::tests::arrival;
use crate::buffer::queue::Cargo;
use crate::metrics::DropReason;
use crate::scrape::endpoint::Endpoint;
use crate::scrape::health::Phase;
use crate::scrape::listen::{Address, Listener};
use crate::scrape::pages;
use crate::scrape::serve::{Offer, serve};
use crate::scrape::status::{
    Form, MAX_SENDERS, SenderStatus, StatusDocument, StatusError, fetch, print, render_table,
};

pub(super) fn sender(number: u64, command: &str) -> SenderStatus {
    SenderStatus {
        number,
        pid: Some(4000 + u32::try_from(number).unwrap()),
        uid: Some(1000),
        command: command.to_owned(),
        connected_seconds: 61.5,
        frames: 12,
        logs: 120,
        rejected: 0,
        last_frame_seconds: (number == 1).then_some(2.25),
    }
}

/// 120 logs received: 100 forwarded, 4 dropped for each of two reasons, 7 in memory, 5 in the returned cargo.
fn busy() -> (Sidecar, Cargo) {
    let sidecar = Sidecar::new();
    let ledger = sidecar.buffer.ledger();
    let receive = |logs| ledger.receive(arrival(b"s", logs));
    ledger.forwarded([receive(100)]);
    ledger.dropped([receive(4)], DropReason::BufferFull);
    ledger.dropped([receive(4)], DropReason::Expired);
    for logs in [5, 7] {
        let stored = sidecar.buffer.receive(arrival(b"s", logs));
        stored.now_or_never().expect("there is room");
    }
    let mut cargo = sidecar
        .buffer
        .take(5)
        .now_or_never()
        .expect("two batches wait");
    ledger.launch(cargo.front_mut(1));
    ledger.dropped_by_sender(340, 16);
    sidecar.metrics.upstream.set_connected(true);
    sidecar
        .metrics
        .forward
        .succeeded_at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    sidecar.view.enter(Phase::Accepting);
    (sidecar, cargo)
}

async fn api(sidecar: &Sidecar) -> (Handle, PathBuf, TempDir) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("weir.sock");
    let endpoint = Endpoint {
        scrape: None,
        api: Some(path.clone()),
    };
    let handle = endpoint.start(Arc::clone(&sidecar.view)).await.unwrap();
    (handle, path, dir)
}

async fn printed(path: &Path, form: Form) -> String {
    let mut output = Vec::new();
    print(path, form, &mut output).await.unwrap();
    String::from_utf8(output).unwrap()
}

#[tokio::test]
async fn the_document_says_where_every_log_is() {
    let (sidecar, _in_flight) = busy();
    let (_handle, path, _dir) = api(&sidecar).await;
    let answer = fetch(&path).await.unwrap();
    let status = &answer.document;
    assert!(status.connected);
    assert_eq!(status.phase, Phase::Accepting);
    assert_eq!(status.received_logs, 120);
    assert_eq!(status.forwarded_logs, 100);
    assert_eq!((status.in_memory_logs, status.in_flight_logs), (7, 5));
    assert_eq!((status.on_disk_logs, status.imbalance_logs), (0, 0));
    assert_eq!(status.dropped_logs["buffer_full"], 4);
    assert_eq!(status.dropped_logs["expired"], 4);
    assert_eq!(status.dropped_logs.len(), DropReason::ALL.len());
    assert_eq!(status.dropped_logs.values().sum::<u64>(), 8);
    assert_eq!(status.dropped_by_sender.channel_full, 340);
    assert_eq!(status.dropped_by_sender.batch_full, 16);
    assert_eq!((status.buffer.batches, status.buffer.bytes), (2, 12));
    assert_eq!(status.buffer.capacity_batches, 100);
    assert_eq!(
        status.upstream.last_success_timestamp_seconds,
        Some(1_800_000_000)
    );
    assert_eq!(status.senders.len(), 2);

    // What the contract names is at the top level of the raw document too.
    let raw: serde_json::Value = serde_json::from_str(&answer.json).unwrap();
    for key in [
        "connected",
        "received_logs",
        "forwarded_logs",
        "dropped_logs",
        "in_memory_logs",
        "on_disk_logs",
        "in_flight_logs",
        "imbalance_logs",
        "oldest_log_age_seconds",
        "senders",
    ] {
        assert!(raw.get(key).is_some_and(|value| !value.is_null()), "{key}");
    }
    assert_eq!(raw["time_to_full_seconds"], serde_json::Value::Null);
}

#[tokio::test]
async fn the_scrape_address_has_the_same_document() {
    let (sidecar, _in_flight) = busy();
    let endpoint = sidecar.endpoint().await;
    let answer = get(&endpoint, "/status");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let status: StatusDocument = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(status.received_logs, 120);
}

#[tokio::test]
async fn the_api_socket_knows_two_paths() {
    let (sidecar, _in_flight) = busy();
    let (_handle, path, _dir) = api(&sidecar).await;
    let ask = |method, target| {
        let stream = UnixStream::connect(&path).unwrap();
        exchange(stream, &request(method, target, "")).status()
    };
    assert_eq!(ask("GET", "/v1/status"), 200);
    assert_eq!(ask("GET", "/metrics"), 200);
    assert_eq!(ask("GET", "/status"), 404);
    assert_eq!(ask("POST", "/v1/status"), 405);
}

#[test]
fn only_so_many_senders_are_named() {
    let document = fresh_document(MAX_SENDERS + 7);
    assert_eq!(document.senders.len(), MAX_SENDERS);
    assert_eq!(document.senders_left_out, 7);
    let size = serde_json::to_vec(&document).unwrap().len();
    assert!(size < 256 * 1024, "{size}");
    let table = render_table(&document, 0);
    assert!(table.ends_with(&format!("and {} more\n", MAX_SENDERS + 7 - 20)));
}

fn fresh_document(senders: usize) -> StatusDocument {
    let all = (0..senders as u64).map(|number| sender(number, "a-command-of-15"));
    let now = Instant::now();
    Sidecar::with_senders(now, all.collect()).view.status(now)
}

#[tokio::test]
async fn the_table_is_aligned_and_whole() {
    let (sidecar, _in_flight) = busy();
    let (_handle, path, _dir) = api(&sidecar).await;
    let mut status = fetch(&path).await.unwrap().document;
    status.uptime_seconds = 3723.9;
    status.oldest_log_age_seconds = 3.5;
    status.time_to_full_seconds = Some(7500.2);
    status.buffer.capacity_bytes = 16 << 20;
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "sidecar       {version}, accepting, up 1h 2m 3s
upstream      connected to http://coder.example, last acknowledgement 1m 40s ago
buffer        2 of 100 batches, 12 B of 16.0 MiB
oldest log    3s
time to full  2h 5m
scripts       0 succeeded, 0 failed, 0 to be told upstream

logs
  received             120
  forwarded            100
  dropped                8
    buffer_full          4
    expired              4
    forward_failed       0
    shutdown             0
    spool_corrupt        0
    spool_full           0
  in memory              7
  on disk                0
  in flight              5
  imbalance              0
  possible duplicates    0
lost by their senders
  channel full         340
  batch full            16

sender   pid   uid  command   connected  frames  logs  rejected  last frame
     1  4001  1000  boundary      1m 1s      12   120         0      2s ago
     2  4002  1000  emit          1m 1s      12   120         0       never
"
    );
    assert_eq!(render_table(&status, 1_800_000_100), expected);

    status.connected = false;
    status.upstream.last_success_timestamp_seconds = None;
    status.time_to_full_seconds = None;
    status.senders.clear();
    let table = render_table(&status, 0);
    assert!(table.contains("not connected to http://coder.example, nothing acknowledged yet\n"));
    assert!(table.contains("time to full  not filling\n"));
    assert!(table.ends_with("\nno senders\n"));
}

#[tokio::test]
async fn a_sender_cannot_write_to_the_terminal_of_the_reader() {
    let mut document = fresh_document(1);
    document.senders[0].command = "\x1b[2Jx\ny\u{9b}".to_owned();
    document.upstream.url = "http://a\r".to_owned();
    let table = render_table(&document, 0);
    let obeyed = table
        .chars()
        .filter(|c| c.is_control() && *c != '\n')
        .count();
    assert_eq!(obeyed, 0);
    assert!(table.contains("?[2Jx?y?") && table.contains("http://a?,"));
}

#[tokio::test]
async fn json_is_the_document_on_one_line() {
    let (sidecar, _in_flight) = busy();
    let (_handle, path, _dir) = api(&sidecar).await;
    let form = Form {
        json: true,
        ..Form::default()
    };
    let text = printed(&path, form).await;
    assert_eq!(text.lines().count(), 1);
    let document: StatusDocument = serde_json::from_str(&text).unwrap();
    assert_eq!(document.received_logs, 120);
}

/// Takes so many flushes, then fails.
struct Reader {
    read: Vec<u8>,
    flushes: usize,
    then: io::ErrorKind,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.flushes == 0 {
            return Err(self.then.into());
        }
        self.read.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushes -= 1;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_watched_status_comes_again_until_nobody_reads() {
    let (sidecar, _in_flight) = busy();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("weir.sock");
    // On this runtime, since a paused clock does not wait for another thread.
    let (listener, _) = Listener::bind(&Address::Unix(path.clone())).await.unwrap();
    let offer = Offer {
        routes: pages::api,
        own_user_only: true,
    };
    let mut server = JoinSet::new();
    server.spawn(async move {
        serve(&listener, &offer, &sidecar.view, &CancellationToken::new()).await;
    });
    let watch = Form {
        watch: true,
        ..Form::default()
    };
    let terminal = Form {
        terminal: true,
        ..watch
    };
    for (form, redraws) in [(watch, 0), (terminal, 3)] {
        let mut reader = Reader {
            read: Vec::new(),
            flushes: 3,
            then: io::ErrorKind::BrokenPipe,
        };
        print(&path, form, &mut reader).await.unwrap();
        let text = String::from_utf8(reader.read).unwrap();
        assert_eq!(text.matches("sidecar  ").count(), 3);
        assert_eq!(text.matches('\x1b').count(), 2 * redraws);
    }
    let mut full = Reader {
        read: Vec::new(),
        flushes: 0,
        then: io::ErrorKind::StorageFull,
    };
    let failed = print(&path, Form::default(), &mut full).await.unwrap_err();
    assert!(matches!(failed, StatusError::Output(_)));
}

#[tokio::test]
async fn without_a_sidecar_the_message_names_the_path() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("weir.sock");
    let stale = dir.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    for path in [missing, stale] {
        let failed = print(&path, Form::default(), &mut Vec::new())
            .await
            .unwrap_err();
        let message = failed.to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains("no sidecar answers"), "{message}");
    }
}

/// What the client makes of a server that answers anything with these bytes.
async fn answered_with(bytes: &'static [u8]) -> String {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("weir.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.extend(byte);
        }
        stream.write_all(bytes).unwrap();
    });
    let failed = fetch(&path).await.unwrap_err().to_string();
    server.join().unwrap();
    failed
}

#[tokio::test]
async fn an_answer_that_is_no_status_is_named_as_such() {
    let failed = answered_with(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    assert!(failed.contains("expected 200, got 404"), "{failed}");
    let failed = answered_with(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    assert!(
        failed.contains("expected a status document: missing field"),
        "{failed}"
    );
    let failed = answered_with(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}").await;
    assert!(failed.contains("to the end"), "{failed}");
    let failed = answered_with(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}").await;
    assert!(failed.contains("at most 4194304 bytes"), "{failed}");
    let failed = answered_with(b"boundary?\n").await;
    assert!(failed.contains("expected an HTTP response"), "{failed}");
    let failed = answered_with(b"").await;
    assert!(failed.contains("expected an HTTP response"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_does_not_answer_is_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("weir.sock");
    let _silent = UnixListener::bind(&path).unwrap();
    let failed = fetch(&path).await.unwrap_err().to_string();
    assert!(failed.contains("not answered within 5 s"), "{failed}");
}
