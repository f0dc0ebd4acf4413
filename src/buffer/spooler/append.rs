//! From memory to disk.

use tokio::time::Instant;

use super::thread::{GROUP_BYTES, Spooler, unix_ms};
use super::{Content, Parcel, SpoolSync};
use crate::buffer::WhenFull;
use crate::buffer::batch::Batch;
use crate::metrics::DropReason;
use crate::spool::Storage;
use crate::spool::log::Refusal;
use crate::spool::record::Entry;

/// Why a batch cannot be written now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// The quota is reached, or the file system is full.
    Full,
    /// The directory is not there, or fails.
    Broken,
}

enum Staged {
    Number(u64),
    /// Or what is staged must be committed first.
    Not(Obstacle),
}

impl<S: Storage> Spooler<S> {
    /// Writes what waits, and puts each batch in memory too when nothing before it is on disk only and there is room.
    /// What finds no room anywhere is dropped when the policy says so, and waits until then.
    pub(super) fn append(&mut self) {
        let mut staged = Vec::new();
        loop {
            let Some(parcel) = self.waiting.pop_front() else {
                self.commit(&mut staged);
                // A commit that fails gives back what is to be dealt with without the disk.
                if self.waiting.is_empty() {
                    return;
                }
                continue;
            };
            let obstacle = match self.stage(&parcel.content) {
                Staged::Number(number) => {
                    staged.push((number, parcel));
                    continue;
                }
                // What is staged comes first, also when it turns out that it cannot be written.
                _ if !staged.is_empty() => {
                    self.waiting.push_front(parcel);
                    self.commit(&mut staged);
                    continue;
                }
                Staged::Not(obstacle) => obstacle,
            };
            if let Some(parcel) = self.without_disk(parcel, obstacle) {
                self.waiting.push_front(parcel);
                return;
            }
        }
    }

    fn stage(&mut self, content: &Content) -> Staged {
        if self.resume_at.is_some_and(|at| Instant::now() < at) {
            return Staged::Not(Obstacle::Broken);
        }
        self.resume_at = None;
        let order = self.buffer.next_order();
        let Some(log) = &mut self.log else {
            return Staged::Not(Obstacle::Broken);
        };
        let now = unix_ms();
        let entry = match content {
            Content::Arrival(arrival) => Entry {
                order,
                received_ms: then(now, arrival.received_at),
                connection: arrival.connection(),
                logs: logs(arrival.logs),
                payload: &arrival.payload,
            },
            Content::Batch(batch) => entry_of(batch, order, now),
        };
        match log.stage(&entry, now, false) {
            Ok(number) => Staged::Number(number),
            Err(Refusal::Full | Refusal::Commit) => Staged::Not(Obstacle::Full),
            Err(Refusal::Failed(error)) => {
                self.failed("the spool cannot be written", &error);
                Staged::Not(Obstacle::Broken)
            }
        }
    }

    /// Writes what is staged; what could not be written waits again, in its old place.
    fn commit(&mut self, staged: &mut Vec<(u64, Parcel)>) {
        if staged.is_empty() {
            return;
        }
        let Some(log) = &mut self.log else { return };
        if let Err(error) = log.commit(self.settings.sync == SpoolSync::Always) {
            self.failed("the spool cannot be written", &error);
            for (_, parcel) in staged.drain(..).rev() {
                self.waiting.push_front(parcel);
            }
            return;
        }
        for (number, parcel) in staged.drain(..) {
            let mut batch = self.unpack(parcel);
            batch.set_record(number);
            let refused = match self.has_backlog() {
                true => Err(batch),
                false => self.buffer.place(batch),
            };
            let Some(log) = &mut self.log else { return };
            match refused {
                Ok(()) => log.placed(number),
                Err(batch) => {
                    log.left(number, batch.tally());
                    self.buffer.ledger().shelve(batch);
                }
            }
        }
    }

    /// Whether something is on disk only: what comes now may not overtake it.
    pub(super) fn has_backlog(&self) -> bool {
        let unread = self.log.as_ref().map_or(0, |log| log.unread().batches);
        unread > 0 || self.ahead.is_some()
    }

