//! Queueing, batching and retrying as boundary does it, without I/O.
//!
//! ```text
//! offer ─▶ channel (20) ─▶ batch (10 logs or 5 s) ─▶ frames
//!            │ full            │ full and not sent
//!            ▼ channel_full    ▼ batch_full
//! ```
//!
//! A log in the batch is kept until it was written, over any number of failures. After logs that
//! were written, a status frame tells what was dropped since the last one. The rules are those of
//! coder/boundary `audit/socket_auditor.go`; three differ, because there they lose logs: the tail
//! is sent at the end, a batch too large for one frame is split, and a log too large for any frame
//! is dropped at once instead of being retried for ever.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::log::Log;
use super::session::SessionId;
use crate::wire::boundary::encode::{logs_payload_len, put_logs_frame, put_status_frame};
use crate::wire::boundary::{MAX_PAYLOAD, SenderDrops};

/// Logs that wait for the batcher; boundary's own number.
pub const CHANNEL_LOGS: usize = 20;

/// Logs in a batch; boundary's own number. Only the last batch of a run may have more: all that is
/// left then.
pub const BATCH_LOGS: usize = 10;

/// How long the first log of a batch waits for the batch to fill, and how long a failed batch
/// waits when nothing else prompts a retry; boundary's own number.
pub const BATCH_INTERVAL: Duration = Duration::from_secs(5);

/// How long a failed batch waits when no log can prompt a retry, because none is taken. It bounds
/// what an outage costs beyond its own length, and ten dials a second cost nothing.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What becomes of a log for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It is dropped and counted, as boundary does: whoever offers logs is never held up.
    Drop,
    /// There always is room, because logs are offered only while [`Producer::accepts`] says so.
    Wait,
}

/// What became of an offered log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Offered {
    /// It is queued.
    Queued,
    /// The channel was full. Dropped and counted.
    ChannelFull,
    /// Alone it would take a frame of this many payload bytes, which is more than a frame may
    /// have. Dropped and counted.
    TooLarge(usize),
    /// The session has given out every sequence number there is. The log was not taken, and is
    /// not counted.
    SessionFull,
}

/// What the producer wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write the frame, then call [`Producer::sent`] or [`Producer::failed`].
    Send,
    /// Nothing, until a log was offered or this time has come.
    Wait(Option<Instant>),
    /// Nothing ever again: the producer is closed, and everything was sent.
    Done,
}

/// What became of the logs so far. At any time
/// `offered = delivered + channel_full + batch_full + too_large + held`, see [`Producer::held`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Logs offered; each took a sequence number.
    pub offered: u64,
    /// Logs in frames that were written whole.
    pub delivered: u64,
    /// Logs dropped because the channel was full.
    pub channel_full: u64,
    /// Logs dropped because a batch that could not be sent was full.
    pub batch_full: u64,
    /// Logs dropped because no frame can hold them. The format has no counter for them: a status
    /// counts them as `batch_full`.
    pub too_large: u64,
}

/// One session of a boundary-style producer.
#[derive(Debug)]
pub struct Producer {
    session_id: SessionId,
    when_full: WhenFull,
    next_sequence: Option<i32>,
    channel: VecDeque<Entry>,
    /// Taken from the channel while the batch was full: the outcome of the flush that this log
    /// prompted decides between the batch and a drop.
    prompt: Option<Entry>,
    batch: Vec<Entry>,
    /// When the batch is due. `None` while it is empty; once closed, that what is left is due now.
    timer: Option<Instant>,
    phase: Phase,
    closed: bool,
    totals: Totals,
    unreported: SenderDrops,
}

/// A log, encoded and numbered.
type Entry = Vec<u8>;

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The batch fills.
    Gathering,
    /// The next frame of a flush is to be made: logs while there are any, then a status.
    Flushing,
    /// A frame with the first logs of the batch, this many, is being written.
    SendingLogs(usize),
    /// A frame that reports these drops is being written.
    SendingStatus(SenderDrops),
}

impl Producer {
    /// A producer whose first log has sequence number 0.
    pub fn new(session_id: SessionId, when_full: WhenFull) -> Self {
        Self {
            session_id,
            when_full,
            next_sequence: Some(0),
            channel: VecDeque::with_capacity(CHANNEL_LOGS),
            prompt: None,
            batch: Vec::with_capacity(BATCH_LOGS),
            timer: None,
            phase: Phase::Gathering,
            closed: false,
            totals: Totals::default(),
            unreported: SenderDrops::default(),
        }
    }

    /// The session of every log of this producer.
    pub fn session_id(&self) -> &SessionId {
        &self.session_id
    }

    /// What became of the logs so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Logs that are neither delivered nor dropped.
    pub fn held(&self) -> usize {
        self.channel.len() + usize::from(self.prompt.is_some()) + self.batch.len()
    }

    /// Whether a log may be offered now.
    pub fn accepts(&self) -> bool {
        !self.closed
            && match self.when_full {
                WhenFull::Drop => true,
                WhenFull::Wait => self.channel.len() < CHANNEL_LOGS,
            }
    }

