//! The thread: its turns, its waits, and its end.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{RecvTimeoutError, select};
use tokio::time::Instant;

use super::{Ends, INTERVAL, Lifetime, Parcel, Port, SpoolSettings, SpoolSync};
use crate::buffer::Buffer;
use crate::buffer::batch::Batch;
use crate::buffer::ledger::Tally;
use crate::logging::ErrorChain;
use crate::metrics::DropReason;
use crate::spool::Storage;
use crate::spool::log::{Damage, Found, Log, Settings};
use crate::warnings::Warnings;

/// How long the thread sleeps when nothing is to be done: then the totals are written, if they have changed.
const IDLE: std::time::Duration = std::time::Duration::from_secs(10);

/// Most bytes of batches that are written together.
pub(super) const GROUP_BYTES: usize = 1 << 20;

/// Opens the directory.
pub(super) type Opener<S> = Box<dyn FnMut() -> io::Result<S> + Send>;

/// The state of the thread.
pub(super) struct Spooler<S> {
    pub(super) buffer: Arc<Buffer>,
    ends: Ends,
    pub(super) settings: SpoolSettings,
    open: Opener<S>,
    /// `None` while the directory cannot be opened.
    pub(super) log: Option<Log<S>>,
    /// What has come, and is neither on disk nor in memory yet.
    pub(super) waiting: VecDeque<Parcel>,
    /// Read from disk, and waiting for room in memory.
    pub(super) ahead: Option<Batch>,
    /// Records below may have been delivered by a process that was killed.
    pub(super) doubtful_below: u64,
    /// Reads that failed one after the other.
    pub(super) failed_reads: u32,
    /// After a failure nothing is read until then.
    pub(super) reread_at: Option<Instant>,
    /// After a failure nothing is written until then.
    pub(super) resume_at: Option<Instant>,
    next_tick: Instant,
    written: Lifetime,
    /// The last operation of the directory failed.
    troubled: bool,
    warnings: Warnings,
}

