//! What it costs to take batches from the audit socket, up to the end of their life: the socket itself, the frames,
//! the walk, the buffer and the books. Everything but the sender is on the measured thread.
//!
//! The `alloc` rows are per iteration of [`FRAMES`] frames.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use tokio::runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir::buffer::ledger::Ledger;
use weir::buffer::queue::Limits;
use weir::buffer::{Buffer, WhenFull};
use weir::ingest::{Ingest, Listener, Senders, Settings};
use weir::metrics::Metrics;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const LOGS: usize = 10;
const FRAMES: usize = 10_000;

fn main() {
    divan::main();
}

/// Frames of 10 logs and 2.6 KB, one to a write, through connections that share one reader.
#[divan::bench(args = [1, 16], sample_count = 20)]
fn frames_through_the_socket(bencher: Bencher<'_, '_>, connections: usize) {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let settings = Settings {
        path: dir.path().join("audit.sock"),
        mode: 0o600,
        take_over: false,
    };
    let listener = Listener::bind(&settings).expect("a socket");
    let limits = Limits {
        max_batches: 10_000,
        max_bytes: 16 << 20,
    };
    let patient = WhenFull::Block {
        deadline: std::time::Duration::from_secs(60),
    };
    let buffer = Buffer::new(limits, patient, Ledger::new());
    let metrics = Metrics::new().expect("metrics");
    let stop = CancellationToken::new();
    let mut stages = JoinSet::new();
    stages.spawn_on(
        Ingest::new(listener).run(Arc::clone(&buffer), metrics.ingest, Senders::new(), stop),
        runtime.handle(),
    );
    let mut senders: Vec<_> = (0..connections)
        .map(|_| UnixStream::connect(&settings.path).expect("a connection"))
        .collect();

    let (go, rounds) = mpsc::sync_channel::<()>(0);
    let sending = thread::spawn(move || {
        let frame = frame();
        while rounds.recv().is_ok() {
            for turn in 0..FRAMES {
                let sender = &mut senders[turn % connections];
                sender.write_all(&frame).expect("the reader reads");
            }
        }
    });
    bencher
        .counter(ItemsCount::new(FRAMES * LOGS))
        .bench_local(|| {
            go.send(()).expect("the sender waits");
            runtime.block_on(end(&buffer, FRAMES));
        });
    drop(go);
    sending.join().expect("the sender ends");
}

/// Ends this many batches, as fast as they come.
async fn end(buffer: &Buffer, batches: usize) {
    let mut left = batches;
    while left > 0 {
        let mut cargo = buffer.take(u64::MAX).await;
        let all = cargo.len();
        buffer.ledger().forwarded(cargo.remove_front(all));
        if let Some(lane) = buffer.settle(cargo, 1) {
            buffer.rouse(lane);
        }
        left -= all;
    }
}

/// A V1 frame with 200-byte URLs.
fn frame() -> Vec<u8> {
    let url = field(2, &[b'u'; 200]);
    let rule = field(3, b"domain=example.com");
    let request = field(3, &[field(1, b"GET"), url, rule].concat());
    let time = field(2, &[0x08, 0x80, 0xf2, 0xd6, 0xca, 0x06]);
    let log = field(1, &[vec![0x08, 1], time, vec![0x20, 5], request].concat());
    let session = field(2, b"6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d");
    let payload = [log.repeat(LOGS), session].concat();
    let header = weir::wire::boundary::header(weir::wire::boundary::Tag::V1, payload.len());
    [&header.expect("a frame of legal size")[..], &payload].concat()
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(value.len(), &mut field).expect("room");
    field.extend_from_slice(value);
    field
}
