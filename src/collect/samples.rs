//! From a page to the samples that reports are made of.

use std::collections::HashMap;

use crate::report::{self, Sample, SampleKind};
use crate::wire::exposition::{self, Entry, Fault, Format, Kind, Label, Reader};

/// Samples of a page that is collected, at most, whatever becomes of them, and as many lines that cannot be read.
pub const MAX_SAMPLES: usize = 50_000;

/// Samples that are held of a target, at most: what a report has room for.
pub const MAX_SERIES: usize = report::MAX_SERIES;

/// Bytes that the samples held of a target may take.
pub const MAX_HELD_BYTES: usize = 4 << 20;

/// What a held sample, and each label of it, costs beside its text: the records and their allocations.
const RECORD_BYTES: usize = 96;

/// What a page says.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// In the order of the page.
    pub(super) samples: Vec<Sample>,
    /// Samples on the page, those of histograms and summaries one by one.
    pub(super) seen: u64,
    /// Lines that could not be read.
    pub(super) faults: u64,
    pub(super) first_fault: Option<Fault>,
}

/// A page has more than may be held of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    #[error("expected a page of at most {MAX_SAMPLES} samples, got more")]
    Samples,
    #[error("expected a page of metrics, got more than {MAX_SAMPLES} lines that cannot be read")]
    Faults,
    #[error("expected at most {MAX_SERIES} counters, gauges and histograms, got more")]
    Series,
    #[error("expected samples that take at most {MAX_HELD_BYTES} bytes, got more")]
    Bytes,
}

/// Reads a page. Counters stay counters; everything else with one value, of whatever type or none, is a gauge, which
/// claims nothing of it. Of each histogram or summary one sample stands for all, since no report has room for it. When a
/// counter began (`_created`), exemplars and timestamps are left: a report is of now.
///
/// # Errors
/// Nothing of a page that is too large is used: what is missing would look as if it had ended.
pub(super) fn gather(page: &[u8], format: Format) -> Result<Gathered, TooMany> {
    let mut reader = Reader::new(page, format);
    let mut gathered = Gathered::default();
    let mut held_bytes = 0;
    while let Some(line) = reader.next() {
        let sample = match line {
            Ok(Entry::Sample(sample)) => sample,
            Ok(_) => continue,
            Err(fault) => {
                gathered.faults += 1;
                if gathered.faults > MAX_SAMPLES as u64 {
                    return Err(TooMany::Faults);
                }
                gathered.first_fault.get_or_insert(fault);
                continue;
            }
        };
        gathered.seen += 1;
        if gathered.seen > MAX_SAMPLES as u64 {
            return Err(TooMany::Samples);
        }
        let Some(kind) = kind(&sample, format) else {
            continue;
        };
        let samples = &mut gathered.samples;
        if let Some(before) = samples.last_mut()
            && is_same(before, &sample, kind)
        {
            // The buckets of a histogram, or the same series at a later time.
            before.value = sample.value;
            continue;
        }
        if samples.len() == MAX_SERIES {
            return Err(TooMany::Series);
        }
        let sample = owned(&sample, kind);
        held_bytes += cost(&sample);
        if held_bytes > MAX_HELD_BYTES {
            return Err(TooMany::Bytes);
        }
        samples.push(sample);
    }
    Ok(gathered)
}

/// How a sample may be reported; `None` for what says when a counter began.
fn kind(sample: &exposition::Sample<'_, '_>, format: Format) -> Option<SampleKind> {
    match sample.family.kind {
        Kind::Counter if format == Format::OpenMetrics && sample.name.ends_with("_created") => None,
        Kind::Counter => Some(SampleKind::Counter),
        Kind::Gauge | Kind::Info | Kind::StateSet | Kind::Unknown => Some(SampleKind::Gauge),
        Kind::Histogram | Kind::Summary | Kind::GaugeHistogram => Some(SampleKind::Composite),
    }
}

/// The name under which a sample is held.
fn name<'s>(sample: &'s exposition::Sample<'_, '_>, kind: SampleKind) -> &'s str {
    match kind {
        SampleKind::Counter | SampleKind::Gauge => sample.name,
        SampleKind::Composite => &sample.family.name,
    }
}

/// The labels under which a sample is held: a histogram is one for all its bounds.
fn labels<'s, 'p>(
    sample: &exposition::Sample<'s, 'p>,
    kind: SampleKind,
) -> impl Iterator<Item = &'s Label<'p>> {
    sample.labels.iter().filter(move |label| {
        let bound = kind == SampleKind::Composite && matches!(&*label.name, "le" | "quantile");
        !bound && !label.value.is_empty()
    })
}

fn is_same(held: &Sample, sample: &exposition::Sample<'_, '_>, kind: SampleKind) -> bool {
    let held_labels = held.labels.iter().map(|(name, value)| (&**name, &**value));
    held.kind == kind
        && held.name == name(sample, kind)
        && held_labels.eq(labels(sample, kind).map(|label| (&*label.name, &*label.value)))
}

fn owned(sample: &exposition::Sample<'_, '_>, kind: SampleKind) -> Sample {
    let labels = labels(sample, kind);
    Sample {
        name: name(sample, kind).to_owned(),
        kind,
        value: sample.value,
        labels: labels
            .map(|label| (label.name.to_string(), label.value.to_string()))
            .collect(),
    }
}

