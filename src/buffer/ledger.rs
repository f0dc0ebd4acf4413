//! The books: where every batch that was received is now, or how it ended.
//!
//! `received = forwarded + Σ dropped{reason} + in_memory + on_disk + in_flight`, per batch, per log and per byte, at every
//! moment at which a snapshot can be taken: each move is one entry under one short lock. A [`Batch`] can only be
//! made by [`Ledger::receive`] and only be ended by [`Ledger::forwarded`] or [`Ledger::dropped`]; between
//! `Ledger::shelve` and `Ledger::unshelve` it is a record of the spool and nothing else. One that is lost otherwise
//! leaves its place without arriving anywhere, so that [`Snapshot::imbalance`] shows it for good.

use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::{Arrival, Batch};
use crate::metrics::DropReason;
pub use crate::tally::Tally;

/// Where a batch is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In memory, and no call carries it.
    Memory,
    /// Carried by a call that is not answered yet.
    Flight,
}

/// The books at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All that ever came in whole.
    pub received: Tally,
    /// All that the control plane acknowledged.
    pub forwarded: Tally,
    /// Held in memory, carried by no call.
    pub in_memory: Tally,
    /// Held on disk only.
    pub on_disk: Tally,
    /// Carried by a call that is not answered yet.
    pub in_flight: Tally,
    /// Logs that senders say they dropped because their channel was full.
    pub sender_channel_full: u64,
    /// Logs that senders say they dropped because their batch was full.
    pub sender_batch_full: u64,
    /// Logs that were sent again after an attempt of unknown fate.
    pub possible_duplicates: u64,
    dropped: [Tally; DropReason::ALL.len()],
}

impl Snapshot {
    /// What ended undelivered for this reason.
    pub fn dropped(&self, reason: DropReason) -> Tally {
        self.dropped
            .get(reason as usize)
            .copied()
            .unwrap_or_default()
    }

    /// What ended undelivered, for any reason.
    pub fn dropped_in_all(&self) -> Tally {
        self.dropped.iter().copied().sum()
    }

    /// Received − forwarded − dropped − in memory − on disk − in flight, in logs. Anything but 0 is a defect.
    pub fn imbalance(&self) -> i64 {
        let accounted = self.forwarded.logs
            + self.dropped_in_all().logs
            + self.in_memory.logs
            + self.on_disk.logs
            + self.in_flight.logs;
        self.received.logs.wrapping_sub(accounted).cast_signed()
    }

    fn held(&mut self, place: Place) -> &mut Tally {
        match place {
            Place::Memory => &mut self.in_memory,
            Place::Flight => &mut self.in_flight,
        }
    }
}

/// The only code that may begin, move or end the life of a batch.
#[derive(Debug, Default)]
pub struct Ledger {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    accounts: Snapshot,
    /// Records of batches that have ended since this was asked for; no more than batches that were in memory.
    ended: Vec<u64>,
}

impl Deref for Books {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.accounts
    }
}

impl DerefMut for Books {
    fn deref_mut(&mut self) -> &mut Snapshot {
        &mut self.accounts
    }
}

impl Ledger {
    /// Opens empty books.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Enters a batch that was read whole; it is held in memory.
    pub fn receive(self: &Arc<Self>, arrival: Arrival) -> Batch {
        let stake = Stake::new(self, &arrival, None);
        let mut books = self.books();
        books.received.add(stake.tally());
        books.in_memory.add(stake.tally());
        drop(books);
        Batch::new(arrival, stake)
    }

    /// Enters what an earlier process left on disk.
    pub fn recover(&self, found: Tally) {
        let mut books = self.books();
        books.received.add(found);
        books.on_disk.add(found);
    }

    /// This batch is held by its record alone from now on.
    pub(super) fn shelve(&self, mut batch: Batch) {
        debug_assert!(batch.record().is_some(), "only a record can hold it");
        let mut books = self.books();
        // It does not end, so its record stays.
        let tally = batch.stake.leave(&mut books);
        books.on_disk.add(tally);
    }

