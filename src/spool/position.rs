//! The position: which records need nothing more, and where the chain ends. Laid down in FORMAT.md.

use super::bytes::{digest_at, u32_at, u64_at};
use super::ranges::Ranges;
use super::record::{Digest, GENESIS};

/// Name of the file.
pub const NAME: &str = "position";

/// Name that it has until it is whole.
pub const UNFINISHED: &str = "position.tmp";

/// Most ranges that are written: beyond them records that are done are delivered once more after a restart.
const MAX_RANGES: usize = 4096;

/// Longest file that can be right.
pub const MAX_SIZE: usize = HEAD + MAX_RANGES * 16 + MAX_ACCOUNTS * 24;

const MAGIC: [u8; 8] = *b"WEIRSPOS";
const VERSION: u32 = 1;
const HEAD: usize = 96;
const CHECKED_FROM: usize = 16;
const MAX_ACCOUNTS: usize = 64;
const CLEAN: u32 = 1;

/// What is known besides the records themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Number that the next record gets.
    pub next: u64,
    /// Every record below is done.
    pub floor: u64,
    /// What is done above it.
    pub done: Ranges,
    /// A number above every place in the order of arrival that was given out.
    pub order: u64,
    /// Digest of the last record.
    pub head: Digest,
    /// Written at the end of a process that forgot nothing.
    pub clean: bool,
    /// Totals over the life of the directory, as their owner numbers them: batches, logs and bytes each.
    pub accounts: Vec<[u64; 3]>,
}

impl Default for Position {
    fn default() -> Self {
        Self {
            next: 1,
            floor: 1,
            done: Ranges::default(),
            order: 0,
            head: GENESIS,
            clean: true,
            accounts: Vec::new(),
        }
    }
}

impl Position {
    /// Its bytes. What is beyond the limits of the format is left out.
    pub fn encode(&self) -> Vec<u8> {
        let ranges: Vec<_> = self.done.iter().take(MAX_RANGES).collect();
        let accounts = self.accounts.iter().take(MAX_ACCOUNTS);
        let mut checked = Vec::with_capacity(HEAD);
        for field in [self.next, self.floor, self.order] {
            checked.extend_from_slice(&field.to_le_bytes());
        }
        checked.extend_from_slice(&self.head);
        let flags = if self.clean { CLEAN } else { 0 };
        for field in [flags, ranges.len() as u32, accounts.len() as u32, 0, 0, 0] {
            checked.extend_from_slice(&field.to_le_bytes());
        }
        for range in ranges {
            checked.extend_from_slice(&range.start.to_le_bytes());
            checked.extend_from_slice(&range.end.to_le_bytes());
        }
        for field in accounts.flatten() {
            checked.extend_from_slice(&field.to_le_bytes());
        }
        [
            &MAGIC[..],
            &VERSION.to_le_bytes(),
            &crc32fast::hash(&checked).to_le_bytes(),
            &checked,
        ]
        .concat()
    }

    /// Reads it back; `None` when the bytes are damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let checked = bytes.get(CHECKED_FROM..)?;
        let whole = bytes.starts_with(&MAGIC)
            && u32_at(bytes, 8) == VERSION
            && crc32fast::hash(checked) == u32_at(bytes, 12);
        let (ranges, accounts) = (u32_at(bytes, 76) as usize, u32_at(bytes, 80) as usize);
        let told = HEAD
            .saturating_add(ranges.saturating_mul(16))
            .saturating_add(accounts.saturating_mul(24));
        if !whole || bytes.len() != told {
            return None;
        }
        let mut done = Ranges::default();
        for at in (HEAD..).step_by(16).take(ranges) {
            done.insert(u64_at(bytes, at)..u64_at(bytes, at + 8));
        }
        let accounts = (HEAD + ranges * 16..).step_by(24).take(accounts);
        Some(Self {
            next: u64_at(bytes, 16),
            floor: u64_at(bytes, 24),
            order: u64_at(bytes, 32),
            head: digest_at(bytes, 40),
            clean: u32_at(bytes, 72) & CLEAN != 0,
            done,
            accounts: accounts
                .map(|at| [0, 8, 16].map(|field| u64_at(bytes, at + field)))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_no_damage_passes() {
        let mut done = Ranges::default();
        done.insert(12..15);
        done.insert(20..21);
        let position = Position {
            next: 40,
            floor: 10,
            done,
            order: 99,
            head: [3; 32],
            clean: true,
            accounts: vec![[1, 2, 3], [4, 5, 6]],
        };
        let bytes = position.encode();
        assert_eq!(Position::decode(&bytes), Some(position));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Position::decode(&damaged), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(Position::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn more_ranges_than_fit_are_left_out() {
        let mut done = Ranges::default();
        for at in 0..MAX_RANGES as u64 + 9 {
            done.insert(2 * at..2 * at + 1);
        }
        let bytes = Position {
            done,
            ..Position::default()
        }
        .encode();
        assert!(bytes.len() <= MAX_SIZE);
        let read = Position::decode(&bytes).unwrap();
        assert_eq!(read.done.iter().count(), MAX_RANGES);
    }
}
