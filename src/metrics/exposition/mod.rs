//! Families as a page: the text format 0.0.4 or OpenMetrics 1.0.0, compressed when that is accepted.

mod escape;
mod negotiate;
mod openmetrics;
pub(crate) mod text;

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

pub use negotiate::{accepts_gzip, accepts_html};

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format that the values of the `Accept` header ask for; [`Format::Text`] when they name nothing else
    /// that can be served, as "Scrape protocol content negotiation" on prometheus.io has it.
    pub fn accepted<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        negotiate::format(accept)
    }

    /// The value of the `Content-Type` header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            // No name of the catalogue needs escaping, so that every scheme gives the same page; this one is the
            // default where a scraper names none.
            Self::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
            }
        }
    }
}

/// Writes the families as one page.
///
/// # Errors
/// When a family has no name or no series, or a type that the format does not have.
pub fn encode(families: &[MetricFamily], format: Format) -> Result<Vec<u8>, prometheus::Error> {
    let mut page = Vec::new();
    match format {
        Format::Text => TextEncoder::new().encode(families, &mut page)?,
        Format::OpenMetrics => openmetrics::encode(families, &mut page)?,
    }
    Ok(page)
}

/// Compresses a page, for a scraper that [`accepts_gzip`].
///
/// # Errors
/// None that is known: writing into memory does not fail.
pub fn gzip(page: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(page)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_compressed_page_unpacks_to_itself() {
        let page = b"weir_logs_received_total 0\n".repeat(100);
        let packed = gzip(&page).unwrap();
        assert!(packed.len() < page.len() / 4);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, page);
    }
}
