//! Reading what is held on disk only, in the order of arrival.
//!
//! Records stand in that order but for *early* ones, which were written behind records that came after them: batches
//! that were in memory or in a call when later ones went to disk. A restart finds them and merges them in.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::{Damage, Log};
use crate::spool::record::{self, Parsed, Record};
use crate::spool::scan::{Step, step};
use crate::spool::segment::{self, HEAD};
use crate::spool::storage::Storage;
use crate::tally::Tally;

/// Most descriptions of damage that are kept until they are asked for.
pub(super) const MAX_DAMAGES: usize = 16;

/// A batch as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Number of its record.
    pub number: u64,
    /// Place in the order of arrival.
    pub order: u64,
    /// When it was received, in Unix milliseconds.
    pub received_ms: u64,
    /// The sender's connection.
    pub connection: u64,
    /// Log entries in it.
    pub logs: u64,
    /// The encoded request, in memory of its own.
    pub payload: Bytes,
}

impl Stored {
    /// What it counts for.
    pub fn tally(&self) -> Tally {
        Tally {
            batches: 1,
            logs: self.logs,
            bytes: self.payload.len() as u64,
        }
    }

    fn copy(record: &Record<'_>) -> Self {
        Self {
            number: record.number,
            order: record.entry.order,
            received_ms: record.entry.received_ms,
            connection: record.entry.connection,
            logs: u64::from(record.entry.logs),
            payload: Bytes::copy_from_slice(record.entry.payload),
        }
    }
}

/// Where the next record is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// First record of the segment, or a number between segments.
    pub(super) first: u64,
    /// Offset in it.
    pub(super) at: u64,
    /// Number that the next record has when none is missing.
    pub(super) expected: u64,
}

impl Cursor {
    pub(super) fn at_start_of(first: u64) -> Self {
        Self {
            first,
            at: HEAD as u64,
            expected: first,
        }
    }
}

/// A record that came before others which stand before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Early {
    pub(super) order: u64,
    pub(super) number: u64,
    /// First record of its segment, and the offset in that.
    pub(super) first: u64,
    pub(super) at: u64,
    pub(super) tally: Tally,
}

impl<S: Storage> Log<S> {
    /// Reads the next record that is held on disk only; from now on it is placed.
    ///
    /// # Errors
    /// When a file cannot be read; the next call tries again.
    pub fn read(&mut self) -> io::Result<Option<Stored>> {
        while self.unread.batches > 0 {
            let ahead = self.find()?;
            let early = self.early.front().map(|early| early.order);
            let stored = match (ahead, early) {
                (Some(ahead), Some(early)) if early < ahead => self.read_early()?,
                (None, Some(_)) => self.read_early()?,
                (Some(_), _) => self.read_ahead()?,
                // All files are read to their ends.
                (None, None) => {
                    self.lose_counted(self.unread);
                    None
                }
            };
            if stored.is_some() {
                return Ok(stored);
            }
        }
        // Nothing is to be read before what will be appended next.
        self.cursor = Cursor::at_start_of(self.next);
        if let Some(last) = self.segments.back()
            && last.first < self.next
            && self.open
        {
            self.cursor = Cursor {
                first: last.first,
                at: last.bytes,
                expected: self.next,
            };
        }
        self.placed = super::Ranges::default();
        self.window.forget();
        Ok(None)
    }

    /// Gives up the rest of the file that cannot be read.
    pub fn give_up(&mut self) {
        let early = self.early.pop_front();
        if let Some(early) = early {
            self.done(early.number);
            self.lose_counted(early.tally);
            return;
        }
        let cursor = self.cursor;
        let at = self
            .segments
            .iter()
            .position(|segment| segment.next > cursor.expected);
        if let Some(segment) = at.and_then(|at| self.segments.get(at)).cloned() {
            self.leave(segment.first);
        }
    }