    /// What becomes of a batch that cannot be written. Gives it back when it is to wait.
    fn without_disk(&mut self, parcel: Parcel, obstacle: Obstacle) -> Option<Parcel> {
        let (sent_at, units) = (parcel.sent_at, parcel.units);
        let mut content = parcel.content;
        if !self.has_backlog() {
            let batch = self.receive(content);
            match self.buffer.place(batch) {
                Ok(()) => {
                    if let Some(port) = self.port() {
                        port.status().bypassed += 1;
                    }
                    self.release(units);
                    return None;
                }
                Err(batch) => content = Content::Batch(batch),
            }
        }
        let parcel = Parcel {
            content,
            sent_at,
            units,
        };
        if self.buffer.when_full == WhenFull::DropOldest && self.make_room(obstacle) {
            // Now it may fit: it goes first again.
            self.waiting.push_front(parcel);
            return None;
        }
        let leaving = self.buffer.spool_leaves();
        let gives_up = self.gives_up_at(&parcel);
        if !leaving && gives_up.is_some_and(|at| Instant::now() < at) {
            return Some(parcel);
        }
        let batch = self.unpack(parcel);
        let reason = match leaving && gives_up.is_some() {
            true => DropReason::Shutdown,
            false => DropReason::SpoolFull,
        };
        self.buffer.ledger().dropped([batch], reason);
        None
    }

    /// Drops the oldest that is held, on disk if there is some, else in memory.
    fn make_room(&mut self, obstacle: Obstacle) -> bool {
        if !self.has_backlog() {
            return self.buffer.drop_oldest(DropReason::SpoolFull);
        }
        let dropped = match (&mut self.log, obstacle) {
            (Some(log), Obstacle::Full) => log.drop_oldest(),
            _ => None,
        };
        let Some(dropped) = dropped else { return false };
        self.buffer
            .ledger()
            .dropped_on_disk(dropped, DropReason::SpoolFull);
        // Only then is its file freed.
        self.checkpoint(false)
    }

    /// When a batch that finds no room is dropped; `None` when at once.
    pub(super) fn gives_up_at(&self, parcel: &Parcel) -> Option<Instant> {
        match self.buffer.when_full {
            WhenFull::Block { deadline } => Some(parcel.sent_at + deadline),
            WhenFull::DropNewest | WhenFull::DropOldest => None,
        }
    }

    /// Takes the batch out of a parcel, whose room in the queue is free then.
    fn unpack(&self, parcel: Parcel) -> Batch {
        self.release(parcel.units);
        self.receive(parcel.content)
    }

    fn receive(&self, content: Content) -> Batch {
        match content {
            Content::Arrival(arrival) => self.buffer.ledger().receive(arrival),
            Content::Batch(batch) => batch,
        }
    }

    fn release(&self, units: u32) {
        if let Some(port) = self.port() {
            port.units.add_permits(units as usize);
        }
        self.buffer.note_arrived();
    }

    /// Writes what is in memory and has no record, so that a kill does not cost it.
    pub(super) fn back_up(&mut self) {
        let Some(log) = &mut self.log else { return };
        let mut cargos = self.buffer.take_unrecorded();
        let mut batches: Vec<_> = cargos
            .iter_mut()
            .flat_map(|cargo| cargo.placed_mut())
            .filter(|(_, batch)| batch.record().is_none())
            .collect();
        batches.sort_unstable_by_key(|(arrived, _)| *arrived);
        let mut failure = None;
        let mut batches = batches.as_mut_slice();
        while !batches.is_empty() && failure.is_none() {
            let (mut numbers, mut bytes) = (Vec::new(), 0);
            for (arrived, batch) in batches.iter() {
                if bytes >= GROUP_BYTES {
                    break;
                }
                bytes += batch.payload().len();
                let now = unix_ms();
                match log.stage(&entry_of(batch, *arrived, now), now, true) {
                    Ok(number) => numbers.push(number),
                    Err(Refusal::Failed(error)) => {
                        failure = Some(error);
                        break;
                    }
                    Err(Refusal::Commit | Refusal::Full) => break,
                }
            }
            let (written, rest) = batches.split_at_mut(numbers.len());
            batches = rest;
            if written.is_empty() {
                break;
            }
            match log.commit(self.settings.sync == SpoolSync::Always) {
                Ok(_) => {
                    for (number, (_, batch)) in numbers.into_iter().zip(written) {
                        batch.set_record(number);
                        log.placed(number);
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        self.buffer.give_back(cargos);
        if let Some(error) = failure {
            self.failed("the spool cannot be written", &error);
        }
    }
}

fn entry_of(batch: &Batch, order: u64, now: u64) -> Entry<'_> {
    Entry {
        order,
        received_ms: then(now, batch.received_at()),
        connection: batch.connection(),
        logs: logs(batch.tally().logs),
        payload: batch.payload(),
    }
}

/// A payload has at most as many logs as bytes.
fn logs(logs: u64) -> u32 {
    u32::try_from(logs).unwrap_or(u32::MAX)
}

/// A moment of the past, in Unix milliseconds.
fn then(now_ms: u64, at: Instant) -> u64 {
    let age = Instant::now().saturating_duration_since(at).as_millis();
    now_ms.saturating_sub(u64::try_from(age).unwrap_or(u64::MAX))
}
