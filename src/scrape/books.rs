//! The books as a scrape sees them: one snapshot of the ledger, from which all its families are made.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use tokio::time::Instant;

use super::trend::Trend;
use crate::buffer::Buffer;
use crate::buffer::ledger::{Snapshot, Tally};
use crate::buffer::queue::Limits;
use crate::metrics::DropReason;
use crate::metrics::catalog::{self, Family};
use crate::metrics::sample::{describe, single, split};

/// The families that are made from an [`Account`], and the one that says which build makes them.
const FAMILIES: &[Family] = &[
    catalog::AGENT_BATCHES_DROPPED,
    catalog::AGENT_LOGS_DROPPED,
    catalog::AGENT_BATCHES_FORWARDED,
    catalog::BATCHES_RECEIVED,
    catalog::LOGS_RECEIVED,
    catalog::BYTES_RECEIVED,
    catalog::BATCHES_FORWARDED,
    catalog::LOGS_FORWARDED,
    catalog::BYTES_FORWARDED,
    catalog::BATCHES_DROPPED,
    catalog::LOGS_DROPPED,
    catalog::BATCHES_IN_MEMORY,
    catalog::LOGS_IN_MEMORY,
    catalog::BATCHES_ON_DISK,
    catalog::LOGS_ON_DISK,
    catalog::BATCHES_IN_FLIGHT,
    catalog::LOGS_IN_FLIGHT,
    catalog::IMBALANCE,
    catalog::BUFFER_CAPACITY_BATCHES,
    catalog::BUFFER_CAPACITY_BYTES,
    catalog::BUFFER_BYTES,
    catalog::POSSIBLE_DUPLICATES,
    catalog::OLDEST_LOG_AGE,
    catalog::TIME_TO_FULL,
    catalog::BUILD_INFO,
];

/// The buffer with its bounds, and how it fills.
#[derive(Debug)]
pub(super) struct Books {
    buffer: Arc<Buffer>,
    limits: Limits,
    trend: Mutex<Trend>,
}

/// What the books say at one moment.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) ledger: Snapshot,
    pub(super) limits: Limits,
    /// Zero when nothing is held.
    pub(super) oldest_age: Duration,
    /// `None` while the buffer is not filling.
    pub(super) time_to_full: Option<Duration>,
}

impl Books {
    pub(super) fn new(buffer: Arc<Buffer>, limits: Limits) -> Self {
        Self {
            buffer,
            limits,
            trend: Mutex::default(),
        }
    }

    /// Notes what is held now, for the prediction of when the buffer is full.
    pub(super) fn observe(&self, now: Instant) {
        let held = held(&self.buffer.ledger().snapshot());
        self.trend().record(now, held);
    }

    pub(super) fn account(&self, now: Instant) -> Account {
        let ledger = self.buffer.ledger().snapshot();
        let oldest = self.buffer.oldest();
        Account {
            oldest_age: oldest.map_or(Duration::ZERO, |then| now.saturating_duration_since(then)),
            time_to_full: self.trend().time_to_full(self.limits, held(&ledger)),
            limits: self.limits,
            ledger,
        }
    }

    /// No sample is half recorded, so a poisoned lock protects a whole trend.
    fn trend(&self) -> MutexGuard<'_, Trend> {
        self.trend.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What takes up room in the buffer: it is free again only when a call is answered.
pub(super) fn held(ledger: &Snapshot) -> Tally {
    [ledger.in_memory, ledger.in_flight].into_iter().sum()
}

/// Puts the books on the page.
pub(super) struct BooksCollector {
    books: Arc<Books>,
    descs: Vec<Desc>,
}

impl BooksCollector {
    pub(super) fn new(books: Arc<Books>) -> Result<Self, prometheus::Error> {
        let descs = describe(FAMILIES)?;
        Ok(Self { books, descs })
    }
}

impl Debug for BooksCollector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("BooksCollector").finish_non_exhaustive()
    }
}

impl Collector for BooksCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        families(&self.books.account(Instant::now()))
    }
}

