//! Many connections, and too few descriptors. Each of these needs a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::sync::Mutex;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::ingest::raise_descriptor_limit;

const CROWD: usize = 10_000;

/// Each of two processes has one end of every connection.
const DESCRIPTORS: u64 = CROWD as u64 + 100;

/// What a connection may cost while it is idle.
const IDLE_BYTES: usize = 2048;

/// Tells the reading process where to listen.
const SOCKET: &str = "WEIR_TEST_SOCKET";

#[test]
fn ten_thousand_idle_connections_cost_little() {
    let hard = getrlimit(Resource::Nofile).maximum;
    if hard.is_some_and(|hard| hard < DESCRIPTORS) {
        eprintln!("SKIPPED: needs {DESCRIPTORS} descriptors, the hard limit is {hard:?}");
        return;
    }
    raise_descriptor_limit().unwrap();
    if let Ok(path) = std::env::var(SOCKET) {
        return read_a_crowd(path.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut reader = alone("ingest::tests::crowd::ten_thousand_idle_connections_cost_little")
        .env(SOCKET, settings(&dir).path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(reader.stdout.take().unwrap()).lines();
    let mut wait_for = |word: &str| {
        let line = told
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains(word));
        line.unwrap_or_else(|| panic!("the reader ended before it said {word:?}"))
    };
    wait_for("listening");
    let frame = batch("s", 10);
    let mut senders = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        let mut sender = StdStream::connect(settings(&dir).path).unwrap();
        sender.write_all(&frame).unwrap();
        senders.push(sender);
    }
    println!("{}", wait_for("bytes for each idle connection"));
    for sender in &mut senders {
        sender.write_all(&frame).unwrap();
    }
    wait_for("1 passed");
    assert!(reader.wait().unwrap().success());
}

#[tokio::main(flavor = "current_thread")]
async fn read_a_crowd(path: PathBuf) {
    let crowd = CROWD as u64;
    let dir = tempfile::tempdir().unwrap();
    let listener = Listener::bind(&Settings {
        path,
        ..settings(&dir)
    })
    .unwrap();
    let rig = Rig::on(
        dir,
        listener,
        ROOMY,
        WhenFull::DropNewest,
        CancellationToken::new(),
    );
    tokio::spawn(forward_all(Arc::clone(&rig.buffer)));
    let before = resident();
    println!("listening");
    until("each has sent a batch", || {
        rig.books().forwarded.batches == crowd
    })
    .await;
    let each = (resident() - before) / CROWD;
    assert_eq!(rig.sample("weir_connections", ""), crowd);
    assert_eq!(rig.senders.snapshot().len(), CROWD);
    assert!(each <= IDLE_BYTES, "{each} bytes for each idle connection");
    println!("{each} bytes for each idle connection");
    until("each has sent another", || {
        rig.books().forwarded.batches == 2 * crowd
    })
    .await;
    assert_eq!(rig.stopped().await.received.batches, 2 * crowd);
}

/// Bytes of memory this process has written; the pages of the program that it happens to touch are none.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
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
