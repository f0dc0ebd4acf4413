//! What the aggregator counts.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::catalog;
use super::labels::{ReportOutcome, SampleRefusal};
use crate::metrics::{counter, each, gauge, histogram};

/// The handles of the aggregator. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct AggregateMetrics {
    accepted: IntCounter,
    dropped: IntCounter,
    reports: IntCounterVec,
    wait: Histogram,
    refused: IntCounterVec,
    expired: IntCounter,
    store_size: IntGauge,
    update: Histogram,
    cleanup: Histogram,
    push_backlog: IntGauge,
    collect_backlog: IntGauge,
    delete_backlog: IntGauge,
    collect_nanoseconds: IntGauge,
    count: IntGauge,
    workspace_count: IntGauge,
}

impl AggregateMetrics {
    /// Handles at 0, with every series of the catalogue in being.
    ///
    /// # Errors
    /// When a row of the catalogue is not a valid metric.
    pub fn new() -> Result<Self, prometheus::Error> {
        let reports = each(&catalog::CONTROL_REPORTS)?;
        let of = |outcome: ReportOutcome| reports.with_label_values(&[outcome.label()]);
        Ok(Self {
            accepted: of(ReportOutcome::Accepted),
            dropped: of(ReportOutcome::Dropped),
            reports,
            wait: histogram(&catalog::CONTROL_REPORT_WAIT)?,
            refused: each(&catalog::CONTROL_SERIES_REFUSED)?,
            expired: counter(&catalog::CONTROL_SERIES_EXPIRED)?,
            store_size: gauge(&catalog::AGGREGATOR_STORE_SIZE)?,
            update: histogram(&catalog::AGGREGATOR_UPDATE)?,
            cleanup: histogram(&catalog::AGGREGATOR_CLEANUP)?,
            push_backlog: gauge(&catalog::AGGREGATOR_PUSH_BACKLOG)?,
            collect_backlog: gauge(&catalog::AGGREGATOR_COLLECT_BACKLOG)?,
            delete_backlog: gauge(&catalog::AGGREGATOR_DELETE_BACKLOG)?,
            collect_nanoseconds: gauge(&catalog::AGGREGATOR_COLLECT_NANOSECONDS)?,
            count: gauge(&catalog::AGGREGATOR_COUNT)?,
            workspace_count: gauge(&catalog::AGGREGATOR_WORKSPACE_COUNT)?,
        })
    }

    /// Every collector behind the handles, for a registry.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.reports.clone()),
            Box::new(self.wait.clone()),
            Box::new(self.refused.clone()),
            Box::new(self.expired.clone()),
            Box::new(self.store_size.clone()),
            Box::new(self.update.clone()),
            Box::new(self.cleanup.clone()),
            Box::new(self.push_backlog.clone()),
            Box::new(self.collect_backlog.clone()),
            Box::new(self.delete_backlog.clone()),
            Box::new(self.collect_nanoseconds.clone()),
            Box::new(self.count.clone()),
            Box::new(self.workspace_count.clone()),
        ]
    }

    /// Counts a report that was taken, or dropped.
    pub fn reported(&self, outcome: ReportOutcome) {
        match outcome {
            ReportOutcome::Accepted => self.accepted.inc(),
            ReportOutcome::Dropped => self.dropped.inc(),
        }
    }

    /// Counts samples that were refused.
    pub fn refused(&self, reason: SampleRefusal, samples: u64) {
        self.refused
            .with_label_values(&[reason.label()])
            .inc_by(samples);
    }

    /// Counts series that expired.
    pub fn expired(&self, series: u64) {
        self.expired.inc_by(series);
    }

    /// Records that a report is stored: how long that took, and how long ago it came.
    pub fn stored(&self, took: Duration, waited: Duration) {
        self.update.observe(took.as_secs_f64());
        self.wait.observe(waited.as_secs_f64());
    }

    /// Reports that were stored.
    pub fn stored_reports(&self) -> u64 {
        self.wait.get_sample_count()
    }

    /// Records what looking through all series took.
    pub fn cleaned_up(&self, took: Duration) {
        self.cleanup.observe(took.as_secs_f64());
    }

    /// Records what a finished scrape took.
    pub fn collected(&self, took: Duration) {
        let nanoseconds = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
        self.collect_nanoseconds.set(nanoseconds);
    }

    /// Says what is stored.
    pub fn set_stored(&self, series: usize, workspaces: usize) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.store_size.set(gauge(series));
        self.count.set(gauge(series));
        self.workspace_count.set(gauge(workspaces));
    }

    /// Says what waits: reports, scrapes, removals.
    pub fn set_backlog(&self, reports: usize, collections: usize, removals: usize) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.push_backlog.set(gauge(reports));
        self.collect_backlog.set(gauge(collections));
        self.delete_backlog.set(gauge(removals));
    }
}