fn families(account: &Account) -> Vec<MetricFamily> {
    let Account { ledger, limits, .. } = account;
    let count = |family, value: u64| single(family, value as f64);
    // Both bounds of what the Go agent calls full; all else that we drop it would have failed to forward.
    let full: Tally = dropped_as(ledger, is_full);
    let failed: Tally = dropped_as(ledger, |reason| !is_full(reason));
    let by_reason = |of: fn(Tally) -> u64| {
        DropReason::ALL
            .iter()
            .map(move |reason| (reason.label(), of(ledger.dropped(*reason)) as f64))
    };
    let (channel_full, batch_full) = (
        ledger.sender_channel_full as f64,
        ledger.sender_batch_full as f64,
    );
    vec![
        split(
            &catalog::AGENT_BATCHES_DROPPED,
            [
                ("buffer_full", full.batches as f64),
                ("forward_failed", failed.batches as f64),
            ],
        ),
        split(
            &catalog::AGENT_LOGS_DROPPED,
            [
                ("buffer_full", full.logs as f64),
                ("forward_failed", failed.logs as f64),
                ("boundary_channel_full", channel_full),
                ("boundary_batch_full", batch_full),
            ],
        ),
        count(&catalog::AGENT_BATCHES_FORWARDED, ledger.forwarded.batches),
        count(&catalog::BATCHES_RECEIVED, ledger.received.batches),
        count(&catalog::LOGS_RECEIVED, ledger.received.logs),
        count(&catalog::BYTES_RECEIVED, ledger.received.bytes),
        count(&catalog::BATCHES_FORWARDED, ledger.forwarded.batches),
        count(&catalog::LOGS_FORWARDED, ledger.forwarded.logs),
        count(&catalog::BYTES_FORWARDED, ledger.forwarded.bytes),
        split(&catalog::BATCHES_DROPPED, by_reason(|tally| tally.batches)),
        split(
            &catalog::LOGS_DROPPED,
            by_reason(|tally| tally.logs)
                .chain([("channel_full", channel_full), ("batch_full", batch_full)]),
        ),
        count(&catalog::BATCHES_IN_MEMORY, ledger.in_memory.batches),
        count(&catalog::LOGS_IN_MEMORY, ledger.in_memory.logs),
        count(&catalog::BATCHES_ON_DISK, ON_DISK),
        count(&catalog::LOGS_ON_DISK, ON_DISK),
        count(&catalog::BATCHES_IN_FLIGHT, ledger.in_flight.batches),
        count(&catalog::LOGS_IN_FLIGHT, ledger.in_flight.logs),
        single(&catalog::IMBALANCE, ledger.imbalance() as f64),
        count(&catalog::BUFFER_CAPACITY_BATCHES, limits.max_batches),
        count(&catalog::BUFFER_CAPACITY_BYTES, limits.max_bytes),
        count(&catalog::BUFFER_BYTES, held(ledger).bytes),
        count(&catalog::POSSIBLE_DUPLICATES, ledger.possible_duplicates),
        single(&catalog::OLDEST_LOG_AGE, account.oldest_age.as_secs_f64()),
        single(
            &catalog::TIME_TO_FULL,
            account
                .time_to_full
                .map_or(f64::INFINITY, |left| left.as_secs_f64()),
        ),
        split(&catalog::BUILD_INFO, [(super::VERSION, 1.0)]),
    ]
}

/// There is no spool: nothing is on disk.
pub(super) const ON_DISK: u64 = 0;

fn dropped_as(ledger: &Snapshot, matches: fn(DropReason) -> bool) -> Tally {
    DropReason::ALL
        .iter()
        .filter(|reason| matches(**reason))
        .map(|reason| ledger.dropped(*reason))
        .sum()
}

fn is_full(reason: DropReason) -> bool {
    match reason {
        DropReason::BufferFull | DropReason::SpoolFull => true,
        DropReason::ForwardFailed
        | DropReason::SpoolCorrupt
        | DropReason::Expired
        | DropReason::Shutdown => false,
    }
}
