//! From the buffer to the control plane: one request in flight per lane, several lanes side by side.

pub mod retry;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, Schedule};
use crate::buffer::Buffer;
use crate::buffer::batch::LaneKey;
use crate::buffer::queue::Cargo;
use crate::metrics::{DropReason, ForwardMetrics};
use crate::upstream::{Outcome, Rpc, Upstream};
use crate::warnings::Warnings;
use retry::{Attempt, Delivery, Verdict, verdict};

/// Lanes that may have a request in flight at a time. Each is a stream of the link, so this stays below what a
/// peer accepts without queueing (256 streams), and it bounds the frame buffers in use.
pub const MAX_LANES_IN_FLIGHT: usize = 32;

/// How long a lane rests after a request, unless a backlog waits. A lone batch goes up at once; a steady trickle goes
/// up in at most a hundred requests a second, whose cost is then shared by all that came meanwhile. No log is read by
/// anybody within this time.
const LANE_REST: Duration = Duration::from_millis(10);

/// As many batches in wait are worth a request of their own: some 40 KiB of full ones.
const BACKLOG: usize = 16;

/// How the forwarder behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What follows when it is unknown whether a request was handled.
    pub delivery: Delivery,
    /// The wait between attempts of a request that the control plane refuses.
    pub schedule: Schedule,
    /// A batch that waits for longer is dropped as `expired`; `None` keeps it for ever.
    pub max_age: Option<Duration>,
    /// The size up to which batches of one lane are sent as one request; 0 sends each alone.
    pub coalesce_max_bytes: u64,
}

/// Moves batches from a buffer to an upstream.
#[derive(Debug)]
pub struct Forwarder<U> {
    buffer: Arc<Buffer>,
    upstream: U,
    settings: Settings,
    metrics: ForwardMetrics,
    /// Of losses: a control plane that refuses everything would fill the log.
    warnings: Mutex<Warnings>,
}

impl<U: Upstream> Forwarder<U> {
    /// A forwarder that does nothing until [`Self::run`].
    pub fn new(
        buffer: Arc<Buffer>,
        upstream: U,
        settings: Settings,
        metrics: ForwardMetrics,
    ) -> Self {
        Self {
            buffer,
            upstream,
            settings,
            metrics,
            warnings: Mutex::default(),
        }
    }

