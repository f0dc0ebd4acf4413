//! How long to wait before the next try: exponential growth with full jitter.
//!
//! This is the only place that knows the schedule. The growth comes from the `backoff` crate with its own
//! randomisation and its elapsed-time limit switched off; the jitter is drawn here, from a source that the
//! caller passes in, so that a schedule can be tested without a clock and a fleet never retries in step.

use std::fmt;
use std::time::Duration;

use ::backoff::ExponentialBackoff;
use ::backoff::backoff::Backoff as _;

/// Each wait may be up to twice as long as the one before it.
const GROWTH: f64 = 2.0;

/// The first and the largest ceiling of a backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    initial: Duration,
    max: Duration,
}

impl Schedule {
    /// A schedule whose ceilings grow from `initial` to `max`.
    ///
    /// `None` when `initial` is zero (it would spin) or longer than `max`.
    pub fn new(initial: Duration, max: Duration) -> Option<Self> {
        (!initial.is_zero() && initial <= max).then_some(Self { initial, max })
    }

    /// The ceiling of the first wait.
    pub fn initial(&self) -> Duration {
        self.initial
    }

    /// The longest wait this schedule ever asks for.
    pub fn max(&self) -> Duration {
        self.max
    }
}

/// The state of one sequence of retries.
pub struct Backoff {
    ceilings: ExponentialBackoff,
}

impl Backoff {
    /// Starts at the schedule's first ceiling.
    pub fn new(schedule: Schedule) -> Self {
        let mut ceilings = ExponentialBackoff {
            initial_interval: schedule.initial,
            max_interval: schedule.max,
            multiplier: GROWTH,
            randomization_factor: 0.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        ceilings.reset();
        Self { ceilings }
    }

    /// The wait before the next try: uniform between zero and the present ceiling, which then grows.
    pub fn next_wait(&mut self, random: &mut fastrand::Rng) -> Duration {
        // The crate ends a sequence only by elapsed time, which is switched off above.
        let ceiling = self
            .ceilings
            .next_backoff()
            .unwrap_or(self.ceilings.max_interval);
        ceiling
            .min(self.ceilings.max_interval)
            .mul_f64(random.f64())
    }

    /// Begins again at the first ceiling, after something worked.
    pub fn reset(&mut self) {
        self.ceilings.reset();
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff")
            .field("ceiling", &self.ceilings.current_interval)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_schedule_that_would_spin_or_shrink_cannot_be_built() {
        let ms = Duration::from_millis;
        assert_eq!(Schedule::new(Duration::ZERO, ms(1)), None);
        assert_eq!(Schedule::new(ms(2), ms(1)), None);
        assert!(Schedule::new(ms(1), ms(1)).is_some());
    }

    proptest! {
        #[test]
        fn waits_stay_under_a_ceiling_that_doubles_up_to_the_maximum(
            initial in 1u64..5_000, factor in 1u64..1_000, seed: u64, tries in 1usize..40,
        ) {
            let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(initial * factor));
            let mut backoff = Backoff::new(Schedule::new(initial, max).unwrap());
            let mut random = fastrand::Rng::with_seed(seed);
            let mut ceiling = initial;
            for _ in 0..tries {
                let wait = backoff.next_wait(&mut random);
                // A nanosecond of slack: the crate computes in floating point.
                prop_assert!(wait <= ceiling + Duration::from_nanos(1), "{wait:?} over {ceiling:?}");
                ceiling = (ceiling * 2).min(max);
            }
            backoff.reset();
            prop_assert!(backoff.next_wait(&mut random) <= initial + Duration::from_nanos(1));
        }

        #[test]
        fn jitter_is_full(seed: u64) {
            let second = Duration::from_secs(1);
            let mut random = fastrand::Rng::with_seed(seed);
            let mut backoff = Backoff::new(Schedule::new(second, second).unwrap());
            let waits: Vec<_> = (0..200).map(|_| backoff.next_wait(&mut random)).collect();
            prop_assert!(waits.iter().any(|w| *w < second / 4));
            prop_assert!(waits.iter().any(|w| *w > second * 3 / 4));
        }
    }
}
