//! `weir control-plane`: started, scraped, stopped; and the agent's side of it on the real Go libraries.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::coderd::{TOKEN, program};

/// A running control plane; ends with this.
#[derive(Debug)]
pub struct ControlPlane {
    child: Child,
    /// Reads what it logs, so that it never waits for that.
    log: Option<JoinHandle<Vec<u8>>>,
    /// Where agents dial.
    pub url: String,
    /// Where it is scraped.
    pub prometheus: String,
}

impl ControlPlane {
    /// Starts one for the usual token, on ports of its own.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(&[&["--agent-token", TOKEN], args].concat())
    }

    /// Starts one on ports of its own.
    pub fn start_with(args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", args)
    }

    /// Starts one at an address.
    pub fn start_at(listen: &str, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["control-plane", "--listen", listen])
            .args(["--prometheus-enable", "--prometheus-address=127.0.0.1:0"])
            .args(args)
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
            url: text("url"),
            prometheus: text("prometheus"),
        }
    }

    /// The value of a series, such as `weir_control_sessions`.
    pub fn metric(&self, series: &str) -> u64 {
        let page = self.metrics();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no {series} in\n{page}"));
        value.parse().expect("a whole number")
    }

    /// Waits until a series has a value.
    pub fn wait_for(&self, series: &str, value: u64) {
        let deadline = std::time::Instant::now() + super::wait::PATIENCE;
        while self.metric(series) != value {
            assert!(
                std::time::Instant::now() < deadline,
                "{series} is {}, not {value}",
                self.metric(series)
            );
            std::thread::yield_now();
        }
    }

    /// Waits until the page fulfils a condition.
    pub fn until(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let deadline = std::time::Instant::now() + super::wait::PATIENCE;
        while !condition(&self.metrics()) {
            assert!(
                std::time::Instant::now() < deadline,
                "not seen: {what}\n{}",
                self.metrics()
            );
            std::thread::yield_now();
        }
    }

    /// The page of metrics.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(&self.prometheus).expect("the scrape address answers");
        stream
            .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
            .expect("a request is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("a page comes");
        let (head, page) = answer.split_once("\r\n\r\n").expect("a whole answer");
        assert!(head.starts_with("HTTP/1.0 200"), "{head}");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        page.to_owned()
    }

    /// Tells it to stop, and waits; what it said on stderr comes with it.
    pub fn stop(mut self) -> Output {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
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
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // It may have been stopped in order.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child
                .kill()
                .and_then(|()| self.child.wait())
                .expect("it can be ended");
        }
    }
}

/// Runs the Go agent to its end. `None` when Go is not installed and tests may go without it.
pub fn agent(url: &str, args: &[&str]) -> Option<Output> {
    Some(agent_command(url, args)?.output().expect("the agent runs"))
}

/// The Go agent, to be run.
pub fn agent_command(url: &str, args: &[&str]) -> Option<Command> {
    let mut command = Command::new(program("agent")?);
    command
        .args(["-url", url, "-token", TOKEN])
        .args(args)
        .stdin(Stdio::null());
    Some(command)
}

/// The lines of a boundary log output, each of them whole.
pub fn boundary_lines(path: &Path) -> Vec<Value> {
    let content = std::fs::read_to_string(path).expect("the output is there");
    assert!(
        content.is_empty() || content.ends_with('\n'),
        "half a line at the end"
    );
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    content.lines().map(parse).collect()
}
