#![expect(
    clippy::disallowed_methods,
    reason = "a test owns its tasks by running them to the end, and writes what the socket takes"
)]

mod bind;
mod crowd;
mod flow;
mod frames;
mod stop;

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::core::Collector;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Ingest, Listener, Senders, Settings, Stage, conn};
use crate::buffer::ledger::{Ledger, Snapshot};
use crate::buffer::queue::{Cargo, Limits};
use crate::buffer::{Buffer, WhenFull};
use crate::metrics::{FrameFault, Metrics};

/// Longer than anything takes on a loaded machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

const ROOMY: Limits = Limits {
    max_batches: 1_000_000,
    max_bytes: 1 << 30,
};

/// A running stage on a socket of its own.
struct Rig {
    dir: TempDir,
    buffer: Arc<Buffer>,
    metrics: Metrics,
    senders: Arc<Senders>,
    stop: CancellationToken,
    running: JoinHandle<io::Result<()>>,
}

impl Rig {
    fn start() -> Self {
        Self::with(ROOMY, WhenFull::DropNewest)
    }

    fn with(limits: Limits, when_full: WhenFull) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&settings(&dir)).unwrap();
        Self::on(dir, listener, limits, when_full, CancellationToken::new())
    }

    fn on(
        dir: TempDir,
        listener: Listener,
        limits: Limits,
        when_full: WhenFull,
        stop: CancellationToken,
    ) -> Self {
        let buffer = Buffer::new(limits, when_full, Ledger::new());
        let metrics = Metrics::new().unwrap();
        let senders = Senders::new();
        let running = tokio::spawn(Ingest::new(listener).run(
            Arc::clone(&buffer),
            metrics.ingest.clone(),
            Arc::clone(&senders),
            stop.clone(),
        ));
        Self {
            dir,
            buffer,
            metrics,
            senders,
            stop,
            running,
        }
    }

    /// Serves a connection that came another way.
    fn serve(&self, stream: UnixStream) -> impl Future<Output = ()> + use<> {
        let seat = self.senders.enter(&stream, Instant::now());
        let stage = Stage {
            buffer: Arc::clone(&self.buffer),
            metrics: self.metrics.ingest.clone(),
            senders: Arc::clone(&self.senders),
            warnings: Mutex::default(),
        };
        conn::serve(stream, seat, Arc::new(stage), self.stop.clone())
    }

    fn path(&self) -> PathBuf {
        settings(&self.dir).path
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.unwrap()
    }

    fn books(&self) -> Snapshot {
        self.buffer.ledger().snapshot()
    }

    /// The counters of rejected frames that are not 0.
    fn rejected(&self) -> Vec<(String, u64)> {
        FrameFault::VALUES
            .iter()
            .map(|value| {
                (
                    (*value).to_owned(),
                    self.sample("weir_frames_rejected_total", value),
                )
            })
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// The value of a family without labels, or with this one.
    fn sample(&self, family: &str, label: &str) -> u64 {
        let families = self.metrics.collectors();
        let found = families
            .iter()
            .flat_map(|c| Collector::collect(&**c))
            .find(|f| f.name() == family);
        let found = found.expect("a family of the catalogue");
        let series = found
            .get_metric()
            .iter()
            .find(|series| series.get_label().is_empty() || series.get_label()[0].value() == label);
        let series = series.expect("a series that exists from the start");
        let (counter, gauge) = (
            series.get_counter().get_value(),
            series.get_gauge().get_value(),
        );
        (counter + gauge) as u64
    }

    async fn stopped(self) -> Snapshot {
        self.stop.cancel();
        timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        self.buffer.ledger().snapshot()
    }
}

fn settings(dir: &TempDir) -> Settings {
    Settings {
        path: dir.path().join("audit.sock"),
        mode: 0o600,
        take_over: false,
    }
}

/// Lets the other tasks run until `condition` holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !condition() {
            yield_now().await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("waited too long until {what}"));
}

/// Ends batches as fast as they come, as a perfect link would.
async fn forward_all(buffer: Arc<Buffer>) {
    loop {
        forward(&buffer, buffer.take(u64::MAX).await);
    }
}

fn forward(buffer: &Buffer, mut cargo: Cargo) {
    let all = cargo.len();
    buffer.ledger().forwarded(cargo.remove_front(all));
    if let Some(lane) = buffer.settle(cargo, 1) {
        buffer.rouse(lane);
    }
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(value.len(), &mut field).unwrap();
    field.extend_from_slice(value);
    field
}

/// A request of `logs` entries, each a URL of `url` bytes.
fn request(session: &str, logs: usize, url: usize) -> Vec<u8> {
    let log = field(1, &field(3, &field(2, &vec![b'u'; url])));
    let mut request = log.repeat(logs);
    if !session.is_empty() {
        request.extend(field(2, session.as_bytes()));
    }
    request
}

fn frame(tag: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut frame = (u32::from(tag) << 24 | length).to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// A V2 frame with logs.
fn batch(session: &str, logs: usize) -> Vec<u8> {
    frame(2, &field(1, &request(session, logs, 20)))
}

/// In the process of [`alone`]: which test it is there for.
const ALONE: &str = "WEIR_TEST_ALONE";

/// The test of this name, to be run in a process that has nothing else to do.
fn alone(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, name);
    command
}

/// Runs the test of this name again in a process of its own. `true` in that process, `false` in the first one,
/// once the other has passed.
fn is_alone(name: &str) -> bool {
    if std::env::var(ALONE).is_ok_and(|value| value == name) {
        return true;
    }
    let run = alone(name).output().unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && output.contains("1 passed"),
        "{output}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    false
}
