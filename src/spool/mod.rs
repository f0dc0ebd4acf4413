//! The spool: a log of batches on disk, bounded in bytes, that survives whatever happens to the process.
//!
//! `FORMAT.md` beside this file lays every byte down. The log knows nothing of queues and ledgers; it is driven by
//! the one thread of [`crate::buffer`] that writes it.
//!
//! Any byte on disk may be wrong: what cannot be read is skipped and counted, never trusted and never a reason not to
//! start. A chain of SHA-256 over all records makes a record that was altered, cut out or moved show, to whoever noted
//! the head of the chain elsewhere. There is no key: who can write the directory can also compute a chain anew.

mod bytes;
pub mod log;
mod offline;
pub mod position;
mod ranges;
pub mod record;
pub mod scan;
pub mod segment;
mod storage;
mod walk;

pub use bytes::hex;
pub use offline::{
    Fault, Finding, Report, SegmentSummary, Summary, export, head_number, inspect, verify,
};
pub use storage::{Disk, Storage};

#[cfg(test)]
pub(crate) use storage::memory;

/// Tests of FORMAT.md.
#[cfg(test)]
mod format;
