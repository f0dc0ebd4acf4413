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
use crate::buffer::spooler::{Lifetime, SpoolStatus};
use crate::metrics::DropReason;
use crate::metrics::catalog::{self, Family};
use crate::metrics::sample::{describe, single, split};
use crate::spool::head_number;

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
    catalog::SPOOL_BYTES,
    catalog::SPOOL_CAPACITY,
    catalog::SPOOL_AVAILABLE,
    catalog::SPOOL_ERRORS,
    catalog::SPOOL_BYPASSED,
    catalog::SPOOL_CHAIN_RECORD,
    catalog::SPOOL_CHAIN_HEAD,
    catalog::LEDGER_RECEIVED,
    catalog::LEDGER_FORWARDED,
    catalog::LEDGER_DROPPED,
    catalog::LEDGER_UNACCOUNTED,
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
    /// `None` while the buffer is not filling, or the spool where there is one.
    pub(super) time_to_full: Option<Duration>,
    /// `None` without a spool.
    pub(super) spool: Option<SpoolStatus>,
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
        let spool = self.buffer.spool_status();
        let (held, _) = self.filling(&self.buffer.ledger().snapshot(), spool.as_ref());
        self.trend().record(now, held);
    }

    /// What fills up, and its bounds: memory, or with a spool the disk.
    fn filling(&self, ledger: &Snapshot, spool: Option<&SpoolStatus>) -> (Tally, Limits) {
        match spool {
            None => (held(ledger), self.limits),
            Some(spool) => (
                Tally {
                    bytes: spool.bytes,
                    ..Tally::default()
                },
                Limits {
                    max_batches: u64::MAX,
                    max_bytes: spool.capacity_bytes,
                },
            ),
        }
    }

    pub(super) fn account(&self, now: Instant) -> Account {
        let ledger = self.buffer.ledger().snapshot();
        let oldest = self.buffer.oldest();
        let spool = self.buffer.spool_status();
        let (filled, bounds) = self.filling(&ledger, spool.as_ref());
        Account {
            oldest_age: oldest.map_or(Duration::ZERO, |then| now.saturating_duration_since(then)),
            time_to_full: self.trend().time_to_full(bounds, filled),
            limits: self.limits,
            ledger,
            spool,
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
    let spool = account.spool.as_ref();
    let of_spool = |of: fn(&SpoolStatus) -> u64| spool.map_or(0, of);
    // Without a spool no process knows of those before it.
    let lifetime = spool.map_or_else(
        || Lifetime::default().and(ledger),
        |spool| spool.before.and(ledger),
    );
    let dropped_ever = DropReason::ALL.iter().zip(lifetime.dropped);
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
        count(&catalog::BATCHES_ON_DISK, ledger.on_disk.batches),
        count(&catalog::LOGS_ON_DISK, ledger.on_disk.logs),
        count(&catalog::BATCHES_IN_FLIGHT, ledger.in_flight.batches),
        count(&catalog::LOGS_IN_FLIGHT, ledger.in_flight.logs),
        count(&catalog::SPOOL_BYTES, of_spool(|spool| spool.bytes)),
        count(
            &catalog::SPOOL_CAPACITY,
            of_spool(|spool| spool.capacity_bytes),
        ),
        count(
            &catalog::SPOOL_AVAILABLE,
            of_spool(|spool| u64::from(spool.available)),
        ),
        count(&catalog::SPOOL_ERRORS, of_spool(|spool| spool.errors)),
        count(&catalog::SPOOL_BYPASSED, of_spool(|spool| spool.bypassed)),
        count(
            &catalog::SPOOL_CHAIN_RECORD,
            of_spool(|spool| spool.head_record),
        ),
        count(
            &catalog::SPOOL_CHAIN_HEAD,
            of_spool(|spool| head_number(&spool.head)),
        ),
        count(&catalog::LEDGER_RECEIVED, lifetime.received.logs),
        count(&catalog::LEDGER_FORWARDED, lifetime.forwarded.logs),
        split(
            &catalog::LEDGER_DROPPED,
            dropped_ever.map(|(reason, tally)| (reason.label(), tally.logs as f64)),
        ),
        count(&catalog::LEDGER_UNACCOUNTED, lifetime.unaccounted.logs),
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
