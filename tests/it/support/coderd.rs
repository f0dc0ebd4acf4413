//! The control plane of `tests/interop`, built from the real Go libraries: started, steered and read out.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tokio::net::TcpStream;
use url::Url;
use weir::upstream::Transport;

use super::http::exchange;
use super::plane::{Delivered, Plane};
use super::wait::wait_for;

/// The token that the server accepts unless told otherwise.
pub const TOKEN: &str = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";

/// A running server; ends with this.
#[derive(Debug)]
pub struct Coderd {
    child: Child,
    /// Where agents dial.
    pub url: Url,
    /// What they speak there.
    pub transport: Transport,
    control: String,
}

impl Coderd {
    /// Starts one for agents that come over WebSocket. `None`, with a line saying so, when Go is not installed and
    /// tests may go without it.
    pub fn start(args: &[&str]) -> Option<Self> {
        Self::over(Transport::WebSocket, args)
    }

    /// Starts one for agents that come over that transport, likewise. It serves the other one too.
    pub fn over(transport: Transport, args: &[&str]) -> Option<Self> {
        let program = program("coderd")?;
        let mut child = Command::new(program)
            .args(args)
            // It exits when this closes, so that a killed test leaves nothing behind.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("coderd starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped"))
            .read_line(&mut ready)
            .expect("coderd says that it is ready");
        let ready: Value = serde_json::from_str(&ready).expect("the ready line is JSON");
        let field = |name: &str| {
            ready[name]
                .as_str()
                .expect("the ready line is whole")
                .to_owned()
        };
        let control = field("control").trim_start_matches("http://").to_owned();
        Some(Self {
            child,
            url: field(match transport {
                Transport::WebSocket => "url",
                Transport::Grpc => "grpc",
            })
            .parse()
            .expect("a URL"),
            transport,
            control,
        })
    }

    /// Arms or strikes a fault.
    pub async fn fault(&self, fault: Value) {
        self.request("POST", "/fault", &fault.to_string()).await;
    }

    /// Ends all faults.
    pub async fn clear(&self) {
        self.request("POST", "/clear", "").await;
    }

    /// All that was received, and what of it was illegal.
    pub async fn account(&self) -> Value {
        let body = self.request("GET", "/account", "").await;
        serde_json::from_str(&body).expect("the account is JSON")
    }

    /// The requests of a session, byte for byte; kept only with `-keep-raw`.
    pub async fn raw(&self, session: &str) -> Vec<String> {
        let lines = self
            .request("GET", &format!("/raw?session={session}"), "")
            .await;
        lines.lines().map(str::to_owned).collect()
    }

    /// Waits until the account fulfils a condition.
    pub async fn wait_for(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, async || {
            let account = self.account().await;
            match condition(&account) {
                true => Ok(account),
                false => Err(format!("{account:#}")),
            }
        })
        .await
    }

    /// Waits until a fault has struck so often.
    pub async fn struck(&self, kind: &str, times: u64) -> Value {
        self.wait_for(&format!("{times} times {kind}"), |account| {
            account["faults_fired"][kind] == times
        })
        .await
    }

    /// Waits until so many sessions are served; a fault that strikes sessions would miss them before.
    pub async fn serves(&self, sessions: u64) {
        wait_for(&format!("{sessions} sessions"), async || {
            let live = self.request("GET", "/connections", "").await;
            match live.trim() == sessions.to_string() {
                true => Ok(()),
                false => Err(live),
            }
        })
        .await;
    }

    /// Nothing that a client sent was against a protocol.
    pub async fn expect_clean_wire(&self) {
        let account = self.account().await;
        assert_eq!(
            account["violations"],
            serde_json::json!([]),
            "{:#}",
            account["library_errors"]
        );
    }

    async fn request(&self, method: &str, path: &str, body: &str) -> String {
        let stream = TcpStream::connect(&self.control)
            .await
            .expect("the control port answers");
        let (status, answer) = exchange(stream, method, path, body)
            .await
            .expect("the control port answers");
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }
}

impl Plane for Coderd {
    fn url(&self) -> &Url {
        &self.url
    }

    fn transport(&self) -> Transport {
        self.transport
    }

    async fn turn_away(&mut self) {
        self.fault(serde_json::json!({"kind": "refuse", "status": 503}))
            .await;
    }

    async fn let_in(&mut self) {
        self.clear().await;
    }

    async fn accepted(&self) -> u64 {
        let account = self.account().await;
        account["calls"]["ReportBoundaryLogs"]["ok"]
            .as_u64()
            .expect("a number of calls")
    }

    async fn completed_scripts(&self) -> u64 {
        let account = self.account().await;
        let scripts = &account["agents"][TOKEN]["scripts_completed"];
        scripts.as_array().map_or(0, Vec::len) as u64
    }

    async fn sessions(&self) -> HashMap<String, Delivered> {
        let account = self.account().await;
        let sessions = account["sessions"].as_object().expect("sessions").iter();
        let delivered = |session: &Value| {
            let number = |field: &str| session[field].as_u64().expect("a number");
            Delivered {
                distinct: number("distinct"),
                duplicates: number("duplicates"),
                out_of_order: number("out_of_order"),
                sha256: session["sha256"].as_str().expect("a sum").to_owned(),
            }
        };
        sessions
            .map(|(id, session)| (id.clone(), delivered(session)))
            .collect()
    }

    async fn expect_clean_wire(&self) {
        Self::expect_clean_wire(self).await;
    }
}

impl Drop for Coderd {
    fn drop(&mut self) {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .expect("coderd can be ended");
    }
}

/// A program of the Go module, all of which are built once for each test run.
pub fn program(name: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let bin = BUILT.get_or_init(|| {
        let module = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        let build = Command::new("go")
            .args(["build", "-o", "bin/", "./cmd/..."])
            .current_dir(&module)
            .status();
        match build {
            Ok(status) => assert!(status.success(), "tests/interop does not build"),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(
                    std::env::var_os("WEIR_REQUIRE_INTEROP").is_none(),
                    "Go is not installed, and WEIR_REQUIRE_INTEROP is set"
                );
                return None;
            }
            Err(error) => panic!("go build: {error}"),
        }
        Some(module.join("bin"))
    });
    if bin.is_none() {
        // Not by the macro, whose output the test harness keeps to itself when a test passes.
        writeln!(
            std::io::stderr(),
            "SKIPPED: Go is not installed, so a test has no peer to talk to"
        )
        .expect("stderr can be written to");
    }
    bin.as_ref().map(|bin| bin.join(name))
}