impl<S> Debug for Spooler<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spooler")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> Spooler<S> {
    /// Opens the directory, and enters what is found there in the books.
    pub(super) fn new(
        buffer: Arc<Buffer>,
        ends: Ends,
        settings: SpoolSettings,
        open: Opener<S>,
    ) -> Self {
        let mut spooler = Self {
            buffer,
            ends,
            settings,
            open,
            log: None,
            waiting: VecDeque::new(),
            ahead: None,
            doubtful_below: 0,
            failed_reads: 0,
            reread_at: None,
            resume_at: None,
            next_tick: Instant::now(),
            written: Lifetime::default(),
            troubled: false,
            warnings: Warnings::default(),
        };
        spooler.try_open();
        spooler.tell();
        spooler
    }

    /// Takes turns until told to finish.
    pub(super) fn run(mut self) {
        loop {
            self.gather();
            self.turn();
            if self.buffer.spool_finishes() && self.ends.parcels.is_empty() {
                return self.finish();
            }
        }
    }

    /// Moves what can be moved now.
    fn turn(&mut self) {
        self.append();
        self.note_ended();
        self.refill();
        if self.next_tick <= Instant::now() {
            self.tick();
        }
        self.tell();
    }

    pub(super) fn port(&self) -> Option<&Port> {
        self.buffer.spool.as_ref()
    }

    /// Waits until there is something to do, and takes what has come, up to a group.
    fn gather(&mut self) {
        let until = self.wakes_at();
        // What is before must be done first; then the bell tells of room.
        if !self.waiting.is_empty() {
            match self.ends.bell.recv_deadline(until.into_std()) {
                Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
        let wait = until.saturating_duration_since(Instant::now());
        let first = select! {
            recv(self.ends.parcels) -> parcel => parcel.ok(),
            recv(self.ends.bell) -> _ring => None,
            default(wait) => None,
        };
        let mut bytes = 0;
        for parcel in first.into_iter().chain(self.ends.parcels.try_iter()) {
            bytes += parcel.content.bytes();
            self.waiting.push_back(parcel);
            if bytes >= GROUP_BYTES {
                break;
            }
        }
    }

    fn wakes_at(&self) -> Instant {
        let now = Instant::now();
        let log_waits = self.log.as_ref().is_some_and(Log::is_changed);
        let ticks = log_waits || self.log.is_none() || !self.buffer.is_linked();
        let tick = if ticks { self.next_tick } else { now + IDLE };
        let retried = self.resume_at.filter(|_| !self.waiting.is_empty());
        let waiting = self.waiting.front();
        let expires = waiting.and_then(|parcel| self.gives_up_at(parcel));
        [Some(tick), retried, expires, self.reread_at]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(tick)
    }

    /// Records of batches that have ended are done.
    fn note_ended(&mut self) {
        let ended = self.buffer.ledger().take_ended();
        if let Some(log) = &mut self.log {
            ended.into_iter().for_each(|number| log.done(number));
        }
    }

    fn tick(&mut self) {
        self.next_tick = Instant::now() + INTERVAL;
        if self.log.is_none() {
            self.try_open();
        }
        if !self.buffer.is_linked() || self.settings.sync == SpoolSync::Always {
            self.back_up();
        }
        let changed = self.log.as_ref().is_some_and(Log::is_changed);
        if changed || self.lifetime() != self.written {
            self.checkpoint(false);
        }
    }

    /// Writes the position and frees what is done; whether that was possible.
    pub(super) fn checkpoint(&mut self, clean: bool) -> bool {
        let lifetime = self.lifetime();
        let Some(log) = &mut self.log else {
            return false;
        };
        match log.checkpoint(clean, &lifetime.accounts()) {
            Ok(()) => {
                self.written = lifetime;
                self.recovered();
                true
            }
            Err(error) => {
                self.report("the position of the spool cannot be written", &error);
                false
            }
        }
    }

    fn lifetime(&self) -> Lifetime {
        let before = self.port().map(|port| port.status().before);
        before
            .unwrap_or_default()
            .and(&self.buffer.ledger().snapshot())
    }

    fn try_open(&mut self) {
        let settings = Settings {
            max_bytes: self.settings.max_bytes,
            reserve: self.reserve(),
            durable: self.settings.sync != SpoolSync::Never,
        };
        match (self.open)().and_then(|storage| Log::open(storage, settings)) {
            Ok((log, found)) => self.opened(log, found),
            Err(error) => self.failed(
                "the spool cannot be opened; batches are held in memory meanwhile",
                &error,
            ),
        }
    }

    /// What memory may hold, which a stop puts on disk, and as much again for the records around small batches; of a
    /// small quota a quarter at most.
    fn reserve(&self) -> u64 {
        let memory = self.buffer.max_bytes();
        memory.saturating_mul(2).min(self.settings.max_bytes / 4)
    }

    fn opened(&mut self, log: Log<S>, found: Found) {
        let ledger = self.buffer.ledger();
        let all: Tally = [found.held, found.damaged].into_iter().sum();
        ledger.recover(all);
        ledger.dropped_on_disk(found.damaged, DropReason::SpoolCorrupt);
        self.buffer.raise_order(log.order());
        if !found.clean {
            self.doubtful_below = log.head().0 + 1;
        }
        let mut before = Lifetime::of_accounts(&found.accounts);
        let unaccounted = before.resume(all, found.newer);
        tell_found(&found, unaccounted);
        if let Some(port) = self.port() {
            port.status().before = before;
        }
        self.log = Some(log);
        self.resume_at = None;
        // From here on the directory is that of a process which may be killed.
        self.checkpoint(false);
    }

    /// A write has failed: lets the disk be for a while.
    pub(super) fn failed(&mut self, what: &str, error: &io::Error) {
        self.resume_at = Some(Instant::now() + INTERVAL);
        self.report(what, error);
    }

    /// Counts a failure, and tells of the first of several.
    pub(super) fn report(&mut self, what: &str, error: &io::Error) {
        if let Some(port) = self.port() {
            port.status().errors += 1;
        }
        let dir = self.settings.dir.display();
        if self.troubled {
            tracing::debug!(%dir, "{what}: {}", ErrorChain(error));
        } else {
            tracing::error!(%dir, "{what}: {}", ErrorChain(error));
        }
        self.troubled = true;
    }

    fn recovered(&mut self) {
        if self.resume_at.is_none() && std::mem::take(&mut self.troubled) {
            tracing::info!(dir = %self.settings.dir.display(), "the spool is written again");
        }
    }

    /// What could not be read has been counted; this names it.
    pub(super) fn name_damage(&mut self, lost: Tally, damages: &[Damage]) {
        if let Some(withheld) = self.warnings.admit(Instant::now()) {
            tracing::error!(
                batches = lost.batches,
                logs = lost.logs,
                withheld,
                "records of the spool are damaged and lost: {}",
                places(damages)
            );
        }
    }

    /// Makes the state of the spool known.
    fn tell(&mut self) {
        let unread = self.log.as_ref().map_or(0, |log| log.unread().batches);
        let live = self.log.as_ref().map_or(0, Log::live);
        let backlog = unread + u64::from(self.ahead.is_some());
        if let Some(port) = self.port() {
            let mut status = port.status();
            status.available = self.log.is_some() && self.resume_at.is_none();
            if let Some(log) = &self.log {
                status.bytes = log.usage();
                (status.head_record, status.head) = log.head();
            }
        }
        self.buffer
            .note_spool(backlog, live, self.settings.sync == SpoolSync::Always);
    }

    /// Puts all that is in memory on disk, as far as that takes it.
    fn finish(mut self) {
        self.resume_at = None;
        self.append();
        self.back_up();
        for batch in self.buffer.empty().into_iter().chain(self.ahead.take()) {
            let ledger = self.buffer.ledger();
            match batch.record() {
                Some(_) if self.log.is_some() => ledger.shelve(batch),
                _ => ledger.dropped([batch], DropReason::Shutdown),
            }
        }
        self.note_ended();
        self.checkpoint(true);
        self.tell();
    }
}

/// The time of the system, in Unix milliseconds; 0 before 1970.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn tell_found(found: &Found, unaccounted: Tally) {
    for (segment, version) in &found.refused {
        tracing::error!(
            segment,
            version,
            "a part of the spool is of a later version and is left alone: only that version reads it"
        );
    }
    if found.damaged.batches > 0 {
        tracing::error!(
            batches = found.damaged.batches,
            logs = found.damaged.logs,
            "records of the spool are missing or damaged, and counted as spool_corrupt: {}",
            places(&found.damages)
        );
    }
    if found.held.batches > 0 || found.torn > 0 || !found.accounts.is_empty() {
        tracing::info!(
            batches = found.held.batches,
            logs = found.held.logs,
            clean = found.clean,
            torn_bytes = found.torn,
            unaccounted_logs = unaccounted.logs,
            "found in the spool"
        );
    }
}

fn places(damages: &[Damage]) -> String {
    let places = damages.iter().map(|damage| {
        format!(
            "{} at {} (record {})",
            damage.segment, damage.at, damage.number
        )
    });
    places.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
