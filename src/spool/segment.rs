//! The head and the name of a segment, a file of records. Laid down in FORMAT.md.

use super::bytes::{digest_at, u32_at, u64_at};
use super::record::Digest;

/// What a segment begins with.
const MAGIC: [u8; 8] = *b"WEIRSPOL";

/// The version of the format that is written, and the newest that is read.
pub const VERSION: u32 = 1;

/// Bytes before the first record.
pub const HEAD: usize = 64;

/// The checksum covers the version, and what follows it.
const CHECKED_FROM: usize = 16;

const SUFFIX: &str = ".seg";

/// What stands before the first record of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number that its first record has.
    pub first: u64,
    /// When it was begun, in Unix milliseconds.
    pub created_ms: u64,
    /// Digest of the record before its first.
    pub chain: Digest,
}

impl Head {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let mut checked = Vec::with_capacity(HEAD - CHECKED_FROM);
        checked.extend_from_slice(&self.first.to_le_bytes());
        checked.extend_from_slice(&self.created_ms.to_le_bytes());
        checked.extend_from_slice(&self.chain);
        let fields = [
            &MAGIC[..],
            &VERSION.to_le_bytes(),
            &checksum(VERSION, &checked).to_le_bytes(),
            &checked,
        ];
        for (place, byte) in bytes.iter_mut().zip(fields.concat()) {
            *place = byte;
        }
        bytes
    }
}

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head of a segment.
    Whole(Head),
    /// That of another version, which this build does not know.
    Future(u32),
    /// None, or a damaged one. Records may follow all the same.
    Damaged,
}

/// Reads the head at the start of `bytes`. Every version has its own number and its checksum in these places, so
/// that a damaged number is not taken for a later version.
pub fn parse(bytes: &[u8]) -> Parsed {
    let version = u32_at(bytes, 8);
    match bytes.get(CHECKED_FROM..HEAD) {
        Some(checked)
            if bytes.starts_with(&MAGIC) && checksum(version, checked) == u32_at(bytes, 12) =>
        {
            match version {
                VERSION => Parsed::Whole(Head {
                    first: u64_at(bytes, 16),
                    created_ms: u64_at(bytes, 24),
                    chain: digest_at(bytes, 32),
                }),
                other => Parsed::Future(other),
            }
        }
        _ => Parsed::Damaged,
    }
}

fn checksum(version: u32, checked: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&version.to_le_bytes());
    hasher.update(checked);
    hasher.finalize()
}

/// The head of a segment of another version.
#[cfg(test)]
pub(super) fn of_version(version: u32, head: &[u8; HEAD]) -> [u8; HEAD] {
    let mut bytes = *head;
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let checksum = checksum(version, &head[CHECKED_FROM..]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The name of the segment whose first record has this number.
pub fn name(first: u64) -> String {
    format!("{first:016x}{SUFFIX}")
}

/// The number in the name of a segment; `None` when it is the name of something else.
pub fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let first = u64::from_str_radix(digits, 16).ok()?;
    (self::name(first) == name).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Head = Head {
        first: 0x0102_0304_0506_0708,
        created_ms: 9,
        chain: [7; 32],
    };

    #[test]
    fn a_head_is_read_as_it_was_written_and_no_damage_passes() {
        let bytes = ANY.encode();
        assert_eq!(parse(&bytes), Parsed::Whole(ANY));
        for bit in 0..HEAD * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&damaged), Parsed::Damaged, "bit {bit}");
        }
        for cut in 0..HEAD {
            assert_eq!(parse(&bytes[..cut]), Parsed::Damaged);
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let later = of_version(2, &ANY.encode());
        assert_eq!(parse(&later), Parsed::Future(2));
        assert_eq!(parse(&of_version(VERSION, &later)), Parsed::Whole(ANY));
    }

    #[test]
    fn names_sort_as_numbers_do_and_only_whole_names_are_read() {
        assert_eq!(name(255), "00000000000000ff.seg");
        assert_eq!(number(&name(u64::MAX)), Some(u64::MAX));
        for other in [
            "position",
            "ff.seg",
            "00000000000000FF.seg",
            "00000000000000ff.seg.tmp",
            "+0000000000000ff.seg",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
