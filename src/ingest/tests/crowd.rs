//! Many connections, and too few descriptors. Each of these needs a process of its own.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Mutex;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::ingest::raise_descriptor_limit;

const CROWD: usize = 10_000;

/// Both ends of every connection are in this process.
const DESCRIPTORS: u64 = 2 * CROWD as u64 + 100;

/// What a connection may cost while it is idle.
const IDLE_BYTES: usize = 2048;

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little() {
    let hard = getrlimit(Resource::Nofile).maximum;
    if hard.is_some_and(|hard| hard < DESCRIPTORS) && !raise_hard_limit() {
        eprintln!("SKIPPED: needs {DESCRIPTORS} descriptors, the hard limit is {hard:?}");
        return;
    }
    if !is_alone("ingest::tests::crowd::ten_thousand_idle_connections_cost_little") {
        return;
    }
    raise_descriptor_limit().unwrap();
    let rig = Rig::start();
    tokio::spawn(forward_all(Arc::clone(&rig.buffer)));
    let frame = batch("s", 10);
    let before = resident();
    let mut senders = Vec::with_capacity(CROWD);
    for number in 1..=CROWD {
        let mut sender = StdStream::connect(rig.path()).unwrap();
        sender.write_all(&frame).unwrap();
        senders.push(sender);
        until("it is read", || {
            rig.books().received.batches == number as u64
        })
        .await;
    }
    until("all is forwarded", || {
        rig.books().forwarded.batches == CROWD as u64
    })
    .await;
    let each = (resident() - before) / CROWD;
    eprintln!("{each} bytes for each idle connection");
    assert!(each <= IDLE_BYTES, "{each} bytes for each idle connection");

    assert_eq!(rig.sample("weir_connections", ""), CROWD as u64);
    assert_eq!(rig.senders.snapshot().len(), CROWD);
    for sender in &mut senders {
        sender.write_all(&frame).unwrap();
    }
    assert_eq!(rig.stopped().await.received.batches, 2 * CROWD as u64);
}

/// With the privilege for it, in this process and those it starts.
fn raise_hard_limit() -> bool {
    let limit = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: Some(DESCRIPTORS),
    };
    setrlimit(Resource::Nofile, limit).is_ok()
}

/// Bytes of memory this process has in use.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

#[tokio::test]
async fn running_out_of_descriptors_is_survived_and_told_once() {
    if !is_alone("ingest::tests::crowd::running_out_of_descriptors_is_survived_and_told_once") {
        return;
    }
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let rig = Rig::start();
    yield_now().await;
    // A socket that exists can be connected without another descriptor on this side.
    let address = SocketAddrUnix::new(rig.path()).unwrap();
    let new = || rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let sockets = [new(), new(), new()];
    let limit = Rlimit {
        current: Some(64),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();

    for outage in 1..=2 {
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        assert!(
            sockets[0].try_clone().is_err(),
            "there is no descriptor left"
        );
        let socket = &sockets[outage];
        rustix::net::connect(socket, &address).unwrap();
        rustix::io::write(socket, &batch("s", 1)).unwrap();
        until("it is noticed", || log.count("cannot accept") == outage).await;
        tokio::time::pause();
        for _ in 0..5 {
            tokio::time::advance(Duration::from_millis(100)).await;
            yield_now().await;
        }
        tokio::time::resume();
        assert_eq!(log.count("cannot accept"), outage, "once for each outage");
        assert_eq!(rig.books().received.batches, outage as u64 - 1);
        drop(taken);
        until("it is served", || {
            rig.books().received.batches == outage as u64
        })
        .await;
        assert_eq!(log.count("accepted again"), outage);
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn count(&self, message: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap())
            .matches(message)
            .count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
