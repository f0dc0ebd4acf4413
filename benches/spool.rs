//! What the disk costs: batches appended and read back, beside each other in one run. The directory is a temporary one,
//! so this measures the disk below TMPDIR.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tempfile::TempDir;
use weir::spool::Disk;
use weir::spool::log::{Log, Refusal, Settings};
use weir::spool::record::Entry;
use weir::tally::Tally;

/// A batch of a busy boundary.
const BATCH: usize = 4096;

/// Appended in one iteration.
const BATCHES: usize = 512;

/// What is drained.
const BACKLOG: usize = 64 << 20;

const SETTINGS: Settings = Settings {
    max_bytes: 1 << 30,
    reserve: 0,
    durable: true,
};

fn main() {
    divan::main();
}

/// Each batch is on disk before the next is taken: a single sender with `always`.
#[divan::bench(sample_count = 10)]
fn always_one_by_one(bencher: Bencher<'_, '_>) {
    append(bencher, 1, Sync::Each);
}

/// Sixteen senders at a time: what comes together is synced together.
#[divan::bench(sample_count = 10)]
fn always_sixteen_together(bencher: Bencher<'_, '_>) {
    append(bencher, 16, Sync::Each);
}

/// Synced once behind all of it.
#[divan::bench(sample_count = 10)]
fn interval(bencher: Bencher<'_, '_>) {
    append(bencher, 16, Sync::AtTheEnd);
}

/// Not synced at all.
#[divan::bench(sample_count = 10)]
fn never(bencher: Bencher<'_, '_>) {
    append(bencher, 16, Sync::Never);
}

/// 64 MiB read back, done, and freed, as after an outage; the wire is not part of it.
#[divan::bench(sample_count = 3)]
fn drain_64_mib(bencher: Bencher<'_, '_>) {
    bencher
        .counter(BytesCount::new(BACKLOG))
        .with_inputs(|| {
            let (directory, mut log) = open();
            fill(&mut log, BACKLOG / BATCH, 64, Sync::Never);
            (directory, log)
        })
        .bench_local_values(|(directory, mut log)| {
            while let Some(stored) = log.read().expect("it is read") {
                log.done(stored.number);
            }
            log.checkpoint(true, &[]).expect("it is freed");
            (directory, log)
        });
}

#[derive(Clone, Copy, PartialEq)]
enum Sync {
    Each,
    AtTheEnd,
    Never,
}

fn append(bencher: Bencher<'_, '_>, group: usize, sync: Sync) {
    bencher
        .counter(BytesCount::new(BATCHES * BATCH))
        .counter(ItemsCount::new(BATCHES))
        .with_inputs(open)
        .bench_local_values(|(directory, mut log)| {
            fill(&mut log, BATCHES, group, sync);
            (directory, log)
        });
}

fn open() -> (TempDir, Log<Disk>) {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::lock(directory.path()).expect("nobody else uses it");
    let (log, _) = Log::open(disk, SETTINGS).expect("it is opened");
    (directory, log)
}

fn fill(log: &mut Log<Disk>, batches: usize, group: usize, sync: Sync) {
    let payload = [7; BATCH];
    let mut staged = 0;
    for order in 0..batches as u64 {
        let entry = Entry {
            order,
            received_ms: 1,
            connection: 1,
            logs: 10,
            payload: &payload,
        };
        if let Err(refusal) = log.stage(&entry, 1, false) {
            assert!(matches!(refusal, Refusal::Commit), "{refusal:?}");
            commit(log, sync);
            staged = 0;
            log.stage(&entry, 1, false).expect("there is room");
        }
        staged += 1;
        if staged == group {
            commit(log, sync);
            staged = 0;
        }
    }
    commit(log, sync);
    if sync == Sync::AtTheEnd {
        log.sync().expect("it is synced");
    }
}

fn commit(log: &mut Log<Disk>, sync: Sync) {
    for number in log.commit(sync == Sync::Each).expect("it is written") {
        log.left(
            number,
            Tally {
                batches: 1,
                logs: 10,
                bytes: BATCH as u64,
            },
        );
    }
}
