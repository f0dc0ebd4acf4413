//! How fast the buffer fills, from what it held over the last minute.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::ledger::Tally;
use crate::buffer::queue::Limits;

/// The pace is the mean over this time: long enough for the bursts of senders to even out, short enough to see
/// an outage soon.
const WINDOW: Duration = Duration::from_secs(60);
/// Samples that come faster than this are passed over, which bounds how many a window holds.
const SPACING: Duration = Duration::from_secs(1);
/// The buffer counts as full when a batch of the largest size, that of a frame, finds no room.
const LARGEST_BATCH: u64 = 32 * 1024;

/// What the buffer held at moments of the last minute.
#[derive(Debug, Default)]
pub(super) struct Trend {
    samples: VecDeque<(Instant, Tally)>,
}

impl Trend {
    /// Notes what the buffer holds now.
    pub(super) fn record(&mut self, now: Instant, held: Tally) {
        let since = |then: &(Instant, Tally)| now.saturating_duration_since(then.0);
        if self
            .samples
            .back()
            .is_some_and(|last| since(last) < SPACING)
        {
            return;
        }
        while self
            .samples
            .front()
            .is_some_and(|first| since(first) > WINDOW)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, held));
    }

    /// Time until the first bound is reached at the noted pace, for a buffer that holds `held`; `None` while it
    /// is not filling.
    pub(super) fn time_to_full(&self, limits: Limits, held: Tally) -> Option<Duration> {
        let batches_left = limits.max_batches.saturating_sub(held.batches);
        let bytes_left = limits
            .max_bytes
            .saturating_sub(held.bytes.saturating_add(LARGEST_BATCH));
        if batches_left == 0 || bytes_left == 0 {
            return Some(Duration::ZERO);
        }
        let ((first_at, first), (last_at, last)) = (self.samples.front()?, self.samples.back()?);
        let elapsed = last_at.saturating_duration_since(*first_at).as_secs_f64();
        let pace = |from: u64, to: u64| to.saturating_sub(from) as f64 / elapsed;
        [
            batches_left as f64 / pace(first.batches, last.batches),
            bytes_left as f64 / pace(first.bytes, last.bytes),
        ]
        .into_iter()
        .filter_map(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_batches: 1000,
        max_bytes: 1_000_000 + LARGEST_BATCH,
    };

    fn tally(batches: u64, bytes: u64) -> Tally {
        Tally {
            batches,
            logs: 0,
            bytes,
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_bound_that_is_reached_first_counts() {
        let start = Instant::now();
        let mut trend = Trend::default();
        trend.record(start, tally(0, 0));
        let held = tally(100, 10_000);
        trend.record(start + seconds(10), held);
        // 900 batches at 10/s, 990 000 bytes at 1000/s.
        assert_eq!(trend.time_to_full(LIMITS, held), Some(seconds(90)));
        let large = tally(100, 500_000);
        trend.record(start + seconds(20), large);
        // 900 batches at 5/s, 500 000 bytes at 25 000/s.
        assert_eq!(trend.time_to_full(LIMITS, large), Some(seconds(20)));
    }

    #[test]
    fn nothing_is_foretold_without_a_rise() {
        let start = Instant::now();
        let mut trend = Trend::default();
        let held = tally(500, 500);
        assert_eq!(trend.time_to_full(LIMITS, held), None);
        trend.record(start, held);
        assert_eq!(trend.time_to_full(LIMITS, held), None);
        trend.record(start + seconds(5), held);
        assert_eq!(trend.time_to_full(LIMITS, held), None);
        trend.record(start + seconds(10), tally(400, 400));
        assert_eq!(trend.time_to_full(LIMITS, tally(400, 400)), None);
    }

    #[test]
    fn a_full_buffer_is_full_whatever_its_pace() {
        let trend = Trend::default();
        for held in [tally(1000, 0), tally(0, 1_000_000), tally(0, u64::MAX)] {
            assert_eq!(trend.time_to_full(LIMITS, held), Some(Duration::ZERO));
        }
    }

    #[test]
    fn only_the_last_minute_counts() {
        let start = Instant::now();
        let mut trend = Trend::default();
        trend.record(start, tally(900, 0));
        for second in 1..=120 {
            trend.record(start + seconds(second), tally(second, 0));
        }
        assert_eq!(trend.samples.len(), 61);
        assert_eq!(
            trend.time_to_full(LIMITS, tally(120, 0)),
            Some(seconds(880))
        );
        for _ in 0..1000 {
            trend.record(start + seconds(120), tally(0, 0));
        }
        assert_eq!(
            trend.samples.len(),
            61,
            "samples at one moment are passed over"
        );
    }
}
