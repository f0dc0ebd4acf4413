//! A real Prometheus that scrapes, and its tool that judges pages.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use url::form_urlencoded;

use super::http::exchange;
use super::wait::wait_for;

/// A running Prometheus; ends with this.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: String,
    /// Reads what it logs, so that it never waits for that.
    _log: JoinHandle<()>,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes these jobs, each at its address, twice a second. `None`, with a line saying so,
    /// when it is not installed and tests may go without it.
    pub async fn start(jobs: &[(&str, &str)]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("prometheus.yml");
        let mut text =
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\nscrape_configs:\n".to_owned();
        for (job, address) in jobs {
            writeln!(
                text,
                "- {{job_name: {job}, static_configs: [{{targets: ['{address}']}}]}}"
            )
            .expect("a string takes it");
        }
        std::fs::write(&config, text).expect("the configuration can be written");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .args([
                "--web.listen-address=127.0.0.1:0",
                "--storage.tsdb.retention.time=1h",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = spawn(&mut command)?;
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let listening = log
            .by_ref()
            .map(|line| line.expect("stderr is text"))
            .find(|line| line.contains("msg=\"Listening on\""))
            .expect("Prometheus says where it listens");
        let address = listening.split("address=").nth(1).expect("an address");
        let address = address.split(' ').next().expect("an address").to_owned();
        Some(Self {
            child,
            address,
            _log: thread::spawn(move || log.for_each(drop)),
            _directory: directory,
        })
    }

    /// Waits until a query has as many results as there are values, each once; an empty list for no result.
    pub async fn wait_for(&self, query: &str, values: &[f64]) {
        wait_for(&format!("{query} = {values:?}"), async || {
            let found = self.query(query).await;
            let mut numbers: Vec<f64> = found.iter().map(value).collect();
            numbers.sort_by(f64::total_cmp);
            match numbers == values {
                true => Ok(()),
                false => Err(format!("{found:#?}")),
            }
        })
        .await;
    }

    /// The results of a query now.
    pub async fn query(&self, query: &str) -> Vec<Value> {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let stream = TcpStream::connect(&self.address).await;
        let stream = stream.expect("Prometheus accepts");
        let path = format!("/api/v1/query?query={query}");
        let answer = exchange(stream, "GET", &path, "").await;
        let (status, answer) = answer.expect("Prometheus answers");
        // It is not ready at once.
        if status == 503 {
            return Vec::new();
        }
        assert_eq!(status, 200, "{query}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("the answer is JSON");
        answer["data"]["result"]
            .as_array()
            .expect("results")
            .clone()
    }
}

fn value(result: &Value) -> f64 {
    let value = result["value"][1].as_str().expect("a value");
    value.parse().expect("a number")
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .expect("Prometheus can be ended");
    }
}

/// What `promtool check metrics` has to say of a page. `None` when it is not installed and tests may go without it.
///
/// Panics when it is no page to it.
#[track_caller]
pub fn objections(page: &str) -> Option<Vec<String>> {
    let (code, said) = promtool(&["check", "metrics"], page)?;
    // 3: there are objections, but it was read.
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {said}");
    Some(said.lines().map(str::to_owned).collect())
}

/// Panics when a configuration is none to `promtool check config`; passes it by when that is not installed and tests
/// may go without it.
#[track_caller]
pub fn check_config(config: &str) {
    let args = ["check", "config", "--syntax-only", "/dev/stdin"];
    let Some((code, said)) = promtool(&args, config) else {
        return;
    };
    assert_eq!(code, Some(0), "{said}");
}

/// The exit code of the tool, and what it said.
fn promtool(args: &[&str], input: &str) -> Option<(Option<i32>, String)> {
    let mut command = Command::new("promtool");
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tool = spawn(&mut command)?;
    let mut stdin = tool.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = tool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("promtool speaks text");
    Some((output.status.code(), said))
}

fn spawn(command: &mut Command) -> Option<Child> {
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(
                std::env::var_os("WEIR_REQUIRE_INTEROP").is_none(),
                "Prometheus is not installed, and WEIR_REQUIRE_INTEROP is set"
            );
            // Not by the macro, whose output the test harness keeps to itself when a test passes.
            writeln!(
                std::io::stderr(),
                "SKIPPED: Prometheus is not installed, so a test has nobody to scrape"
            )
            .expect("stderr can be written to");
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}
