//! A page as an array of families.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{FamilyRead, decimal};
use crate::wire::exposition::Format;

#[derive(Serialize)]
struct Family<'a> {
    name: &'a str,
    r#type: &'static str,
    help: &'a str,
    samples: Vec<Sample<'a>>,
}

#[derive(Serialize)]
struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    /// A text: JSON has no numbers for some values, and many readers round others.
    value: String,
    timestamp_ms: Option<i64>,
}

impl<'a> Family<'a> {
    fn of(read: &'a FamilyRead, format: Format) -> Self {
        let samples = read.samples.iter().map(|sample| {
            let labels = sample.labels.iter();
            Sample {
                name: &sample.name,
                labels: labels.map(|(name, value)| (&**name, &**value)).collect(),
                value: decimal(sample.value),
                timestamp_ms: sample.timestamp_ms,
            }
        });
        Self {
            name: &read.name,
            r#type: read.kind.word(format),
            help: &read.help,
            samples: samples.collect(),
        }
    }
}

/// Writes it on one line.
pub(super) fn write(
    families: &[FamilyRead],
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    let families: Vec<_> = families
        .iter()
        .map(|read| Family::of(read, format))
        .collect();
    serde_json::to_writer(&mut *out, &families)?;
    writeln!(out)
}
