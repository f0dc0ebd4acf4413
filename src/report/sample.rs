//! What could be reported, before it is checked.

use prometheus::proto::{Metric, MetricFamily, MetricType};

/// The latest samples of other programs, asked for when a report is made. It is called on the thread of the data path,
/// so it only hands over what is there already.
pub type Source = Box<dyn Fn() -> Vec<Sample> + Send>;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric; of a histogram or summary without `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// Its type.
    pub kind: SampleKind,
    /// Any number, those that are none included; of a histogram or summary it means nothing.
    pub value: f64,
    /// Names and values, in any order. An empty value is none, as for Prometheus.
    pub labels: Vec<(String, String)>,
}

/// The types that make a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// Only grows, until its program starts anew.
    Counter,
    /// Goes up and down; also what has no known type.
    Gauge,
    /// A histogram or summary, which a report has no place for.
    Composite,
}

/// The samples of families that this process counts itself.
pub(super) fn of_families(families: &[MetricFamily]) -> impl Iterator<Item = Sample> {
    families.iter().flat_map(|family| {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => SampleKind::Counter,
            MetricType::GAUGE => SampleKind::Gauge,
            // Nothing of ours is untyped.
            MetricType::HISTOGRAM | MetricType::SUMMARY | MetricType::UNTYPED => {
                SampleKind::Composite
            }
        };
        let metrics = family.get_metric().iter();
        metrics.map(move |metric| Sample {
            name: family.name().to_owned(),
            kind,
            value: match kind {
                SampleKind::Counter => metric.get_counter().get_value(),
                SampleKind::Gauge | SampleKind::Composite => metric.get_gauge().get_value(),
            },
            labels: labels(metric),
        })
    })
}

fn labels(metric: &Metric) -> Vec<(String, String)> {
    let pairs = metric.get_label().iter();
    pairs
        .map(|pair| (pair.name().to_owned(), pair.value().to_owned()))
        .collect()
}
