//! Whatever bytes a segment holds, it is scanned to its end in steps that go forward, and what is found is what is
//! encoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::spool::position::Position;
use weir::spool::record::{self, MAX_RECORD};
use weir::spool::scan::{Step, step};
use weir::spool::segment;

/// A small window, as a reader may have one at the end of what it has read.
const WINDOW: usize = 256;

fuzz_target!(|data: &[u8]| {
    if let segment::Parsed::Whole(head) = segment::parse(data) {
        assert_eq!(head.encode(), data[..segment::HEAD]);
    }
    if let Some(position) = Position::decode(data) {
        assert_eq!(Position::decode(&position.encode()), Some(position));
    }
    let (mut at, mut window) = (0, WINDOW);
    loop {
        let end = data.len().min(at + window);
        match step(&data[at..end], end == data.len()) {
            Step::Record(found) => {
                let mut again = Vec::new();
                record::put(
                    &mut again,
                    found.number,
                    &found.entry,
                    &mut record::GENESIS.clone(),
                );
                // All but the checksum and the digest, which depends on what came before.
                let whole = &data[at..at + found.size()];
                assert_eq!(again[8..found.size() - 32], whole[8..found.size() - 32]);
                at += found.size();
            }
            Step::Skip(some) => {
                assert!(some > 0 && at + some <= data.len());
                at += some;
            }
            Step::More => {
                assert!(window < MAX_RECORD, "more than the longest record");
                window *= 2;
                continue;
            }
            Step::End => return,
        }
        window = WINDOW;
    }
});
