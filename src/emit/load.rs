//! Load for tests and benches: frames of full batches, made as fast as they can be copied.
//!
//! There are no rules here: a writer that is slow slows the load down. Everything follows from the
//! arguments, no clock and no random source takes part, and the buffers are reused, so that
//! nothing is allocated per log.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::log::{MADE_UP_RULE, made_up_url};
use super::producer::BATCH_LOGS;
use super::session::SessionId;
use crate::wire::boundary::encode::{LogEntry, put_logs_frame};

/// Longest URL: a full batch of them fits into one frame.
pub const MAX_URL_BYTES: usize = 3_000;

/// Logs in one write: some tens of kilobytes, so that a write costs more than its system call.
const WRITE_LOGS: u64 = 320;

/// Logs that a session can number.
const SESSION_LOGS: u64 = 1 << 31;

/// The time of every log: 2026-01-01, 00:00:00 UTC and a nanosecond, since a real time has both.
const TIME: (i64, i32) = (1_767_225_600, 1);

/// The logs of one session, numbered from 0 over any number of writes.
#[derive(Debug)]
pub struct Load {
    session_id: SessionId,
    url: String,
    next_sequence: u64,
    entries: Vec<u8>,
    frames: Vec<u8>,
}

impl Load {
    /// The session that `session` stands for, with URLs of `url_bytes` bytes, but at least
    /// [`MIN_URL_BYTES`](super::MIN_URL_BYTES) and at most [`MAX_URL_BYTES`].
    pub fn new(session: u32, url_bytes: usize) -> Self {
        Self {
            session_id: SessionId::from_bits(session.into()),
            url: made_up_url(0, url_bytes.min(MAX_URL_BYTES)),
            next_sequence: 0,
            entries: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// The session of the logs.
    pub fn session_id(&self) -> &SessionId {
        &self.session_id
    }

    /// The next `logs` logs, in frames of [`BATCH_LOGS`] of which only the last may have fewer.
    ///
    /// A session of 2^31 logs is at its end: what is beyond is left out.
    pub fn frames(&mut self, logs: u64) -> &[u8] {
        let end = self.next_sequence.saturating_add(logs).min(SESSION_LOGS);
        self.frames.clear();
        while self.next_sequence < end {
            let frame_end = end.min(self.next_sequence + BATCH_LOGS as u64);
            self.entries.clear();
            while self.next_sequence < frame_end {
                self.put_log(self.next_sequence as i32);
                self.next_sequence += 1;
            }
            put_logs_frame(
                &mut self.frames,
                self.session_id.as_str(),
                &[&self.entries[..]],
            );
        }
        &self.frames
    }

    /// Writes the next `logs` logs, blocking.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_to(&mut self, out: &mut impl io::Write, mut logs: u64) -> io::Result<()> {
        while logs > 0 {
            let now = logs.min(WRITE_LOGS);
            out.write_all(self.frames(now))?;
            logs -= now;
        }
        Ok(())
    }

    /// Writes the next `logs` logs.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub async fn send_to(
        &mut self,
        out: &mut (impl AsyncWrite + Unpin),
        mut logs: u64,
    ) -> io::Result<()> {
        while logs > 0 {
            let now = logs.min(WRITE_LOGS);
            out.write_all(self.frames(now)).await?;
            logs -= now;
        }
        Ok(())
    }

    fn put_log(&mut self, sequence: i32) {
        let (seconds, nanos) = TIME;
        let allowed = sequence % 2 == 0;
        LogEntry {
            allowed,
            seconds,
            nanos,
            sequence,
            method: "GET",
            url: &self.url,
            matched_rule: if allowed { MADE_UP_RULE } else { "" },
        }
        .put(&mut self.entries);
    }
}
