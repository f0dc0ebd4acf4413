//! Programs that other people's libraries serve metrics from: started, and ended with the test.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::net::TcpStream;

use super::coderd::program;
use super::wait::wait_for;

/// A running exporter.
#[derive(Debug)]
pub struct Exporter {
    child: Child,
    /// `HOST:PORT`.
    pub address: String,
}

impl Exporter {
    /// One of prometheus/client_golang. `None`, with a line saying so, when it cannot be built and need not be.
    pub fn of_client_golang() -> Option<Self> {
        Some(Self::that_says_where(Command::new(program("exporter")?)))
    }

    /// One of Python's prometheus_client. `None`, with a line saying so, when it is not installed and need not be.
    pub fn of_python() -> Option<Self> {
        let check = ["-c", "import prometheus_client"];
        let check = Command::new("python3")
            .args(check)
            .stderr(Stdio::null())
            .status();
        if !check.is_ok_and(|status| status.success()) {
            return missing("Python's prometheus_client");
        }
        let script =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/python/exporter.py");
        let mut command = Command::new("python3");
        command.arg(script);
        Some(Self::that_says_where(command))
    }

    /// A node_exporter. `None`, with a line saying so, when it is not installed and need not be.
    pub async fn of_node() -> Option<Self> {
        // It does not say which port it has taken, so it is told one that was free.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let child = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            return missing("node_exporter");
        };
        let exporter = Self { child, address };
        wait_for("node_exporter", async || {
            TcpStream::connect(&exporter.address).await.map(drop)
        })
        .await;
        Some(exporter)
    }

    fn that_says_where(mut command: Command) -> Self {
        let mut child = command
            // It exits when this closes, so that a killed test leaves nothing behind.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the exporter starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped"))
            .read_line(&mut ready)
            .expect("the exporter says that it is ready");
        let ready: Value = serde_json::from_str(&ready).expect("the ready line is JSON");
        let address = ready["address"].as_str().expect("an address").to_owned();
        Self { child, address }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .expect("an exporter can be ended");
    }
}

fn missing<T>(what: &str) -> Option<T> {
    assert!(
        std::env::var_os("WEIR_REQUIRE_INTEROP").is_none(),
        "{what} is not installed, and WEIR_REQUIRE_INTEROP is set"
    );
    // Not by the macro, whose output the test harness keeps to itself when a test passes.
    writeln!(
        std::io::stderr(),
        "SKIPPED: {what} is not installed, so a test has no page of it to read"
    )
    .expect("stderr can be written to");
    None
}
