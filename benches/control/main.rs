//! The control plane beside a server on the real Go libraries, each as its own process, in one run on one machine:
//! the same Go agent sends joined requests over one connection, and holds idle connections open. Then a thousand agents
//! that report every second, beside nothing.
//!
//! `cargo bench --bench control`; needs the peers: `(cd tests/interop && go build -o bin/ ./cmd/...)`.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and ends at the first surprise"
)]

mod agents;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const TOKEN: &str = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";

/// How agents reach the servers.
const TRANSPORTS: [&str; 2] = ["websocket", "grpc"];

/// Agents that do nothing but answer pings.
const IDLE: u64 = 1000;

fn main() {
    println!(
        "{:52} {:>12} {:>12} {:>8}",
        "", "weir", "go server", "ratio"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("boundary.jsonl");
    let output = output.to_str().expect("a path that is text");
    // The wire audit is an aid of tests: without it the server does what coderd does.
    let go = Server::start(peer("coderd"), &["-audit=false"]);
    let weir = Server::weir(&[]);
    for transport in TRANSPORTS {
        for lanes in ["1", "4", "16"] {
            let what = format!("{transport}: {lanes} calls at a time, logs/s");
            let (weir, go) = (weir.load(transport, lanes), go.load(transport, lanes));
            row(&what, weir, go, |weir, go| weir / go);
        }
    }
    drop(weir);
    let weir = Server::weir(&["--boundary-log-output", output]);
    for transport in TRANSPORTS {
        let written = weir.load(transport, "4");
        let what = format!("{transport}: 4 calls at a time, written to a file, logs/s");
        println!("{what:52} {written:12.1}");
    }
    drop((weir, go));

    for transport in TRANSPORTS {
        let weir = Server::weir(&[]).idle(transport);
        let go = Server::start(peer("coderd"), &["-audit=false"]).idle(transport);
        let what = format!("{transport}: {IDLE} idle agents, KiB each");
        row(&what, weir, go, |weir, go| go / weir);
    }

    for transport in TRANSPORTS {
        agents::bench(transport, directory.path());
    }
}

fn row(what: &str, weir: f64, go: f64, better: impl Fn(f64, f64) -> f64) {
    println!("{what:52} {weir:12.1} {go:12.1} {:7.2}x", better(weir, go));
}

/// A program of the Go module.
fn peer(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/interop/bin")
        .join(name)
}

/// A server that agents dial; ends with this.
struct Server {
    child: Child,
    url: String,
    /// Where they dial by gRPC, when that is elsewhere.
    grpc: Option<String>,
    /// Where it is scraped, when it is.
    prometheus: Option<String>,
}

impl Server {
    fn weir(args: &[&str]) -> Self {
        let all = [
            "control-plane",
            "--listen=127.0.0.1:0",
            "--agent-token",
            TOKEN,
            "--log-level=warn",
        ];
        Self::start(env!("CARGO_BIN_EXE_weir").into(), &[&all, args].concat())
    }

    fn start(program: PathBuf, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let ready = first_line(&mut child);
        let text = |field: &str| ready[field].as_str().map(str::to_owned);
        Self {
            child,
            url: text("url").expect("a URL"),
            grpc: text("grpc"),
            prometheus: text("prometheus"),
        }
    }

    fn agent(&self, transport: &str, args: &[&str]) -> Command {
        let url = match (&self.grpc, transport) {
            (Some(url), "grpc") => url,
            _ => &self.url,
        };
        let mut command = Command::new(peer("agent"));
        command
            .args(["-url", url, "-token", TOKEN, "-transport", transport])
            .args(args);
        command
    }

    /// Logs a second that are acknowledged over one connection.
    fn load(&self, transport: &str, lanes: &str) -> f64 {
        let load = self
            .agent(
                transport,
                &["-mode", "load", "-seconds", "5", "-lanes", lanes],
            )
            .output();
        let load = load.expect("the agent runs").stdout;
        let told: Value = serde_json::from_slice(&load).expect("the agent says what it did");
        told["logs_per_second"].as_f64().expect("a number")
    }

    /// KiB that each idle agent adds to what the server takes without any.
    fn idle(&self, transport: &str) -> f64 {
        let before = self.resident();
        let connections = IDLE.to_string();
        let mut agents = self
            .agent(transport, &["-mode", "idle", "-connections", &connections])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the agent runs");
        assert_eq!(first_line(&mut agents)["connections"], IDLE);
        let taken = self.resident() - before;
        drop(agents.stdin.take());
        agents.wait().expect("the agent ends");
        taken / IDLE as f64
    }

    /// Resident memory in KiB.
    fn resident(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most of it that there ever was.
    fn peak(&self) -> f64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, key: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("a process that runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .expect("the server can be ended");
    }
}

/// The ready line of a program.
fn first_line(child: &mut Child) -> Value {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("stdout is piped"))
        .read_line(&mut line)
        .expect("a line on stdout");
    serde_json::from_str(&line).expect("a line of JSON")
}
