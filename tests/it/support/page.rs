//! A scraped page of metrics: its samples, and the law that they obey.

use std::fmt::{self, Display, Formatter};

/// The reasons for which a batch or log that was received can be dropped. Losses of the senders are none of them.
const REASONS: [&str; 6] = [
    "buffer_full",
    "forward_failed",
    "spool_full",
    "spool_corrupt",
    "expired",
    "shutdown",
];

/// All samples of one answer.
#[derive(Debug)]
pub struct Page {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    /// Name and labels as they stand on the page.
    series: String,
    value: f64,
}

impl Display for Sample {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.series, self.value)
    }
}

impl Page {
    /// Reads text of version 0.0.4.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let value = value.parse().expect("a number");
            let series = series.to_owned();
            Sample { series, value }
        });
        Self {
            samples: samples.collect(),
        }
    }

    /// The value of a series, written as on the page: `name` or `name{label="value"}`.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        let found = self.samples.iter().find(|sample| sample.series == series);
        found.map_or_else(
            || {
                let name = series.split('{').next().unwrap_or_default();
                panic!("no series {series}; there are: {}", self.family(name))
            },
            |sample| sample.value,
        )
    }

    /// The value of a series that counts things.
    #[track_caller]
    pub fn count(&self, series: &str) -> u64 {
        let value = self.value(series);
        assert!(value >= 0.0 && value.fract() == 0.0, "{series} is {value}");
        value as u64
    }

    /// What was dropped for this reason, in `unit`s (`logs` or `batches`).
    #[track_caller]
    pub fn dropped(&self, unit: &str, reason: &str) -> u64 {
        self.count(&format!("weir_{unit}_dropped_total{{reason=\"{reason}\"}}"))
    }

    /// Attempts with this outcome.
    #[track_caller]
    pub fn attempts(&self, outcome: &str) -> u64 {
        self.count(&format!(
            "weir_forward_attempts_total{{outcome=\"{outcome}\"}}"
        ))
    }

    /// Dials with this outcome.
    #[track_caller]
    pub fn dials(&self, outcome: &str) -> u64 {
        self.count(&format!(
            "weir_upstream_dials_total{{outcome=\"{outcome}\"}}"
        ))
    }

    /// Frames that were rejected for this reason.
    #[track_caller]
    pub fn rejected(&self, reason: &str) -> u64 {
        self.count(&format!(
            "weir_frames_rejected_total{{reason=\"{reason}\"}}"
        ))
    }

    /// The conservation law, in logs and in batches, and what else holds on every page.
    #[track_caller]
    pub fn assert_balance(&self) {
        for unit in ["logs", "batches"] {
            let stage = |stage: &str| self.count(&format!("weir_{unit}_{stage}"));
            let dropped: u64 = REASONS
                .iter()
                .map(|reason| self.dropped(unit, reason))
                .sum();
            let received = stage("received_total");
            let accounted = stage("forwarded_total")
                + dropped
                + stage("in_memory")
                + stage("on_disk")
                + stage("in_flight");
            assert_eq!(
                received,
                accounted,
                "the books in {unit}: {}",
                self.family("weir_")
            );
        }
        assert_eq!(self.value("weir_imbalance_logs"), 0.0);
        assert_eq!(self.count("weir_panics_total"), 0);
        assert_eq!(
            self.count("agent_boundary_log_proxy_batches_forwarded_total"),
            self.count("weir_batches_forwarded_total")
        );
    }

    /// Every series with its value.
    pub fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        let samples = self.samples.iter();
        samples.map(|sample| (sample.series.as_str(), sample.value))
    }

    /// Every sample whose name begins so, for messages.
    pub fn family(&self, name: &str) -> String {
        let samples = self.samples.iter();
        let samples = samples.filter(|sample| sample.series.starts_with(name));
        samples.map(|sample| format!("\n{sample}")).collect()
    }
}