fn cost(sample: &Sample) -> usize {
    let labels = sample.labels.iter();
    let labels = labels.map(|(name, value)| RECORD_BYTES + name.len() + value.len());
    RECORD_BYTES + sample.name.len() + labels.sum::<usize>()
}

/// Counters that are lower than they were: their program has begun anew.
pub(super) fn restarted(before: &[Sample], now: &[Sample]) -> u64 {
    let before: HashMap<_, _> = counters(before).collect();
    let fell = |(series, now): &(_, f64)| before.get(series).is_some_and(|before| now < before);
    counters(now).filter(fell).count() as u64
}

/// Name and labels.
type Series<'s> = (&'s str, &'s [(String, String)]);

/// The counters among the samples, by their series.
fn counters(samples: &[Sample]) -> impl Iterator<Item = (Series<'_>, f64)> {
    let counters = samples
        .iter()
        .filter(|sample| sample.kind == SampleKind::Counter);
    counters.map(|sample| ((&*sample.name, &*sample.labels), sample.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, kind: SampleKind, value: f64, labels: &[(&str, &str)]) -> Sample {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Sample {
            name: name.to_owned(),
            kind,
            value,
            labels: labels.iter().map(owned).collect(),
        }
    }

    #[test]
    fn each_type_goes_up_as_what_it_is() {
        let page = "# TYPE c counter\nc_total{b=\"1\",a=\"\"} 1\nc_created{b=\"1\"} 5\n\
                    # TYPE g gauge\ng 2 7\nu 3\n\
                    # TYPE h histogram\nh_bucket{x=\"1\",le=\"1\"} 1\nh_bucket{le=\"+Inf\",x=\"1\"} 2\nh_sum{x=\"1\"} 1\n\
                    h_count{x=\"1\"} 2\nh_created{x=\"1\"} 5\nh_count{x=\"2\"} 2\n\
                    # TYPE s summary\ns{quantile=\"1\"} 1\ns_count 1\n\
                    # TYPE i info\ni_info{version=\"1\"} 1\n# TYPE st stateset\nst{st=\"on\"} 1\nbad\n# EOF\n";
        let gathered = gather(page.as_bytes(), Format::OpenMetrics).unwrap();
        use SampleKind::{Composite, Counter, Gauge};
        let expected = [
            sample("c_total", Counter, 1.0, &[("b", "1")]),
            sample("g", Gauge, 2.0, &[]),
            sample("u", Gauge, 3.0, &[]),
            sample("h", Composite, 5.0, &[("x", "1")]),
            sample("h", Composite, 2.0, &[("x", "2")]),
            sample("s", Composite, 1.0, &[]),
            sample("i_info", Gauge, 1.0, &[("version", "1")]),
            sample("st", Gauge, 1.0, &[("st", "on")]),
        ];
        assert_eq!(gathered.samples, expected);
        assert_eq!((gathered.seen, gathered.faults), (14, 1));
        assert_eq!(gathered.first_fault.map(|fault| fault.line), Some(21));
    }

    #[test]
    fn the_latest_of_several_times_is_held() {
        let page = b"# TYPE c counter\nc_total 1 1\nc_total 2 2\n# EOF";
        let gathered = gather(page, Format::OpenMetrics).unwrap();
        assert_eq!(
            gathered.samples,
            [sample("c_total", SampleKind::Counter, 2.0, &[])]
        );
    }

    #[test]
    fn a_page_with_more_than_may_be_held_is_not_used() {
        let page = |samples: usize, value: &str| -> String {
            let line = |n| format!("a{{n=\"{n}\",v=\"{value}\"}} 1\n");
            (0..samples).map(line).collect()
        };
        let gather =
            |page: String| gather(page.as_bytes(), Format::Text).map(|all| all.samples.len());
        assert_eq!(gather(page(MAX_SERIES, "")), Ok(MAX_SERIES));
        assert_eq!(gather(page(MAX_SERIES + 1, "")), Err(TooMany::Series));
        assert_eq!(gather(page(2_000, &"x".repeat(2_000))), Err(TooMany::Bytes));
        let buckets: String = (0..=MAX_SAMPLES)
            .map(|n| format!("h_bucket{{le=\"{n}\"}} 1\n"))
            .collect();
        let histogram = format!("# TYPE h histogram\n{buckets}");
        assert_eq!(gather(histogram), Err(TooMany::Samples));
        assert_eq!(gather("a 1\n".repeat(MAX_SAMPLES + 1)), Ok(1));
        assert_eq!(
            gather("a 1\n".repeat(MAX_SAMPLES + 2)),
            Err(TooMany::Faults)
        );
    }

    #[test]
    fn a_counter_that_fell_has_begun_anew() {
        let counter = |name, value| sample(name, SampleKind::Counter, value, &[("x", "y")]);
        let gauge = |value| sample("g", SampleKind::Gauge, value, &[]);
        let before = [
            counter("a", 5.0),
            counter("b", 5.0),
            counter("c", 5.0),
            gauge(5.0),
        ];
        let now = [
            counter("b", 5.0),
            counter("c", 0.0),
            counter("new", 0.0),
            gauge(1.0),
        ];
        assert_eq!(restarted(&before, &now), 1);
        assert_eq!(restarted(&before, &before), 0);
        assert_eq!(restarted(&[], &now), 0);
    }
}
