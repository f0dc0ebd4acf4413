//! What the thread of the spool asks of the buffer, and tells it.

use crate::buffer::Buffer;
use crate::buffer::batch::Batch;
use crate::buffer::queue::Cargo;
use crate::metrics::DropReason;

impl Buffer {
    /// Puts a batch behind all that waits, if there is room.
    pub(super) fn place(&self, batch: Batch) -> Result<(), Batch> {
        let mut state = self.state();
        state.queue.push(batch)?;
        let gives = state.queue.can_give();
        drop(state);
        if gives {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Drops the oldest batch that waits in memory; whether there was one.
    pub(super) fn drop_oldest(&self, reason: DropReason) -> bool {
        let oldest = self.state().queue.evict_oldest();
        let dropped = oldest.is_some();
        self.ledger.dropped(oldest, reason);
        dropped
    }

    /// See [`crate::buffer::queue::Queue::take_unrecorded`].
    pub(super) fn take_unrecorded(&self) -> Vec<Cargo> {
        self.state().queue.take_unrecorded()
    }

    /// Puts back what was taken to be written.
    pub(super) fn give_back(&self, cargos: Vec<Cargo>) {
        if cargos.is_empty() {
            return;
        }
        let mut state = self.state();
        for cargo in cargos {
            // Without a backlog to wait for no lane rests.
            if let Some(lane) = state.queue.settle(cargo, 0) {
                state.queue.rouse(lane);
            }
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Takes out all that waits in memory, the oldest first.
    pub(super) fn empty(&self) -> Vec<Batch> {
        let mut state = self.state();
        state.closed = true;
        std::iter::from_fn(|| state.queue.evict_oldest()).collect()
    }

    /// The next place in the order of arrival.
    pub(super) fn next_order(&self) -> u64 {
        self.state().queue.next_arrived()
    }

    /// Later batches come behind this place in the order of arrival.
    pub(super) fn raise_order(&self, at_least: u64) {
        self.state().queue.raise_arrived(at_least);
    }

    /// A batch that was on its way to the thread has arrived: in memory, on disk, or at its end.
    pub(super) fn note_arrived(&self) {
        let mut state = self.state();
        state.spooling.pending = state.spooling.pending.saturating_sub(1);
    }

    /// How much is on disk only, and how many records are not done. Without either, and with nothing on its way,
    /// batches go to memory first again, unless the spool goes first (`always`).
    pub(super) fn note_spool(&self, backlog: u64, live: u64, always: bool) {
        let mut state = self.state();
        state.spooling.backlog = backlog;
        state.spooling.watched = live > 0;
        state.spooling.engaged = always || backlog > 0 || state.spooling.pending > 0;
        let idle = state.is_idle();
        drop(state);
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// Whether there is a connection to the control plane.
    pub(super) fn is_linked(&self) -> bool {
        !self.state().spooling.unlinked
    }

    /// Whether nobody waits for room any more.
    pub(super) fn spool_leaves(&self) -> bool {
        self.state().spooling.leaving
    }

    /// Nobody fills or empties the buffer any more.
    pub(super) fn finish_spool(&self) {
        let mut state = self.state();
        (state.spooling.leaving, state.spooling.finishing) = (true, true);
        drop(state);
        if let Some(port) = &self.spool {
            port.ring();
        }
    }

    pub(super) fn spool_finishes(&self) -> bool {
        self.state().spooling.finishing
    }
}
