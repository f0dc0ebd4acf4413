//! The thread that owns the store, and the handle of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

use super::queue::{Load, MAX_REPORTS, Room};
use super::store::{Slice, Store};
use super::worker::{Inbox, Worker};
use super::{CollectError, Collection, Reporter, Settings};
use crate::config::control::Labels;
use crate::metrics::control::{AggregateMetrics, ReportOutcome};
use crate::wire::stats::StatsRequest;

/// Scrapes at a time: two Prometheus servers, and people beside them.
const MAX_COLLECTIONS: usize = 4;

/// Slices of a collection, made while others are written.
pub(super) const SLICES: usize = 2;

/// Requests that wait: of each collection its begin, its slices and its end, with which it makes room for another. So
/// there is always room for one.
const MAX_REQUESTS: usize = MAX_COLLECTIONS * (SLICES + 2);

/// The handle of a running aggregator. Clones feed the same one.
#[derive(Clone, Debug)]
pub struct Aggregator {
    load: Arc<Load>,
    updates: Sender<Update>,
    requests: Sender<Request>,
    collections: Arc<Semaphore>,
    next_id: Arc<AtomicU64>,
    metrics: AggregateMetrics,
}

/// The thread of an aggregator. Dropped, it tells the thread to end and does not wait.
#[derive(Debug)]
pub struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// What changes the store, in order.
#[derive(Debug)]
pub(super) enum Update {
    Report {
        reporter: Reporter,
        report: StatsRequest,
        came: Instant,
        room: Room,
    },
    Rebuilt(Reporter),
}

/// What a scrape asks for.
#[derive(Debug)]
pub(super) enum Request {
    Begin(u64, mpsc::Sender<Slice>),
    /// One slice more, in the memory of a former one.
    More(u64, Slice),
    /// Nothing more is asked for; what allowed the collection comes back.
    End(u64, OwnedSemaphorePermit),
}

impl Aggregator {
    /// Starts the thread. A [`Reporter`] names its agent by the place among `agents`, no two of which have the same
    /// labels.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start<'a>(
        settings: &Settings,
        agents: impl IntoIterator<Item = &'a Labels>,
        metrics: AggregateMetrics,
    ) -> io::Result<(Self, Running)> {
        let store = Store::new(settings, agents);
        let load = Load::new(store.agents());
        // Reports have their own bound, and beside them builds of agents find room.
        let (updates, updates_in) = bounded(2 * MAX_REPORTS);
        let (requests, requests_in) = bounded(MAX_REQUESTS);
        let (stop, stopped) = bounded(0);
        let inbox = Inbox {
            load: Arc::clone(&load),
            updates: updates_in,
            requests: requests_in,
            stopped,
        };
        let worker = Worker::new(store, settings, metrics.clone());
        let thread = thread::Builder::new()
            .name("weir-aggregate".to_owned())
            .spawn(move || worker.run(&inbox))?;
        let handle = Self {
            load,
            updates,
            requests,
            collections: Arc::new(Semaphore::new(MAX_COLLECTIONS)),
            next_id: Arc::default(),
            metrics,
        };
        Ok((handle, Running { stop, thread }))
    }

    /// Takes a report, to be stored soon. It never blocks: when too much waits already (4096 reports or 64 MiB, an
    /// eighth of both for one agent), the report is dropped as a whole, and counted.
    pub fn report(&self, reporter: Reporter, report: StatsRequest) {
        let room = self.load.enter(reporter.agent, report.payload().len());
        let update = room.map(|room| Update::Report {
            reporter,
            report,
            came: Instant::now(),
            room,
        });
        let taken = update.is_some_and(|update| self.updates.try_send(update).is_ok());
        self.metrics.reported(match taken {
            true => ReportOutcome::Accepted,
            false => ReportOutcome::Dropped,
        });
    }

    /// The program connected again from another build: the series that it was the last to report go, before anything
    /// is stored that it reports from now on.
    pub fn rebuilt(&self, reporter: Reporter) {
        if !self.load.knows(reporter.agent) {
            return;
        }
        if self.updates.try_send(Update::Rebuilt(reporter)).is_err() {
            tracing::warn!("the series of an agent's former build stay until they expire");
        }
    }

    /// Begins a scrape. It never blocks.
    ///
    /// # Errors
    /// When four are under way, or the aggregator has stopped.
    pub fn collect(&self) -> Result<Collection, CollectError> {
        let permit =
            Arc::clone(&self.collections)
                .try_acquire_owned()
                .map_err(|error| match error {
                    TryAcquireError::NoPermits => CollectError::Busy,
                    TryAcquireError::Closed => CollectError::Stopped,
                })?;
        let (to, slices) = mpsc::channel(SLICES);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.requests
            .try_send(Request::Begin(id, to))
            .map_err(|_stopped| CollectError::Stopped)?;
        Ok(Collection::new(id, self.requests.clone(), slices, permit))
    }
}

impl Running {
    /// Ends the thread, and waits for it.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the aggregator's thread panicked");
        }
    }
}
