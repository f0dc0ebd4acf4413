//! What the control plane counts, in handles that are looked up once.

pub mod catalog;
mod labels;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::catalog::Family;
use super::{counter, each, gauge};
pub use labels::{DialRefusal, ProtocolFault, RpcMethod, RpcOutcome, SessionEnd};

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
    build: IntGaugeVec,
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
            build: build_info()?,
            panics: counter(&super::catalog::PANICS)?,
        })
    }

    /// Every collector behind the handles, for a registry.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
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
            Box::new(self.build.clone()),
            Box::new(self.panics.clone()),
        ]
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

/// Which build is running, as a series that is always 1.
fn build_info() -> Result<IntGaugeVec, prometheus::Error> {
    let family = &super::catalog::BUILD_INFO;
    let names: Vec<_> = family.labels.iter().map(|label| label.name).collect();
    let vec = IntGaugeVec::new(Opts::new(family.name, family.help), &names)?;
    vec.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(vec)
}

/// A counter for each pair of values of the family's two labels, all in being at 0.
fn each_pair(family: &Family) -> Result<IntCounterVec, prometheus::Error> {
    let names: Vec<_> = family.labels.iter().map(|label| label.name).collect();
    let vec = IntCounterVec::new(Opts::new(family.name, family.help), &names)?;
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
        for made in &gathered {
            let Some(row) = catalog::CONTROL.iter().find(|row| row.name == made.name()) else {
                assert_eq!(made.get_metric().len(), 1, "{}", made.name());
                continue;
            };
            let series: usize = row.labels.iter().map(|label| label.values.len()).product();
            assert_eq!(made.get_metric().len(), series, "{}", row.name);
            assert_eq!(made.help(), row.help);
        }
        let found = gathered
            .iter()
            .filter(|made| made.name().starts_with("weir_control_"));
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