    /// Takes a log, numbers it and queues it, or drops and counts it. What is dropped leaves a gap
    /// in the sequence.
    pub fn offer(&mut self, log: &Log) -> Offered {
        let Some(sequence) = self.next_sequence else {
            return Offered::SessionFull;
        };
        self.next_sequence = sequence.checked_add(1);
        self.totals.offered += 1;
        if self.channel.len() >= CHANNEL_LOGS {
            self.totals.channel_full += 1;
            self.unreported.channel_full += 1;
            return Offered::ChannelFull;
        }
        let mut entry = Entry::new();
        log.put(sequence, &mut entry);
        let payload = logs_payload_len(self.session_id.as_str(), entry.len());
        if payload > MAX_PAYLOAD {
            self.totals.too_large += 1;
            self.unreported.batch_full += 1;
            return Offered::TooLarge(payload);
        }
        self.channel.push_back(entry);
        Offered::Queued
    }

    /// No log will be offered any more: what is held is sent without waiting for full batches.
    pub fn close(&mut self) {
        self.closed = true;
        self.timer = None;
    }

    /// Moves logs into the batch and says what to do next. With [`Step::Send`], `frame` is the
    /// frame to write.
    ///
    /// While a frame is being written there is nothing to do but to wait for its outcome.
    pub fn step(&mut self, now: Instant, frame: &mut Vec<u8>) -> Step {
        match self.phase {
            Phase::SendingLogs(_) | Phase::SendingStatus(_) => return Step::Wait(None),
            Phase::Flushing => {}
            Phase::Gathering => {
                if !self.gather(now) {
                    return if self.closed && self.is_empty() {
                        Step::Done
                    } else {
                        Step::Wait(self.timer)
                    };
                }
            }
        }
        frame.clear();
        self.phase = match put_logs_frame(frame, self.session_id.as_str(), &self.batch) {
            // No log is left: each of them fits into a frame of its own.
            0 => {
                put_status_frame(frame, self.unreported);
                Phase::SendingStatus(self.unreported)
            }
            logs => Phase::SendingLogs(logs),
        };
        Step::Send
    }

    /// The frame was written whole.
    pub fn sent(&mut self, now: Instant) {
        match self.phase {
            Phase::Gathering | Phase::Flushing => {}
            Phase::SendingLogs(logs) => {
                self.batch.drain(..logs);
                self.totals.delivered += logs as u64;
                if self.batch.is_empty() && self.unreported == SenderDrops::default() {
                    self.end_flush(now, None);
                } else {
                    self.phase = Phase::Flushing;
                }
            }
            Phase::SendingStatus(reported) => {
                self.unreported.channel_full -= reported.channel_full;
                self.unreported.batch_full -= reported.batch_full;
                self.end_flush(now, None);
            }
        }
    }

    /// The frame was not written, or only a part of it. Its logs are kept.
    pub fn failed(&mut self, now: Instant) {
        let wait = match self.when_full {
            WhenFull::Drop if !self.closed => BATCH_INTERVAL,
            WhenFull::Drop | WhenFull::Wait => RETRY_INTERVAL,
        };
        self.end_flush(now, Some(now + wait));
    }

    /// Fills the batch from the channel; true when it is to be flushed.
    fn gather(&mut self, now: Instant) -> bool {
        if self.closed {
            self.batch.extend(self.channel.drain(..));
            let due = self.timer.is_none_or(|at| at <= now);
            if due && !self.is_empty() {
                self.phase = Phase::Flushing;
                return true;
            }
            return false;
        }
        while !self.batch_is_due(now) {
            if self.batch.len() >= BATCH_LOGS {
                // The last flush failed.
                self.prompt = match self.when_full {
                    WhenFull::Drop => self.channel.pop_front(),
                    WhenFull::Wait => None,
                };
                if self.prompt.is_none() {
                    return false;
                }
                break;
            }
            let Some(entry) = self.channel.pop_front() else {
                return false;
            };
            self.push(entry, now);
            if self.batch.len() >= BATCH_LOGS {
                break;
            }
        }
        self.phase = Phase::Flushing;
        true
    }

    fn batch_is_due(&self, now: Instant) -> bool {
        !self.batch.is_empty() && self.timer.is_some_and(|at| at <= now)
    }

    /// Nothing is left to send, not even a status.
    fn is_empty(&self) -> bool {
        self.held() == 0 && self.unreported == SenderDrops::default()
    }

    /// Back to gathering. What is left in the batch waits until `retry_at`.
    fn end_flush(&mut self, now: Instant, retry_at: Option<Instant>) {
        self.phase = Phase::Gathering;
        // A status alone is not due before the next logs, unless there will be none.
        self.timer = retry_at.filter(|_| self.closed || !self.batch.is_empty());
        match self.prompt.take() {
            Some(_) if self.batch.len() >= BATCH_LOGS => {
                self.totals.batch_full += 1;
                self.unreported.batch_full += 1;
            }
            Some(entry) => self.push(entry, now),
            None => {}
        }
    }

    /// Puts a log into the batch; the first sets the timer.
    fn push(&mut self, entry: Entry, now: Instant) {
        self.batch.push(entry);
        if self.timer.is_none() && !self.closed {
            self.timer = Some(now + BATCH_INTERVAL);
        }
    }
}
