//! Between the socket and the link: a bounded buffer and the ledger that accounts for it.

pub mod batch;
pub mod ledger;
pub mod queue;
pub mod spooler;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::metrics::DropReason;
use batch::{Arrival, Batch, LaneKey};
use ledger::Ledger;
use queue::{Cargo, Limits, Queue};
use spooler::{Port, SpoolSettings, SpoolStart, SpoolStatus};

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
    /// The way to the spool, if there is one.
    spool: Option<Port>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// Whatever comes, or comes back, is dropped.
    closed: bool,
    spooling: Spooling,
}

impl State {
    /// Whether nothing is held.
    fn is_idle(&self) -> bool {
        self.queue.is_idle() && self.spooling.pending == 0 && self.spooling.backlog == 0
    }
}

/// What the buffer and the thread of the spool tell each other.
#[derive(Debug, Default)]
struct Spooling {
    /// Batches that come go to the thread.
    engaged: bool,
    /// Batches on their way to the thread, those that wait to be sent included.
    pending: u64,
    /// Batches that are on disk only.
    backlog: u64,
    /// What leaves the buffer is of interest to the thread.
    watched: bool,
    /// There is no connection to the control plane.
    unlinked: bool,
    /// Nobody waits for room any more.
    leaving: bool,
    /// Nobody fills or empties the buffer any more.
    finishing: bool,
}

impl Buffer {
    /// An empty buffer.
    pub fn new(limits: Limits, when_full: WhenFull, ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self::over(limits, when_full, ledger, None))
    }

    /// A buffer over a spool. It takes batches; they go to disk and come back once the thread of the spool is started.
    pub fn with_spool(
        limits: Limits,
        when_full: WhenFull,
        ledger: Arc<Ledger>,
        spool: SpoolSettings,
    ) -> (Arc<Self>, SpoolStart) {
        let (port, ends) = spooler::way(&spool);
        let buffer = Arc::new(Self::over(limits, when_full, ledger, Some(port)));
        let start = SpoolStart::new(&buffer, ends, spool);
        (buffer, start)
    }

    fn over(limits: Limits, when_full: WhenFull, ledger: Arc<Ledger>, spool: Option<Port>) -> Self {
        Self {
            state: Mutex::new(State {
                queue: Queue::new(limits),
                closed: false,
                spooling: Spooling::default(),
            }),
            ledger,
            when_full,
            arrived: Notify::new(),
            room: Notify::new(),
            turn: Semaphore::new(1),
            idle: Notify::new(),
            spool,
        }
    }

    /// The books of this buffer.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Receives a batch: enters it in the books and stores it, or drops what the policy says must go.
    ///
    /// Waits only under [`WhenFull::Block`], at most for its deadline. The batch counts as received, and as held in
    /// memory, while it waits. With a spool it waits for the disk, when that is slower than what comes.
    pub async fn receive(&self, arrival: Arrival) {
        if let Some(port) = &self.spool {
            // In memory of its own, so that without a spool the task of a connection is none the larger.
            return Box::pin(self.receive_spooled(port, arrival)).await;
        }
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
        let idle = state.is_idle();
        self.tell_spool(&state);
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
        let idle = state.is_idle();
        self.tell_spool(&state);
        drop(state);
        self.room.notify_one();
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// Waits until nothing waits, nothing is out, and nothing is on disk.
    pub async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.state().is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// Drops all that waits as lost at shutdown, and whatever comes or comes back from now on. With a spool all of it
    /// is kept, for [`spooler::Spool::finish`] to write; only nobody waits for room any more.
    pub fn close(&self) {
        let mut state = self.state();
        if let Some(port) = &self.spool {
            state.spooling.leaving = true;
            drop(state);
            return port.ring();
        }
        state.closed = true;
        self.drop_all(&mut state, DropReason::Shutdown);
        drop(state);
        self.room.notify_one();
    }

    /// Tells whether there is a connection to the control plane. Without one, what is in memory goes to the spool too.
    pub fn set_linked(&self, linked: bool) {
        self.state().spooling.unlinked = !linked;
        if let Some(port) = &self.spool {
            port.ring();
        }
    }

    /// Most payload bytes in memory.
    fn max_bytes(&self) -> u64 {
        self.state().queue.limits().max_bytes
    }

    /// The spool at this moment, if there is one.
    pub fn spool_status(&self) -> Option<SpoolStatus> {
        self.spool.as_ref().map(|port| port.status().clone())
    }

    /// When the oldest batch that waits was received.
    pub fn oldest_waiting(&self) -> Option<Instant> {
        self.state().queue.oldest_waiting()
    }

    /// When the oldest batch that is held was received.
    pub fn oldest(&self) -> Option<Instant> {
        self.state().queue.oldest()
    }

    /// Room has come free, or a record is done.
    fn tell_spool(&self, state: &State) {
        if let Some(port) = &self.spool
            && (state.spooling.engaged || state.spooling.watched)
        {
            port.ring();
        }
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
