//! What a sample may look like. A refusal costs nothing but the sample.

use crate::metrics::control::SampleRefusal;
use crate::wire::stats::{COUNTER, GAUGE, Label, Metric, RawMetric, names};

/// Bytes of a name. Those of exporters have less than 100; the longest that Prometheus' own documentation shows, 50.
const MAX_NAME: usize = 256;

/// Labels of a sample.
const MAX_LABELS: usize = 64;

/// Bytes of the names and values of a sample's labels, together.
const MAX_LABEL_BYTES: usize = 4096;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    /// Its number on the wire.
    pub(super) const fn number(self) -> i32 {
        match self {
            Self::Counter => COUNTER,
            Self::Gauge => GAUGE,
        }
    }

    /// Its name on the page.
    pub(super) const fn name(self) -> &'static [u8] {
        match self {
            Self::Counter => b"counter",
            Self::Gauge => b"gauge",
        }
    }

    /// Whether it may have this value: a counter counts from zero, a gauge shows anything.
    #[inline]
    pub(super) fn allows(self, value: f64) -> bool {
        match self {
            Self::Counter => (0.0..f64::INFINITY).contains(&value),
            Self::Gauge => true,
        }
    }
}

/// Decodes a sample and checks all that can be said of it alone. Its labels, sorted by name, are left in `labels`.
pub(super) fn check<'a>(
    raw: RawMetric<'a>,
    labels: &mut Vec<Label<'a>>,
) -> Result<(Metric<'a>, Kind), SampleRefusal> {
    let metric = raw.decode(labels, MAX_LABELS);
    let kind = match metric.kind {
        COUNTER => Kind::Counter,
        GAUGE => Kind::Gauge,
        _ => return Err(SampleRefusal::Type),
    };
    if metric.name.len() > MAX_NAME || !names::is_metric_name(metric.name) {
        return Err(SampleRefusal::InvalidName);
    }
    if names::is_reserved(metric.name) {
        return Err(SampleRefusal::ReservedName);
    }
    check_labels(labels)?;
    if !kind.allows(metric.value) {
        return Err(SampleRefusal::InvalidValue);
    }
    Ok((metric, kind))
}

fn check_labels(labels: &mut [Label<'_>]) -> Result<(), SampleRefusal> {
    labels.sort_unstable();
    let bytes: usize = labels
        .iter()
        .map(|label| label.name.len() + label.value.len())
        .sum();
    let same = |pair: &[Label<'_>]| pair[0].name == pair[1].name;
    let is_valid =
        |label: &Label<'_>| names::is_label_name(label.name) && !label.name.starts_with(b"__");
    if labels.len() > MAX_LABELS
        || bytes > MAX_LABEL_BYTES
        || labels.windows(2).any(same)
        || !labels.iter().all(is_valid)
    {
        return Err(SampleRefusal::InvalidLabel);
    }
    match labels.iter().any(|label| names::is_added_label(label.name)) {
        true => Err(SampleRefusal::ReservedLabel),
        false => Ok(()),
    }
}
