//! The most memory a configuration can ask for, and the most that the machine allows.

use std::fmt;
use std::path::Path;

use super::Config;
use super::host::Host;
use super::parse::exact_size;
use crate::collect::{MAX_HELD_BYTES, MAX_PAGE};
use crate::forward::MAX_LANES_IN_FLIGHT;

/// What a spool takes: batches on their way to its thread, a group of them encoded, and the window it is read through.
const SPOOL_BYTES: u64 = (1024 + 1024 + 128) * 1024;

/// What the program needs before the first batch: code that is touched, runtime, TLS roots.
const IDLE_BYTES: u64 = 8 << 20;

/// What a held batch costs beside its bytes: its record in the queue, its share of the ledger and
/// the allocator's rounding.
const BATCH_OVERHEAD_BYTES: u64 = 256;

/// What a request in flight has queued for the wire at most: the window that the peer grants its stream, and the piece
/// being made.
const QUEUED_BYTES: u64 = (256 + 64) * 1024;

/// What a target whose metrics are collected costs at most: its page, twice while it is unpacked and read, and the
/// samples of it and of the one before.
const TARGET_BYTES: u64 = 2 * (MAX_PAGE + MAX_HELD_BYTES) as u64;

/// Largest part of a frame that a sender in the middle of one has in memory.
const FRAME_BYTES: u64 = 32 * 1024;

/// Most bytes of a control file of the kernel; they hold one number or one line per controller.
const MAX_CONTROL_BYTES: u64 = 64 * 1024;

/// The most memory that a configuration can ask for.
#[derive(Clone, Debug)]
pub struct MemoryBound {
    payload: u64,
    records: u64,
    requests: u64,
    spool: u64,
    targets: u64,
}

impl Config {
    /// The most memory that the buffer and the requests made from it can take. Senders in the
    /// middle of a frame come on top, since their number is no setting.
    pub fn memory_bound(&self) -> MemoryBound {
        // A u64 holds any usize of the platforms that Rust's standard library supports.
        let batches = self.buffer.max_batches as u64;
        MemoryBound {
            payload: self.buffer.max_bytes,
            records: batches.saturating_mul(BATCH_OVERHEAD_BYTES),
            requests: QUEUED_BYTES
                .saturating_mul(MAX_LANES_IN_FLIGHT as u64)
                .min(self.buffer.max_bytes),
            spool: self.spool.as_ref().map_or(0, |_| SPOOL_BYTES),
            targets: TARGET_BYTES.saturating_mul(self.scrape.len() as u64),
        }
    }
}

impl MemoryBound {
    /// Sum of the parts in bytes.
    pub fn total(&self) -> u64 {
        [
            self.payload,
            self.records,
            self.requests,
            self.spool,
            self.targets,
        ]
        .iter()
        .fold(IDLE_BYTES, |sum, part| sum.saturating_add(*part))
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} idle, {} of batches, {} of their records, {} of requests in flight, {} of the \
             spool, {} of pages that are scraped; and {} for each sender in the middle of a frame",
            rounded(self.total()),
            exact_size(IDLE_BYTES),
            exact_size(self.payload),
            rounded(self.records),
            rounded(self.requests),
            rounded(self.spool),
            rounded(self.targets),
            exact_size(FRAME_BYTES),
        )
    }
}

fn rounded(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// The memory limit of the control group that this process runs in, in bytes: the smallest on the
/// way to the root. `None` when there is none, or none that can be read.
pub(crate) fn memory_limit(host: &dyn Host) -> Option<u64> {
    let own = read(host, Path::new("/proc/self/cgroup"))?;
    own.lines().filter_map(|line| limit_of(line, host)).min()
}

/// The limit that one line of `/proc/self/cgroup` leads to: `0::PATH` in version 2,
/// `ID:CONTROLLERS:PATH` in version 1 (cgroups(7)).
fn limit_of(line: &str, host: &dyn Host) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    Path::new(path.trim_start_matches('/'))
        .ancestors()
        .filter_map(|group| {
            let limit = read(host, &Path::new(root).join(group).join(file))?;
            limit.trim().parse().ok()
        })
        .min()
}

fn read(host: &dyn Host, path: &Path) -> Option<String> {
    String::from_utf8(host.read(path, MAX_CONTROL_BYTES).ok()?).ok()
}
