//! What every control plane can be asked by a test, whichever program it is.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::UNIX_EPOCH;

use ring::digest::{Context, SHA256};
use serde::Deserialize;
use tempfile::TempDir;
use url::Url;

use super::coderd::TOKEN;
use super::control::ControlPlane;
use super::sender::{hex, message};
use weir::upstream::Transport;
use weir::wire::boundary::encode::LogEntry;

/// A control plane that accounts for what it receives.
pub trait Plane {
    /// Where agents dial.
    fn url(&self) -> &Url;

    /// What they speak there.
    fn transport(&self) -> Transport;

    /// Refuses every dial from now on.
    async fn turn_away(&mut self);

    /// Ends that.
    async fn let_in(&mut self);

    /// Calls with logs that were answered with success.
    async fn accepted(&self) -> u64;

    /// Calls that told of the end of a script and were answered with success.
    async fn completed_scripts(&self) -> u64;

    /// What arrived, by session; nothing of it may be older than the latest acknowledgement.
    async fn sessions(&self) -> HashMap<String, Delivered>;

    /// What arrived of a session.
    async fn delivered(&self, session: &str) -> Delivered {
        self.sessions().await.remove(session).unwrap_or_default()
    }

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
    transport: Transport,
    /// `None` between the end of one and the start of the next.
    control: Option<ControlPlane>,
    directory: TempDir,
    flags: Vec<String>,
    /// How many were killed.
    kills: u64,
}

impl WeirPlane {
    /// Starts one for agents that come over WebSocket.
    pub fn start() -> Self {
        Self::over(Transport::WebSocket)
    }

    /// Starts one for agents that come over that transport. It serves the other one too, at the same port.
    pub fn over(transport: Transport) -> Self {
        Self::start_with(transport, "127.0.0.1:0", &[])
    }

    /// Starts one that listens there, with these flags.
    pub fn start_with(transport: Transport, listen: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let lines = directory.path().join(LINES);
        let output = ["--boundary-log-output", lines.to_str().expect("text")];
        let flags = [&output, flags].concat();
        let control =
            ControlPlane::start_at(listen, &[&["--agent-token", TOKEN], &*flags].concat());
        Self {
            url: control.url.parse().expect("a URL"),
            transport,
            control: Some(control),
            flags: flags.into_iter().map(str::to_owned).collect(),
            directory,
            kills: 0,
        }
    }

    /// Kills it and starts another one in its place.
    pub fn restart(&mut self) {
        self.restart_for(TOKEN);
    }

    fn restart_for(&mut self, token: &str) {
        // The address is free only once the first has ended.
        drop(self.control.take());
        self.kills += 1;
        let listen = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut args = vec!["--agent-token", token];
        args.extend(self.flags.iter().map(String::as_str));
        self.control = Some(ControlPlane::start_at(listen, &args));
    }

    fn running(&self) -> &ControlPlane {
        self.control.as_ref().expect("one runs")
    }
}

/// The file of the lines, in the directory of a control plane.
const LINES: &str = "boundary.jsonl";

/// A token that no sidecar has.
const NOBODYS: &str = "ffffffff-ffff-4fff-8fff-ffffffffffff";

/// All that a log says; borrowed where JSON has nothing escaped.
#[derive(Deserialize)]
struct Line<'a> {
    time: &'a str,
    decision: &'a str,
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    sequence_number: i32,
    #[serde(borrow)]
    http_method: Cow<'a, str>,
    #[serde(borrow)]
    http_url: Cow<'a, str>,
    #[serde(borrow)]
    matched_rule: Cow<'a, str>,
}

impl Line<'_> {
    /// The log, encoded again.
    fn log(&self) -> Vec<u8> {
        let time = humantime::parse_rfc3339(self.time).expect("a time");
        let time = time.duration_since(UNIX_EPOCH).expect("after 1970");
        message(&LogEntry {
            allowed: self.decision == "allow",
            seconds: time.as_secs().cast_signed(),
            nanos: time.subsec_nanos().cast_signed(),
            sequence: self.sequence_number,
            method: &self.http_method,
            url: &self.http_url,
            matched_rule: &self.matched_rule,
        })
    }
}

/// A session as it is read.
struct Reading {
    delivered: Delivered,
    seen: HashSet<i32>,
    highest: i32,
    sum: Context,
}

impl Reading {
    fn new() -> Self {
        Self {
            delivered: Delivered::default(),
            seen: HashSet::new(),
            highest: i32::MIN,
            sum: Context::new(&SHA256),
        }
    }

    fn add(&mut self, line: &Line<'_>) {
        // Without a session the numbers say nothing, and every log is another one.
        if !line.session_id.is_empty() {
            if !self.seen.insert(line.sequence_number) {
                self.delivered.duplicates += 1;
                return;
            }
            self.delivered.out_of_order += u64::from(line.sequence_number < self.highest);
            self.highest = self.highest.max(line.sequence_number);
        }
        self.delivered.distinct += 1;
        self.sum.update(&line.log());
    }

    fn finish(self) -> Delivered {
        Delivered {
            sha256: hex(self.sum.finish().as_ref()),
            ..self.delivered
        }
    }
}

impl Plane for WeirPlane {
    fn url(&self) -> &Url {
        &self.url
    }

    fn transport(&self) -> Transport {
        self.transport
    }

    async fn turn_away(&mut self) {
        self.restart_for(NOBODYS);
    }

    async fn let_in(&mut self) {
        self.restart();
    }

    async fn accepted(&self) -> u64 {
        self.running()
            .metric("weir_control_rpcs_total{method=\"ReportBoundaryLogs\",outcome=\"ok\"}")
    }

    async fn completed_scripts(&self) -> u64 {
        self.running()
            .metric("weir_control_rpcs_total{method=\"ScriptCompleted\",outcome=\"ok\"}")
    }

    /// A line says all that its log said, so that the log can be encoded from it again.
    async fn sessions(&self) -> HashMap<String, Delivered> {
        let file = File::open(self.directory.path().join(LINES)).expect("the output is there");
        let mut sessions = HashMap::new();
        let mut torn = 0;
        for line in BufReader::new(file).lines() {
            let line = line.expect("text");
            match serde_json::from_str::<Line<'_>>(&line) {
                Ok(line) => sessions
                    .entry(line.session_id.clone().into_owned())
                    .or_insert_with(Reading::new)
                    .add(&line),
                // Whoever is killed while it writes leaves a part of a line, which it has not acknowledged.
                Err(error) if error.is_eof() => torn += 1,
                Err(error) => panic!("{error} in {line}"),
            }
        }
        assert!(torn <= self.kills, "{torn} torn lines");
        let finished = sessions.into_iter();
        finished
            .map(|(id, reading)| (id, reading.finish()))
            .collect()
    }

    async fn expect_clean_wire(&self) {
        for family in [
            "weir_control_protocol_violations_total",
            "weir_control_panics_total",
        ] {
            let page = self.running().metrics();
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
