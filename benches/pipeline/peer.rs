//! The processes of the bench.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use weir::upstream::Transport;

const TOKEN: &str = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";

/// Clock ticks a second in `/proc/PID/stat`: the same on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// A child process that ends with this, and the line it printed when it was ready.
struct Process {
    child: Child,
    ready: Value,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the peers are built: (cd tests/interop && go build -o bin/ ./cmd/...)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("a line");
        let ready = serde_json::from_str(&line).expect("the ready line is JSON");
        Self { child, ready }
    }

    fn text(&self, key: &str) -> String {
        self.ready[key].as_str().expect("a text").to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().expect("the peer can be ended");
        self.child.wait().expect("the peer has ended");
    }
}

fn interop(program: &str) -> Command {
    Command::new(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/interop/bin")
            .join(program),
    )
}

/// The server at the other end.
pub(crate) struct Coderd {
    process: Process,
}

impl Coderd {
    pub(crate) fn start(rtt: &str) -> Self {
        let mut command = interop("coderd");
        command.args(["-rtt", rtt, "-strict=false", "-audit=false"]);
        Self {
            process: Process::start(command),
        }
    }

    pub(crate) fn reset(&self) {
        self.control("POST", "/reset");
    }

    /// Logs in the requests that were answered so far.
    pub(crate) fn received_logs(&self) -> u64 {
        let account: Value =
            serde_json::from_str(&self.control("GET", "/account")).expect("the account is JSON");
        let sessions = account["sessions"].as_object().expect("sessions");
        sessions
            .values()
            .filter_map(|session| session["logs"].as_u64())
            .sum()
    }

    pub(crate) fn wait_for_logs(&self, logs: u64, patience: Duration) {
        let begun = Instant::now();
        while self.received_logs() < logs {
            assert!(
                begun.elapsed() < patience,
                "{} of {logs} logs arrived",
                self.received_logs()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn control(&self, method: &str, path: &str) -> String {
        let url = self.process.text("control");
        let address = url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).expect("the control endpoint listens");
        write!(stream, "{method} {path} HTTP/1.0\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        body.to_owned()
    }
}

/// What forwards from a socket to the server.
pub(crate) struct Forwarder {
    process: Process,
    pub(crate) socket: PathBuf,
    _dir: TempDir,
}

impl Forwarder {
    pub(crate) fn weir(coderd: &Coderd, over: Transport, settings: &[&str]) -> Self {
        let url = match over {
            Transport::WebSocket => "url",
            Transport::Grpc => "grpc",
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .arg("run")
            .args(["--agent-url", &coderd.process.text(url)])
            .args(["--transport", over.name(), "--agent-token", TOKEN])
            .args(["--prometheus-address", "127.0.0.1:0"])
            .args(settings);
        Self::start(command, "--boundary-log-proxy-socket-path")
    }

    pub(crate) fn go_proxy(coderd: &Coderd) -> Self {
        let mut command = interop("goproxy");
        command.args(["-url", &coderd.process.text("url"), "-token", TOKEN]);
        Self::start(command, "-socket")
    }

    fn start(mut command: Command, socket_flag: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let socket = dir.path().join("audit.sock");
        command.arg(socket_flag).arg(&socket);
        Self {
            process: Process::start(command),
            socket,
            _dir: dir,
        }
    }

    /// User and system time so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        let (_, fields) = stat
            .rsplit_once(')')
            .expect("the command is in parentheses");
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks
            .map(|ticks| ticks.parse::<f64>().expect("a number"))
            .sum::<f64>()
            / TICKS
    }

    pub(crate) fn rss_mib(&self) -> f64 {
        self.status("status", "VmRSS:") / 1024.0
    }

    pub(crate) fn threads(&self) -> f64 {
        self.status("status", "Threads:")
    }

    /// How often any thread was woken so far.
    pub(crate) fn wakeups(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.child.id()));
        let names = tasks
            .expect("threads")
            .filter_map(|task| task.ok()?.file_name().into_string().ok());
        names
            .map(|task| {
                self.status(&format!("task/{task}/status"), "voluntary_ctxt_switches:") as u64
            })
            .sum()
    }

    fn status(&self, file: &str, key: &str) -> f64 {
        let status = self.proc(file);
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .expect("the key is there");
        let number = line.split_whitespace().next().expect("a value");
        number.parse().expect("a number")
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.process.child.id())).expect("it runs")
    }
}
