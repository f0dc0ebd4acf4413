//! The files below the log: begun, written, taken back, and freed.

use std::collections::VecDeque;
use std::io;

use super::{Log, Segment};
use crate::spool::segment::{self, HEAD};
use crate::spool::storage::Storage;
use crate::tally::Tally;

/// Bytes that stay free on the file system: other programs need it too.
const MAX_RESERVE: u64 = 16 << 20;

/// On a small file system, one part in so many instead.
const RESERVE_SHARE: u64 = 20;

impl<S: Storage> Log<S> {
    pub(super) fn room_now(&self) -> io::Result<u64> {
        let space = self.storage.space()?;
        let reserve = (space.total / RESERVE_SHARE).min(MAX_RESERVE);
        Ok(space.free.saturating_sub(reserve))
    }

    pub(super) fn begin_segment(&mut self, now_ms: u64) -> io::Result<()> {
        // What the last one holds is synced with it, because only the last one is synced later.
        self.sync()?;
        self.open = false;
        let head = segment::Head {
            first: self.next,
            created_ms: now_ms,
            chain: self.chain,
        };
        let name = segment::name(self.next);
        let begun = self
            .storage
            .create(&name)
            .and_then(|()| self.storage.write(&name, 0, &head.encode()));
        if let Err(error) = begun {
            // It may not be there at all.
            self.storage.remove(&name).unwrap_or_default();
            return Err(error);
        }
        // One of this name had no record, and was replaced.
        self.segments.pop_back_if(|last| last.first == self.next);
        self.segments.push_back(Segment {
            first: self.next,
            next: self.next,
            bytes: HEAD as u64,
            live: 0,
            unread: Tally::default(),
        });
        self.open = true;
        self.unnamed = true;
        Ok(())
    }

    pub(super) fn write_staged(&mut self, sync: bool) -> io::Result<()> {
        let last = self.segments.back().ok_or(io::ErrorKind::NotFound)?;
        let name = segment::name(last.first);
        self.storage.write(&name, last.bytes, &self.staged)?;
        if sync && self.settings.durable {
            self.storage.sync(&name)?;
            self.sync_names()?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Takes back what a commit that failed may have left behind the last segment. Until that is done nothing else is
    /// written: a number that may be found in a file is not given out a second time.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        if !self.uncut {
            return Ok(());
        }
        if let Some(last) = self.segments.back() {
            let name = segment::name(last.first);
            self.storage.truncate(&name, last.bytes)?;
            if self.settings.durable {
                self.storage.sync(&name)?;
            }
            if last.first == last.next && self.storage.remove(&name).is_ok() {
                self.segments.pop_back();
            }
        }
        self.uncut = false;
        Ok(())
    }

    pub(super) fn sync_names(&mut self) -> io::Result<()> {
        if self.unnamed {
            self.storage.sync_names()?;
            self.unnamed = false;
        }
        Ok(())
    }

    pub(super) fn free(&mut self, all: bool) -> io::Result<()> {
        if all && self.segments.back().is_some_and(|last| last.live == 0) {
            self.open = false;
        }
        let mut kept = VecDeque::with_capacity(self.segments.len());
        let mut failed = Ok(());
        let count = self.segments.len();
        for (at, segment) in std::mem::take(&mut self.segments).into_iter().enumerate() {
            let written = self.open && at + 1 == count;
            if segment.live > 0 || written {
                kept.push_back(segment);
            } else if let Err(error) = self.storage.remove(&segment::name(segment.first)) {
                failed = Err(error);
                kept.push_back(segment);
            }
        }
        self.segments = kept;
        failed
    }
}
