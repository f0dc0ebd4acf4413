//! Finds records in bytes of which any may be damaged. Pure: a window in, one step out.

use super::record::{self, MARKER, Parsed, Record};

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record; go on behind it.
    Record(Record<'a>),
    /// So many bytes, at least one, are no record; go on behind them.
    Skip(usize),
    /// More bytes are needed to tell.
    More,
    /// Nothing is left.
    End,
}

/// Looks at the start of `window`, the bytes from where the last step led to. `last` says that nothing comes behind
/// them. With [`record::MAX_RECORD`] bytes, or with `last`, the answer is never [`Step::More`].
///
/// No length is trusted before its record has the right checksum: behind damage the next marker is looked for from
/// the next byte on.
pub fn step(window: &[u8], last: bool) -> Step<'_> {
    if window.is_empty() {
        return if last { Step::End } else { Step::More };
    }
    match record::parse(window) {
        Parsed::Whole(record) => Step::Record(record),
        Parsed::Part if !last => Step::More,
        Parsed::Part | Parsed::Not => Step::Skip(to_next_marker(window, last)),
    }
}

/// Bytes up to where the next record may begin, from the second byte on.
fn to_next_marker(window: &[u8], last: bool) -> usize {
    let later = window.get(1..).unwrap_or_default();
    let found = later
        .windows(MARKER.len())
        .position(|four| four == MARKER.as_slice());
    match found {
        Some(at) => 1 + at,
        None if last => window.len(),
        // The window may end inside a marker.
        None => window.len().saturating_sub(MARKER.len() - 1).max(1),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::record::{Entry, GENESIS};
    use super::*;

    /// The numbers of the records in `bytes` and how many bytes are none, with a window that grows as it is asked to.
    pub(in super::super) fn scanned(bytes: &[u8], window: usize) -> (Vec<u64>, usize) {
        let (mut numbers, mut skipped, mut at) = (Vec::new(), 0, 0);
        let mut size = window;
        for _ in 0..=2 * bytes.len() + 1 {
            let end = bytes.len().min(at + size);
            match step(&bytes[at..end], end == bytes.len()) {
                Step::Record(record) => {
                    numbers.push(record.number);
                    at += record.size();
                }
                Step::Skip(some) => {
                    assert!(some > 0);
                    skipped += some;
                    at += some;
                }
                Step::More => {
                    assert!(size < record::MAX_RECORD, "more than the largest record");
                    size *= 2;
                    continue;
                }
                Step::End => return (numbers, skipped),
            }
            size = window;
        }
        panic!("it does not end");
    }

    pub(in super::super) fn log(records: u64) -> Vec<u8> {
        let (mut bytes, mut chain) = (Vec::new(), GENESIS);
        for number in 1..=records {
            let payload = vec![number as u8; number as usize * 3];
            let entry = Entry {
                order: number,
                received_ms: 0,
                connection: 0,
                logs: 1,
                payload: &payload,
            };
            record::put(&mut bytes, number, &entry, &mut chain);
        }
        bytes
    }

    #[test]
    fn one_damaged_byte_costs_one_record() {
        let bytes = log(5);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let (numbers, skipped) = scanned(&damaged, 100);
            assert_eq!(numbers.len(), 4, "byte {at}: {numbers:?}");
            assert!(skipped > 0);
        }
    }

    #[test]
    fn a_cut_costs_what_it_cuts() {
        let bytes = log(5);
        for cut in 0..bytes.len() {
            let (numbers, skipped) = scanned(&bytes[..cut], 64);
            let whole = bytes.len() - log(numbers.len() as u64).len();
            assert_eq!(cut - skipped, bytes.len() - whole, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_it_ends(
            bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => prop::sample::select(&MARKER[..])], 0..400),
            window in 1..200usize,
        ) {
            scanned(&bytes, window);
        }

        #[test]
        fn records_between_garbage_are_found(
            garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 6), window in 1..300usize,
        ) {
            let (mut bytes, mut chain) = (Vec::new(), GENESIS);
            for (at, garbage) in garbage.iter().enumerate() {
                bytes.extend_from_slice(garbage);
                let entry = Entry { order: 0, received_ms: 0, connection: 0, logs: 1, payload: garbage };
                record::put(&mut bytes, at as u64, &entry, &mut chain);
            }
            let (numbers, skipped) = scanned(&bytes, window);
            prop_assert_eq!(numbers, (0..6).collect::<Vec<_>>());
            prop_assert_eq!(skipped, garbage.iter().map(Vec::len).sum::<usize>());
        }
    }
}
