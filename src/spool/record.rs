//! One record: a batch on disk. Its bytes are laid down in FORMAT.md.

use ring::digest::{Context, SHA256};

use super::bytes::{digest_at, u32_at, u64_at};

/// What a record begins with.
pub const MARKER: [u8; 4] = *b"WREC";

/// Bytes before the payload.
pub const HEAD: usize = 48;

/// Bytes of a digest of the chain.
pub const DIGEST: usize = 32;

/// Longest payload: twice that of a frame, so that a wider frame needs no other format.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Longest record.
pub const MAX_RECORD: usize = size_of_payload(MAX_PAYLOAD);

/// The checksum covers what follows it.
const CHECKED_FROM: usize = 8;

/// Of one record, and through it of all before it.
pub type Digest = [u8; DIGEST];

/// What the first record of a new spool follows.
pub const GENESIS: Digest = [0; DIGEST];

/// Bytes of a record whose payload is this long.
pub const fn size_of_payload(payload: usize) -> usize {
    HEAD + payload + DIGEST
}

/// What is kept of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Place in the order of arrival.
    pub order: u64,
    /// When it was received, in Unix milliseconds.
    pub received_ms: u64,
    /// The sender's connection: the lane of a payload that names no session.
    pub connection: u64,
    /// Log entries in it.
    pub logs: u32,
    /// The encoded `ReportBoundaryLogsRequest`.
    pub payload: &'a [u8],
}

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Place in the log, counted from 1.
    pub number: u64,
    /// The batch.
    pub entry: Entry<'a>,
    /// As it stands in the record.
    pub digest: Digest,
}

impl Record<'_> {
    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        size_of_payload(self.entry.payload.len())
    }

    /// Whether it follows a record with this digest.
    pub fn follows(&self, previous: &Digest) -> bool {
        let mut head = Vec::with_capacity(HEAD);
        put_head(&mut head, self.number, &self.entry);
        let linked = head
            .get(CHECKED_FROM..)
            .map(|head| link(previous, head, self.entry.payload));
        linked == Some(self.digest)
    }
}

/// Appends a record that follows one with the digest `chain`, and makes that its own.
///
/// The payload is at most [`MAX_PAYLOAD`] long.
pub fn put(out: &mut Vec<u8>, number: u64, entry: &Entry<'_>, chain: &mut Digest) {
    let start = out.len();
    put_head(out, number, entry);
    *chain = link(
        chain,
        out.get(start + CHECKED_FROM..).unwrap_or_default(),
        entry.payload,
    );
    out.extend_from_slice(entry.payload);
    out.extend_from_slice(chain);
    let checksum = crc32fast::hash(out.get(start + CHECKED_FROM..).unwrap_or_default());
    if let Some(place) = out.get_mut(start + 4..start + CHECKED_FROM) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// The head, with a checksum of 0.
fn put_head(out: &mut Vec<u8>, number: u64, entry: &Entry<'_>) {
    let length = u32::try_from(entry.payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&entry.logs.to_le_bytes());
    for field in [number, entry.order, entry.received_ms, entry.connection] {
        out.extend_from_slice(&field.to_le_bytes());
    }
}

fn link(previous: &Digest, head: &[u8], payload: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(previous);
    context.update(head);
    context.update(payload);
    let mut digest = GENESIS;
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// What stands at the start of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A record with the right checksum.
    Whole(Record<'a>),
    /// What may be the start of a record that is longer than the window.
    Part,
    /// No record.
    Not,
}

/// Looks for a record at the start of `window`. One of [`MAX_RECORD`] bytes never gives [`Parsed::Part`].
pub fn parse(window: &[u8]) -> Parsed<'_> {
    let known = window.len().min(MARKER.len());
    if window.get(..known) != MARKER.get(..known) {
        return Parsed::Not;
    }
    let Some(head) = window.get(..HEAD) else {
        return Parsed::Part;
    };
    let length = u32_at(head, 8) as usize;
    if length > MAX_PAYLOAD {
        return Parsed::Not;
    }
    let (Some(record), Some(checked)) = (
        window.get(..size_of_payload(length)),
        window.get(CHECKED_FROM..size_of_payload(length)),
    ) else {
        return Parsed::Part;
    };
    if crc32fast::hash(checked) != u32_at(head, 4) {
        return Parsed::Not;
    }
    Parsed::Whole(Record {
        number: u64_at(head, 16),
        entry: Entry {
            order: u64_at(head, 24),
            received_ms: u64_at(head, 32),
            connection: u64_at(head, 40),
            logs: u32_at(head, 12),
            payload: record.get(HEAD..HEAD + length).unwrap_or_default(),
        },
        digest: digest_at(record, HEAD + length),
    })
}

/// How many logs a damaged record with this number held, as far as its head can be believed; at least 1.
pub fn salvage(window: &[u8], number: u64) -> u64 {
    let (logs, length) = (u32_at(window, 12), u32_at(window, 8));
    let plausible = window.starts_with(&MARKER)
        && u64_at(window, 16) == number
        && length as usize <= MAX_PAYLOAD
        && logs <= length;
    if plausible { u64::from(logs).max(1) } else { 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(number: u64, entry: &Entry<'_>, chain: &mut Digest) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, number, entry, chain);
        out
    }

    proptest! {
        #[test]
        fn what_is_put_is_parsed(
            number: u64, order: u64, received_ms: u64, connection: u64, logs: u32,
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let entry = Entry { order, received_ms, connection, logs, payload: &payload };
            let mut chain = GENESIS;
            let bytes = encoded(number, &entry, &mut chain);
            let Parsed::Whole(record) = parse(&bytes) else {
                return Err(TestCaseError::fail("not parsed"));
            };
            prop_assert_eq!(record, Record { number, entry, digest: chain });
            prop_assert_eq!(record.size(), bytes.len());
            prop_assert!(record.follows(&GENESIS));
            prop_assert!(!record.follows(&chain));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let entry = Entry {
            order: 3,
            received_ms: 4,
            connection: 5,
            logs: 2,
            payload: b"payload",
        };
        let bytes = encoded(7, &entry, &mut GENESIS.clone());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !matches!(parse(&damaged), Parsed::Whole(_)),
                "bit {bit} is not covered"
            );
        }
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Parsed::Part, "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_record_tells_its_logs_when_its_head_is_whole() {
        let entry = Entry {
            order: 1,
            received_ms: 1,
            connection: 1,
            logs: 6,
            payload: b"payload",
        };
        let mut bytes = encoded(7, &entry, &mut GENESIS.clone());
        bytes[HEAD] ^= 1;
        assert_eq!(salvage(&bytes, 7), 6);
        assert_eq!(salvage(&bytes, 8), 1, "another record");
        bytes[15] = 0xff;
        assert_eq!(salvage(&bytes, 7), 1, "more logs than bytes");
        assert_eq!(salvage(&bytes[..3], 7), 1);
    }
}
