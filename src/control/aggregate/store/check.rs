//! What a sample may look like. A refusal costs nothing but the sample.

use crate::metrics::control::SampleRefusal;
use crate::wire::stats::{COUNTER, GAUGE, Label, Metric, RawMetric};

/// Bytes of a name. Those of exporters have less than 100; the longest that Prometheus' own documentation shows, 50.
const MAX_NAME: usize = 256;

/// Labels of a sample.
const MAX_LABELS: usize = 64;

/// Bytes of the names and values of a sample's labels, together.
const MAX_LABEL_BYTES: usize = 4096;

/// Labels that the control plane adds to every series.
const AGENT_LABELS: [&[u8]; 4] = [
    b"agent_name",
    b"template_name",
    b"username",
    b"workspace_name",
];

/// Names that the page has of the control plane itself, by what they begin with.
const RESERVED: [&[u8]; 5] = [
    b"go_",
    b"process_",
    b"promhttp_",
    b"coderd_",
    b"weir_control_",
];

/// Names that begin so, and are the agents' all the same.
const ALLOWED: [&[u8]; 2] = [
    b"coderd_agentstats_currently_reachable_peers",
    b"coderd_agentstats_startup_script_seconds",
];

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
    if metric.name.len() > MAX_NAME || !is_name(metric.name, b":") {
        return Err(SampleRefusal::InvalidName);
    }
    if RESERVED
        .iter()
        .any(|prefix| metric.name.starts_with(prefix))
        && !ALLOWED.contains(&metric.name)
    {
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
    let is_valid = |label: &Label<'_>| is_name(label.name, b"") && !label.name.starts_with(b"__");
    if labels.len() > MAX_LABELS
        || bytes > MAX_LABEL_BYTES
        || labels.windows(2).any(same)
        || !labels.iter().all(is_valid)
    {
        return Err(SampleRefusal::InvalidLabel);
    }
    match labels
        .iter()
        .any(|label| AGENT_LABELS.contains(&label.name))
    {
        true => Err(SampleRefusal::ReservedLabel),
        false => Ok(()),
    }
}

/// Whether a name has nothing but letters, digits, underscores and `more`, and does not begin with a digit. (A name
/// beyond that is not in the text format 0.0.4.)
fn is_name(name: &[u8], more: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || more.contains(byte);
    name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(fits)
}
