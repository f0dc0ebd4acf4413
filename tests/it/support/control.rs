//! `weir control-plane`: started, scraped, stopped; and the agent's side of it on the real Go libraries.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use ring::digest::{Context, SHA256};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use url::Url;
use weir::wire::boundary::encode::LogEntry;

use super::coderd::{TOKEN, program};
use super::http::exchange;
use super::page::Page;
use super::plane::{Delivered, Plane};
use super::sender::{hex, message};
use super::wait::wait_for;

/// A running control plane of Weir's own; ends with this.
#[derive(Debug)]
pub struct Embedded {
    child: Child,
    /// Reads what it logs, so that it never waits for that.
    log: Option<JoinHandle<Vec<u8>>>,
    url: Url,
    prometheus: String,
    directory: TempDir,
}

impl Embedded {
    /// Starts one for the usual token, on ports of its own, that writes boundary logs.
    pub fn start(args: &[&str]) -> Self {
        Self::start_for(&["--agent-token", TOKEN], args)
    }

    /// Starts one for other agents.
    pub fn start_for(agents: &[&str], args: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::spawn(directory, "127.0.0.1:0", &[agents, args].concat())
    }

    /// Ends it at once and starts another one in its place.
    pub fn restart(&mut self) {
        self.kill();
        let directory = tempfile::tempdir().expect("a directory");
        let directory = std::mem::replace(&mut self.directory, directory);
        let listen = self.url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        *self = Self::spawn(directory, &listen, &["--agent-token", TOKEN]);
    }

    fn spawn(directory: TempDir, listen: &str, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(["control-plane", "--listen", listen])
            .args(args);
        if !args.contains(&"--boundary-log-output") {
            command
                .arg("--boundary-log-output")
                .arg(output_in(&directory));
        }
        let mut child = command
            .args(["--prometheus-enable", "--prometheus-address=127.0.0.1:0"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the control plane starts");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let log = thread::spawn(move || {
            let mut log = Vec::new();
            stderr.read_to_end(&mut log).expect("stderr is read");
            log
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().expect("stdout is piped"))
            .read_line(&mut ready)
            .expect("the control plane says that it is ready");
        let ready: Value = serde_json::from_str(&ready).expect("the ready line is JSON");
        assert_eq!(ready["ready"], true);
        let text = |name: &str| ready[name].as_str().expect("a listener").to_owned();
        Self {
            child,
            log: Some(log),
            url: text("url").parse().expect("a URL"),
            prometheus: text("prometheus"),
            directory,
        }
    }

    /// The metrics, in the text format.
    pub async fn page(&self) -> Page {
        let stream = TcpStream::connect(&self.prometheus).await;
        let stream = stream.expect("the scrape address answers");
        let (status, page) = exchange(stream, "GET", "/metrics", "")
            .await
            .expect("a page");
        assert_eq!(status, 200, "{page}");
        Page::parse(&page)
    }

    /// The value of a series that counts things.
    pub async fn count(&self, series: &str) -> u64 {
        self.page().await.count(series)
    }

    /// Waits until a series has a value.
    pub async fn wait_for(&self, series: &str, value: u64) {
        wait_for(&format!("{series} {value}"), async || {
            match self.count(series).await {
                count if count == value => Ok(()),
                count => Err(count),
            }
        })
        .await;
    }

    /// The lines of the boundary log output, each of them whole.
    pub fn lines(&self) -> Vec<Value> {
        let content = std::fs::read_to_string(output_in(&self.directory)).expect("an output");
        assert!(
            content.is_empty() || content.ends_with('\n'),
            "half a line at the end"
        );
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        content.lines().map(parse).collect()
    }

    /// Tells it to stop, and waits; what it said on stderr comes with it.
    pub fn stop(mut self) -> Output {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it runs");
        let log = self.log.take().expect("stopped once");
        let stderr = log.join().expect("stderr is read");
        let mut stdout = Vec::new();
        let pipe = self.child.stdout.as_mut().expect("stdout is piped");
        pipe.read_to_end(&mut stdout).expect("stdout is read");
        let status = self.child.wait().expect("it ends");
        Output {
            status,
            stdout,
            stderr,
        }
    }

    fn kill(&mut self) {
        // It may have been stopped in order.
        if matches!(self.child.try_wait(), Ok(None)) {
            let killed = self.child.kill().and_then(|()| self.child.wait());
            killed.expect("it can be ended");
        }
    }
}

impl Plane for Embedded {
    fn url(&self) -> &Url {
        &self.url
    }

    async fn delivered(&self, session: &str) -> Delivered {
        let mut delivered = Delivered::default();
        let mut sum = Context::new(&SHA256);
        let (mut seen, mut highest) = (HashSet::new(), -1);
        for line in self.lines() {
            if line["session_id"] != session {
                continue;
            }
            let sequence = line["sequence_number"].as_i64().expect("a number");
            if !seen.insert(sequence) {
                delivered.duplicates += 1;
                continue;
            }
            delivered.distinct += 1;
            delivered.out_of_order += u64::from(sequence < highest);
            highest = highest.max(sequence);
            sum.update(&on_the_wire(&line));
        }
        if delivered.distinct > 0 {
            delivered.sha256 = hex(sum.finish().as_ref());
        }
        delivered
    }

    async fn expect_clean_wire(&self) {
        let page = self.page().await;
        let broken = page.family("weir_control_protocol_violations_total");
        let broken: Vec<_> = broken
            .lines()
            .filter(|line| !line.is_empty() && !line.ends_with(" 0"))
            .collect();
        assert!(broken.is_empty(), "{broken:?}");
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.kill();
    }
}

fn output_in(directory: &TempDir) -> PathBuf {
    directory.path().join("boundary.jsonl")
}

/// The `BoundaryLog` that a line was made of, as the senders of these tests encode it.
fn on_the_wire(line: &Value) -> Vec<u8> {
    let text = |field: &str| line[field].as_str().expect("a text");
    let time: prost_types::Timestamp = text("time").parse().expect("RFC 3339");
    message(&LogEntry {
        allowed: text("decision") == "allow",
        seconds: time.seconds,
        nanos: time.nanos,
        sequence: line["sequence_number"].as_i64().expect("a number") as i32,
        method: text("http_method"),
        url: text("http_url"),
        matched_rule: text("matched_rule"),
    })
}

/// Runs the Go agent to its end. `None` when Go is not installed and tests may go without it.
pub fn agent(url: &Url, args: &[&str]) -> Option<Output> {
    let mut command = agent_command(url, args)?;
    Some(command.output().expect("the agent runs"))
}

/// The Go agent, to be run.
pub fn agent_command(url: &Url, args: &[&str]) -> Option<Command> {
    let mut command = Command::new(program("agent")?);
    let url = url.as_str().trim_end_matches('/');
    command.args(["-url", url, "-token", TOKEN]).args(args);
    command.stdin(Stdio::null());
    Some(command)
}
