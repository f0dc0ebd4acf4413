//! Exposition pages as exporters write them: the Prometheus text format 0.0.4 and OpenMetrics 1.0.
//!
//! [`Reader`] goes over a page once and yields what each line says, or what is wrong with it: a bad line costs that
//! line. Names and values are slices of the page, unless an escape had to be undone.
//!
//! Strict about values, generous about layout, never silent. A number is what `strconv.ParseFloat` and Prometheus
//! take, and nothing more; a string is valid UTF-8 in its quotes. Around and between tokens there may be any blanks or
//! none, lines may end in CRLF, the last one in nothing, a page may begin with a byte order mark, and the samples of a
//! family may stand anywhere behind its `# TYPE`. Every line that is not blank is a sample, metadata, a comment or a
//! [`Fault`].
//!
//! What an exporter means by a family is not judged: a counter below zero, a histogram without `+Inf` or a counter of
//! OpenMetrics without `_total` are read as they stand, as Prometheus reads them.
//!
//! Formats: "Exposition formats" and "OpenMetrics 1.0" on prometheus.io, with the quoted UTF-8 names of
//! `prometheus/proposals` 2023-08-21. What decides where these are silent: prometheus/prometheus `model/textparse`,
//! prometheus/common `expfmt`; `tests/it/exposition` compares with both.

mod cursor;
mod family;
mod fault;
mod labels;
mod line;
mod number;
mod reader;
mod seen;
#[cfg(test)]
mod tests;

pub use family::{Family, Kind};
pub use fault::Fault;
pub use labels::Label;
pub use line::Exemplar;
pub use reader::{Entry, Reader, Sample};

/// Bytes of a line, at most, its end not counted.
pub const MAX_LINE: usize = 64 << 10;

/// Labels of a sample, and of an exemplar, at most.
pub const MAX_LABELS: usize = 128;

/// Families of a page, at most; a sample without metadata makes one of its own name.
pub const MAX_FAMILIES: usize = 20_000;

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0 or 0.0.1.
    OpenMetrics,
}
