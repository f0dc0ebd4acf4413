//! Boundary requests and envelopes, and stats requests, valid and then damaged, for comparing decoders.
//!
//! A message is built as a tree and damaged as a tree first, so that lengths above the damage stay
//! right and the fault is met where it is rather than at the next length; bytes are damaged last.
//! Everything follows from the seed.

use fastrand::Rng;

const VARINT: u8 = 0;
const I64: u8 = 1;
const LEN: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const I32: u8 = 5;

/// Field numbers around every limit of the format.
const EDGE_NUMBERS: [u64; 9] = [
    0,
    15,
    16,
    19_000,
    (1 << 29) - 1,
    1 << 29,
    (1 << 31) - 1,
    1 << 31,
    u64::MAX >> 3,
];

const TEXTS: [&[u8]; 12] = [
    b"",
    b"GET",
    b"https://example.com/v1/items?id=7&q=a%20b",
    "\u{e9}\u{20ac}\u{1f980}".as_bytes(),
    b"\xff",
    b"0123456789abcdef\x80",
    b"\xc0\x80",         // overlong NUL
    b"\xed\xa0\x80",     // a surrogate
    b"\xf4\x90\x80\x80", // past the last code point
    b"\xf0\x9f\xa6",     // cut short
    b"\xef\xbf\xbf",     // a noncharacter, which is valid
    b"\xf4\x8f\xbf\xbf", // the last code point
];

/// Makes encoded `ReportBoundaryLogsRequest`s, `BoundaryMessage`s and `UpdateStatsRequest`s.
#[derive(Debug)]
pub(crate) struct Mutator {
    rng: Rng,
}

