//! The status document: what `GET /v1/status` and `/status` answer and `weir status` prints.

mod client;
mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use client::{Answer, FetchError, Form, StatusError, fetch, print};
pub use table::render_table;

use super::books::{Account, held};
use super::health::Phase;
use crate::buffer::spooler::SpoolStatus;
use crate::metrics::DropReason;
use crate::spool::hex;

/// A document names at most this many senders, so that it stays below about 256 KiB however many connect.
pub const MAX_SENDERS: usize = 1000;

/// One sidecar at one moment. All figures of logs come from one snapshot of the books:
/// `received = forwarded + Σ dropped + in_memory + on_disk + in_flight`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// The version of the sidecar.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: f64,
    /// How far its life has come.
    pub phase: Phase,
    /// Whether the control plane is connected.
    pub connected: bool,
    /// The control plane.
    pub upstream: UpstreamStatus,
    /// Log entries received.
    pub received_logs: u64,
    /// Log entries acknowledged by the control plane.
    pub forwarded_logs: u64,
    /// Log entries that were received and will never be delivered, by reason.
    pub dropped_logs: BTreeMap<String, u64>,
    /// Log entries in memory that no call carries.
    pub in_memory_logs: u64,
    /// Log entries that are on disk only.
    pub on_disk_logs: u64,
    /// Log entries in a call that is not answered yet.
    pub in_flight_logs: u64,
    /// Received minus everything else; anything but 0 is a defect.
    pub imbalance_logs: i64,
    /// Log entries sent again after an attempt of unknown fate.
    pub possible_duplicate_logs: u64,
    /// Log entries that the senders say they lost before they were received.
    pub dropped_by_sender: SenderDrops,
    /// Seconds since the oldest batch that is held was received; 0 when nothing is held.
    pub oldest_log_age_seconds: f64,
    /// Seconds until the buffer, or with a spool the spool, is full at the pace of the last minute; null while it is not
    /// filling.
    pub time_to_full_seconds: Option<f64>,
    /// How full the buffer is.
    pub buffer: BufferStatus,
    /// The disk spool; null without one.
    pub spool: Option<SpoolDocument>,
    /// Scripts that ran.
    pub scripts: ScriptStatus,
    /// The open connections on the audit socket, at most [`MAX_SENDERS`] of them.
    pub senders: Vec<SenderStatus>,
    /// How many more connections are open.
    pub senders_left_out: u64,
}

/// The control plane, as the sidecar sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Where it is dialled.
    pub url: String,
    /// When it last acknowledged anything, in Unix seconds; null before the first time.
    pub last_success_timestamp_seconds: Option<i64>,
}

/// Losses that only the senders saw, in log entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderDrops {
    /// Lost because the sender's channel was full.
    pub channel_full: u64,
    /// Lost because the sender's batch was full.
    pub batch_full: u64,
}

/// The buffer and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferStatus {
    /// Batches held in memory, those in flight included.
    pub batches: u64,
    /// Payload bytes held in memory, those in flight included.
    pub bytes: u64,
    /// Batches that may be held.
    pub capacity_batches: u64,
    /// Payload bytes that may be held.
    pub capacity_bytes: u64,
}

/// The disk spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolDocument {
    /// Whether its directory is open and can be written.
    pub available: bool,
    /// Bytes that its files take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub capacity_bytes: u64,
    /// Operations on the directory that failed.
    pub errors: u64,
    /// Number of the last record.
    pub head_record: u64,
    /// SHA-256 over all records up to that, in hex.
    pub head: String,
}

impl From<&SpoolStatus> for SpoolDocument {
    fn from(spool: &SpoolStatus) -> Self {
        Self {
            available: spool.available,
            bytes: spool.bytes,
            capacity_bytes: spool.capacity_bytes,
            errors: spool.errors,
            head_record: spool.head_record,
            head: hex(&spool.head),
        }
    }
}

/// Scripts that ran, over the restarts of the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptStatus {
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that did not.
    pub failed: u64,
    /// Runs that the control plane is still to be told of.
    pub pending_completions: u64,
}

/// One connection on the audit socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SenderStatus {
    /// Its number, counted from the start of the sidecar.
    pub number: u64,
    /// The process that connected; null when the kernel did not say.
    pub pid: Option<u32>,
    /// The user that connected; null when the kernel did not say.
    pub uid: Option<u32>,
    /// The command of that process when it connected; empty when unknown.
    pub command: String,
    /// Seconds since it connected.
    pub connected_seconds: f64,
    /// Frames read from it.
    pub frames: u64,
    /// Log entries read from it.
    pub logs: u64,
    /// Frames of it that carried nothing usable.
    pub rejected: u64,
    /// Seconds since its last frame; null before the first.
    pub last_frame_seconds: Option<f64>,
}

/// What the document holds besides the books.
pub(super) struct Surroundings {
    pub(super) uptime_seconds: f64,
    pub(super) phase: Phase,
    pub(super) connected: bool,
    pub(super) upstream: UpstreamStatus,
    pub(super) scripts: ScriptStatus,
    pub(super) senders: Vec<SenderStatus>,
}

impl StatusDocument {
    pub(super) fn new(account: &Account, around: Surroundings) -> Self {
        let Account { ledger, limits, .. } = account;
        let held = held(ledger);
        let mut senders = around.senders;
        let left_out = senders.len().saturating_sub(MAX_SENDERS);
        senders.truncate(MAX_SENDERS);
        let dropped = DropReason::ALL
            .iter()
            .map(|reason| (reason.label().to_owned(), ledger.dropped(*reason).logs));
        Self {
            version: super::VERSION.to_owned(),
            uptime_seconds: around.uptime_seconds,
            phase: around.phase,
            connected: around.connected,
            upstream: around.upstream,
            received_logs: ledger.received.logs,
            forwarded_logs: ledger.forwarded.logs,
            dropped_logs: dropped.collect(),
            in_memory_logs: ledger.in_memory.logs,
            on_disk_logs: ledger.on_disk.logs,
            in_flight_logs: ledger.in_flight.logs,
            imbalance_logs: ledger.imbalance(),
            possible_duplicate_logs: ledger.possible_duplicates,
            dropped_by_sender: SenderDrops {
                channel_full: ledger.sender_channel_full,
                batch_full: ledger.sender_batch_full,
            },
            oldest_log_age_seconds: account.oldest_age.as_secs_f64(),
            time_to_full_seconds: account.time_to_full.map(|left| left.as_secs_f64()),
            buffer: BufferStatus {
                batches: held.batches,
                bytes: held.bytes,
                capacity_batches: limits.max_batches,
                capacity_bytes: limits.max_bytes,
            },
            spool: account.spool.as_ref().map(SpoolDocument::from),
            scripts: around.scripts,
            senders,
            senders_left_out: left_out as u64,
        }
    }
}
