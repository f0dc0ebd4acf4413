//! What the spool tells of itself.

use crate::buffer::ledger::{Snapshot, Tally};
use crate::metrics::DropReason;
use crate::spool::record::{Digest, GENESIS};

/// The spool at one moment.
#[derive(Clone, Debug)]
pub struct SpoolStatus {
    /// Whether its directory is open and takes what is written.
    pub available: bool,
    /// Bytes that its files take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub capacity_bytes: u64,
    /// Number of the last record; 0 before the first.
    pub head_record: u64,
    /// Digest of the last record.
    pub head: Digest,
    /// Operations on the directory that failed.
    pub errors: u64,
    /// Batches that went to memory because the disk did not take them.
    pub bypassed: u64,
    /// The totals of earlier processes.
    pub before: Lifetime,
}

impl SpoolStatus {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self {
            available: false,
            bytes: 0,
            capacity_bytes,
            head_record: 0,
            head: GENESIS,
            errors: 0,
            bypassed: 0,
            before: Lifetime::default(),
        }
    }
}

/// Totals over the life of a spool directory:
/// `received = forwarded + Σ dropped + unaccounted + in_memory + on_disk + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// Received.
    pub received: Tally,
    /// Acknowledged by the control plane.
    pub forwarded: Tally,
    /// What processes that were killed held in memory only, by their last word: delivered since then, or lost. What they
    /// received and did not put on disk after that word is not known at all.
    pub unaccounted: Tally,
    /// Dropped, in the order of [`DropReason::ALL`].
    pub dropped: [Tally; DropReason::ALL.len()],
}

impl Lifetime {
    /// These totals and those of this process.
    pub fn and(&self, books: &Snapshot) -> Self {
        let mut all = *self;
        all.received.add(books.received);
        all.forwarded.add(books.forwarded);
        for (account, reason) in all.dropped.iter_mut().zip(DropReason::ALL) {
            account.add(books.dropped(*reason));
        }
        all
    }

    /// Goes on from the totals of the process before, which left `found` on disk, of that `newer` after its last word.
    /// This process counts all of it as received once more. Returns what is unaccounted for since.
    pub(super) fn resume(&mut self, found: Tally, newer: Tally) -> Tally {
        let mut known = found;
        known.sub(newer);
        let mut lost = self.received;
        for ended in [self.forwarded, self.unaccounted]
            .iter()
            .chain(&self.dropped)
        {
            lost.sub(*ended);
        }
        lost.sub(known);
        self.unaccounted.add(lost);
        self.received.sub(known);
        lost
    }

    /// As the position keeps it. Reasons that are added later come behind these.
    pub(super) fn accounts(&self) -> Vec<[u64; 3]> {
        [self.received, self.forwarded, self.unaccounted]
            .into_iter()
            .chain(self.dropped)
            .map(|tally| [tally.batches, tally.logs, tally.bytes])
            .collect()
    }

    pub(super) fn of_accounts(accounts: &[[u64; 3]]) -> Self {
        let mut tallies = accounts.iter().map(|[batches, logs, bytes]| Tally {
            batches: *batches,
            logs: *logs,
            bytes: *bytes,
        });
        let mut lifetime = Self {
            received: tallies.next().unwrap_or_default(),
            forwarded: tallies.next().unwrap_or_default(),
            unaccounted: tallies.next().unwrap_or_default(),
            ..Self::default()
        };
        for (account, tally) in lifetime.dropped.iter_mut().zip(tallies) {
            *account = tally;
        }
        lifetime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(logs: u64) -> Tally {
        Tally {
            batches: logs,
            logs,
            bytes: logs,
        }
    }

    #[test]
    fn the_totals_are_kept_and_read_back() {
        let mut lifetime = Lifetime {
            received: tally(10),
            forwarded: tally(4),
            unaccounted: tally(2),
            ..Lifetime::default()
        };
        lifetime.dropped[DropReason::Expired as usize] = tally(3);
        assert_eq!(Lifetime::of_accounts(&lifetime.accounts()), lifetime);
        assert_eq!(Lifetime::of_accounts(&[]), Lifetime::default());
    }

    #[test]
    fn what_a_kill_leaves_nowhere_is_unaccounted_for() {
        // 10 were received, 4 delivered, so 6 were held, of which 3 are found; and 5 came after the last word.
        let mut lifetime = Lifetime {
            received: tally(10),
            forwarded: tally(4),
            ..Lifetime::default()
        };
        assert_eq!(lifetime.resume(tally(8), tally(5)), tally(3));
        let received_again = 8;
        assert_eq!(lifetime.received.logs + received_again, 10 + 5);
        assert_eq!(lifetime.unaccounted, tally(3));
        // An end in order leaves all of it on disk, and no more is unaccounted for.
        let mut next = Lifetime {
            received: tally(15),
            ..lifetime
        };
        assert_eq!(next.resume(tally(8), tally(0)), tally(0));
    }
}
