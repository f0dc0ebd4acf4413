//! From disk to memory.

use std::time::Duration;

use tokio::time::Instant;

use super::INTERVAL;
use super::thread::{Spooler, unix_ms};
use crate::buffer::batch::{Arrival, LaneKey};
use crate::metrics::DropReason;
use crate::spool::Storage;
use crate::spool::log::Stored;
use crate::wire::boundary::{Malformed, Summary};

/// Reads of the same place that may fail before it is given up.
const MAX_FAILED_READS: u32 = 3;

impl<S: Storage> Spooler<S> {
    /// Reads what is on disk only, in order, while memory has room.
    pub(super) fn refill(&mut self) {
        loop {
            if let Some(batch) = self.ahead.take()
                && let Err(batch) = self.buffer.place(batch)
            {
                self.ahead = Some(batch);
                return;
            }
            if self.reread_at.is_some_and(|at| Instant::now() < at) {
                return;
            }
            self.reread_at = None;
            let Some(log) = &mut self.log else { return };
            let read = log.read();
            let (lost, damages) = log.take_lost();
            if lost.batches > 0 {
                self.buffer
                    .ledger()
                    .dropped_on_disk(lost, DropReason::SpoolCorrupt);
                self.name_damage(lost, &damages);
            }
            match read {
                Ok(Some(stored)) => {
                    self.failed_reads = 0;
                    self.restore(stored);
                }
                Ok(None) => return,
                Err(error) => {
                    self.report("the spool cannot be read", &error);
                    self.failed_reads += 1;
                    if self.failed_reads < MAX_FAILED_READS {
                        self.reread_at = Some(Instant::now() + INTERVAL);
                        return;
                    }
                    self.failed_reads = 0;
                    if let Some(log) = &mut self.log {
                        log.give_up();
                    }
                }
            }
        }
    }

    fn restore(&mut self, stored: Stored) {
        let ledger = self.buffer.ledger();
        let (number, tally) = (stored.number, stored.tally());
        let Ok(arrival) = arrival(stored) else {
            // Whole, and yet not what was received: only somebody else can have written it.
            ledger.dropped_on_disk(tally, DropReason::SpoolCorrupt);
            if let Some(log) = &mut self.log {
                log.done(number);
            }
            return self.name_damage(tally, &[]);
        };
        let mut batch = ledger.unshelve(arrival, number);
        if number < self.doubtful_below {
            batch.mark_ambiguous();
        }
        self.ahead = Some(batch);
    }
}

/// The batch as it was when it was received.
///
/// # Errors
/// When the payload is not what Weir receives.
pub fn arrival(stored: Stored) -> Result<Arrival, Malformed> {
    let payload = stored.payload;
    let summary = Summary::read(&payload)?;
    let session = summary.session_id.of(&payload);
    let lane = if session.is_empty() {
        LaneKey::Connection(stored.connection)
    } else {
        LaneKey::Session(payload.slice_ref(session.as_bytes()))
    };
    // A clock that was set back makes it new; the monotonic one may have begun after it was received.
    let age = Duration::from_millis(unix_ms().saturating_sub(stored.received_ms));
    let now = Instant::now();
    Ok(Arrival {
        process: payload.slice_ref(summary.process.of(&payload).as_bytes()),
        logs: stored.logs,
        lane,
        mergeable: summary.mergeable,
        received_at: now.checked_sub(age).unwrap_or(now),
        payload,
    })
}
