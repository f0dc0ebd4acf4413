//! The OpenMetrics text format, version 1.0.0 (the specification is on prometheus.io).

use std::fmt::{self, Display, Formatter};
use std::io::Write;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::escape::Escaped;

/// Appends the families as one page, `# EOF` included.
pub(super) fn encode(families: &[MetricFamily], page: &mut Vec<u8>) -> prometheus::Result<()> {
    for family in families {
        let (name, kind) = identify(family, families)?;
        writeln!(page, "# TYPE {name} {kind}")?;
        writeln!(page, "# HELP {name} {}", Escaped(family.help()))?;
        for metric in family.get_metric() {
            encode_metric(family, metric, page)?;
        }
    }
    page.extend_from_slice(b"# EOF\n");
    Ok(())
}

/// The name and the type under which a family stands on the page.
fn identify<'a>(
    family: &'a MetricFamily,
    page: &[MetricFamily],
) -> prometheus::Result<(&'a str, &'static str)> {
    let name = family.name();
    match family.get_field_type() {
        // A counter is named without the suffix that its samples bear. Where a gauge has that name already (`x`
        // beside `x_total`), the page could not name both: then the counter stands there as of unknown type.
        MetricType::COUNTER => Ok(match name.strip_suffix("_total") {
            Some(stem) if page.iter().all(|other| other.name() != stem) => (stem, "counter"),
            _ => (name, "unknown"),
        }),
        MetricType::GAUGE => Ok((name, "gauge")),
        MetricType::HISTOGRAM => Ok((name, "histogram")),
        other => Err(prometheus::Error::Msg(format!(
            "{name}: expected a counter, gauge or histogram, got {other:?}"
        ))),
    }
}

fn encode_metric(
    family: &MetricFamily,
    metric: &Metric,
    page: &mut Vec<u8>,
) -> prometheus::Result<()> {
    let name = family.name();
    let value = match family.get_field_type() {
        MetricType::HISTOGRAM => return encode_histogram(name, metric, page),
        MetricType::COUNTER => metric.get_counter().get_value(),
        _ => metric.get_gauge().get_value(),
    };
    let labels = Labels(metric.get_label(), None);
    writeln!(page, "{name}{labels} {}", Number(value))?;
    Ok(())
}

fn encode_histogram(name: &str, metric: &Metric, page: &mut Vec<u8>) -> prometheus::Result<()> {
    let histogram = metric.get_histogram();
    let finite = histogram
        .get_bucket()
        .iter()
        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
        .filter(|(bound, _)| bound.is_finite());
    let count = histogram.get_sample_count();
    for (bound, below) in finite.chain([(f64::INFINITY, count)]) {
        let labels = Labels(metric.get_label(), Some(bound));
        writeln!(page, "{name}_bucket{labels} {below}")?;
    }
    let labels = Labels(metric.get_label(), None);
    writeln!(page, "{name}_count{labels} {count}")?;
    let sum = Number(histogram.get_sample_sum());
    writeln!(page, "{name}_sum{labels} {sum}")?;
    Ok(())
}

/// The label set of a sample, with the bound of a bucket as its last label.
struct Labels<'a>(&'a [LabelPair], Option<f64>);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut before = "{";
        for pair in self.0 {
            write!(f, "{before}{}=\"{}\"", pair.name(), Escaped(pair.value()))?;
            before = ",";
        }
        if let Some(bound) = self.1 {
            write!(f, "{before}le=\"{}\"", Bound(bound))?;
            before = ",";
        }
        if before == "," {
            f.write_str("}")
        } else {
            Ok(())
        }
    }
}

/// The value of a sample.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

/// The bound of a bucket in its canonical form: whole numbers keep `.0`, so that every exposer writes the same
/// label. What is written here is canonical from 1e-4 to below 1e6, where the catalogue's bounds lie.
struct Bound(f64);

impl Display for Bound {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_infinite() {
            Number(self.0).fmt(f)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalog::{self, Kind};
    use prometheus::core::Collector;
    use prometheus::{Counter, Gauge, HistogramOpts, HistogramVec, IntCounterVec, Opts};

    fn page(collector: &dyn Collector) -> String {
        let mut page = Vec::new();
        encode(&collector.collect(), &mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    #[test]
    fn a_counter_is_named_without_its_suffix_and_everything_is_escaped() {
        let help = "Help with a \\, a \" and\na line.";
        let counter = IntCounterVec::new(Opts::new("seen_total", help), &["a", "b"]).unwrap();
        counter.with_label_values(&["x\"y\\z\n", "é"]).inc_by(7);
        assert_eq!(
            page(&counter),
            "# TYPE seen counter\n\
             # HELP seen Help with a \\\\, a \\\" and\\na line.\n\
             seen_total{a=\"x\\\"y\\\\z\\n\",b=\"é\"} 7\n\
             # EOF\n"
        );
    }

    #[test]
    fn a_counter_beside_a_gauge_of_its_stem_keeps_its_whole_name() {
        let gauge = Gauge::new("open", "Open.").unwrap();
        let counter = Counter::new("open_total", "All.").unwrap();
        let both = [gauge.collect(), counter.collect()].concat();
        let mut page = Vec::new();
        encode(&both, &mut page).unwrap();
        assert_eq!(
            String::from_utf8(page).unwrap(),
            "# TYPE open gauge\n# HELP open Open.\nopen 0\n\
             # TYPE open_total unknown\n# HELP open_total All.\nopen_total 0\n# EOF\n"
        );
    }

    #[test]
    fn a_gauge_may_hold_any_float() {
        let gauge = Gauge::new("depth", "Depth.").unwrap();
        for (value, text) in [
            (0.0, "0"),
            (-1.5, "-1.5"),
            (1e300, &format!("1{}", "0".repeat(300))),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            gauge.set(value);
            let expected =
                format!("# TYPE depth gauge\n# HELP depth Depth.\ndepth {text}\n# EOF\n");
            assert_eq!(page(&gauge), expected);
        }
    }

    #[test]
    fn a_histogram_has_canonical_bounds_and_ends_with_infinity() {
        let opts = HistogramOpts::new("took_seconds", "Took.").buckets(vec![0.005, 1.0, 10.0]);
        let histogram = HistogramVec::new(opts, &["way"]).unwrap();
        for seconds in [0.001, 0.5, 4.0, 40.0] {
            histogram.with_label_values(&["up"]).observe(seconds);
        }
        assert_eq!(
            page(&histogram),
            "# TYPE took_seconds histogram\n\
             # HELP took_seconds Took.\n\
             took_seconds_bucket{way=\"up\",le=\"0.005\"} 1\n\
             took_seconds_bucket{way=\"up\",le=\"1.0\"} 2\n\
             took_seconds_bucket{way=\"up\",le=\"10.0\"} 3\n\
             took_seconds_bucket{way=\"up\",le=\"+Inf\"} 4\n\
             took_seconds_count{way=\"up\"} 4\n\
             took_seconds_sum{way=\"up\"} 44.501\n\
             # EOF\n"
        );
    }

    #[test]
    fn the_catalogue_keeps_to_what_the_format_can_say() {
        for family in catalog::SIDECAR {
            match family.kind {
                Kind::Counter => assert!(family.name.ends_with("_total"), "{}", family.name),
                Kind::Gauge => assert!(!family.name.ends_with("_total"), "{}", family.name),
                Kind::Histogram(bounds) => {
                    assert!(bounds.is_sorted());
                    assert!(bounds.iter().all(|bound| (1e-4..1e6).contains(bound)));
                }
            }
        }
    }
}