    /// Forwards until `stop` is cancelled. Calls that are in flight then are abandoned and their batches go back
    /// to the buffer; on return nothing is out.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut connected = self.upstream.connected();
        let mut link = self.upstream.connected();
        self.buffer.set_linked(*link.borrow_and_update());
        let mut lanes = FuturesUnordered::new();
        let mut resting = FuturesUnordered::new();
        loop {
            let free = lanes.len() < MAX_LANES_IN_FLIGHT;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = lanes.next() => {
                    resting.extend(Option::map(ended, rest));
                }
                Some(lane) = resting.next() => self.buffer.rouse(lane),
                Ok(()) = link.changed() => self.buffer.set_linked(*link.borrow_and_update()),
                cargo = self.next_cargo(&mut connected), if free => {
                    lanes.push(self.deliver(cargo, stop));
                }
                () = self.expire() => {}
            }
        }
        while lanes.next().await.is_some() {}
    }

    /// Waits for a link first, so that batches stay in the buffer, and under its policy, during an outage.
    async fn next_cargo(&self, connected: &mut watch::Receiver<bool>) -> Cargo {
        loop {
            if connected.wait_for(|connected| *connected).await.is_err() {
                // The link is gone for good, which only happens when the process stops.
                std::future::pending::<()>().await;
            }
            tokio::select! {
                biased;
                // A link that is lost while nothing is there to send must be awaited again.
                _ = connected.wait_for(|connected| !*connected) => {}
                cargo = self.buffer.take(self.settings.coalesce_max_bytes) => return cargo,
            }
        }
    }

    /// Brings one cargo to its end: each batch of it is forwarded, dropped, or back in the buffer. Returns its lane if
    /// that is to rest.
    async fn deliver(&self, mut cargo: Cargo, stop: &CancellationToken) -> Option<LaneKey> {
        let mut backoff = Backoff::new(self.settings.schedule);
        let mut random = fastrand::Rng::new();
        let mut attempt = Attempt {
            batches: cargo.len(),
            refusals: 0,
            split: false,
        };
        while !cargo.is_empty() {
            let ledger = self.buffer.ledger();
            let Some(outcome) = self.attempt(&mut cargo, attempt.batches, stop).await else {
                break;
            };
            self.metrics.attempted(outcome.label());
            let verdict = verdict(&outcome, attempt, self.settings.delivery);
            self.log(&outcome, verdict, attempt);
            match verdict {
                Verdict::Forwarded => self.acknowledge(&mut cargo, attempt.batches),
                Verdict::Failed => {
                    ledger.dropped(
                        cargo.remove_front(attempt.batches),
                        DropReason::ForwardFailed,
                    );
                }
                Verdict::Again => {
                    ledger.land(cargo.front_mut(attempt.batches));
                    attempt.refusals += 1;
                    let wait = backoff.next_wait(&mut random);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Verdict::Split => {
                    ledger.land(cargo.front_mut(attempt.batches));
                    attempt = Attempt {
                        batches: 1,
                        refusals: 0,
                        split: true,
                    };
                }
                Verdict::Return { ambiguous } => {
                    if ambiguous {
                        cargo
                            .front_mut(attempt.batches)
                            .for_each(|batch| batch.mark_ambiguous());
                    }
                    ledger.land(cargo.front_mut(attempt.batches));
                    break;
                }
            }
        }
        self.buffer.settle(cargo, BACKLOG)
    }

    /// Sends the first `count` batches as one request. `None` when told to stop; they are in memory again then.
    async fn attempt(
        &self,
        cargo: &mut Cargo,
        count: usize,
        stop: &CancellationToken,
    ) -> Option<Outcome> {
        let body: Vec<Bytes> = cargo
            .front(count)
            .map(|batch| batch.payload().clone())
            .collect();
        self.buffer.ledger().launch(cargo.front_mut(count));
        tokio::select! {
            biased;
            outcome = self.upstream.call(Rpc::REPORT_BOUNDARY_LOGS, &body) => Some(outcome),
            () = stop.cancelled() => {
                self.buffer.ledger().land(cargo.front_mut(count));
                None
            }
        }
    }

    fn acknowledge(&self, cargo: &mut Cargo, count: usize) {
        let now = Instant::now();
        for batch in cargo.front(count) {
            self.metrics
                .delivered(now.saturating_duration_since(batch.received_at()));
        }
        self.buffer.ledger().forwarded(cargo.remove_front(count));
        self.metrics.succeeded_at(SystemTime::now());
    }

    /// Drops what has waited for too long, or waits until that may be so.
    async fn expire(&self) {
        let Some(max_age) = self.settings.max_age else {
            return std::future::pending().await;
        };
        // Without a batch that waits, none can be too old before a whole age has passed.
        let oldest = self.buffer.oldest_waiting().unwrap_or_else(Instant::now);
        tokio::time::sleep_until(oldest + max_age).await;
        if let Some(cutoff) = Instant::now().checked_sub(max_age) {
            self.buffer.expire(cutoff);
        }
    }

    fn log(&self, outcome: &Outcome, verdict: Verdict, attempt: Attempt) {
        let (Outcome::Rejected(seen)
        | Outcome::Refused(seen)
        | Outcome::Retry(seen)
        | Outcome::Ambiguous(seen)) = outcome
        else {
            return;
        };
        let batches = attempt.batches;
        if verdict != Verdict::Failed {
            tracing::debug!(batches, %seen, ?verdict, "a request was not delivered; nothing is lost");
            return;
        }
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(withheld) = warnings.admit(Instant::now()) {
            tracing::error!(batches, %seen, withheld, "dropped: this request cannot be forwarded");
        }
    }
}

/// Gives the lane back when it has rested.
async fn rest(lane: LaneKey) -> LaneKey {
    tokio::time::sleep(LANE_REST).await;
    lane
}

#[cfg(test)]
mod tests;
