//! The thread that owns the store, and the handle of it.

use std::io;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use tokio::sync::mpsc;

use super::store::Store;
use super::{CollectError, Collection, Reporter, Settings};
use crate::config::control::Labels;
use crate::metrics::control::{AggregateMetrics, ReportOutcome};
use crate::wire::stats::StatsRequest;

/// Reports that wait to be taken, as many as the reference lets wait.
const QUEUE: usize = 4096;

/// Requests that wait to be taken: scrapes are limited, builds of agents change rarely.
const REQUESTS: usize = 64;

/// The handle of a running aggregator. Clones feed the same one.
#[derive(Clone, Debug)]
pub struct Aggregator {
    reports: Sender<(Reporter, StatsRequest)>,
    requests: Sender<Request>,
    metrics: AggregateMetrics,
}

/// The thread of an aggregator. Dropped, it tells the thread to end and does not wait.
#[derive(Debug)]
pub struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

enum Request {
    Rebuilt(Reporter),
    Collect(mpsc::Sender<Option<Bytes>>),
}

impl Aggregator {
    /// Starts the thread. A [`Reporter`] names its agent by the place among `agents`, no two of which have the same
    /// labels.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start<'a>(
        _settings: Settings,
        agents: impl IntoIterator<Item = &'a Labels>,
        metrics: AggregateMetrics,
    ) -> io::Result<(Self, Running)> {
        let (reports, reports_in) = bounded(QUEUE);
        let (requests, requests_in) = bounded(REQUESTS);
        let (stop, stopped) = bounded(0);
        let store = Store::new(agents);
        let worker = Worker {
            store,
            reports: reports_in,
            requests: requests_in,
            stopped,
            metrics: metrics.clone(),
        };
        let thread = thread::Builder::new()
            .name("weir-aggregate".to_owned())
            .spawn(move || worker.run())?;
        let handle = Self {
            reports,
            requests,
            metrics,
        };
        Ok((handle, Running { stop, thread }))
    }

    /// Takes a report, to be stored soon. It never blocks: a report that finds the queue full is dropped as a whole,
    /// and counted.
    pub fn report(&self, reporter: Reporter, report: StatsRequest) {
        let outcome = match self.reports.try_send((reporter, report)) {
            Ok(()) => ReportOutcome::Accepted,
            Err(_) => ReportOutcome::Dropped,
        };
        self.metrics.reported(outcome);
    }

    /// The program connected again from another build: the series that it wrote last go at once.
    pub fn rebuilt(&self, reporter: Reporter) {
        drop(self.requests.try_send(Request::Rebuilt(reporter)));
    }

    /// Begins a scrape. It never blocks.
    ///
    /// # Errors
    /// When too many are under way, or the aggregator has stopped.
    pub fn collect(&self) -> Result<Collection, CollectError> {
        let (sender, chunks) = mpsc::channel(2);
        match self.requests.try_send(Request::Collect(sender)) {
            Ok(()) => Ok(Collection {
                chunks,
                ended: false,
            }),
            Err(error) if error.is_full() => Err(CollectError::Busy),
            Err(_) => Err(CollectError::Stopped),
        }
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

struct Worker {
    store: Store,
    reports: Receiver<(Reporter, StatsRequest)>,
    requests: Receiver<Request>,
    stopped: Receiver<()>,
    metrics: AggregateMetrics,
}

impl Worker {
    fn run(mut self) {
        loop {
            select! {
                recv(self.stopped) -> _ => return,
                recv(self.requests) -> request => match request {
                    Ok(Request::Rebuilt(reporter)) => self.store.rebuilt(reporter),
                    Ok(Request::Collect(to)) => {
                        let page = self.store.page();
                        let sent = to.try_send(Some(page)).and_then(|()| to.try_send(None));
                        drop(sent);
                    }
                    Err(_) => return,
                },
                recv(self.reports) -> report => match report {
                    Ok((reporter, report)) => {
                        self.store.apply(reporter, &report);
                        self.metrics.set_stored(self.store.series(), 0);
                    }
                    Err(_) => return,
                },
            }
        }
    }
}
