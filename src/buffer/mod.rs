//! Between the socket and the link: a bounded buffer and the ledger that accounts for it.

pub mod batch;
pub mod ledger;
pub mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::metrics::DropReason;
use batch::{Arrival, Batch, LaneKey};
use ledger::Ledger;
use queue::{Cargo, Limits, Queue};

/// What happens to a batch for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The batch that has just come is dropped, as the Go agent does.
    DropNewest,
    /// The oldest batches that no call carries are dropped until the new one fits.
    DropOldest,
    /// The sender waits for room; when the deadline passes, the new batch is dropped.
    Block {
        /// How long a sender waits at most.
        deadline: Duration,
    },
}

/// The buffer, shared by the connections that fill it and the forwarder that empties it.
#[derive(Debug)]
pub struct Buffer {
    state: Mutex<State>,
    ledger: Arc<Ledger>,
    when_full: WhenFull,
    /// A lane may have got something to give.
    arrived: Notify,
    /// Room may have become free.
    room: Notify,
    /// One sender at a time waits for room, the others for their turn, in the order in which they came.
    turn: Semaphore,
    /// Nothing waits and nothing is out.
    idle: Notify,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// Whatever comes, or comes back, is dropped.
    closed: bool,
}

impl Buffer {
    /// An empty buffer.
    pub fn new(limits: Limits, when_full: WhenFull, ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                queue: Queue::new(limits),
                closed: false,
            }),
            ledger,
            when_full,
            arrived: Notify::new(),
            room: Notify::new(),
            turn: Semaphore::new(1),
            idle: Notify::new(),
        })
    }

    /// The books of this buffer.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Receives a batch: enters it in the books and stores it, or drops what the policy says must go.
    ///
    /// Waits only under [`WhenFull::Block`], at most for its deadline. The batch counts as received, and as held in
    /// memory, while it waits.
    pub async fn receive(&self, arrival: Arrival) {
        let batch = self.ledger.receive(arrival);
        if let WhenFull::Block { deadline } = self.when_full {
            return self.store_within(batch, deadline).await;
        }
        let Err(batch) = self.store(batch) else {
            return;
        };
        match self.when_full {
            WhenFull::DropOldest => self.store_over_oldest(batch),
            WhenFull::DropNewest | WhenFull::Block { .. } => {
                self.ledger.dropped([batch], DropReason::BufferFull);
            }
        }
    }

    /// Waits until a lane has something to give, and takes it: one batch, or as many as merge and together stay
    /// within `max_bytes`.
    ///
    /// Dropping the future takes nothing.
    pub async fn take(&self, max_bytes: u64) -> Cargo {
        loop {
            if let Some(cargo) = self.state().queue.take(max_bytes) {
                return cargo;
            }
            self.arrived.notified().await;
        }
    }

    /// Ends a cargo: what is left in it waits again in its old place.
    ///
    /// A lane in which fewer than `backlog` batches wait rests, so that more can come together. It is returned, and
    /// gives again after [`Self::rouse`].
    #[must_use = "a lane that rests gives nothing until it is roused"]
    pub fn settle(&self, cargo: Cargo, backlog: usize) -> Option<LaneKey> {
        let mut state = self.state();
        let resting = state.queue.settle(cargo, backlog);
        if state.closed {
            self.drop_all(&mut state, DropReason::Shutdown);
        }
        let idle = state.queue.is_idle();
        drop(state);
        self.arrived.notify_one();
        self.room.notify_one();
        if idle {
            self.idle.notify_waiters();
        }
        resting
    }

    /// Lets a lane that rests give again.
    pub fn rouse(&self, lane: LaneKey) {
        self.state().queue.rouse(lane);
        self.arrived.notify_one();
    }

    /// Drops what waits and was received at `cutoff` or before.
    pub fn expire(&self, cutoff: Instant) {
        let mut state = self.state();
        while let Some(batch) = state.queue.evict_received_by(cutoff) {
            self.ledger.dropped([batch], DropReason::Expired);
        }
        let idle = state.queue.is_idle();
        drop(state);
        self.room.notify_one();
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// Waits until nothing waits and nothing is out.
    pub async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.state().queue.is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// Drops all that waits as lost at shutdown, and whatever comes or comes back from now on.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        self.drop_all(&mut state, DropReason::Shutdown);
        drop(state);
        self.room.notify_one();
    }

    /// When the oldest batch that waits was received.
    pub fn oldest_waiting(&self) -> Option<Instant> {
        self.state().queue.oldest_waiting()
    }

    /// When the oldest batch that is held was received.
    pub fn oldest(&self) -> Option<Instant> {
        self.state().queue.oldest()
    }

    /// Stores the batch, or drops it when the buffer is closed.
    fn store(&self, batch: Batch) -> Result<(), Batch> {
        let mut state = self.state();
        if state.closed {
            drop(state);
            self.ledger.dropped([batch], DropReason::Shutdown);
            return Ok(());
        }
        state.queue.push(batch)?;
        let gives = state.queue.can_give();
        drop(state);
        if gives {
            self.arrived.notify_one();
        }
        Ok(())
    }

    fn store_over_oldest(&self, mut batch: Batch) {
        // What is out cannot make room: beside it the new batch may not fit however many are dropped.
        while self.state().queue.could_have_room(batch.tally()) {
            let Some(oldest) = self.state().queue.evict_oldest() else {
                break;
            };
            self.ledger.dropped([oldest], DropReason::BufferFull);
            match self.store(batch) {
                Ok(()) => return,
                Err(refused) => batch = refused,
            }
        }
        self.ledger.dropped([batch], DropReason::BufferFull);
    }

    async fn store_within(&self, mut batch: Batch, deadline: Duration) {
        let deadline = Instant::now() + deadline;
        let turn = timeout_at(deadline, self.turn.acquire()).await;
        while turn.is_ok() {
            match self.store(batch) {
                Ok(()) => return,
                Err(refused) => batch = refused,
            }
            if timeout_at(deadline, self.room.notified()).await.is_err() {
                break;
            }
        }
        self.ledger.dropped([batch], DropReason::BufferFull);
    }

    fn drop_all(&self, state: &mut State, reason: DropReason) {
        while let Some(batch) = state.queue.evict_oldest() {
            self.ledger.dropped([batch], reason);
        }
    }

    /// No operation of the queue leaves it half done, so a poisoned lock protects a whole queue.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
