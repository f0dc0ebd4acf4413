//! How often what others cause may be written to the log: they decide how much of it there is, so it is bounded.

use std::time::Duration;

use tokio::time::Instant;

/// Length of a period.
const PERIOD: Duration = Duration::from_secs(10);

/// Warnings in a period: enough to see several senders at fault, too few to fill a disk (under 2 MiB a day).
const PER_PERIOD: u32 = 10;

/// Lets the first warnings of each period pass and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    period_ends: Option<Instant>,
    passed: u32,
    withheld: u64,
}

impl Warnings {
    /// Whether a warning may be written now; if so, how many were withheld since the last that was.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.period_ends.is_none_or(|end| end <= now) {
            self.period_ends = Some(now + PERIOD);
            self.passed = 0;
        }
        if self.passed == PER_PERIOD {
            self.withheld += 1;
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_its_size_is_told_in_the_next_period() {
        let start = Instant::now();
        let mut warnings = Warnings::default();
        for _ in 0..PER_PERIOD {
            assert_eq!(warnings.admit(start), Some(0));
        }
        assert_eq!(warnings.admit(start), None);
        assert_eq!(warnings.admit(start + PERIOD / 2), None);
        assert_eq!(warnings.admit(start + PERIOD), Some(2));
        assert_eq!(warnings.admit(start + PERIOD), Some(0));
    }
}
