//! Holds FORMAT.md and the files of earlier builds to what is written and read.

use std::collections::BTreeMap;

use super::log::{Log, Settings};
use super::memory::Memory;
use super::record::{self, Entry, GENESIS};
use super::segment::Head;

const SETTINGS: Settings = Settings {
    max_bytes: 1 << 20,
    reserve: 0,
    durable: true,
};

/// The bytes of the last block of FORMAT.md.
fn example() -> Vec<u8> {
    let text = include_str!("FORMAT.md");
    let block = text.split("```").nth(1).expect("a block");
    let bytes = block
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
    bytes.collect()
}

#[test]
fn the_example_is_what_is_written() {
    let head = Head {
        first: 1,
        created_ms: 1000,
        chain: GENESIS,
    };
    let mut bytes = head.encode().to_vec();
    let entry = Entry {
        order: 7,
        received_ms: 2000,
        connection: 3,
        logs: 1,
        payload: &[0x0a, 2, 0x20, 5],
    };
    record::put(&mut bytes, 1, &entry, &mut GENESIS.clone());
    let lines = bytes.chunks(16).map(|line| {
        let line = line.iter().map(|byte| format!("{byte:02x}"));
        line.collect::<Vec<_>>().join(" ")
    });
    let lines = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(example(), bytes, "it should be\n{lines}");
}

/// A directory that version 1 wrote: two segments, three records of which the first is done.
#[test]
fn a_spool_of_version_1_is_read() {
    let files = [
        (
            "0000000000000001.seg",
            include_bytes!("../../tests/data/spool/v1/0000000000000001.seg").as_slice(),
        ),
        (
            "0000000000000003.seg",
            include_bytes!("../../tests/data/spool/v1/0000000000000003.seg"),
        ),
        (
            "position",
            include_bytes!("../../tests/data/spool/v1/position"),
        ),
    ];
    let files: BTreeMap<_, _> = files
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect();
    assert!(super::verify(&mut Memory::of(files.clone())).unwrap().whole);
    let (mut log, found) = Log::open(Memory::of(files), SETTINGS).unwrap();
    assert!(found.clean);
    assert_eq!((found.held.batches, found.held.logs), (2, 3));
    assert_eq!(found.accounts[..2], [[3, 4, 60], [1, 1, 20]]);
    let second = log.read().unwrap().unwrap();
    let third = log.read().unwrap().unwrap();
    assert_eq!(log.read().unwrap(), None);
    assert_eq!((second.number, second.logs, second.connection), (2, 2, 0));
    assert_eq!(
        (third.number, third.order, third.received_ms),
        (3, 12, 1_795_415_113_000)
    );
    assert_eq!(&third.payload[..], b"\x0a\x02\x20\x03\x12\x01s");
}
