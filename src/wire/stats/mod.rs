//! `coder.agent.v2.UpdateStatsRequest`: checked as a whole once, its metrics then read in place.
//!
//! Format: coder/coder `agent/proto/agent.proto`. What "decodes" means: protobuf-go v1.36 `proto.Unmarshal`.

pub mod names;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::field::{Cursor, I64, LEN, VARINT, key, message_len, put_message, put_varint};
pub use super::field::{Fault, Malformed};

const REQUEST_STATS: u32 = key(1, LEN);

const STATS_CONNECTIONS_BY_PROTO: u32 = key(1, LEN);
const STATS_METRICS: u32 = key(12, LEN);
const STATS_SESSION_COUNTS: u32 = key(13, LEN);

const ENTRY_KEY: u32 = key(1, LEN);

const METRIC_NAME: u32 = key(1, LEN);
const METRIC_TYPE: u32 = key(2, VARINT);
const METRIC_VALUE: u32 = key(3, I64);
const METRIC_LABELS: u32 = key(4, LEN);

const METRIC_VALUE_KEY: u8 = METRIC_VALUE as u8;

const LABEL_NAME: u32 = key(1, LEN);
const LABEL_VALUE: u32 = key(2, LEN);

/// An `UpdateStatsRequest` that a Go receiver would decode.
#[derive(Clone, Debug)]
pub struct StatsRequest {
    payload: Bytes,
}

impl StatsRequest {
    /// Walks `payload` once, without allocating.
    ///
    /// # Errors
    /// Exactly when protobuf-go v1.36 `proto.Unmarshal` fails: malformed wire data at any level of the schema, and
    /// texts that are not UTF-8.
    pub fn read(payload: Bytes) -> Result<Self, Malformed> {
        let mut request = Cursor::new(&payload);
        while let Some(key) = request.field()? {
            match key {
                REQUEST_STATS => check_stats(request.message()?)?,
                other => request.skip(other)?,
            }
        }
        Ok(Self { payload })
    }

    /// The request as it was sent.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The metrics, in their order. Of `stats` that come twice those of both, as protobuf merges them.
    pub fn metrics(&self) -> Metrics<'_> {
        Metrics {
            request: Cursor::new(&self.payload),
            stats: Cursor::new(&[]),
        }
    }
}

fn check_stats(mut stats: Cursor<'_>) -> Result<(), Malformed> {
    while let Some(key) = stats.field()? {
        match key {
            STATS_METRICS => check_metric(stats.message()?)?,
            STATS_CONNECTIONS_BY_PROTO | STATS_SESSION_COUNTS => check_entry(stats.message()?)?,
            other => stats.skip(other)?,
        }
    }
    Ok(())
}

/// Checks an entry of a `map<string, int64>`.
fn check_entry(mut entry: Cursor<'_>) -> Result<(), Malformed> {
    while let Some(key) = entry.field()? {
        match key {
            ENTRY_KEY => drop(entry.text("key")?),
            other => entry.skip(other)?,
        }
    }
    Ok(())
}

#[inline]
fn check_metric(mut metric: Cursor<'_>) -> Result<(), Malformed> {
    while let Some(key) = metric.field()? {
        match key {
            METRIC_NAME => drop(metric.text("name")?),
            METRIC_LABELS => check_label(metric.message()?)?,
            other => metric.skip(other)?,
        }
    }
    Ok(())
}

#[inline]
fn check_label(mut label: Cursor<'_>) -> Result<(), Malformed> {
    while let Some(key) = label.field()? {
        match key {
            LABEL_NAME => drop(label.text("label name")?),
            LABEL_VALUE => drop(label.text("label value")?),
            other => label.skip(other)?,
        }
    }
    Ok(())
}

/// The metrics of a [`StatsRequest`].
#[derive(Debug)]
pub struct Metrics<'a> {
    request: Cursor<'a>,
    stats: Cursor<'a>,
}

impl<'a> Metrics<'a> {
    fn find(&mut self) -> Result<Option<RawMetric<'a>>, Malformed> {
        loop {
            while let Some(key) = self.stats.field()? {
                if key == STATS_METRICS {
                    return Ok(Some(RawMetric(self.stats.slice()?)));
                }
                self.stats.skip(key)?;
            }
            match self.request.field()? {
                None => return Ok(None),
                Some(REQUEST_STATS) => self.stats = self.request.message()?,
                Some(other) => self.request.skip(other)?,
            }
        }
    }
}

impl<'a> Iterator for Metrics<'a> {
    type Item = RawMetric<'a>;

