//! A spool without the process that writes it: what is there, whether it is whole, and its records. Nothing here
//! writes, so a damaged directory, and one that is in use, can be looked at.

use std::io;

use serde::Serialize;

use super::bytes::hex;
use super::position::{self, Position};
use super::record::{Digest, Record};
use super::segment::{self, Parsed};
use super::storage::Storage;
use super::walk::{Item, walk};

/// Most findings that are named; the rest is only counted.
const MAX_FINDINGS: usize = 1000;

/// What is in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The files of records, in their order.
    pub segments: Vec<SegmentSummary>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Batches that are not done.
    pub held_batches: u64,
    /// Log entries in them.
    pub held_logs: u64,
    /// When the oldest of them was received, in Unix milliseconds.
    pub oldest_ms: Option<u64>,
    /// Whether the position says that the last process ended in order; null without a position.
    pub clean: Option<bool>,
    /// Number that the next record gets; null without a position.
    pub next_record: Option<u64>,
}

/// One file of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentSummary {
    /// Name of the file.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Version of its format; 0 when its head is damaged.
    pub version: u32,
    /// When it was begun, in Unix milliseconds; null when its head is damaged.
    pub created_ms: Option<u64>,
    /// Records in it.
    pub records: u64,
    /// Of these, those that are not done.
    pub held: u64,
    /// Bytes that are no record.
    pub damaged_bytes: u64,
}

/// What is wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the file.
    pub segment: String,
    /// Offset in it.
    pub offset: u64,
    /// Number of the record, or of the first of several.
    pub record: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Bytes that are no record, or the head of the file.
    Damaged,
    /// Records that should be here, up to the one before this number.
    Missing {
        /// The first number after those that are missing.
        until: u64,
    },
    /// A record that stands behind one which comes after it.
    Reordered,
    /// A record, whole in itself, that does not follow the one before it: one of them was altered.
    Altered,
    /// The format is of a version that is not known.
    Version(u32),
    /// The position is damaged or absent: what is done is not known.
    NoPosition,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub whole: bool,
    /// Records that were read.
    pub records: u64,
    /// Number of the last record; 0 when there never was one.
    pub head_record: u64,
    /// Digest of the last record, in hex: the head of the chain.
    pub head: String,
    /// The first 48 bits of the head as a number, as `weir_spool_chain_head` shows them.
    pub head_number: u64,
    /// What is wrong, at most a thousand places.
    pub findings: Vec<Finding>,
    /// How many more places there are.
    pub more: u64,
}