    /// What a record held alone is a batch in memory again.
    pub(super) fn unshelve(self: &Arc<Self>, arrival: Arrival, record: u64) -> Batch {
        let stake = Stake::new(self, &arrival, NonZeroU64::new(record));
        let mut books = self.books();
        books.on_disk.sub(stake.tally());
        books.in_memory.add(stake.tally());
        drop(books);
        Batch::new(arrival, stake)
    }

    /// What only records held will never be delivered.
    pub(super) fn dropped_on_disk(&self, tally: Tally, reason: DropReason) {
        let mut books = self.books();
        books.on_disk.sub(tally);
        if let Some(account) = books.dropped.get_mut(reason as usize) {
            account.add(tally);
        }
    }

    /// Records of batches that have ended since this was asked last.
    pub(super) fn take_ended(&self) -> Vec<u64> {
        std::mem::take(&mut self.books().ended)
    }

    /// A call begins to carry these batches. Those whose last attempt had an unknown fate are sent again, and
    /// counted as possible duplicates.
    pub fn launch<'a>(&self, batches: impl IntoIterator<Item = &'a mut Batch>) {
        let mut books = self.books();
        for batch in batches {
            batch.stake.shift(&mut books, Place::Flight);
            if batch.take_ambiguity() {
                books.possible_duplicates += batch.tally().logs;
            }
        }
    }

    /// The call that carried these batches ended without ending them.
    pub fn land<'a>(&self, batches: impl IntoIterator<Item = &'a mut Batch>) {
        let mut books = self.books();
        for batch in batches {
            batch.stake.shift(&mut books, Place::Memory);
        }
    }

    /// The control plane acknowledged these batches.
    pub fn forwarded(&self, batches: impl IntoIterator<Item = Batch>) {
        let mut books = self.books();
        for mut batch in batches {
            let tally = batch.stake.end(&mut books);
            books.forwarded.add(tally);
        }
    }

    /// These batches will never be delivered.
    pub fn dropped(&self, batches: impl IntoIterator<Item = Batch>, reason: DropReason) {
        let mut books = self.books();
        for mut batch in batches {
            let tally = batch.stake.end(&mut books);
            if let Some(account) = books.dropped.get_mut(reason as usize) {
                account.add(tally);
            }
        }
    }

    /// A sender says that it dropped logs itself; they were never received.
    pub fn dropped_by_sender(&self, channel_full: u64, batch_full: u64) {
        let mut books = self.books();
        books.sender_channel_full = books.sender_channel_full.saturating_add(channel_full);
        books.sender_batch_full = books.sender_batch_full.saturating_add(batch_full);
    }

    /// All accounts at one moment.
    pub fn snapshot(&self) -> Snapshot {
        self.books().accounts.clone()
    }

    /// No entry can panic half way, so books behind a poisoned lock are whole.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch's standing in the books.
#[derive(Debug)]
pub(super) struct Stake {
    logs: u64,
    bytes: u64,
    /// `None` once the batch's life has ended.
    place: Option<Place>,
    /// Its record in the spool, which is done when it ends; they are counted from 1.
    pub(super) record: Option<NonZeroU64>,
    ledger: Arc<Ledger>,
}