#[derive(Debug, Clone)]
struct Field {
    number: u64,
    /// Overrides the wire type that `value` calls for.
    wire_type: Option<u8>,
    /// Bytes by which the key, and then the value's first varint, are longer than need be.
    padding: [u8; 2],
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Varint(u64),
    I64,
    I32,
    Bytes(Vec<u8>),
    Message(Vec<Field>),
    /// The fields of a group and the number on its end marker.
    Group(Vec<Field>, u64),
    /// This many groups of the same number, one in the other.
    Nest(usize),
}

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
        }
    }

    /// A request that every receiver decodes.
    pub(crate) fn valid_request(&mut self) -> Vec<u8> {
        encode(&self.request())
    }

    /// A request with none to five faults.
    pub(crate) fn request_bytes(&mut self) -> Vec<u8> {
        let fields = self.request();
        self.damaged(fields)
    }

    /// An envelope with none to five faults.
    pub(crate) fn envelope_bytes(&mut self) -> Vec<u8> {
        let members = self.rng.usize(..5);
        let fields = (0..members)
            .map(|_| match self.rng.bool() {
                true => field(1, Value::Message(self.request())),
                false => field(2, Value::Message(self.status())),
            })
            .collect();
        self.damaged(fields)
    }

    /// An `UpdateStatsRequest` with none to five faults.
    pub(crate) fn stats_bytes(&mut self) -> Vec<u8> {
        let fields = (0..self.rng.usize(..3))
            .map(|_| field(1, Value::Message(self.stats())))
            .collect();
        self.damaged(fields)
    }

    fn stats(&mut self) -> Vec<Field> {
        let mut fields: Vec<_> = (0..self.rng.usize(..4))
            .map(|_| field(12, Value::Message(self.metric())))
            .collect();
        for number in [1, 13] {
            if self.rng.bool() {
                let entry = vec![
                    field(1, text("tcp")),
                    field(2, Value::Varint(self.number())),
                ];
                fields.push(field(number, Value::Message(entry)));
            }
        }
        if self.rng.bool() {
            fields.push(field(2, Value::Varint(self.number())));
            fields.push(field(3, Value::I64));
        }
        fields
    }

    fn metric(&mut self) -> Vec<Field> {
        let mut fields = vec![
            field(1, text("weir_logs_dropped_total")),
            field(2, Value::Varint(self.rng.u64(..4))),
            field(3, Value::I64),
        ];
        fields.truncate(self.rng.usize(..=3));
        for _ in 0..self.rng.usize(..3) {
            let value = Value::Bytes(self.text_bytes());
            let label = vec![field(1, text("reason")), field(2, value)];
            fields.push(field(4, Value::Message(label)));
        }
        fields
    }

    fn request(&mut self) -> Vec<Field> {
        let logs = self.rng.usize(..4);
        let mut fields: Vec<_> = (0..logs)
            .map(|_| field(1, Value::Message(self.log())))
            .collect();
        if self.rng.bool() {
            fields.push(field(2, text("6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d")));
        }
        if self.rng.bool() {
            fields.push(field(3, text("codex")));
        }
        fields
    }

    fn log(&mut self) -> Vec<Field> {
        let time = vec![
            field(1, Value::Varint(1_767_225_600)),
            field(2, Value::Varint(self.rng.u64(..1_000_000_000))),
        ];
        let http = vec![
            field(1, text("POST")),
            field(2, text("https://example.com/v1/items?id=7")),
            field(3, text("domain=example.com")),
        ];
        let mut fields = vec![
            field(1, Value::Varint(1)),
            field(2, Value::Message(time)),
            field(4, Value::Varint(self.rng.u64(..1000))),
            field(3, Value::Message(http)),
        ];
        fields.truncate(self.rng.usize(..=4));
        fields
    }

    fn status(&mut self) -> Vec<Field> {
        let mut fields = vec![
            field(1, Value::Varint(self.number())),
            field(2, Value::Varint(self.number())),
        ];
        fields.truncate(self.rng.usize(..=2));
        fields
    }

    fn damaged(&mut self, mut fields: Vec<Field>) -> Vec<u8> {
        for _ in 0..self.rng.usize(..4) {
            self.damage_fields(&mut fields);
        }
        let mut bytes = encode(&fields);
        if self.rng.u8(..3) == 0 {
            for _ in 0..self.rng.usize(1..3) {
                self.damage_bytes(&mut bytes);
            }
        }
        bytes
    }

    fn damage_fields(&mut self, fields: &mut Vec<Field>) {
        if fields.is_empty() {
            let extra = self.unknown();
            fields.push(extra);
            return;
        }
        let at = self.rng.usize(..fields.len());
        if let Value::Message(inner) | Value::Group(inner, _) = &mut fields[at].value
            && self.rng.u8(..4) != 0
        {
            return self.damage_fields(inner);
        }
        match self.rng.u8(..12) {
            0 => fields.insert(at, fields[at].clone()),
            1 => fields.push(fields[at].clone()),
            2 => drop(fields.remove(at)),
            3 => {
                let other = self.rng.usize(..fields.len());
                fields.swap(at, other);
            }
            4 => fields[at].number = self.field_number(),
            5 => fields[at].wire_type = Some(self.rng.u8(..8)),
            6 => fields[at].padding[self.rng.usize(..2)] = self.rng.u8(..11),
            7 => fields[at].value = self.value(),
            8 | 9 => fields[at].value = Value::Bytes(self.text_bytes()),
            10 => {
                let number = fields[at].number;
                let inner = vec![fields[at].clone()];
                fields[at] = field(number, Value::Group(inner, number));
            }
            _ => {
                let extra = self.unknown();
                fields.insert(at, extra);
            }
        }
    }

    fn damage_bytes(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return bytes.push(self.rng.u8(..));
        }
        let at = self.rng.usize(..bytes.len());
        match self.rng.u8(..6) {
            0 => bytes[at] ^= 1 << self.rng.u8(..8),
            1 => bytes[at] = self.rng.u8(..),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, self.rng.u8(..)),
            4 => drop(bytes.remove(at)),
            _ => {
                let end = self.rng.usize(at..=bytes.len().min(at + 20));
                let again = bytes[at..end].to_vec();
                bytes.extend(again);
            }
        }
    }

    fn unknown(&mut self) -> Field {
        field(self.field_number(), self.value())
    }

    fn field_number(&mut self) -> u64 {
        match self.rng.bool() {
            true => self.rng.u64(1..6),
            false => EDGE_NUMBERS[self.rng.usize(..EDGE_NUMBERS.len())],
        }
    }

    fn value(&mut self) -> Value {
        match self.rng.u8(..7) {
            0 => Value::Varint(self.number()),
            1 => Value::I64,
            2 => Value::I32,
            3 => Value::Bytes(self.text_bytes()),
            4 => Value::Message(vec![self.unknown()]),
            5 => {
                let number = self.field_number();
                let fields = (0..self.rng.usize(..3)).map(|_| self.unknown()).collect();
                Value::Group(fields, number)
            }
            // Mostly shallow: deep ones are long, and only their depth is of interest.
            _ if self.rng.u8(..50) == 0 => Value::Nest(self.rng.usize(9_999..10_004)),
            _ => Value::Nest(self.rng.usize(1..130)),
        }
    }

    fn text_bytes(&mut self) -> Vec<u8> {
        let mut bytes = vec![b'a'; self.rng.usize(..20)];
        bytes.extend(TEXTS[self.rng.usize(..TEXTS.len())]);
        bytes.resize(bytes.len() + self.rng.usize(..20), b'z');
        bytes
    }

    fn number(&mut self) -> u64 {
        match self.rng.u8(..4) {
            0 => self.rng.u64(..200),
            1 => 1 << self.rng.u8(..64),
            2 => (1_u64 << self.rng.u8(..64)).wrapping_neg(),
            _ => self.rng.u64(..),
        }
    }
}

