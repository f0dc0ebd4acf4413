//! How much: the unit in which the books, the buffer and the spool count.

/// A number of batches with the logs and payload bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests as the senders framed them.
    pub batches: u64,
    /// Log entries in them.
    pub logs: u64,
    /// Bytes of the encoded requests.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.batches += other.batches;
        self.logs += other.logs;
        self.bytes += other.bytes;
    }

    /// Saturates, because a defect in the books must show as an imbalance and not as a panic.
    pub(crate) fn sub(&mut self, other: Self) {
        self.batches = self.batches.saturating_sub(other.batches);
        self.logs = self.logs.saturating_sub(other.logs);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |mut sum, tally| {
            sum.add(tally);
            sum
        })
    }
}
