//! The schedule of one target.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::samples::{Gathered, TooMany, gather, restarted};
use super::{FetchError, Fetcher, Held, Target};
use crate::metrics::TargetMetrics;
use crate::wire::exposition::Fault;

/// How long a page may take, unless the interval is shorter.
const PAGE_WITHIN: Duration = Duration::from_secs(10);

/// Collects the pages of one target, again and again.
#[derive(Debug)]
pub struct Job {
    target: Target,
    fetcher: Arc<Fetcher>,
    held: Held,
    metrics: TargetMetrics,
    log: Log,
}

/// What was said of a target last: what stays as it is is not said again.
#[derive(Debug, Default)]
struct Log {
    down: bool,
    faulty: bool,
}

/// Why a scrape gave no samples.
#[derive(Debug)]
enum Failure {
    Fetch(FetchError),
    TooMany(TooMany),
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(error) => error.fmt(f),
            Self::TooMany(error) => error.fmt(f),
        }
    }
}

/// Runs the jobs side by side until `stop` is cancelled, each at its own pace: that of the reports, which `pace` tells.
pub async fn serve(jobs: Vec<Job>, pace: watch::Receiver<Duration>, stop: CancellationToken) {
    let mut running = JoinSet::new();
    for job in jobs {
        let pace = pace.clone();
        running.spawn(stop.clone().run_until_cancelled_owned(job.run(pace)));
    }
    // A job that panics is counted by the hook and costs its target alone.
    while running.join_next().await.is_some() {}
}

impl Job {
    /// A job that does nothing until it is served. What it finds is in `held`.
    pub fn new(target: Target, fetcher: Arc<Fetcher>, held: Held, metrics: TargetMetrics) -> Self {
        Self {
            target,
            fetcher,
            held,
            metrics,
            log: Log::default(),
        }
    }

    async fn run(mut self, mut pace: watch::Receiver<Duration>) {
        loop {
            let begun = Instant::now();
            let interval = *pace.borrow();
            self.scrape(begun, interval).await;
            wait(begun, &mut pace).await;
        }
    }

    async fn scrape(&mut self, begun: Instant, interval: Duration) {
        let limit = PAGE_WITHIN.min(interval);
        let page = self.fetcher.fetch(&self.target.location, limit).await;
        let gathered = match page {
            Ok(page) => gather(&page.bytes, page.format).map_err(Failure::TooMany),
            Err(error) => Err(Failure::Fetch(error)),
        };
        self.metrics.took(begun.elapsed());
        match gathered {
            Ok(gathered) => self.succeeded(gathered, begun, interval),
            Err(failure) => self.failed(&failure, begun + interval),
        }
    }

    fn succeeded(&mut self, gathered: Gathered, begun: Instant, interval: Duration) {
        let restarts = restarted(&self.held.latest(), &gathered.samples);
        self.metrics.read(gathered.seen, gathered.faults, restarts);
        let Target { name, location } = &self.target;
        if std::mem::take(&mut self.log.down) {
            tracing::info!(scrape = %name, "scraped again");
        }
        if restarts > 0 {
            tracing::debug!(scrape = %name, counters = restarts, "its counters have begun anew");
        }
        let first: Option<&Fault> = gathered.first_fault.as_ref();
        if let Some(first) = first.filter(|_| !self.log.faulty) {
            tracing::warn!(
                scrape = %name, %location, lines = gathered.faults, %first,
                "lines of its page cannot be read; the others are used"
            );
        }
        self.log.faulty = first.is_some();
        self.held.set(gathered.samples, begun, interval);
    }

    fn failed(&mut self, failure: &Failure, down_for_an_interval: Instant) {
        self.metrics.down();
        let Target { name, location } = &self.target;
        if std::mem::replace(&mut self.log.down, true) {
            tracing::debug!(scrape = %name, %location, %failure, "still cannot be scraped");
        } else {
            self.held.expire(down_for_an_interval);
            tracing::warn!(
                scrape = %name, %location, %failure,
                "cannot be scraped: its metrics are reported no more until it can, logs go on"
            );
        }
    }
}

/// Waits until an interval has passed since `begun`, whatever the interval has become meanwhile.
async fn wait(begun: Instant, pace: &mut watch::Receiver<Duration>) {
    loop {
        let due = begun + *pace.borrow_and_update();
        tokio::select! {
            () = sleep_until(due) => return,
            changed = pace.changed() => if changed.is_err() {
                // Who told the pace is gone; the last one holds.
                return sleep_until(due).await;
            },
        }
    }
}
