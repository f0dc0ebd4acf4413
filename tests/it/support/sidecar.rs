//! A running `weir run`: started, scraped, signalled, and its end examined.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use url::Url;

use super::coderd::TOKEN;
use super::http::exchange;
use super::page::Page;
use super::plane::Plane;
use super::wait::wait_for;

/// What `weir run` is started with.
#[derive(Debug)]
pub struct Builder {
    directory: Arc<TempDir>,
    flags: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, String)>,
}

impl Builder {
    /// Sets a flag, in place of what it was set to before.
    pub fn flag(mut self, name: &'static str, value: impl ToString) -> Self {
        self = self.without(name);
        self.flags.push((name, value.to_string()));
        self
    }

    /// Leaves a flag out.
    pub fn without(mut self, name: &'static str) -> Self {
        self.flags.retain(|(flag, _)| *flag != name);
        self
    }

    /// Sets an environment variable. There are no others.
    pub fn variable(mut self, name: &'static str, value: impl ToString) -> Self {
        self.variables.push((name, value.to_string()));
        self
    }

    /// A path in the directory of this sidecar.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it and waits for the ready line.
    pub async fn start(self) -> Sidecar {
        let mut process = self.spawn();
        let ready = wait_for("the ready line", async || {
            match process.stdout.lines().first() {
                Some(line) => Ok(line.clone()),
                None => {
                    let ended = process.child.try_wait().expect("the child can be asked");
                    assert_eq!(ended, None, "ended before it was ready: {}", process.stderr);
                    Err(process.stderr.to_string())
                }
            }
        })
        .await;
        let ready: Value = serde_json::from_str(&ready).expect("the ready line is JSON");
        let text = |field: &str| ready[field].as_str().map(str::to_owned);
        assert_eq!(ready["ready"], true);
        Sidecar {
            socket: text("socket").expect("an audit socket").into(),
            prometheus: text("prometheus"),
            api: text("api").map(PathBuf::from),
            directory: self.directory,
            process,
        }
    }

    /// Starts it and waits for its end, which must come by itself and before it is ready.
    pub async fn fail(self) -> Ended {
        let mut process = self.spawn();
        let status = process.status().await;
        let ended = process.ended(status);
        assert_eq!(ended.stdout, [""; 0], "said to be ready");
        ended
    }

    fn spawn(&self) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("run").env_clear().stdin(Stdio::null());
        for (name, value) in &self.flags {
            command.arg(format!("{name}={value}"));
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("weir starts");
        let stdout = Output::collect(child.stdout.take().expect("stdout is piped"));
        let stderr = Output::collect(child.stderr.take().expect("stderr is piped"));
        Process {
            child,
            stdout,
            stderr,
        }
    }
}

/// A sidecar that is ready. It is killed when this is dropped.
#[derive(Debug)]
pub struct Sidecar {
    /// The audit socket.
    pub socket: PathBuf,
    /// Where it is scraped, when it is.
    pub prometheus: Option<String>,
    /// The API socket, when there is one.
    pub api: Option<PathBuf>,
    directory: Arc<TempDir>,
    process: Process,
}

impl Sidecar {
    /// A sidecar for the control plane at `url`, in a directory of its own, which retries quickly.
    pub fn builder(url: &Url) -> Builder {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        let socket = directory.path().join("audit.sock");
        Builder {
            directory,
            flags: Vec::new(),
            variables: Vec::new(),
        }
        .flag("--agent-url", url)
        .flag("--agent-token", TOKEN)
        .flag("--boundary-log-proxy-socket-path", socket.display())
        .flag("--prometheus-address", "127.0.0.1:0")
        .flag("--retry-initial", "10ms")
        .flag("--retry-max", "100ms")
    }

    /// A sidecar for a control plane, as [`Self::builder`] makes one.
    pub fn of(plane: &impl Plane) -> Builder {
        Self::builder(plane.url()).flag("--transport", plane.transport().name())
    }

    /// Settings for another sidecar in the same directory.
    pub fn beside(&self, plane: &impl Plane) -> Builder {
        self.beside_at(plane.url())
            .flag("--transport", plane.transport().name())
    }

    /// Settings for another sidecar in the same directory, of the control plane at that address.
    pub fn beside_at(&self, url: &Url) -> Builder {
        Builder {
            directory: Arc::clone(&self.directory),
            ..Self::builder(url)
        }
        .flag("--boundary-log-proxy-socket-path", self.socket.display())
    }

    /// Its directory, which stays while this is held.
    pub fn directory(&self) -> Arc<TempDir> {
        Arc::clone(&self.directory)
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The metrics from the scrape address. They must balance.
    pub async fn page(&self) -> Page {
        let (status, text) = self.get("/metrics").await;
        balanced(status, &text)
    }

    /// What the scrape address answers to a request.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let address = self.prometheus.as_ref().expect("a scrape address");
        let stream = TcpStream::connect(address).await;
        let stream = stream.expect("the scrape address accepts");
        exchange(stream, "GET", path, "")
            .await
            .expect("the scrape address answers")
    }

