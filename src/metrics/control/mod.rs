//! What the control plane counts, in handles that are looked up once.

mod aggregate;
pub mod catalog;
pub mod coderd;
mod labels;
mod scrapes;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};

use super::catalog::{Family, Kind};
use super::{counter, each, gauge, histogram};
pub use aggregate::AggregateMetrics;
pub use labels::{
    DialRefusal, ProtocolFault, ReportOutcome, RpcMethod, RpcOutcome, SampleRefusal, SessionEnd,
};
pub use scrapes::{ScrapeError, ScrapeMetrics};

/// The handles of the control plane. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct ControlMetrics {
    agents: IntGauge,
    sessions: IntGauge,
    sessions_ended: IntCounterVec,
    connections: IntGauge,
    dials_refused: IntCounterVec,
    rpcs: IntCounterVec,
    violations: IntCounterVec,
    boundary_logs: IntCounter,
    boundary_written: IntCounter,
    boundary_failures: IntCounter,
    first_connections: HistogramVec,
    build: IntGaugeVec,
    /// What the page counts of itself.
    pub scrapes: ScrapeMetrics,
    /// What the aggregator counts.
    pub aggregate: AggregateMetrics,
    /// Panics in this process.
    pub panics: IntCounter,
}

impl ControlMetrics {
    /// Handles at 0, with every series of the catalogue in being.
    ///
    /// # Errors
    /// When a row of the catalogue is not a valid metric.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            agents: gauge(&catalog::CONTROL_AGENTS)?,
            sessions: gauge(&catalog::CONTROL_SESSIONS)?,
            sessions_ended: each(&catalog::CONTROL_SESSIONS_ENDED)?,
            connections: gauge(&catalog::CONTROL_CONNECTIONS)?,
            dials_refused: each(&catalog::CONTROL_DIALS_REFUSED)?,
            rpcs: each_pair(&catalog::CONTROL_RPCS)?,
            violations: each(&catalog::CONTROL_VIOLATIONS)?,
            boundary_logs: counter(&catalog::CONTROL_BOUNDARY_LOGS)?,
            boundary_written: counter(&catalog::CONTROL_BOUNDARY_WRITTEN)?,
            boundary_failures: counter(&catalog::CONTROL_BOUNDARY_FAILURES)?,
            first_connections: first_connections()?,
            build: build_info()?,
            aggregate: AggregateMetrics::new()?,
            scrapes: ScrapeMetrics::new()?,
            panics: counter(&catalog::CONTROL_PANICS)?,
        })
    }

    /// Every collector behind the handles, for a registry.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let mut collectors = self.aggregate.collectors();
        collectors.extend(self.scrapes.collectors());
        collectors.extend::<[Box<dyn Collector>; 13]>([
            Box::new(self.agents.clone()),
            Box::new(self.sessions.clone()),
            Box::new(self.sessions_ended.clone()),
            Box::new(self.connections.clone()),
            Box::new(self.dials_refused.clone()),
            Box::new(self.rpcs.clone()),
            Box::new(self.violations.clone()),
            Box::new(self.boundary_logs.clone()),
            Box::new(self.boundary_written.clone()),
            Box::new(self.boundary_failures.clone()),
            Box::new(self.first_connections.clone()),
            Box::new(self.build.clone()),
            Box::new(self.panics.clone()),
        ]);
        collectors
    }

    /// Brings the series of first connections of agents with these names into being, at 0.
    pub fn expect_agent(&self, template_name: &str, agent_name: &str) {
        self.first_connections
            .with_label_values(&[template_name, agent_name]);
    }

    /// Records how long it took an agent to connect for the first time.
    pub fn first_connected(&self, template_name: &str, agent_name: &str, waited: Duration) {
        self.first_connections
            .with_label_values(&[template_name, agent_name])
            .observe(waited.as_secs_f64());
    }

    /// Counts a connection, open until the guard is dropped.
    pub fn connection(&self) -> Present {
        Present::new(&self.connections)
    }

    /// Counts a session, open until the guard is dropped.
    pub fn session(&self) -> Present {
        Present::new(&self.sessions)
    }

    /// Counts an agent that has sessions, until the guard is dropped.
    pub fn agent(&self) -> Present {
        Present::new(&self.agents)
    }

    /// Counts the end of a session.
    pub fn session_ended(&self, end: SessionEnd) {
        self.sessions_ended.with_label_values(&[end.label()]).inc();
    }

    /// Counts a dial that did not become a session.
    pub fn refused(&self, refusal: DialRefusal) {
        self.dials_refused
            .with_label_values(&[refusal.label()])
            .inc();
    }

    /// Counts a call that is over.
    pub fn called(&self, method: RpcMethod, outcome: RpcOutcome) {
        self.rpcs
            .with_label_values(&[method.label(), outcome.label()])
            .inc();
    }

    /// Counts a broken rule.
    pub fn violated(&self, fault: ProtocolFault) {
        self.violations.with_label_values(&[fault.label()]).inc();
    }

    /// Counts log entries that are acknowledged.
    pub fn acknowledged(&self, logs: u64) {
        self.boundary_logs.inc_by(logs);
    }

    /// Log entries that were acknowledged.
    pub(crate) fn acknowledged_logs(&self) -> u64 {
        self.boundary_logs.get()
    }

    /// Counts lines written to the boundary log output.
    pub fn written(&self, lines: u64) {
        self.boundary_written.inc_by(lines);
    }

    /// Counts a request that the boundary log output did not take.
    pub fn not_written(&self) {
        self.boundary_failures.inc();
    }
}

