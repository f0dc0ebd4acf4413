//! Opening what another process left, in whatever state.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use super::read::{Cursor, Early, MAX_DAMAGES};
use super::{Log, Segment, Settings};
use crate::spool::position::{self, Position};
use crate::spool::ranges::Ranges;
use crate::spool::record::{self, Record};
use crate::spool::segment::{self, Parsed};
use crate::spool::storage::Storage;
use crate::spool::walk::{Item, Start, Window, walk};
use crate::tally::Tally;

/// A jump of numbers beyond this is none of ours: no segment holds so many records. What is missing then is not
/// counted, because nothing says that it ever was.
const MAX_JUMP: u64 = 1 << 16;

/// Most early records; any beyond are read where they stand.
const MAX_EARLY: usize = 1 << 16;

/// Numbers left to the files of a version that is not understood.
const LEFT_TO_OTHERS: u64 = 1 << 32;

/// A place where a record should be and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Name of the file.
    pub segment: String,
    /// Offset in it.
    pub at: u64,
    /// Number of the record that was expected there.
    pub number: u64,
}

/// What was found in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Records that are not done: unread now.
    pub held: Tally,
    /// Of these, what was written after the position was.
    pub newer: Tally,
    /// Records that should be there and are not, or are damaged. Of those whose head is gone too it is only known that
    /// they held a log at least.
    pub damaged: Tally,
    /// The first places of damage.
    pub damages: Vec<Damage>,
    /// Bytes of a record that was being written when its process ended; cut off.
    pub torn: u64,
    /// Files of versions that this build does not know; left alone.
    pub refused: Vec<(String, u32)>,
    /// Whether the process before ended in order: otherwise some of what is held may have been delivered.
    pub clean: bool,
    /// The totals that were kept with the position.
    pub accounts: Vec<[u64; 3]>,
}

impl<S: Storage> Log<S> {
    /// Opens a directory, an empty one too.
    ///
    /// # Errors
    /// When the directory cannot be listed or a file not be read. What a file holds is never an error.
    pub fn open(mut storage: S, settings: Settings) -> io::Result<(Self, Found)> {
        let files = storage.list()?;
        let mut segments: Vec<(u64, u64)> = files
            .iter()
            .filter_map(|(name, size)| Some((segment::number(name)?, *size)))
            .collect();
        segments.sort_unstable();
        let known = read_position(&mut storage, &files)?;
        let mut survey = Survey::new(known.as_ref(), segments.first().map(|(first, _)| *first));
        for (first, size) in segments {
            survey.segment(&mut storage, first, size)?;
        }
        Ok(survey.finish(storage, settings, known))
    }
}

fn read_position(
    storage: &mut impl Storage,
    files: &[(String, u64)],
) -> io::Result<Option<Position>> {
    let Some((_, size)) = files.iter().find(|(name, _)| name == position::NAME) else {
        return Ok(None);
    };
    let Some(size) = usize::try_from(*size)
        .ok()
        .filter(|size| *size <= position::MAX_SIZE)
    else {
        return Ok(None);
    };
    let mut bytes = vec![0; size];
    let read = storage.read(position::NAME, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Position::decode(&bytes))
}

/// What is known of the directory so far.
struct Survey {
    found: Found,
    segments: VecDeque<Segment>,
    foreign: u64,
    done: Ranges,
    floor: u64,
    /// Number that the next record has when none is missing.
    expected: u64,
    /// Number that the next record had when the position was written.
    known_next: u64,
    /// Digest of the last record, or of what the first is to follow.
    chain: Option<record::Digest>,
    /// Highest place in the order of arrival.
    latest: Option<u64>,
    early: Vec<Early>,
    unread: Tally,
    /// The end of a damaged part, as long as no record came behind it: its length and the size of the file.
    tail: Option<(u64, u64)>,
    /// The last file is not understood.
    unknown: bool,
    /// Numbers below may be those of its records.
    reserved: u64,
}

impl Survey {
    fn new(position: Option<&Position>, first: Option<u64>) -> Self {
        let floor = position.map_or(first.unwrap_or(1), |position| position.floor);
        Self {
            found: Found {
                clean: position.is_some_and(|position| position.clean),
                ..Found::default()
            },
            segments: VecDeque::new(),
            foreign: 0,
            done: position
                .map(|position| position.done.clone())
                .unwrap_or_default(),
            floor,
            expected: floor,
            known_next: position.map_or(1, |position| position.next),
            chain: None,
            latest: None,
            early: Vec::new(),
            unread: Tally::default(),
            tail: None,
            unknown: false,
            reserved: 0,
        }
    }

    fn segment(&mut self, storage: &mut impl Storage, first: u64, size: u64) -> io::Result<()> {
        let name = segment::name(first);
        let mut segment = Segment {
            first,
            next: first,
            bytes: size,
            live: 0,
            unread: Tally::default(),
        };
        // Behind a file that is not understood nobody knows what is missing.
        if !std::mem::take(&mut self.unknown) && self.expected < first {
            self.missing(&name, 0, self.expected..first, None);
        }
        self.expected = self.expected.max(first);
        self.tail = None;
        let mut damage: Option<(u64, Start)> = None;
        let head = walk(storage, &name, size, |item| match item {
            Item::Damage { at, bytes, start } => {
                damage = Some((at, start));
                self.tail = Some((at, bytes));
            }
            Item::Record { at, record } => {
                let damage = damage.take();
                self.tail = None;
                self.record(&mut segment, at, &record, damage);
            }
        })?;
        match head {
            Parsed::Future(version) => {
                self.foreign += size;
                self.unknown = true;
                self.reserved = first.saturating_add(LEFT_TO_OTHERS);
                self.found.refused.push((name, version));
                return Ok(());
            }
            Parsed::Whole(head) => self.chain = self.chain.or(Some(head.chain)),
            Parsed::Damaged => {}
        }
        self.segments.push_back(segment);
        Ok(())
    }

