//! One batch: a request as its sender framed it, on its way from the socket to the control plane.

use std::num::NonZeroU64;

use bytes::Bytes;
use tokio::time::Instant;

use super::ledger::{Stake, Tally};

/// A batch that was in so many attempts of unknown fate is sent alone: the request may have been too much for the
/// control plane, and the same one again would be so for ever.
const ALONE_AFTER: u8 = 3;

/// What keeps its order: all batches of a lane are delivered in the order in which they were received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LaneKey {
    /// All senders of one boundary session, by its id as it stands in the request.
    Session(Bytes),
    /// A sender that names no session (every release up to v0.9.0), by the number of its connection.
    Connection(u64),
}

/// A batch as it was read, before it is entered in the books.
#[derive(Debug)]
pub struct Arrival {
    /// The encoded `ReportBoundaryLogsRequest`, known to decode.
    pub payload: Bytes,
    /// How many log entries it holds.
    pub logs: u64,
    /// Where it keeps its order.
    pub lane: LaneKey,
    /// The confined process that the request names; empty when it names none.
    pub process: Bytes,
    /// Whether it means the same when it is concatenated with another of its session and process.
    pub mergeable: bool,
    /// When it was read whole.
    pub received_at: Instant,
}

impl Arrival {
    /// The sender's connection, where that is the lane; 0 otherwise.
    pub(super) fn connection(&self) -> u64 {
        match self.lane {
            LaneKey::Session(_) => 0,
            LaneKey::Connection(number) => number,
        }
    }
}

/// A batch that is entered in the books. It has one owner at a time and ends only through the ledger.
#[derive(Debug)]
#[must_use = "a batch that is merely dropped unbalances the books"]
pub struct Batch {
    arrival: Arrival,
    /// The last attempt to send it had an unknown fate.
    ambiguous: bool,
    /// How many attempts had.
    ambiguities: u8,
    pub(super) stake: Stake,
}

impl Batch {
    pub(super) fn new(arrival: Arrival, stake: Stake) -> Self {
        Self {
            arrival,
            ambiguous: false,
            ambiguities: 0,
            stake,
        }
    }

    /// The encoded request.
    pub fn payload(&self) -> &Bytes {
        &self.arrival.payload
    }

    /// Where it keeps its order.
    pub fn lane(&self) -> &LaneKey {
        &self.arrival.lane
    }

    /// When it was read whole.
    pub fn received_at(&self) -> Instant {
        self.arrival.received_at
    }

    /// The sender's connection, where that is its lane; 0 otherwise.
    pub(super) fn connection(&self) -> u64 {
        self.arrival.connection()
    }

    /// The number of its record in the spool, if it has one.
    pub fn record(&self) -> Option<u64> {
        self.stake.record.map(NonZeroU64::get)
    }

    /// It has a record in the spool, which is done when the batch ends.
    pub(super) fn set_record(&mut self, number: u64) {
        self.stake.record = NonZeroU64::new(number);
    }

    /// What it counts for.
    pub fn tally(&self) -> Tally {
        self.stake.tally()
    }

    /// Whether this batch and `next` of the same lane may be sent as one request.
    pub fn merges_with(&self, next: &Self) -> bool {
        let may = |batch: &Self| batch.arrival.mergeable && batch.ambiguities < ALONE_AFTER;
        may(self)
            && may(next)
            && self.arrival.lane == next.arrival.lane
            && self.arrival.process == next.arrival.process
    }

    /// An attempt to send it had an unknown fate: the next one may deliver it twice.
    pub fn mark_ambiguous(&mut self) {
        self.ambiguous = true;
        self.ambiguities = self.ambiguities.saturating_add(1);
    }

    pub(super) fn take_ambiguity(&mut self) -> bool {
        std::mem::take(&mut self.ambiguous)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A mergeable batch of one byte a log.
    pub(crate) fn arrival(session: &'static [u8], logs: u64) -> Arrival {
        Arrival {
            payload: Bytes::from(vec![0; usize::try_from(logs).unwrap()]),
            logs,
            lane: LaneKey::Session(Bytes::from_static(session)),
            process: Bytes::new(),
            mergeable: true,
            received_at: Instant::now(),
        }
    }
}
