//! The control plane of `tests/interop`, built from the real Go libraries: started, steered and read out.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

/// The token that the server accepts unless told otherwise.
pub const TOKEN: &str = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";

/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; ends with this.
#[derive(Debug)]
pub struct Coderd {
    child: Child,
    /// Where agents dial.
    pub url: Url,
    control: String,
}

impl Coderd {
    /// Starts one. `None`, with a line saying so, when Go is not installed and tests may go without it.
    pub fn start(args: &[&str]) -> Option<Self> {
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
            url: field("url").parse().expect("a URL"),
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
        let seen = async {
            loop {
                let account = self.account().await;
                if condition(&account) {
                    return account;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(PATIENCE, seen).await {
            Ok(account) => account,
            Err(_) => panic!(
                "not seen: {what}; the account is {:#}",
                self.account().await
            ),
        }
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
        let mut stream = TcpStream::connect(&self.control)
            .await
            .expect("the control port answers");
        // HTTP/1.0: the answer ends with the connection.
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("the control port reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("the control port writes");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        assert!(
            head.split(' ').nth(1) == Some("200"),
            "{method} {path}: {answer}"
        );
        body.to_owned()
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
        eprintln!("SKIPPED: Go is not installed, so this test has no peer to talk to");
    }
    bin.as_ref().map(|bin| bin.join(name))
}