    fn record(
        &mut self,
        segment: &mut Segment,
        at: u64,
        record: &Record<'_>,
        damage: Option<(u64, Start)>,
    ) {
        let number = record.number;
        let name = segment::name(segment.first);
        if number < self.expected.max(segment.first) {
            // Done, and only its file is still there; or a copy, of which the first counts.
            segment.next = segment.next.max(number.saturating_add(1));
            return;
        }
        if number - self.expected > MAX_JUMP {
            self.note(&name, at, self.expected);
            return;
        }
        let missing = self.expected..number;
        self.missing(&name, damage.map_or(at, |(at, _)| at), missing, damage);
        self.expected = number.saturating_add(1);
        self.chain = Some(record.digest);
        segment.next = self.expected;
        let order = record.entry.order;
        let is_early = self.latest.is_some_and(|latest| order < latest);
        self.latest = self.latest.max(Some(order));
        if number < self.floor || self.done.contains(number) {
            return;
        }
        let tally = Tally {
            batches: 1,
            logs: u64::from(record.entry.logs),
            bytes: record.entry.payload.len() as u64,
        };
        segment.live += 1;
        self.unread.add(tally);
        if number >= self.known_next {
            self.found.newer.add(tally);
        }
        if is_early && self.early.len() < MAX_EARLY {
            self.early.push(Early {
                order,
                number,
                first: segment.first,
                at,
                tally,
            });
        } else {
            segment.unread.add(tally);
        }
    }

    /// Counts records that are not there, but for those which are done.
    fn missing(&mut self, name: &str, at: u64, numbers: Range<u64>, damage: Option<(u64, Start)>) {
        let known = self.done.count(numbers.clone());
        let count = (numbers.end - numbers.start).saturating_sub(known);
        if count > 0 {
            self.note(name, at, numbers.start);
            if count <= MAX_JUMP {
                let salvaged =
                    damage.map_or(1, |(_, start)| record::salvage(&start, numbers.start));
                self.found.damaged.add(Tally {
                    batches: count,
                    logs: count - 1 + salvaged,
                    bytes: 0,
                });
            }
        }
        self.done.insert(numbers);
    }

    fn note(&mut self, name: &str, at: u64, number: u64) {
        if self.found.damages.len() < MAX_DAMAGES {
            self.found.damages.push(Damage {
                segment: name.to_owned(),
                at,
                number,
            });
        }
    }

    fn finish<S: Storage>(
        mut self,
        mut storage: S,
        settings: Settings,
        known: Option<Position>,
    ) -> (Log<S>, Found) {
        let known = known.unwrap_or_default();
        // A position so far ahead of all records is none of ours.
        let ahead = known.next.saturating_sub(self.expected);
        if !self.unknown && (1..=LEFT_TO_OTHERS).contains(&ahead) {
            let name = self.segments.back().map(|last| segment::name(last.first));
            let at = self.tail.map_or(0, |(at, _)| at);
            self.missing(
                &name.unwrap_or_else(|| position::NAME.to_owned()),
                at,
                self.expected..known.next,
                None,
            );
            self.expected = known.next;
            self.chain = Some(known.head);
        } else if self.chain.is_none() {
            self.chain = Some(known.head);
        }
        if let (Some((at, bytes)), Some(last)) = (self.tail, self.segments.back_mut()) {
            self.found.torn = bytes;
            if storage.truncate(&segment::name(last.first), at).is_ok() {
                last.bytes = at;
            }
        }
        if self.unknown {
            self.expected = self.expected.max(self.reserved).max(known.next);
        }
        self.found.held = self.unread;
        self.found.accounts = known.accounts;
        self.early.sort_unstable_by_key(|early| early.order);
        let mut placed = Ranges::default();
        for early in &self.early {
            placed.insert(early.number..early.number + 1);
        }
        let log = Log {
            storage,
            settings,
            segments: self.segments,
            open: false,
            foreign: self.foreign,
            position_bytes: 0,
            next: self.expected.max(1),
            chain: self.chain.unwrap_or(record::GENESIS),
            order: known
                .order
                .max(self.latest.map_or(0, |latest| latest.saturating_add(1))),
            floor: self.floor,
            done: self.done,
            placed,
            staged: Vec::new(),
            staged_chain: record::GENESIS,
            staged_records: 0,
            room: 0,
            cursor: Cursor::at_start_of(0),
            window: Window::default(),
            early: self.early.into(),
            unread: self.unread,
            lost: Tally::default(),
            damages: Vec::new(),
            uncut: false,
            unsynced: false,
            unnamed: false,
            // The state of the process before is to be overwritten, and what is free to be freed.
            changed: true,
        };
        (log, self.found)
    }
}
