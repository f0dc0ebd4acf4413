//! `weir scrape`: a page, fetched once and printed as it was read.

mod json;
mod table;

use std::io::{self, Write};
use std::time::Duration;

use super::{FetchError, Fetcher, Location};
use crate::upstream::RootFiles;
use crate::wire::exposition::{Entry, Fault, Format, Kind, Reader};

/// Bytes of a page, at most, after decompression.
pub const MAX_PAGE: usize = 64 << 20;

/// Samples of a page, at most.
pub const MAX_SAMPLES: usize = 1_000_000;

/// How long the whole may take: an exporter that gathers for long still answers a person.
const PAGE_WITHIN: Duration = Duration::from_secs(30);

/// Faults that are listed; of the others their number is.
const LISTED: usize = 20;

/// How a page is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// As JSON.
    pub json: bool,
    /// Any line that cannot be read is an error.
    pub strict: bool,
}

/// Why a page was not printed, or is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// There is none.
    #[error("no page from {location}: {problem}")]
    Fetch {
        /// Where it was asked for.
        location: Location,
        /// What went wrong.
        problem: FetchError,
    },
    /// It is too large to be held.
    #[error("no page from {0}: expected at most {MAX_SAMPLES} samples, got more")]
    Samples(Location),
    /// It has a line that cannot be read; it was printed all the same.
    #[error("{location}: {first}")]
    Fault {
        /// Where it came from.
        location: Location,
        /// The first of its faults.
        first: Fault,
    },
    /// The output cannot be written.
    #[error("cannot write the page: {0}")]
    Output(#[from] io::Error),
}

/// Fetches a page and prints it to `out`. Lines that cannot be read are told to `warnings`, each with its place; where
/// they are an error, the first of them is that.
///
/// # Errors
/// When there is no page, the output fails, or the page has a fault and must not.
pub async fn print(
    location: &Location,
    roots: RootFiles,
    form: Form,
    out: &mut impl Write,
    warnings: &mut impl Write,
) -> Result<(), PrintError> {
    let fetched = Fetcher::new(roots, MAX_PAGE)
        .fetch(location, PAGE_WITHIN)
        .await;
    let page = fetched.map_err(|problem| PrintError::Fetch {
        location: location.clone(),
        problem,
    })?;
    let read =
        read(&page.bytes, page.format).ok_or_else(|| PrintError::Samples(location.clone()))?;
    if form.json {
        json::write(&read.families, page.format, out)?;
    } else {
        table::write(&read.families, page.format, out)?;
    }
    out.flush()?;
    let mut faults = read.faults.into_iter();
    if form.strict {
        return match faults.next() {
            None => Ok(()),
            Some(first) => Err(PrintError::Fault {
                location: location.clone(),
                first,
            }),
        };
    }
    for fault in faults {
        writeln!(warnings, "weir: {location}: {fault}")?;
    }
    if read.more_faults > 0 {
        writeln!(
            warnings,
            "weir: {location}: {} more lines cannot be read",
            read.more_faults
        )?;
    }
    Ok(())
}

/// A family with its samples, in the order of the page.
#[derive(Debug)]
struct FamilyRead {
    name: String,
    kind: Kind,
    help: String,
    samples: Vec<SampleRead>,
}

