//! What every stage counts, in handles that are looked up once.
//!
//! The names stand in [`catalog`]. The flow of batches itself is not counted here but in
//! [`crate::buffer::ledger`], from which the exposition takes one exact snapshot per scrape.

#![expect(
    clippy::disallowed_methods,
    reason = "the collectors of the catalogue are made here, and nowhere else"
)]

pub mod catalog;
pub mod control;
pub mod doc;
pub mod exposition;
mod labels;
mod process;
pub(crate) mod sample;
mod script;
mod targets;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

use catalog::{Family, Kind};
pub use labels::{
    AttemptOutcome, CompletionOutcome, DialOutcome, DropReason, FrameFault, SampleFault,
    ScriptReportOutcome,
};
pub use process::ProcessCollector;
pub use script::ScriptMetrics;
pub use targets::{TargetMetrics, TargetsMetrics};

/// The handles of all stages of the sidecar. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What the audit socket counts.
    pub ingest: IngestMetrics,
    /// What the link to the control plane counts.
    pub upstream: UpstreamMetrics,
    /// What the forwarder counts.
    pub forward: ForwardMetrics,
    /// What is counted of scripts.
    pub scripts: ScriptMetrics,
    /// What reports to the control plane count.
    pub report: ReportMetrics,
    /// What the collection of other programs' metrics counts.
    pub targets: TargetsMetrics,
    /// Panics in this process.
    pub panics: IntCounter,
}

impl Metrics {
    /// Handles at 0, with every series of the catalogue in being.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            ingest: IngestMetrics {
                rejected: each(&catalog::FRAMES_REJECTED)?,
                open: gauge(&catalog::CONNECTIONS)?,
                accepted: counter(&catalog::CONNECTIONS_TOTAL)?,
            },
            upstream: UpstreamMetrics {
                connected: gauge(&catalog::UPSTREAM_CONNECTED)?,
                dials: each(&catalog::UPSTREAM_DIALS)?,
            },
            forward: ForwardMetrics {
                attempts: each(&catalog::FORWARD_ATTEMPTS)?,
                latency: histogram(&catalog::FORWARD_LATENCY)?,
                last_success: gauge(&catalog::LAST_SUCCESS)?,
            },
            scripts: ScriptMetrics::new()?,
            report: ReportMetrics {
                attempts: each(&catalog::REPORT_ATTEMPTS)?,
                refused: each(&catalog::REPORT_SAMPLES_REFUSED)?,
                last_success: gauge(&catalog::REPORT_LAST_SUCCESS)?,
            },
            targets: TargetsMetrics::new()?,
            panics: counter(&catalog::PANICS)?,
        })
    }

    /// Every collector behind the handles, for a registry.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let mut all: Vec<Box<dyn Collector>> = vec![
            Box::new(self.ingest.rejected.clone()),
            Box::new(self.ingest.open.clone()),
            Box::new(self.ingest.accepted.clone()),
            Box::new(self.upstream.connected.clone()),
            Box::new(self.upstream.dials.clone()),
            Box::new(self.forward.attempts.clone()),
            Box::new(self.forward.latency.clone()),
            Box::new(self.forward.last_success.clone()),
            Box::new(self.report.attempts.clone()),
            Box::new(self.report.refused.clone()),
            Box::new(self.report.last_success.clone()),
            Box::new(self.panics.clone()),
        ];
        all.extend(self.scripts.collectors());
        all.extend(self.targets.collectors());
        all
    }
}

/// What the audit socket counts.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    rejected: IntCounterVec,
    open: IntGauge,
    accepted: IntCounter,
}

impl IngestMetrics {
    /// Counts a frame that carried nothing usable.
    pub fn rejected(&self, fault: FrameFault) {
        self.rejected.with_label_values(&[fault.label()]).inc();
    }

    /// Counts a connection, open until the guard is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.accepted.inc();
        self.open.inc();
        OpenConnection(self.open.clone())
    }
}

/// An open connection, as the gauge sees it.
#[derive(Debug)]
#[must_use = "the connection counts as closed when this is dropped"]
pub struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What the link to the control plane counts.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    connected: IntGauge,
    dials: IntCounterVec,
}

impl UpstreamMetrics {
    /// Counts a finished dial.
    pub fn dialled(&self, outcome: DialOutcome) {
        self.dials.with_label_values(&[outcome.label()]).inc();
    }

    /// Says whether the link stands.
    pub fn set_connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }

    /// Whether the link stands.
    pub fn connected(&self) -> bool {
        self.connected.get() != 0
    }
}

/// What the forwarder counts.
#[derive(Clone, Debug)]
pub struct ForwardMetrics {
    attempts: IntCounterVec,
    latency: Histogram,
    last_success: IntGauge,
}

impl ForwardMetrics {
    /// Counts a finished attempt.
    pub fn attempted(&self, outcome: AttemptOutcome) {
        self.attempts.with_label_values(&[outcome.label()]).inc();
    }

    /// Records the age at which a batch was acknowledged, since it was received.
    pub fn delivered(&self, age: Duration) {
        self.latency.observe(age.as_secs_f64());
    }

    /// Records when the control plane last acknowledged anything.
    pub fn succeeded_at(&self, time: SystemTime) {
        self.last_success.set(unix_seconds(time));
    }

    /// When the control plane last acknowledged anything, in Unix seconds; 0 before the first time.
    pub fn last_success(&self) -> i64 {
        self.last_success.get()
    }
}

/// What reports to the control plane count.
#[derive(Clone, Debug)]
pub struct ReportMetrics {
    attempts: IntCounterVec,
    refused: IntCounterVec,
    last_success: IntGauge,
}

impl ReportMetrics {
    /// Counts a finished call.
    pub fn attempted(&self, outcome: AttemptOutcome) {
        self.attempts.with_label_values(&[outcome.label()]).inc();
    }

    /// Counts a series that is not reported, the first time that it is not.
    pub fn refused(&self, fault: SampleFault) {
        self.refused.with_label_values(&[fault.label()]).inc();
    }

    /// Records when the control plane last took a report.
    pub fn succeeded_at(&self, time: SystemTime) {
        self.last_success.set(unix_seconds(time));
    }
}

/// A time before 1970 reads as "never", which is what such a gauge says at 0.
fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().cast_signed()
}

fn counter(family: &Family) -> Result<IntCounter, prometheus::Error> {
    debug_assert!(family.labels.is_empty() && family.kind == Kind::Counter);
    IntCounter::new(family.name, family.help)
}

fn gauge(family: &Family) -> Result<IntGauge, prometheus::Error> {
    debug_assert!(family.labels.is_empty() && family.kind == Kind::Gauge);
    IntGauge::new(family.name, family.help)
}

fn histogram(family: &Family) -> Result<Histogram, prometheus::Error> {
    let buckets = match family.kind {
        Kind::Histogram(bounds) => bounds.to_vec(),
        Kind::Counter | Kind::Gauge => Vec::new(),
    };
    Histogram::with_opts(HistogramOpts::new(family.name, family.help).buckets(buckets))
}

/// A counter for each value of the family's one label, all in being at 0.
fn each(family: &Family) -> Result<IntCounterVec, prometheus::Error> {
    let names: Vec<_> = family.labels.iter().map(|label| label.name).collect();
    let vec = IntCounterVec::new(Opts::new(family.name, family.help), &names)?;
    for value in family.labels.iter().flat_map(|label| label.values) {
        vec.with_label_values(&[value]).reset();
    }
    Ok(vec)
}
