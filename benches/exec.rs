//! What `weir exec true` costs over `true`: alternating runs on one machine, the medians and their difference. With a sidecar
//! that takes the report, without one (the queue is empty at first, then full), and with a timeout.
//!
//! `cargo bench --bench exec`

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and ends at the first surprise"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs of each; the first ones only warm up.
const RUNS: usize = 100;
const WARM_UP: usize = 10;

/// What a run may cost over the bare command.
const ALLOWED: Duration = Duration::from_millis(5);

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let api = directory.path().join("weir.sock");
    row("no sidecar", &api, &[]);
    for _ in 0..1000 {
        spend(exec(&api, &[]));
    }
    row("no sidecar, queue full", &api, &[]);
    let sidecar = Sidecar::start(directory.path());
    row("a sidecar", &api, &[]);
    row("a sidecar, --timeout 10m", &api, &["--timeout", "10m"]);
    drop(sidecar);
}

fn row(what: &str, api: &Path, flags: &[&str]) {
    let (mut bare, mut wrapped) = (Vec::new(), Vec::new());
    for _ in 0..WARM_UP + RUNS {
        bare.push(spend(Command::new("true")));
        wrapped.push(spend(exec(api, flags)));
    }
    let [bare, wrapped] = [bare, wrapped].map(|mut spent| {
        let spent = &mut spent[WARM_UP..];
        spent.sort_unstable();
        spent[RUNS / 2]
    });
    let cost = wrapped.saturating_sub(bare);
    let verdict = if cost <= ALLOWED {
        ""
    } else {
        "  more than is allowed"
    };
    println!(
        "{what:28} true {bare:9.2?}   weir exec true {wrapped:9.2?}   cost {cost:9.2?}{verdict}"
    );
}

fn exec(api: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(WEIR);
    command
        .args(["exec", "--report-to"])
        .arg(api)
        .args(flags)
        .arg("true");
    command
}

fn spend(mut command: Command) -> Duration {
    let began = Instant::now();
    let status = command.status().expect("it runs");
    assert!(status.success(), "{command:?}");
    began.elapsed()
}

/// A sidecar of a control plane that is away.
struct Sidecar(Child);

impl Sidecar {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(WEIR)
            .args([
                "run",
                "--agent-url=http://127.0.0.1:9",
                "--agent-token=t",
                "--prometheus-address=",
            ])
            .arg("--boundary-log-proxy-socket-path")
            .arg(directory.join("audit.sock"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the sidecar starts");
        let mut ready = String::new();
        let stdout = child.stdout.as_mut().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut ready)
            .expect("it says that it is ready");
        assert!(ready.contains("weir.sock"), "{ready}");
        Self(child)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.0
            .kill()
            .and_then(|()| self.0.wait())
            .expect("it can be ended");
    }
}