#[derive(Debug)]
struct SampleRead {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
    timestamp_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct PageRead {
    families: Vec<FamilyRead>,
    /// The first [`LISTED`].
    faults: Vec<Fault>,
    more_faults: u64,
}

/// `None` when there are more than [`MAX_SAMPLES`].
fn read(page: &[u8], format: Format) -> Option<PageRead> {
    let mut reader = Reader::new(page, format);
    let mut read = PageRead::default();
    let mut samples: Vec<Vec<SampleRead>> = Vec::new();
    let mut count = 0;
    while let Some(line) = reader.next() {
        match line {
            Ok(Entry::Sample(sample)) => {
                count += 1;
                if count > MAX_SAMPLES {
                    return None;
                }
                let labels = sample.labels.iter();
                let owned = SampleRead {
                    name: sample.name.to_owned(),
                    labels: labels
                        .map(|label| (label.name.to_string(), label.value.to_string()))
                        .collect(),
                    value: sample.value,
                    timestamp_ms: sample.timestamp_ms,
                };
                let family = sample.family.index;
                if samples.len() <= family {
                    samples.resize_with(family + 1, Vec::new);
                }
                samples[family].push(owned);
            }
            Ok(_) => {}
            Err(fault) if read.faults.len() < LISTED => read.faults.push(fault),
            Err(_) => read.more_faults += 1,
        }
    }
    let mut samples = samples.into_iter();
    let family = |family: &crate::wire::exposition::Family<'_>| FamilyRead {
        name: family.name.to_string(),
        kind: family.kind,
        help: family.help.to_string(),
        samples: samples.next().unwrap_or_default(),
    };
    read.families = reader.families().iter().map(family).collect();
    Some(read)
}

/// A value as a decimal that is read as the same number, or a word that the formats have for what is none.
fn decimal(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_total Help \"x\"\\n.\n# TYPE a_total counter\na_total{c=\"d\",b=\"\\\"\x1b\"} 1.5\n\
                        bad\nu NaN -7\na_total{b=\"2\"} 1e+300\nh -Inf\nh{x=\"y\"} 0.1\n# TYPE empty gauge\nh{z=\"\"} 1\n";

    fn printed(write: fn(&[FamilyRead], Format, &mut Vec<u8>) -> io::Result<()>) -> String {
        let read = read(PAGE.as_bytes(), Format::Text).unwrap();
        assert_eq!(read.faults.len(), 2);
        let mut out = Vec::new();
        write(&read.families, Format::Text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_json_is_that_of_the_interface() {
        let expected = serde_json::json!([
            {"name": "a_total", "type": "counter", "help": "Help \"x\"\n.", "samples": [
                {"name": "a_total", "labels": {"b": "\"\u{1b}", "c": "d"}, "value": "1.5", "timestamp_ms": null},
                {"name": "a_total", "labels": {"b": "2"}, "value": format!("1{}", "0".repeat(300)), "timestamp_ms": null},
            ]},
            {"name": "u", "type": "untyped", "help": "", "samples": [
                {"name": "u", "labels": {}, "value": "NaN", "timestamp_ms": -7},
            ]},
            {"name": "h", "type": "untyped", "help": "", "samples": [
                {"name": "h", "labels": {}, "value": "-Inf", "timestamp_ms": null},
                {"name": "h", "labels": {"x": "y"}, "value": "0.1", "timestamp_ms": null},
            ]},
            {"name": "empty", "type": "gauge", "help": "", "samples": []},
        ]);
        let json: serde_json::Value = serde_json::from_str(&printed(json::write)).unwrap();
        assert_eq!(json, expected);
    }

    #[test]
    fn the_table_has_every_sample_and_no_control_characters() {
        assert_eq!(
            printed(table::write),
            "a_total  counter  Help \"x\"\\n.\n  \
               a_total{b=\"\\\"\\u{1b}\",c=\"d\"}  1.5\n  \
               a_total{b=\"2\"}  1e300\n\
             u  untyped\n  \
               u  NaN  @-7\n\
             h  untyped\n  \
               h  -Inf\n  \
               h{x=\"y\"}  0.1\n\
             empty  gauge\n"
        );
    }

    #[test]
    fn a_decimal_is_read_as_the_same_number() {
        for bits in [
            0,
            1,
            0x8000_0000_0000_0000,
            0x3ff0_0000_0000_0001,
            0x7fef_ffff_ffff_ffff,
        ] {
            let value = f64::from_bits(bits);
            assert_eq!(decimal(value).parse::<f64>().unwrap().to_bits(), bits);
        }
        assert_eq!(decimal(f64::INFINITY), "+Inf");
        assert_eq!(decimal(f64::NAN), "NaN");
    }
}
