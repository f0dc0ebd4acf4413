//! Pieces of a page in the text format 0.0.4, for families of which there may be very many series: no value of them is
//! put into a structure first.

use std::fmt::Write as _;

use bytes::Bytes;

use super::escape::Escaped;
use crate::metrics::catalog::Family;

/// Some lines of a page.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins a family. One without series is valid too, and says that it is known.
    pub(crate) fn head(&mut self, family: &Family) {
        let Family { name, help, .. } = family;
        let kind = family.kind.name();
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample of a family, with a value for each of its labels.
    pub(crate) fn sample(&mut self, family: &Family, values: &[&str], value: f64) {
        debug_assert_eq!(family.labels.len(), values.len(), "{}", family.name);
        self.0.push_str(family.name);
        let mut before = '{';
        for (label, value) in family.labels.iter().zip(values) {
            self.0.push(before);
            self.0.push_str(label.name);
            self.write(format_args!("=\"{}\"", Escaped(value)));
            before = ',';
        }
        if before == ',' {
            self.0.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    /// Bytes that were written.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn write(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing into memory does not fail.
        self.0.write_fmt(what).unwrap_or_default();
    }
}

impl From<Text> for Bytes {
    fn from(text: Text) -> Self {
        text.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::control::coderd::{RX_BYTES, SCRAPES_IN_FLIGHT};

    #[test]
    fn what_is_written_is_what_the_library_writes() {
        let values = ["a\\b\"c\nd", "", "ünïcode \\"];
        let mut text = Text::default();
        text.head(&RX_BYTES);
        text.sample(&RX_BYTES, &values, 1e21);
        text.sample(&RX_BYTES, &["x", "y", "z"], -0.25);
        let labels: Vec<_> = RX_BYTES.labels.iter().map(|label| label.name).collect();
        let vec = gauges(&labels);
        vec.with_label_values(&values).set(1e21);
        vec.with_label_values(&["x", "y", "z"]).set(-0.25);
        let expected = prometheus::TextEncoder::new()
            .encode_to_string(&prometheus::core::Collector::collect(&vec))
            .unwrap();
        let lines = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(&text.0), lines(&expected));

        let mut text = Text::default();
        text.sample(&SCRAPES_IN_FLIGHT, &[], 3.0);
        assert_eq!(
            Bytes::from(text),
            "promhttp_metric_handler_requests_in_flight 3\n"
        );
    }

    fn gauges(labels: &[&str]) -> prometheus::GaugeVec {
        prometheus::GaugeVec::new(prometheus::Opts::new(RX_BYTES.name, RX_BYTES.help), labels)
            .unwrap()
    }
}
