//! What is counted of each target whose page is collected.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::catalog::{self, Family};
use super::each;

/// What all targets count. Their names are known once the configuration is.
#[derive(Clone, Debug)]
pub struct TargetsMetrics {
    up: IntGaugeVec,
    duration: GaugeVec,
    samples: IntGaugeVec,
    faults: IntCounterVec,
    resets: IntCounterVec,
}

impl TargetsMetrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let by_target = |family: &Family| {
            let names: Vec<_> = family.labels.iter().map(|label| label.name).collect();
            (Opts::new(family.name, family.help), names)
        };
        let gauge = |family| {
            let (opts, names) = by_target(family);
            IntGaugeVec::new(opts, &names)
        };
        let (duration, names) = by_target(&catalog::SCRAPE_DURATION);
        Ok(Self {
            up: gauge(&catalog::SCRAPE_UP)?,
            duration: GaugeVec::new(duration, &names)?,
            samples: gauge(&catalog::SCRAPE_SAMPLES)?,
            faults: each(&catalog::SCRAPE_FAULTS)?,
            resets: each(&catalog::SCRAPE_RESETS)?,
        })
    }

    pub(super) fn collectors(&self) -> [Box<dyn Collector>; 5] {
        [
            Box::new(self.up.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.samples.clone()),
            Box::new(self.faults.clone()),
            Box::new(self.resets.clone()),
        ]
    }

    /// The handles of one target, with every series of it in being, at 0.
    pub fn target(&self, name: &str) -> TargetMetrics {
        TargetMetrics {
            up: self.up.with_label_values(&[name]),
            duration: self.duration.with_label_values(&[name]),
            samples: self.samples.with_label_values(&[name]),
            faults: self.faults.with_label_values(&[name]),
            resets: self.resets.with_label_values(&[name]),
        }
    }
}

/// What one target counts.
#[derive(Clone, Debug)]
pub struct TargetMetrics {
    up: IntGauge,
    duration: Gauge,
    samples: IntGauge,
    faults: IntCounter,
    resets: IntCounter,
}

impl TargetMetrics {
    /// Records how long a scrape took, whatever came of it.
    pub fn took(&self, time: Duration) {
        self.duration.set(time.as_secs_f64());
    }

    /// Records a page that was read: the samples on it, the lines that could not be read, and the counters that are
    /// lower than they were.
    pub fn read(&self, samples: u64, faults: u64, resets: u64) {
        self.up.set(1);
        self.samples.set(samples.cast_signed());
        self.faults.inc_by(faults);
        self.resets.inc_by(resets);
    }

    /// Records that there was no page.
    pub fn down(&self) {
        self.up.set(0);
    }
}