    /// The metrics from the API socket. They must balance.
    pub async fn api_page(&self) -> Page {
        let (status, text) = self.ask("/metrics").await;
        balanced(status, &text)
    }

    /// What the API socket answers to a request.
    pub async fn ask(&self, path: &str) -> (u16, String) {
        let api = self.api.as_ref().expect("an API socket");
        let stream = UnixStream::connect(api).await;
        let stream = stream.expect("the API socket accepts");
        exchange(stream, "GET", path, "")
            .await
            .expect("the API socket answers")
    }

    /// Waits until the metrics fulfil a condition; every page that is seen meanwhile must balance.
    pub async fn wait_for(&self, what: &str, condition: impl Fn(&Page) -> bool) -> Page {
        wait_for(what, async || {
            let page = self.page().await;
            match condition(&page) {
                true => Ok(page),
                false => Err(format!("{}\n{}", page.family("weir_"), self.process.stderr)),
            }
        })
        .await
    }

    /// Waits until so many logs were forwarded in all, and nothing is held any more.
    pub async fn forwarded(&self, logs: u64) -> Page {
        self.wait_for(&format!("{logs} logs forwarded"), |page| {
            page.count("weir_logs_forwarded_total") == logs && held(page) == 0
        })
        .await
    }

    /// Waits until the control plane is connected.
    pub async fn connected(&self) -> Page {
        self.wait_for("a connection", |page| {
            page.count("weir_upstream_connected") == 1
        })
        .await
    }

    /// Waits until the log has a line with this text.
    pub async fn logged(&self, text: &str) -> String {
        wait_for(&format!("{text:?} in the log"), async || {
            let lines = self.process.stderr.lines();
            let found = lines.into_iter().find(|line| line.contains(text));
            found.ok_or_else(|| self.process.stderr.to_string())
        })
        .await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("it runs");
    }

    /// Waits for the end.
    pub async fn end(mut self) -> Ended {
        let status = self.process.status().await;
        self.process.ended(status)
    }

    /// Kills it.
    pub async fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.end().await
    }

    /// Tells it to stop, and waits for the end.
    pub async fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.end().await
    }

    /// Stops it when nothing is held any more: nothing may be lost.
    pub async fn stop_clean(self) -> Ended {
        let ended = self.stop().await;
        assert_eq!(ended.code(), Some(0), "{}", ended.log());
        assert!(
            ended.last_line().contains("nothing was lost by the stop"),
            "{}",
            ended.log()
        );
        ended
    }
}

/// Logs that are neither forwarded nor dropped.
pub fn held(page: &Page) -> u64 {
    ["in_memory", "on_disk", "in_flight"]
        .map(|place| page.count(&format!("weir_logs_{place}")))
        .iter()
        .sum()
}

#[track_caller]
fn balanced(status: u16, text: &str) -> Page {
    assert_eq!(status, 200, "{text}");
    let page = Page::parse(text);
    page.assert_balance();
    page
}

/// How a sidecar ended, and all that it said.
#[derive(Debug)]
pub struct Ended {
    status: ExitStatus,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

impl Ended {
    /// The exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The last line of the log.
    pub fn last_line(&self) -> &str {
        self.stderr.last().map_or("", String::as_str)
    }

    /// The whole log.
    pub fn log(&self) -> String {
        self.stderr.join("\n")
    }

    /// A number in the last line of the log.
    #[track_caller]
    pub fn number(&self, field: &str) -> u64 {
        let mut words = self.last_line().split_whitespace();
        let value = words.find_map(|word| word.strip_prefix(field)?.strip_prefix('='));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {field}= in {:?}", self.last_line()))
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Process {
    async fn status(&mut self) -> ExitStatus {
        wait_for("the end of the process", async || {
            let status = self.child.try_wait().expect("the child can be asked");
            status.ok_or_else(|| self.stderr.to_string())
        })
        .await
    }

    fn ended(&mut self, status: ExitStatus) -> Ended {
        let ended = Ended {
            status,
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        };
        assert!(ended.stdout.len() <= 1, "{:?} on stdout", ended.stdout);
        assert!(!ended.log().contains("panicked"), "{}", ended.log());
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killing one that has ended is no error.
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .expect("weir can be ended");
        if std::thread::panicking() {
            eprintln!("what the sidecar logged:\n{}", self.stderr);
        }
    }
}

/// Lines that a process has written so far.
#[derive(Debug)]
struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn collect(from: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let line = line.expect("text");
                collected.lock().expect("no panic before").push(line);
            }
        });
        Self {
            lines,
            reader: Some(reader),
        }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic before").clone()
    }

    /// All lines, when the process has ended.
    fn finish(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("all was text");
        }
        self.lines()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

/// Runs `weir status` against an API socket.
pub fn status(arguments: &[&str], api: &Path) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("status")
        .args(arguments)
        .arg("--api-socket")
        .arg(api)
        .env_clear()
        .output()
        .expect("weir starts")
}
