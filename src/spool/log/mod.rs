//! The log: appended at its end, read from its front, and each record done on its own.
//!
//! Records of a segment that are all done free its file, wherever it stands, so that a lane which is stuck does not
//! hold the room of all that came after it. A record is in exactly one state: *unread*, when it is held on disk only;
//! *placed*, when the one who appended or read it holds it in memory too; *done*, when it needs nothing more.

mod files;
mod open;
mod read;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

pub use open::{Damage, Found};
pub use read::Stored;

use super::position::{self, Position};
use super::ranges::Ranges;
use super::record::{self, Digest, Entry};
use super::segment::{self, HEAD};
use super::storage::Storage;
use super::walk::Window;
use crate::tally::Tally;
use read::{Cursor, Early};

/// Largest segment: the room that comes free at a time, and what may stay when all is done.
const MAX_SEGMENT: u64 = 4 << 20;

/// A quota is at least so many segments, so that freeing one frees a small part of it.
const MIN_SEGMENTS: u64 = 8;

/// Smallest quota: eight segments of two records of the largest size.
pub const MIN_QUOTA: u64 = 1 << 20;

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most bytes that its files take.
    pub max_bytes: u64,
    /// Of these, how many only records take that are [urgent](Log::stage).
    pub reserve: u64,
    /// Whether what is written is to survive a loss of power.
    pub durable: bool,
}

/// Why a record was not staged.
#[derive(Debug)]
pub enum Refusal {
    /// What is staged must be committed first.
    Commit,
    /// The quota is reached, or the file system is as full as it may be.
    Full,
    /// The directory cannot be written.
    Failed(io::Error),
}

/// A file of records.
#[derive(Clone, Debug)]
struct Segment {
    /// Number of its first record, which is its name.
    first: u64,
    /// Number after that of its last record.
    next: u64,
    /// Size of the file.
    bytes: u64,
    /// Records that are not done.
    live: u64,
    /// Of these, what is to be read in order. Early ones are counted with themselves.
    unread: Tally,
}

/// Records in segments.
#[derive(Debug)]
pub struct Log<S> {
    storage: S,
    settings: Settings,
    segments: VecDeque<Segment>,
    /// Whether records are appended to the last segment. A failure closes it for good.
    open: bool,
    /// Bytes of files that are not understood, and are left alone.
    foreign: u64,
    position_bytes: u64,
    next: u64,
    chain: Digest,
    order: u64,
    /// Every record below is done.
    floor: u64,
    done: Ranges,
    /// What [`Self::read`] passes over.
    placed: Ranges,
    staged: Vec<u8>,
    /// The chain after what is staged, and how many records that is.
    staged_chain: Digest,
    staged_records: u64,
    /// What may be written before the file system is full.
    room: u64,
    cursor: Cursor,
    window: Window,
    early: VecDeque<Early>,
    unread: Tally,
    lost: Tally,
    damages: Vec<Damage>,
    /// Behind the last segment there may be what is to be taken back.
    uncut: bool,
    /// Written since the last sync.
    unsynced: bool,
    /// Files were made since the last sync of their names.
    unnamed: bool,
    /// The position on disk is not what it would be now.
    changed: bool,
}

impl<S: Storage> Log<S> {
    /// Appends a record in memory, and tells its number. It exists once [`Self::commit`] has returned. One that is
    /// `urgent` may take the room that is reserved for such.
    ///
    /// # Errors
    /// Says why not; nothing has changed then, but that the last segment may have been closed.
    pub fn stage(&mut self, entry: &Entry<'_>, now_ms: u64, urgent: bool) -> Result<u64, Refusal> {
        if entry.payload.len() > record::MAX_PAYLOAD {
            return Err(Refusal::Failed(io::ErrorKind::FileTooLarge.into()));
        }
        let size = record::size_of_payload(entry.payload.len()) as u64;
        if self.staged.is_empty() {
            self.cut().map_err(Refusal::Failed)?;
            self.room = self.room_now().map_err(Refusal::Failed)?;
            self.staged_chain = self.chain;
        }
        let staged = self.staged.len() as u64;
        let last = self.segments.back().filter(|_| self.open);
        let fits = last.is_some_and(|last| last.bytes + staged + size <= self.segment_bytes());
        if !fits && staged > 0 {
            return Err(Refusal::Commit);
        }
        let more = size + if fits { 0 } else { HEAD as u64 };
        let reserve = if urgent { 0 } else { self.settings.reserve };
        let quota = self.settings.max_bytes.saturating_sub(reserve);
        if self.usage() + staged + more > quota || staged + more > self.room {
            return Err(Refusal::Full);
        }
        if !fits {
            self.begin_segment(now_ms).map_err(Refusal::Failed)?;
        }
        let number = self.next + self.staged_records;
        record::put(&mut self.staged, number, entry, &mut self.staged_chain);
        self.staged_records += 1;
        self.order = self.order.max(entry.order.saturating_add(1));
        Ok(number)
    }

    /// Writes what is staged, and with `sync` returns only once it survives a loss of power. Each of these records
    /// must then be said to be [`Self::placed`] or [`Self::left`].
    ///
    /// # Errors
    /// None of the records exists then, and their numbers may be given out again.
    pub fn commit(&mut self, sync: bool) -> io::Result<Range<u64>> {
        let numbers = self.next..self.next + self.staged_records;
        if self.staged_records == 0 {
            return Ok(numbers);
        }
        let written = self.write_staged(sync);
        let records = std::mem::take(&mut self.staged_records);
        let bytes = self.staged.len() as u64;
        self.staged.clear();
        if let Err(error) = written {
            (self.open, self.uncut) = (false, true);
            // When it cannot be taken back now, the next record that is staged tries again.
            self.cut().unwrap_or_default();
            return Err(error);
        }
        if let Some(last) = self.segments.back_mut() {
            last.bytes += bytes;
            last.live += records;
            last.next = numbers.end;
        }
        self.next = numbers.end;
        self.chain = self.staged_chain;
        self.changed = true;
        self.unsynced |= !sync;
        Ok(numbers)
    }

