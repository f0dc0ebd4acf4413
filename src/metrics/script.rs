//! What is counted of scripts.

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts};

use super::labels::{CompletionOutcome, ScriptReportOutcome};
use super::{catalog, counter, each, gauge};

/// What is counted of scripts.
#[derive(Clone, Debug)]
pub struct ScriptMetrics {
    as_agent: IntCounterVec,
    executed: IntCounterVec,
    startup: GaugeVec,
    reports: IntCounterVec,
    completions: IntCounterVec,
    pending: IntGauge,
    journal_errors: IntCounter,
}

impl ScriptMetrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let row = &catalog::STARTUP_SCRIPT;
        let startup = GaugeVec::new(Opts::new(row.name, row.help), &["success"])?;
        for success in [true, false] {
            startup.with_label_values(&[word(success)]).set(0.0);
        }
        Ok(Self {
            as_agent: each(&catalog::AGENT_SCRIPTS_EXECUTED)?,
            executed: each(&catalog::SCRIPTS_EXECUTED)?,
            startup,
            reports: each(&catalog::SCRIPT_REPORTS)?,
            completions: each(&catalog::SCRIPT_COMPLETIONS)?,
            pending: gauge(&catalog::SCRIPT_COMPLETIONS_PENDING)?,
            journal_errors: counter(&catalog::SCRIPT_JOURNAL_ERRORS)?,
        })
    }

    pub(crate) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.as_agent.clone()),
            Box::new(self.executed.clone()),
            Box::new(self.startup.clone()),
            Box::new(self.reports.clone()),
            Box::new(self.completions.clone()),
            Box::new(self.pending.clone()),
            Box::new(self.journal_errors.clone()),
        ]
    }

    /// Counts runs of scripts.
    pub fn executed(&self, success: bool, runs: u64) {
        for family in [&self.as_agent, &self.executed] {
            family.with_label_values(&[word(success)]).inc_by(runs);
        }
    }

    /// Runs of scripts so far.
    pub fn runs(&self, success: bool) -> u64 {
        self.executed.with_label_values(&[word(success)]).get()
    }

    /// Says how long the start script that ended last took.
    pub fn set_startup(&self, success: bool, seconds: f64) {
        self.startup
            .with_label_values(&[word(success)])
            .set(seconds);
    }

    /// Counts reports.
    pub fn reported(&self, outcome: ScriptReportOutcome, reports: u64) {
        self.reports
            .with_label_values(&[outcome.label()])
            .inc_by(reports);
    }

    /// Counts a run that waits for the control plane no more.
    pub fn completed(&self, outcome: CompletionOutcome) {
        self.completions.with_label_values(&[outcome.label()]).inc();
    }

    /// Says how many runs wait for the control plane.
    pub fn set_pending(&self, runs: usize) {
        self.pending.set(i64::try_from(runs).unwrap_or(i64::MAX));
    }

    /// Runs that wait for the control plane.
    pub fn pending(&self) -> u64 {
        self.pending.get().max(0).cast_unsigned()
    }

    /// Counts a failure to keep the books on disk.
    pub fn journal_failed(&self) {
        self.journal_errors.inc();
    }
}

const fn word(success: bool) -> &'static str {
    if success { "true" } else { "false" }
}
