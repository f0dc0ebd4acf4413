//! What every control plane can be asked by a test, whichever program it is.

use std::collections::HashSet;
use std::time::UNIX_EPOCH;

use ring::digest::{Context, SHA256};
use tempfile::TempDir;
use url::Url;

use super::coderd::TOKEN;
use super::control::{ControlPlane, boundary_lines};
use super::sender::{hex, message};
use weir::wire::boundary::encode::LogEntry;

/// A control plane that accounts for what it receives.
pub trait Plane {
    /// Where agents dial.
    fn url(&self) -> &Url;

    /// What arrived of a session; nothing of it may be older than the latest acknowledgement.
    async fn delivered(&self, session: &str) -> Delivered;

    /// Fails when a client did something that a protocol forbids.
    async fn expect_clean_wire(&self);
}

/// What arrived of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Different logs.
    pub distinct: u64,
    /// Logs that had arrived before.
    pub duplicates: u64,
    /// Logs that arrived for the first time after one with a higher number.
    pub out_of_order: u64,
    /// Of the encoded logs in the order in which they first arrived; in hex, empty when there is none.
    pub sha256: String,
}

/// `weir control-plane`, which writes a line for each log that it receives.
#[derive(Debug)]
pub struct WeirPlane {
    url: Url,
    /// `None` between the end of one and the start of the next.
    control: Option<ControlPlane>,
    directory: TempDir,
}

impl WeirPlane {
    /// Starts one.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let control = started("127.0.0.1:0", &directory);
        Self {
            url: control.url.parse().expect("a URL"),
            control: Some(control),
            directory,
        }
    }

    /// Kills it and starts another one in its place.
    pub fn restart(&mut self) {
        // The address is free only once the first has ended.
        drop(self.control.take());
        let listen = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        self.control = Some(started(listen, &self.directory));
    }
}

fn started(listen: &str, directory: &TempDir) -> ControlPlane {
    let lines = directory.path().join("boundary.jsonl");
    let lines = lines.to_str().expect("a path in text");
    let args = ["--agent-token", TOKEN, "--boundary-log-output", lines];
    ControlPlane::start_at(listen, &args)
}

impl Plane for WeirPlane {
    fn url(&self) -> &Url {
        &self.url
    }

    /// A line says all that its log said, so that the log can be encoded from it again.
    async fn delivered(&self, session: &str) -> Delivered {
        let mut delivered = Delivered::default();
        let (mut seen, mut highest) = (HashSet::new(), -1);
        let mut sum = Context::new(&SHA256);
        for line in boundary_lines(&self.directory.path().join("boundary.jsonl")) {
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
            let text = |field: &str| line[field].as_str().unwrap_or_default();
            let time = humantime::parse_rfc3339(text("time")).expect("a time");
            let time = time.duration_since(UNIX_EPOCH).expect("after 1970");
            sum.update(&message(&LogEntry {
                allowed: text("decision") == "allow",
                seconds: time.as_secs().cast_signed(),
                nanos: time.subsec_nanos().cast_signed(),
                sequence: i32::try_from(sequence).expect("an int32"),
                method: text("http_method"),
                url: text("http_url"),
                matched_rule: text("matched_rule"),
            }));
        }
        if delivered.distinct > 0 {
            delivered.sha256 = hex(sum.finish().as_ref());
        }
        delivered
    }

    async fn expect_clean_wire(&self) {
        for family in [
            "weir_control_protocol_violations_total",
            "weir_panics_total",
        ] {
            let control = self.control.as_ref().expect("one runs");
            let page = control.metrics();
            let samples: Vec<_> = page
                .lines()
                .filter(|line| line.starts_with(family))
                .collect();
            assert!(!samples.is_empty(), "no {family}");
            assert!(
                samples.iter().all(|sample| sample.ends_with(" 0")),
                "{samples:?}"
            );
        }
    }
}