#[cfg(test)]
impl ControlMetrics {
    /// Calls that were counted so.
    pub(crate) fn calls(&self, method: RpcMethod, outcome: RpcOutcome) -> u64 {
        self.rpcs
            .with_label_values(&[method.label(), outcome.label()])
            .get()
    }

    /// Rules that were broken so.
    pub(crate) fn violations(&self, fault: ProtocolFault) -> u64 {
        self.violations.with_label_values(&[fault.label()]).get()
    }

    /// Sessions that ended so.
    pub(crate) fn sessions_that_ended(&self, end: SessionEnd) -> u64 {
        self.sessions_ended.with_label_values(&[end.label()]).get()
    }

    /// Dials that were refused so.
    pub(crate) fn dials_refused(&self, refusal: DialRefusal) -> u64 {
        self.dials_refused
            .with_label_values(&[refusal.label()])
            .get()
    }
}

/// Something that is there, as its gauge sees it.
#[derive(Debug)]
#[must_use = "it counts as gone when this is dropped"]
pub struct Present(IntGauge);

impl Present {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How long it takes to put the statistics of agents on a page.
///
/// # Errors
/// When the row of the catalogue is not a valid metric.
pub fn statistics_execution() -> Result<Histogram, prometheus::Error> {
    histogram(&coderd::STATISTICS_EXECUTION)
}

fn first_connections() -> Result<HistogramVec, prometheus::Error> {
    let family = &coderd::FIRST_CONNECTION;
    let buckets = match family.kind {
        Kind::Histogram(bounds) => bounds.to_vec(),
        Kind::Counter | Kind::Gauge => Vec::new(),
    };
    let opts = HistogramOpts::new(family.name, family.help).buckets(buckets);
    HistogramVec::new(opts, &names(family))
}

fn names(family: &Family) -> Vec<&'static str> {
    family.labels.iter().map(|label| label.name).collect()
}

/// Which build is running, as a series that is always 1.
fn build_info() -> Result<IntGaugeVec, prometheus::Error> {
    let family = &catalog::CONTROL_BUILD_INFO;
    let vec = IntGaugeVec::new(Opts::new(family.name, family.help), &names(family))?;
    vec.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(vec)
}

/// A counter for each pair of values of the family's two labels, all in being at 0.
fn each_pair(family: &Family) -> Result<IntCounterVec, prometheus::Error> {
    let vec = IntCounterVec::new(Opts::new(family.name, family.help), &names(family))?;
    if let [first, second] = family.labels {
        for one in first.values {
            for other in second.values {
                vec.with_label_values(&[one, other]).reset();
            }
        }
    }
    Ok(vec)
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn every_series_exists_from_the_start() {
        let metrics = ControlMetrics::new().unwrap();
        let registry = Registry::new();
        for collector in metrics.collectors() {
            registry.register(collector).unwrap();
        }
        let gathered = registry.gather();
        let series = |row: &Family| -> usize {
            let values = row.labels.iter().map(|label| label.values.len());
            values.product()
        };
        for made in &gathered {
            let rows = catalog::CONTROL.iter().chain(coderd::CODERD);
            let row = rows.clone().find(|row| row.name == made.name()).unwrap();
            // The build's one series has a value that no table knows.
            let expected = series(row).max(1);
            assert_eq!(made.get_metric().len(), expected, "{}", row.name);
            assert_eq!(made.help(), row.help);
        }
        let found = gathered
            .iter()
            .filter(|made| catalog::CONTROL.iter().any(|row| row.name == made.name()));
        assert_eq!(found.count(), catalog::CONTROL.len());
        metrics.called(RpcMethod::Unknown, RpcOutcome::Error);
        metrics.violated(ProtocolFault::Drpc);
        let after = registry.gather();
        let count = |families: &[prometheus::proto::MetricFamily]| -> usize {
            families
                .iter()
                .map(|family| family.get_metric().len())
                .sum()
        };
        assert_eq!(count(&after), count(&gathered));
    }

    #[test]
    fn what_is_present_is_counted_while_it_is() {
        let metrics = ControlMetrics::new().unwrap();
        let (one, other) = (metrics.session(), metrics.session());
        assert_eq!(metrics.sessions.get(), 2);
        drop((one, other));
        assert_eq!(metrics.sessions.get(), 0);
    }
}
