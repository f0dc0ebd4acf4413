//! What is known of a target: the samples of its latest page, for as long as they are worth reporting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::report::Sample;

/// The latest samples of a target. Clones hold the same.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Mutex<Option<Latest>>>);

#[derive(Debug)]
struct Latest {
    samples: Arc<[Sample]>,
    /// From then on they are stale.
    until: Instant,
}

impl Held {
    /// Holds the samples of a page that was asked for at `begun`, where the next is asked for after `interval`. Should
    /// that one and whatever follows fail, they are stale once the target has been down for another interval.
    pub fn set(&self, samples: Vec<Sample>, begun: Instant, interval: Duration) {
        *self.lock() = Some(Latest {
            samples: samples.into(),
            until: begun + 2 * interval,
        });
    }

    /// Lets the samples be stale from this time on, if not before: the target was down when it was asked an interval
    /// before that.
    pub fn expire(&self, at: Instant) {
        if let Some(latest) = self.lock().as_mut() {
            latest.until = latest.until.min(at);
        }
    }

    /// The samples, unless they are stale.
    pub fn fresh(&self, now: Instant) -> Arc<[Sample]> {
        let held = self.lock();
        let fresh = held.as_ref().filter(|latest| now < latest.until);
        fresh
            .map(|latest| Arc::clone(&latest.samples))
            .unwrap_or_default()
    }

    /// The samples, however old.
    pub(super) fn latest(&self) -> Arc<[Sample]> {
        let held = self.lock();
        held.as_ref()
            .map(|latest| Arc::clone(&latest.samples))
            .unwrap_or_default()
    }

    /// It is whole whenever it is unlocked, also by a panic.
    fn lock(&self) -> MutexGuard<'_, Option<Latest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SampleKind;

    #[test]
    fn samples_are_stale_when_a_target_was_down_for_an_interval() {
        let (held, now) = (Held::default(), Instant::now());
        let interval = Duration::from_secs(30);
        assert!(held.fresh(now).is_empty());
        let sample = Sample {
            name: "a".to_owned(),
            kind: SampleKind::Gauge,
            value: 1.0,
            labels: Vec::new(),
        };
        held.set(vec![sample.clone()], now, interval);
        // The next page is due after 30 s, and missing from then on.
        assert_eq!(held.fresh(now + Duration::from_secs(59)).len(), 1);
        assert!(held.fresh(now + Duration::from_secs(60)).is_empty());
        assert_eq!(held.latest().len(), 1);
        // Asked more often meanwhile, it was down after 5 s.
        held.expire(now + Duration::from_secs(10));
        held.expire(now + Duration::from_secs(15));
        assert_eq!(held.fresh(now + Duration::from_secs(9)).len(), 1);
        assert!(held.fresh(now + Duration::from_secs(10)).is_empty());
        held.set(
            vec![sample.clone()],
            now + Duration::from_secs(90),
            interval,
        );
        assert_eq!(&*held.fresh(now + Duration::from_secs(90)), [sample]);
    }
}