    /// Moves the cursor to the next record that is to be read in order, and tells its place in the order of arrival.
    fn find(&mut self) -> io::Result<Option<u64>> {
        loop {
            let cursor = self.cursor;
            let Some(segment) = self
                .segments
                .iter()
                .find(|segment| segment.first >= cursor.first)
            else {
                return Ok(None);
            };
            let (first, next, end) = (segment.first, segment.next, segment.bytes);
            if segment.unread.batches == 0 {
                if self.segments.back().is_some_and(|last| last.first == first) {
                    return Ok(None);
                }
                self.cursor = Cursor::at_start_of(next.max(first + 1));
                continue;
            }
            if first > cursor.first {
                self.cursor = Cursor::at_start_of(first);
            }
            let cursor = self.cursor;
            let name = segment::name(first);
            let (window, last) = self.window.show(&mut self.storage, &name, cursor.at, end)?;
            match step(window, last) {
                Step::Record(record) if (cursor.expected..next).contains(&record.number) => {
                    let (number, size) = (record.number, record.size() as u64);
                    let order = record.entry.order;
                    self.lose(cursor.expected..number);
                    self.cursor.expected = number;
                    if !self.placed.contains(number) && !self.is_done(number) {
                        return Ok(Some(order));
                    }
                    self.cursor.at += size;
                    self.cursor.expected = number + 1;
                }
                // A number that is out of turn is no record of ours.
                Step::Record(record) => self.cursor.at += record.size() as u64,
                Step::Skip(some) => {
                    self.cursor.at += some as u64;
                    self.report(first, cursor.at, cursor.expected);
                }
                Step::More | Step::End => self.leave(first),
            }
        }
    }

    /// Reads the record that [`Self::find`] found.
    fn read_ahead(&mut self) -> io::Result<Option<Stored>> {
        let Cursor { first, at, .. } = self.cursor;
        let Some(end) = self
            .segments
            .iter()
            .find(|segment| segment.first == first)
            .map(|segment| segment.bytes)
        else {
            return Ok(None);
        };
        let name = segment::name(first);
        let (window, _) = self.window.show(&mut self.storage, &name, at, end)?;
        let Parsed::Whole(record) = record::parse(window) else {
            return Ok(None);
        };
        let (stored, size) = (Stored::copy(&record), record.size() as u64);
        self.cursor.at += size;
        self.cursor.expected = stored.number + 1;
        if let Some(segment) = self.segment_of(stored.number) {
            segment.unread.sub(stored.tally());
        }
        self.unread.sub(stored.tally());
        Ok(Some(stored))
    }

    fn read_early(&mut self) -> io::Result<Option<Stored>> {
        let Some(early) = self.early.front().copied() else {
            return Ok(None);
        };
        let mut bytes = vec![0; record::MAX_RECORD];
        let name = segment::name(early.first);
        let read = self.storage.read(&name, early.at, &mut bytes)?;
        self.early.pop_front();
        match record::parse(bytes.get(..read).unwrap_or_default()) {
            Parsed::Whole(record) if record.number == early.number => {
                self.unread.sub(early.tally);
                Ok(Some(Stored::copy(&record)))
            }
            _ => {
                self.report(early.first, early.at, early.number);
                self.done(early.number);
                self.lose_counted(early.tally);
                Ok(None)
            }
        }
    }

    /// Goes to the next segment; what was to be read in this one and was not found is lost.
    fn leave(&mut self, first: u64) {
        let Some(segment) = self
            .segments
            .iter_mut()
            .find(|segment| segment.first == first)
        else {
            return;
        };
        let (lost, next) = (std::mem::take(&mut segment.unread), segment.next);
        let from = self.cursor.expected.max(first);
        self.lose(from..next);
        self.lose_counted(lost);
        self.cursor = Cursor::at_start_of(next.max(first + 1));
    }

    /// These records cannot be read, as far as they were to be.
    fn lose(&mut self, numbers: Range<u64>) {
        for number in numbers {
            if !self.placed.contains(number) {
                self.done(number);
            }
        }
    }

    fn lose_counted(&mut self, tally: Tally) {
        self.lost.add(tally);
        self.unread.sub(tally);
    }

    pub(super) fn report(&mut self, first: u64, at: u64, number: u64) {
        let known = self
            .damages
            .last()
            .is_some_and(|last| last.number == number);
        if !known && self.damages.len() < MAX_DAMAGES {
            self.damages.push(Damage {
                segment: segment::name(first),
                at,
                number,
            });
        }
    }
}
