//! Families with their values, made from rows of the catalogue.

use prometheus::core::Desc;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::HashMap;

use super::catalog::{Family, Kind};

/// A counter or gauge with one series.
pub(crate) fn single(family: &Family, value: f64) -> MetricFamily {
    with_series(family, vec![series(family, Vec::new(), value)])
}

/// A counter or gauge with a series for each of these values of its label.
pub(crate) fn split<'a>(
    family: &Family,
    values: impl IntoIterator<Item = (&'a str, f64)>,
) -> MetricFamily {
    let all = values.into_iter().map(|(label_value, value)| {
        let labels = family.labels.iter().map(|label| {
            let mut pair = LabelPair::default();
            pair.set_name(label.name.to_owned());
            pair.set_value(label_value.to_owned());
            pair
        });
        series(family, labels.collect(), value)
    });
    with_series(family, all.collect())
}

/// What a registry wants to know of these families before it takes their collector.
pub(crate) fn describe(families: &[Family]) -> Result<Vec<Desc>, prometheus::Error> {
    families
        .iter()
        .map(|family| {
            let labels = family.labels.iter().map(|label| label.name.to_owned());
            Desc::new(
                family.name.to_owned(),
                family.help.to_owned(),
                labels.collect(),
                HashMap::new(),
            )
        })
        .collect()
}

fn series(family: &Family, labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    if family.kind == Kind::Counter {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn with_series(family: &Family, series: Vec<Metric>) -> MetricFamily {
    debug_assert!(
        !matches!(family.kind, Kind::Histogram(_)),
        "{}",
        family.name
    );
    let mut made = MetricFamily::default();
    made.set_name(family.name.to_owned());
    made.set_help(family.help.to_owned());
    made.set_field_type(if family.kind == Kind::Counter {
        MetricType::COUNTER
    } else {
        MetricType::GAUGE
    });
    made.set_metric(series);
    made
}