impl Stake {
    /// That of a batch which is in memory.
    fn new(ledger: &Arc<Ledger>, arrival: &Arrival, record: Option<NonZeroU64>) -> Self {
        Self {
            logs: arrival.logs,
            bytes: arrival.payload.len() as u64,
            place: Some(Place::Memory),
            record,
            ledger: Arc::clone(ledger),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        Tally {
            batches: 1,
            logs: self.logs,
            bytes: self.bytes,
        }
    }

    fn shift(&mut self, books: &mut Snapshot, to: Place) {
        if let Some(from) = self.place.replace(to) {
            books.held(from).sub(self.tally());
        }
        books.held(to).add(self.tally());
    }

    fn leave(&mut self, books: &mut Snapshot) -> Tally {
        if let Some(from) = self.place.take() {
            books.held(from).sub(self.tally());
        }
        self.tally()
    }

    fn end(&mut self, books: &mut Books) -> Tally {
        books.ended.extend(self.record.take().map(NonZeroU64::get));
        self.leave(books)
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        if self.place.is_some() {
            let ledger = Arc::clone(&self.ledger);
            self.leave(&mut ledger.books());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::batch::tests::arrival;

    #[test]
    fn every_move_keeps_the_balance() {
        let ledger = Ledger::new();
        let mut kept = ledger.receive(arrival(b"s", 3));
        let mut sent = ledger.receive(arrival(b"s", 4));
        ledger.launch([&mut kept, &mut sent]);
        let books = ledger.snapshot();
        assert_eq!(
            (
                books.received.logs,
                books.in_memory.logs,
                books.in_flight.logs
            ),
            (7, 0, 7)
        );

        ledger.land([&mut kept]);
        ledger.forwarded([sent]);
        ledger.dropped([kept], DropReason::Expired);
        let books = ledger.snapshot();
        assert_eq!(books.forwarded.logs, 4);
        assert_eq!(
            books.dropped(DropReason::Expired),
            Tally {
                batches: 1,
                logs: 3,
                bytes: 3
            }
        );
        assert_eq!(books.in_memory, Tally::default());
        assert_eq!(books.in_flight, Tally::default());
        assert_eq!(books.imbalance(), 0);
    }

    #[test]
    fn a_batch_that_nobody_ended_shows_as_an_imbalance() {
        let ledger = Ledger::new();
        drop(ledger.receive(arrival(b"s", 5)));
        assert_eq!(ledger.snapshot().imbalance(), 5);
    }

    #[test]
    fn what_goes_to_disk_and_comes_back_ends_once_with_its_record() {
        let ledger = Ledger::new();
        ledger.recover(Tally {
            batches: 2,
            logs: 9,
            bytes: 9,
        });
        let mut batch = ledger.receive(arrival(b"s", 3));
        batch.set_record(7);
        ledger.shelve(batch);
        let books = ledger.snapshot();
        assert_eq!((books.in_memory.logs, books.on_disk.logs), (0, 12));
        assert_eq!(ledger.take_ended(), [0_u64; 0]);

        let batch = ledger.unshelve(arrival(b"s", 3), 7);
        let lost = Tally {
            batches: 1,
            logs: 4,
            bytes: 4,
        };
        ledger.dropped_on_disk(lost, DropReason::SpoolCorrupt);
        let books = ledger.snapshot();
        assert_eq!((books.in_memory.logs, books.on_disk.logs), (3, 5));
        ledger.forwarded([batch]);
        assert_eq!(ledger.take_ended(), [7]);
        let books = ledger.snapshot();
        assert_eq!((books.received.logs, books.imbalance()), (12, 0));
    }

    #[test]
    fn an_ambiguous_attempt_counts_when_it_is_made_again_and_only_then() {
        let ledger = Ledger::new();
        let mut batch = ledger.receive(arrival(b"s", 2));
        ledger.launch([&mut batch]);
        batch.mark_ambiguous();
        ledger.land([&mut batch]);
        assert_eq!(ledger.snapshot().possible_duplicates, 0);
        ledger.launch([&mut batch]);
        ledger.land([&mut batch]);
        ledger.launch([&mut batch]);
        assert_eq!(ledger.snapshot().possible_duplicates, 2);
        ledger.forwarded([batch]);
    }

    #[test]
    fn what_senders_dropped_is_no_part_of_the_balance() {
        let ledger = Ledger::new();
        ledger.dropped_by_sender(340, 16);
        ledger.dropped_by_sender(u64::MAX, 0);
        let books = ledger.snapshot();
        assert_eq!(
            (books.sender_channel_full, books.sender_batch_full),
            (u64::MAX, 16)
        );
        assert_eq!(books.imbalance(), 0);
    }
}
