//! Samples in a form in which any two readers can be compared.

use std::collections::BTreeMap;

use serde_json::Value;
use weir::wire::exposition::{Entry, Fault, Format, Reader};

/// One value, with everything that two readers must agree on. Texts are escaped: one of the readers does not check that
/// they are UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sampled {
    pub name: String,
    /// Sorted; an empty value is no label. The bound of a bucket and a quantile are numbers: some readers write them
    /// anew.
    pub labels: Vec<(String, String)>,
    /// The bits of the value; every NaN is one.
    pub value: u64,
    pub timestamp_ms: Option<i64>,
}

impl Sampled {
    fn new(
        name: &[u8],
        labels: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
        value: u64,
        timestamp_ms: Option<i64>,
    ) -> Self {
        let mut labels: Vec<_> = labels
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| {
                let number = matches!(&*name, b"le" | b"quantile")
                    .then(|| std::str::from_utf8(&value).ok()?.parse::<f64>().ok())
                    .flatten();
                let value = number.map_or_else(|| escaped(&value), |number| number.to_string());
                (escaped(&name), value)
            })
            .collect();
        labels.sort();
        Self {
            name: escaped(name),
            labels,
            value,
            timestamp_ms,
        }
    }
}

impl Sampled {
    /// A sample as `weir scrape --json` prints it.
    pub fn of_json(json: &Value) -> Self {
        let labels = json["labels"].as_object().expect("labels").iter();
        let bytes = |text: &str| text.as_bytes().to_vec();
        let value = json["value"].as_str().expect("a text");
        Self::new(
            &bytes(json["name"].as_str().expect("a name")),
            labels.map(|(name, value)| (bytes(name), bytes(value.as_str().expect("a text")))),
            bits(value.parse().expect("a number")),
            json["timestamp_ms"].as_i64(),
        )
    }
}

fn escaped(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

/// An exemplar: labels, the bits of the value, milliseconds.
pub type Exemplified = (Vec<(String, String)>, u64, Option<i64>);

/// What a reader made of a page.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// In an order that says nothing.
    pub samples: Vec<Sampled>,
    /// What it said of the first line that it could not read.
    pub fault: Option<String>,
    /// Type and help of each family that has any.
    pub families: BTreeMap<String, (String, String)>,
    /// In the order of the page.
    pub exemplars: Vec<Exemplified>,
}

impl Reading {
    /// The samples that belong to no histogram or summary, by the types that `typed` has read.
    pub fn without_composites(&self, typed: &Self) -> Vec<&Sampled> {
        let composite = |sample: &&Sampled| {
            let mut families = typed.families.iter();
            families.any(|(family, (kind, _))| {
                matches!(&**kind, "histogram" | "gaugehistogram" | "summary")
                    && sample.name.starts_with(&escaped(family.as_bytes()))
            })
        };
        self.samples
            .iter()
            .filter(|sample| !composite(sample))
            .collect()
    }
}

/// What Weir makes of a page, and its faults.
pub fn ours(page: &[u8], format: Format) -> (Reading, Vec<Fault>) {
    let mut reader = Reader::new(page, format);
    let (mut reading, mut faults) = (Reading::default(), Vec::new());
    while let Some(line) = reader.next() {
        match line {
            Ok(Entry::Sample(sample)) => {
                let owned = |text: &str| text.as_bytes().to_vec();
                let labels = sample.labels.iter();
                reading.samples.push(Sampled::new(
                    sample.name.as_bytes(),
                    labels.map(|label| (owned(&label.name), owned(&label.value))),
                    bits(sample.value),
                    sample.timestamp_ms,
                ));
                if let Some(exemplar) = sample.exemplar {
                    let labels = exemplar.labels.iter();
                    let labels =
                        labels.map(|label| (label.name.to_string(), label.value.to_string()));
                    let value = bits(exemplar.value);
                    let exemplar = (labels.collect(), value, exemplar.timestamp_ms);
                    reading.exemplars.push(exemplar);
                }
            }
            Ok(_) => {}
            Err(fault) => faults.push(fault),
        }
    }
    for family in reader.families() {
        let said = (family.kind.word(format).to_owned(), family.help.to_string());
        reading.families.insert(family.name.to_string(), said);
    }
    reading.fault = faults.first().map(ToString::to_string);
    reading.samples.sort();
    (reading, faults)
}

/// What a reader of `tests/interop` made of a page.
pub fn theirs(view: &Value) -> Reading {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let labels = |value: &Value| -> Vec<_> {
        let labels = value["labels"].as_array().expect("labels").iter();
        labels
            .map(|pair| (unhex(&pair[0]), unhex(&pair[1])))
            .collect()
    };
    let mut reading = Reading {
        fault: Some(text(&view["error"])).filter(|error| !error.is_empty()),
        ..Reading::default()
    };
    for sample in view["samples"].as_array().expect("samples") {
        reading.samples.push(Sampled::new(
            &unhex(&sample["name"]),
            labels(sample).into_iter(),
            bits_of(&sample["value"]),
            sample["timestamp_ms"].as_i64(),
        ));
        let exemplar = &sample["exemplar"];
        if exemplar.is_object() {
            let utf8 = |bytes| String::from_utf8(bytes).expect("UTF-8");
            let labels = labels(exemplar).into_iter();
            let labels = labels.map(|(name, value)| (utf8(name), utf8(value)));
            let value = bits_of(&exemplar["value"]);
            let timestamp_ms = exemplar["timestamp_ms"].as_i64();
            reading
                .exemplars
                .push((labels.collect(), value, timestamp_ms));
        }
    }
    for family in view["families"].as_array().expect("families") {
        let said = reading.families.entry(text(&family["name"])).or_default();
        if let Some(kind) = family["type"].as_str() {
            said.0 = kind.to_owned();
        }
        if let Some(help) = family["help"].as_str() {
            said.1 = help.to_owned();
        }
    }
    reading.samples.sort();
    reading
}

fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN } else { value }.to_bits()
}

fn bits_of(value: &Value) -> u64 {
    match value.as_str().expect("bits") {
        "NaN" => f64::NAN.to_bits(),
        hex => u64::from_str_radix(hex, 16).expect("bits in hex"),
    }
}

fn unhex(value: &Value) -> Vec<u8> {
    let hex = value.as_str().expect("hex").as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
    let pairs = hex.chunks_exact(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}
