//! A boundary-style producer of audit logs: `weir emit`, and the load of tests and benches.
//!
//! [`Producer`] holds the rules and does no I/O; [`run`] moves it with a socket, a [`Source`] of
//! logs and a clock. [`load`] writes as fast as it can, without rules.

mod lines;
mod link;
pub mod load;
mod log;
mod producer;
mod session;
mod source;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

pub use lines::{BadLine, Lines, MAX_LINE};
pub use log::{Log, MIN_URL_BYTES};
pub use producer::{
    BATCH_INTERVAL, BATCH_LOGS, CHANNEL_LOGS, Offered, Producer, Step, Totals, WhenFull,
};
pub use session::{NotAUuid, SessionId};
pub use source::{Rate, Source};

use crate::shutdown::Stop;
use link::Link;
use source::Item;

/// Faults of the input that are logged one by one; the others are only counted, so that an input
/// of another kind does not flood the log.
const FAULTS_LOGGED: u64 = 10;

/// How a run of the producer behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The boundary audit socket.
    pub socket_path: PathBuf,
    /// The session of every log.
    pub session_id: SessionId,
    /// What becomes of a log for which there is no room.
    pub when_full: WhenFull,
    /// How long to go on trying to send what is left when the source has ended.
    pub flush_timeout: Duration,
}

/// What became of the logs of a run. `logs` is the sum of the figures down to `unsent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Logs taken from the source.
    pub logs: u64,
    /// Logs in frames that the socket took whole. The socket is one-way: whether its reader has
    /// read them is not known here.
    pub delivered: u64,
    /// Logs dropped because the channel was full.
    pub channel_full: u64,
    /// Logs dropped because a batch that could not be sent was full.
    pub batch_full: u64,
    /// Logs dropped because no frame can hold them; the socket's reader is told of them as
    /// `batch_full`.
    pub too_large: u64,
    /// Logs still held when the flush timed out.
    pub unsent: u64,
    /// Lines of the input that are no logs.
    pub bad_lines: u64,
    /// The session of the logs.
    pub session_id: String,
    /// The source ended before its end, for a reason that was logged.
    #[serde(skip)]
    pub cut_short: bool,
}

impl Summary {
    /// Logs that were taken from the source and not delivered.
    pub fn lost(&self) -> u64 {
        self.logs - self.delivered
    }
}

/// Sends the logs of `source` until it ends or `stop` asks for the drain, then what is left, until
/// that is sent, the flush times out or the deadline of `stop` comes.
///
/// # Errors
///
/// When the socket cannot be connected to at the start. Later failures are outages: the batch is
/// kept and retried.
pub async fn run(options: Options, mut source: Source, stop: Stop) -> io::Result<Summary> {
    let mut link = Link::connect(options.socket_path).await?;
    let mut producer = Producer::new(options.session_id, options.when_full);
    let mut intake = Intake::default();
    let mut outage = Outage::default();
    let mut frame = Vec::new();
    let mut sending = false;
    let mut give_up_at = None;
    loop {
        let mut wake_at = None;
        match producer.step(Instant::now(), &mut frame) {
            Step::Send => sending = true,
            Step::Wait(at) => wake_at = at,
            Step::Done => break,
        }
        tokio::select! {
            biased;
            () = stop.deadline.cancelled() => break,
            () = stop.drain.cancelled(), if give_up_at.is_none() => intake.ended = true,
            written = link.write(&frame), if sending => {
                sending = false;
                let now = Instant::now();
                outage.note(&link, &written);
                match written {
                    Ok(()) => producer.sent(now),
                    Err(_) => producer.failed(now),
                }
            }
            item = source.next(), if producer.accepts() => intake.take(item, &mut producer),
            () = until(wake_at), if wake_at.is_some() => {}
            () = until(give_up_at), if give_up_at.is_some() => break,
        }
        if intake.ended && give_up_at.is_none() {
            producer.close();
            give_up_at = Some(Instant::now() + options.flush_timeout);
        }
    }
    Ok(intake.sum_up(&producer))
}

/// Waits for a time; for ever when there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The way from the source to the producer.
#[derive(Debug, Default)]
struct Intake {
    bad_lines: u64,
    ended: bool,
    cut_short: bool,
}

impl Intake {
    fn take(&mut self, item: Item, producer: &mut Producer) {
        match item {
            Item::Log(log) => self.offer(&log, producer),
            Item::Bad(bad) => {
                self.bad_lines += 1;
                if self.bad_lines <= FAULTS_LOGGED {
                    warn!("input: {bad}");
                }
                if self.bad_lines == FAULTS_LOGGED {
                    warn!("input: further bad lines are only counted");
                }
            }
            Item::Failed(cause) => {
                error!("input: {cause}");
                self.cut_short = true;
                self.ended = true;
            }
            Item::End => self.ended = true,
        }
    }

    fn offer(&mut self, log: &Log, producer: &mut Producer) {
        let sequence = producer.totals().offered;
        match producer.offer(log) {
            Offered::Queued | Offered::ChannelFull => {}
            Offered::TooLarge(payload) => {
                if producer.totals().too_large <= FAULTS_LOGGED {
                    let url_bytes = log.url.len();
                    warn!(
                        sequence,
                        payload, url_bytes, "log dropped: no frame can hold it"
                    );
                }
            }
            Offered::SessionFull => {
                error!("session ended: {sequence} logs are all that can be numbered");
                self.cut_short = true;
                self.ended = true;
            }
        }
    }

    fn sum_up(self, producer: &Producer) -> Summary {
        let totals = producer.totals();
        Summary {
            logs: totals.offered,
            delivered: totals.delivered,
            channel_full: totals.channel_full,
            batch_full: totals.batch_full,
            too_large: totals.too_large,
            unsent: producer.held() as u64,
            bad_lines: self.bad_lines,
            session_id: producer.session_id().to_string(),
            cut_short: self.cut_short,
        }
    }
}

/// Logs the begin and the end of an outage, not every failure in it.
#[derive(Debug, Default)]
struct Outage {
    failures: u64,
}

impl Outage {
    fn note(&mut self, link: &Link, written: &io::Result<()>) {
        let path = link.path().display();
        match written {
            Ok(()) if self.failures == 0 => {}
            Ok(()) => {
                info!(
                    "{path}: writing again after {} failed attempts",
                    self.failures
                );
                self.failures = 0;
            }
            Err(cause) => {
                if self.failures == 0 {
                    warn!("{path}: {cause}; the batch is kept");
                }
                self.failures += 1;
            }
        }
    }
}
