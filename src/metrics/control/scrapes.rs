//! What the control plane's page counts of itself, as client_golang's handler does (prometheus/promhttp).

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGauge};

use super::{Present, coderd, each, gauge};

/// What is counted of scrapes. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct ScrapeMetrics {
    in_flight: IntGauge,
    answered: IntCounterVec,
    errors: IntCounterVec,
}

/// Why a page is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrapeError {
    /// Some of its families could not be had.
    Gathering,
    /// It could not be written to the end: the scraper left, or was too slow.
    Encoding,
}

impl ScrapeMetrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            in_flight: gauge(&coderd::SCRAPES_IN_FLIGHT)?,
            answered: each(&coderd::SCRAPES)?,
            errors: each(&coderd::SCRAPE_ERRORS)?,
        })
    }

    pub(super) fn collectors(&self) -> [Box<dyn Collector>; 3] {
        [
            Box::new(self.in_flight.clone()),
            Box::new(self.answered.clone()),
            Box::new(self.errors.clone()),
        ]
    }

    /// Counts a scrape as being answered until the guard is dropped.
    pub fn begun(&self) -> Present {
        Present::new(&self.in_flight)
    }

    /// Counts a scrape that was answered with this status.
    pub fn answered(&self, status: http::StatusCode) {
        self.answered.with_label_values(&[status.as_str()]).inc();
    }

    /// Counts a page that is not whole.
    pub fn failed(&self, error: ScrapeError) {
        let cause = match error {
            ScrapeError::Gathering => "gathering",
            ScrapeError::Encoding => "encoding",
        };
        self.errors.with_label_values(&[cause]).inc();
    }
}

#[cfg(test)]
impl ScrapeMetrics {
    /// Scrapes that are being answered.
    pub(crate) fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Scrapes that were answered so.
    pub(crate) fn answers(&self, code: &str) -> u64 {
        self.answered.with_label_values(&[code]).get()
    }

    /// Pages that are not whole for this cause.
    pub(crate) fn errors(&self, cause: &str) -> u64 {
        self.errors.with_label_values(&[cause]).get()
    }
}