/// The first 48 bits of a digest: as many as every reader of metrics keeps exactly.
pub fn head_number(digest: &Digest) -> u64 {
    let bytes = digest.iter().take(6);
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Says what is there.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn inspect(storage: &mut impl Storage) -> io::Result<Summary> {
    let (files, position) = look(storage)?;
    let mut summary = Summary {
        segments: Vec::new(),
        bytes: files.iter().map(|(_, size)| size).sum(),
        held_batches: 0,
        held_logs: 0,
        oldest_ms: None,
        clean: position.as_ref().map(|position| position.clean),
        next_record: position.as_ref().map(|position| position.next),
    };
    let position = position.unwrap_or_default();
    for (name, size) in segments(&files) {
        let mut segment = SegmentSummary {
            name: name.to_owned(),
            bytes: size,
            version: 0,
            created_ms: None,
            records: 0,
            held: 0,
            damaged_bytes: 0,
        };
        let head = walk(storage, name, size, |item| match item {
            Item::Damage { bytes, .. } => segment.damaged_bytes += bytes,
            Item::Record { record, .. } => {
                segment.records += 1;
                if is_held(&position, &record) {
                    segment.held += 1;
                    summary.held_logs += u64::from(record.entry.logs);
                    let received = record.entry.received_ms;
                    summary.oldest_ms = Some(summary.oldest_ms.unwrap_or(received).min(received));
                }
            }
        })?;
        match head {
            Parsed::Whole(head) => {
                segment.version = segment::VERSION;
                segment.created_ms = Some(head.created_ms);
            }
            Parsed::Future(version) => segment.version = version,
            Parsed::Damaged => {}
        }
        summary.held_batches += segment.held;
        summary.segments.push(segment);
    }
    Ok(summary)
}

/// Hands out the records that are not done, or with `all` every record that is still there, in the order in which
/// they stand, and returns at how many places there is something else.
///
/// # Errors
/// When the directory or a file cannot be read, or what `visit` fails with.
pub fn export<E: From<io::Error>>(
    storage: &mut impl Storage,
    all: bool,
    mut visit: impl FnMut(&Record<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let (files, position) = look(storage)?;
    let position = position.unwrap_or_default();
    let mut damaged = 0;
    for (name, size) in segments(&files) {
        let mut visited = Ok(());
        let head = walk(storage, name, size, |item| match item {
            Item::Record { record, .. } => {
                if visited.is_ok() && (all || is_held(&position, &record)) {
                    visited = visit(&record);
                }
            }
            Item::Damage { .. } => damaged += 1,
        })?;
        visited?;
        damaged += u64::from(matches!(head, Parsed::Future(_)));
    }
    Ok(damaged)
}

/// Checks every byte, and that every record follows the one before it.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn verify(storage: &mut impl Storage) -> io::Result<Report> {
    let (files, position) = look(storage)?;
    let mut check = Check::new(position.as_ref());
    if position.is_none() && segments(&files).next().is_some() {
        check.find(position::NAME, 0, 0, Fault::NoPosition);
    }
    for (name, size) in segments(&files) {
        check.segment(storage, name, size)?;
    }
    Ok(check.finish(position.as_ref()))
}

type Files = Vec<(String, u64)>;

fn look(storage: &mut impl Storage) -> io::Result<(Files, Option<Position>)> {
    let mut files = storage.list()?;
    files.sort();
    let size = files.iter().find(|(name, _)| name == position::NAME);
    let size = size.and_then(|(_, size)| usize::try_from(*size).ok());
    let mut bytes = vec![0; size.unwrap_or_default().min(position::MAX_SIZE + 1)];
    let read = match size {
        Some(_) => storage.read(position::NAME, 0, &mut bytes)?,
        None => 0,
    };
    bytes.truncate(read);
    Ok((files, Position::decode(&bytes)))
}

fn segments(files: &Files) -> impl Iterator<Item = (&str, u64)> {
    files
        .iter()
        .filter(|(name, _)| segment::number(name).is_some())
        .map(|(name, size)| (name.as_str(), *size))
}

fn is_held(position: &Position, record: &Record<'_>) -> bool {
    record.number >= position.floor && !position.done.contains(record.number)
}

/// A check under way.
struct Check {
    report: Report,
    done: super::ranges::Ranges,
    /// The record that comes next, and the digest that it follows, as far as they are known.
    expected: Option<u64>,
    previous: Option<Digest>,
    /// What the position says of the last record that it knows.
    known: Option<(u64, Digest)>,
}

impl Check {
    fn new(position: Option<&Position>) -> Self {
        Self {
            report: Report {
                whole: true,
                records: 0,
                head_record: 0,
                head: String::new(),
                head_number: 0,
                findings: Vec::new(),
                more: 0,
            },
            done: position
                .map(|position| position.done.clone())
                .unwrap_or_default(),
            expected: position.map(|position| position.floor),
            previous: None,
            known: position
                .and_then(|position| Some((position.next.checked_sub(1)?, position.head))),
        }
    }

    fn find(&mut self, segment: &str, offset: u64, record: u64, fault: Fault) {
        self.report.whole = false;
        if self.report.findings.len() == MAX_FINDINGS {
            self.report.more += 1;
            return;
        }
        self.report.findings.push(Finding {
            segment: segment.to_owned(),
            offset,
            record,
            fault,
        });
    }

    fn segment(&mut self, storage: &mut impl Storage, name: &str, size: u64) -> io::Result<()> {
        let mut bytes = [0; segment::HEAD];
        let read = storage.read(name, 0, &mut bytes)?;
        let first = segment::number(name).unwrap_or_default();
        match segment::parse(bytes.get(..read).unwrap_or_default()) {
            Parsed::Future(version) => {
                self.find(name, 8, first, Fault::Version(version));
                (self.expected, self.previous) = (None, None);
                return Ok(());
            }
            Parsed::Damaged => self.find(name, 0, first, Fault::Damaged),
            Parsed::Whole(head) => {
                if head.first != first {
                    self.find(name, 16, head.first, Fault::Altered);
                }
                // Files between this and the last one may have gone because all of their records were done.
                let follows = self.expected == Some(first) && self.previous.is_some();
                if follows && self.previous != Some(head.chain) {
                    self.find(name, 32, first, Fault::Altered);
                }
                self.missing(name, 0, first);
                self.previous = Some(head.chain);
            }
        }
        self.expected = Some(self.expected.unwrap_or(first).max(first));
        walk(storage, name, size, |item| match item {
            Item::Damage { at, .. } => {
                let record = self.expected.unwrap_or_default();
                self.find(name, at, record, Fault::Damaged);
                self.previous = None;
            }
            Item::Record { at, record } => self.record(name, at, &record),
        })?;
        Ok(())
    }

    fn record(&mut self, name: &str, at: u64, record: &Record<'_>) {
        let number = record.number;
        self.report.records += 1;
        match self.expected {
            Some(expected) if number < expected => {
                let stale = number < segment::number(name).unwrap_or_default();
                // The first file may hold records below what the position calls the first.
                if stale || self.report.head_record >= number {
                    self.find(name, at, number, Fault::Reordered);
                    self.previous = Some(record.digest);
                    return;
                }
            }
            Some(expected) if number > expected => {
                self.missing(name, at, number);
                self.previous = None;
            }
            _ => {}
        }
        if let Some(previous) = self.previous
            && !record.follows(&previous)
        {
            self.find(name, at, number, Fault::Altered);
        }
        if self
            .known
            .is_some_and(|(last, head)| last == number && head != record.digest)
        {
            self.find(name, at, number, Fault::Altered);
        }
        self.previous = Some(record.digest);
        self.expected = Some(number.saturating_add(1));
        self.report.head_record = number;
        self.report.head = hex(&record.digest);
        self.report.head_number = head_number(&record.digest);
    }

    /// Names the records before `next` that are not there, unless they are done.
    fn missing(&mut self, name: &str, at: u64, next: u64) {
        let Some(expected) = self.expected.filter(|expected| *expected < next) else {
            return;
        };
        if self.done.count(expected..next) < next - expected {
            self.find(name, at, expected, Fault::Missing { until: next });
        }
        self.expected = Some(next);
    }

    fn finish(mut self, position: Option<&Position>) -> Report {
        if let Some(position) = position {
            self.missing(position::NAME, 16, position.next);
            let (last, head) = (position.next.saturating_sub(1), position.head);
            if self.report.head_record < last {
                self.report.head_record = last;
                self.report.head = hex(&head);
                self.report.head_number = head_number(&head);
            }
        }
        if self.report.head.is_empty() {
            self.report.head = hex(&super::record::GENESIS);
        }
        self.report
    }
}