fn field(number: u64, value: Value) -> Field {
    Field {
        number,
        wire_type: None,
        padding: [0; 2],
        value,
    }
}

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        let natural = match field.value {
            Value::Varint(_) => VARINT,
            Value::I64 => I64,
            Value::Bytes(_) | Value::Message(_) => LEN,
            Value::Group(..) | Value::Nest(_) => START_GROUP,
            Value::I32 => I32,
        };
        let [key_padding, padding] = field.padding;
        let key = |wire_type: u8| field.number << 3 | u64::from(wire_type);
        put_varint(
            &mut out,
            key(field.wire_type.unwrap_or(natural)),
            key_padding,
        );
        match &field.value {
            Value::Varint(value) => put_varint(&mut out, *value, padding),
            Value::I64 => out.extend([0x11; 8]),
            Value::I32 => out.extend([0x22; 4]),
            Value::Bytes(bytes) => put_bytes(&mut out, bytes, padding),
            Value::Message(fields) => put_bytes(&mut out, &encode(fields), padding),
            Value::Group(fields, end) => {
                out.extend(encode(fields));
                // Mostly the right end; a wrong one ends all reading.
                let end = if padding == 0 { field.number } else { *end };
                put_varint(&mut out, end << 3 | u64::from(END_GROUP), 0);
            }
            Value::Nest(depth) => {
                (1..*depth).for_each(|_| put_varint(&mut out, key(START_GROUP), 0));
                (0..*depth).for_each(|_| put_varint(&mut out, key(END_GROUP), 0));
            }
        }
    }
    out
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8], padding: u8) {
    put_varint(out, bytes.len() as u64, padding);
    out.extend(bytes);
}

/// Writes `value` in up to `padding` bytes more than it needs. Past ten bytes, and with a tenth
/// byte above 1, that is more than 64 bits and does not decode.
fn put_varint(out: &mut Vec<u8>, mut value: u64, padding: u8) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    if padding == 0 {
        return out.push(value as u8);
    }
    out.push(value as u8 | 0x80);
    out.extend((1..padding).map(|_| 0x80));
    // The paddings that overflow only by value end in a byte of their own.
    out.push(if padding == 9 { 2 } else { 0 });
}