    fn next(&mut self) -> Option<RawMetric<'a>> {
        // The request was checked as a whole: there is no fault to be met.
        self.find().ok().flatten()
    }
}

/// A `Stats.Metric` as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub struct RawMetric<'a>(&'a [u8]);

impl<'a> RawMetric<'a> {
    /// The encoded message.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The value, if name and type are those of `head` and the labels those of `labels`, each as
    /// [encoded](encode_head) here: the bytes are compared, and nothing is decoded. A sender that encodes otherwise,
    /// or in another order, is not recognised.
    #[inline]
    pub fn value_if(self, head: &[u8], labels: &[u8]) -> Option<f64> {
        let rest = self.0.strip_prefix(head)?;
        let (value, rest) = match rest.split_first_chunk::<9>() {
            Some(([METRIC_VALUE_KEY, value @ ..], rest)) => (f64::from_le_bytes(*value), rest),
            // Zero is not encoded.
            _ => (0.0, rest),
        };
        (rest == labels).then_some(value)
    }

    /// Decodes it, the labels into `labels` in the place of what is there: those whose value is not empty, because an
    /// empty one says the same as none. Of more than `limit` labels one more than `limit` is kept.
    pub fn decode(self, labels: &mut Vec<Label<'a>>, limit: usize) -> Metric<'a> {
        labels.clear();
        let mut metric = Metric::default();
        let read = self.read(&mut metric, labels, limit);
        debug_assert!(read.is_ok(), "the request was checked as a whole");
        metric
    }

    /// Of a scalar that comes twice the last one counts.
    fn read(
        self,
        metric: &mut Metric<'a>,
        labels: &mut Vec<Label<'a>>,
        limit: usize,
    ) -> Result<(), Malformed> {
        let mut fields = Cursor::new(self.0);
        while let Some(key) = fields.field()? {
            match key {
                METRIC_NAME => metric.name = fields.slice()?,
                // An enum is an int32, which is the low half of its varint (protobuf-go `consumeInt32`).
                METRIC_TYPE => metric.kind = fields.varint()? as i32,
                METRIC_VALUE => metric.value = fields.double()?,
                METRIC_LABELS => {
                    let label = read_label(fields.message()?)?;
                    if !label.value.is_empty() && labels.len() <= limit {
                        labels.push(label);
                    }
                }
                other => fields.skip(other)?,
            }
        }
        Ok(())
    }
}

fn read_label<'a>(mut fields: Cursor<'a>) -> Result<Label<'a>, Malformed> {
    let mut label = Label::default();
    while let Some(key) = fields.field()? {
        match key {
            LABEL_NAME => label.name = fields.slice()?,
            LABEL_VALUE => label.value = fields.slice()?,
            other => fields.skip(other)?,
        }
    }
    Ok(label)
}

/// The encoding of a metric's name and type, as every encoder that writes fields in order begins the metric.
pub fn encode_head(name: &[u8], kind: i32) -> Vec<u8> {
    let mut head = Vec::with_capacity(name.len() + 8);
    put_text(&mut head, METRIC_NAME, name);
    put_varint(&mut head, u64::from(METRIC_TYPE));
    // A negative int32 is a varint of 64 bits.
    put_varint(&mut head, i64::from(kind).cast_unsigned());
    head
}

/// The encoding of a label of a metric, appended to `labels`.
pub fn encode_label(labels: &mut Vec<u8>, label: Label<'_>) {
    let length =
        message_len(LABEL_NAME, label.name.len()) + message_len(LABEL_VALUE, label.value.len());
    put_message(labels, METRIC_LABELS, length);
    put_text(labels, LABEL_NAME, label.name);
    put_text(labels, LABEL_VALUE, label.value);
}

fn put_text(out: &mut Vec<u8>, key: u32, text: &[u8]) {
    put_message(out, key, text.len());
    out.extend_from_slice(text);
}

/// A `Stats.Metric` but for its labels. What was absent is empty or zero, as protobuf has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metric<'a> {
    /// Name, valid UTF-8.
    pub name: &'a [u8],
    /// The number of its type: [`COUNTER`], [`GAUGE`], or one that is neither.
    pub kind: i32,
    /// Value.
    pub value: f64,
}

/// `Stats.Metric.Type.COUNTER`.
pub const COUNTER: i32 = 1;

/// `Stats.Metric.Type.GAUGE`.
pub const GAUGE: i32 = 2;

/// A `Stats.Metric.Label`: both texts are valid UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Value.
    pub value: &'a [u8],
}