    /// A record that was committed is held in memory too.
    pub fn placed(&mut self, number: u64) {
        self.placed.insert(number..number + 1);
    }

    /// A record that was committed is held on disk only.
    pub fn left(&mut self, number: u64, tally: Tally) {
        if let Some(segment) = self.segment_of(number) {
            segment.unread.add(tally);
            self.unread.add(tally);
        }
    }

    /// A record needs nothing more.
    pub fn done(&mut self, number: u64) {
        if number >= self.next || self.is_done(number) {
            return;
        }
        self.done.insert(number..number + 1);
        self.changed = true;
        if let Some(segment) = self.segment_of(number) {
            segment.live = segment.live.saturating_sub(1);
        }
    }

    /// Gives up what is held on disk only in the oldest segment that has nothing else, to make room; the caller counts
    /// it. [`Self::checkpoint`] then frees the file. `None` when there is no such segment: the one that is being written
    /// stays, and so does one with a record of what is in memory.
    pub fn drop_oldest(&mut self) -> Option<Tally> {
        let closed = self.segments.len() - usize::from(self.open && !self.segments.is_empty());
        let early = &self.early;
        let is_unread = |segment: &Segment| {
            let early = early.iter().filter(|early| segment.holds(early.number));
            segment.live > 0 && segment.live == segment.unread.batches + early.count() as u64
        };
        let oldest = self
            .segments
            .iter_mut()
            .take(closed)
            .find(|segment| is_unread(segment))?;
        oldest.live = 0;
        let numbers = oldest.first..oldest.next;
        let mut dropped = std::mem::take(&mut oldest.unread);
        self.early.retain(|early| {
            let gone = numbers.contains(&early.number);
            if gone {
                dropped.add(early.tally);
            }
            !gone
        });
        self.unread.sub(dropped);
        self.done.insert(numbers);
        self.changed = true;
        Some(dropped)
    }

    /// Returns once all that was committed survives a loss of power.
    ///
    /// # Errors
    /// What was not synced may be lost with the power; it is in the files all the same.
    pub fn sync(&mut self) -> io::Result<()> {
        // A failure is told once: a second try would succeed without having written anything.
        if !std::mem::take(&mut self.unsynced) || !self.settings.durable {
            return Ok(());
        }
        let last = self
            .segments
            .back()
            .map(|segment| segment::name(segment.first));
        let synced = last.map_or(Ok(()), |name| self.storage.sync(&name));
        let synced = synced.and_then(|()| self.sync_names());
        if synced.is_err() {
            self.open = false;
        }
        synced
    }

    /// Writes the position, then frees the files of which all records are done; the segment that is written only when
    /// this is the end (`clean`).
    ///
    /// # Errors
    /// The old position holds: records that are done are found again after a restart.
    pub fn checkpoint(&mut self, clean: bool, accounts: &[[u64; 3]]) -> io::Result<()> {
        self.cut()?;
        self.sync()?;
        let run = self.done.iter().find(|run| run.contains(&self.floor));
        if let Some(end) = run.map(|run| run.end) {
            self.floor = end;
            self.done.remove_below(end);
        }
        let position = Position {
            next: self.next,
            floor: self.floor,
            done: self.done.clone(),
            order: self.order,
            head: self.chain,
            clean,
            accounts: accounts.to_vec(),
        };
        let bytes = position.encode();
        self.storage.create(position::UNFINISHED)?;
        self.storage.write(position::UNFINISHED, 0, &bytes)?;
        if self.settings.durable {
            self.storage.sync(position::UNFINISHED)?;
        }
        self.storage.rename(position::UNFINISHED, position::NAME)?;
        if self.settings.durable {
            self.storage.sync_names()?;
        }
        self.position_bytes = bytes.len() as u64;
        self.changed = false;
        self.free(clean)
    }

    /// Whether a checkpoint would write or free something.
    pub fn is_changed(&self) -> bool {
        self.changed || self.unsynced
    }

    /// What is held on disk only.
    pub fn unread(&self) -> Tally {
        self.unread
    }

    /// What turned out to be unreadable since this was asked last. It was unread before.
    pub fn take_lost(&mut self) -> (Tally, Vec<Damage>) {
        (
            std::mem::take(&mut self.lost),
            std::mem::take(&mut self.damages),
        )
    }

    /// Bytes that the files take.
    pub fn usage(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        segments + self.foreign + self.position_bytes
    }

    /// Number and digest of the last record; 0 before the first.
    pub fn head(&self) -> (u64, Digest) {
        (self.next - 1, self.chain)
    }

    /// A number above every place in the order of arrival that a record has.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// Records that are not done.
    pub fn live(&self) -> u64 {
        self.segments.iter().map(|segment| segment.live).sum()
    }

    fn is_done(&self, number: u64) -> bool {
        number < self.floor || self.done.contains(number)
    }

    fn segment_bytes(&self) -> u64 {
        (self.settings.max_bytes / MIN_SEGMENTS).min(MAX_SEGMENT)
    }

    fn segment_of(&mut self, number: u64) -> Option<&mut Segment> {
        let after = self
            .segments
            .partition_point(|segment| segment.first <= number);
        let segment = self.segments.get_mut(after.checked_sub(1)?)?;
        segment.holds(number).then_some(segment)
    }
}

impl Segment {
    fn holds(&self, number: u64) -> bool {
        (self.first..self.next).contains(&number)
    }
}
