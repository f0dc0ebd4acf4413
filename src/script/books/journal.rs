//! The books on disk: a snapshot and, behind it, a line for each change since, all JSON.
//!
//! A change is written before anybody is told of it, so after a kill the file is never behind what was told or scraped:
//! the totals go on where they stood, unlike other counters of this process, which would lag. Nothing is forced to the
//! disk: what was written survives a kill of the process as it is. It may not survive the machine, so the snapshot names
//! the boot that it is of, and under another boot the totals start at 0 again, as a counter may.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::{Books, Totals};
use crate::script::Report;
use crate::script::file::{self, has_name, open_private, read_all, try_lock};
use crate::script::report::Key;

/// Changes behind a snapshot, in bytes, after which a new one is written.
const MAX_CHANGES: u64 = 1 << 20;

/// Far above the largest snapshot with its changes.
const MAX_FILE: u64 = 16 << 20;

/// What this kernel calls the time since its start (random(4)).
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The beginning of a snapshot.
    Totals { boot: String, totals: Totals },
    /// In a snapshot: a key that is remembered.
    Seen(Key),
    /// In a snapshot: a run that the control plane is to be told of.
    Pending(Report),
    /// A run was counted.
    Ran(Report),
    /// The run that had waited longest for the control plane waits no more.
    Settled,
}

/// The file of the books. Nobody else can open it while this is there.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    /// Length of the snapshot.
    snapshot: u64,
    boot: String,
}

/// What a file held.
#[derive(Debug)]
pub struct Kept {
    books: Books,
    /// The totals can go on: they are of this boot, and every line was read.
    continues: bool,
    /// Lines that could not be read.
    pub skipped: u64,
}

impl Journal {
    /// Opens the file, or makes it; `None` when another process has it. A snapshot is to come before the first change:
    /// the file may be of another boot, or end in a torn line.
    ///
    /// # Errors
    /// When it cannot be opened, locked or read.
    pub fn open(path: &Path) -> io::Result<Option<(Self, Kept)>> {
        let file = loop {
            let file = open_private(path, geteuid(), true)?;
            if !try_lock(&file)? {
                return Ok(None);
            }
            // Else it was replaced by a snapshot between the two.
            if has_name(&file)? {
                break file;
            }
        };
        let boot = fs::read_to_string(BOOT).unwrap_or_default();
        let boot = boot.trim().to_owned();
        let content = read_all(&file, MAX_FILE)?;
        let kept = replay(&content, &boot);
        let journal = Self {
            path: path.to_owned(),
            file,
            length: content.len() as u64,
            snapshot: 0,
            boot,
        };
        Ok(Some((journal, kept)))
    }

    /// Writes that a run is counted.
    ///
    /// # Errors
    /// When it cannot be written; no part of it is in the file then, or the file is of no more use.
    pub fn ran(&mut self, report: &Report) -> io::Result<()> {
        self.append(&Line::Ran(report.clone()))
    }

    /// Writes that the run that had waited longest waits no more.
    ///
    /// # Errors
    /// As those of [`Self::ran`].
    pub fn settled(&mut self) -> io::Result<()> {
        self.append(&Line::Settled)
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        file::append(&self.file, self.length, &text)?;
        self.length += text.len() as u64;
        Ok(())
    }

    /// Whether a new snapshot is due.
    pub fn is_long(&self) -> bool {
        self.length - self.snapshot >= MAX_CHANGES
    }

    /// Replaces the file by a snapshot of `books`, at once or not at all.
    ///
    /// # Errors
    /// When it cannot be written; the file is as before then.
    pub fn snapshot(&mut self, books: &Books) -> io::Result<()> {
        let text = snapshot(books, &self.boot)?;
        self.file = file::replace(&self.path, geteuid(), &text)?;
        self.length = text.len() as u64;
        self.snapshot = self.length;
        Ok(())
    }

    /// Gives the file up when it cannot be written: a file that is behind would set the totals back.
    ///
    /// # Errors
    /// When it cannot be removed either.
    pub fn discard(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl Books {
    /// What was kept, for a start.
    pub fn resume(kept: Kept) -> Self {
        let mut books = kept.books;
        if !kept.continues {
            books.totals = Totals::default();
        }
        books
    }

    /// What was kept, for books that count already.
    pub fn join(&mut self, kept: Kept) {
        self.adopt(kept.books);
    }
}

fn snapshot(books: &Books, boot: &str) -> io::Result<Vec<u8>> {
    let first = Line::Totals {
        boot: boot.to_owned(),
        totals: books.totals,
    };
    let seen = books.recent().map(|key| Line::Seen(key.clone()));
    let pending = books
        .pending
        .iter()
        .map(|report| Line::Pending(report.clone()));
    let mut text = Vec::new();
    for line in std::iter::once(first).chain(seen).chain(pending) {
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Reads a file. A last line without an end was never told to anybody.
fn replay(content: &[u8], boot: &str) -> Kept {
    let mut kept = Kept {
        books: Books::default(),
        continues: content.is_empty(),
        skipped: 0,
    };
    let whole = content
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    for line in content[..whole].split_inclusive(|byte| *byte == b'\n') {
        let books = &mut kept.books;
        match serde_json::from_slice(line) {
            Ok(Line::Totals { boot: of, totals }) => {
                books.totals = totals;
                kept.continues = !boot.is_empty() && of == boot;
            }
            Ok(Line::Seen(key)) => {
                books.recent.add(key);
            }
            Ok(Line::Pending(report)) => books.pending.push_back(report),
            Ok(Line::Ran(report)) => {
                books.enter(&report);
            }
            Ok(Line::Settled) => books.settle(),
            Err(_) => kept.skipped += 1,
        }
    }
    kept.continues &= kept.skipped == 0;
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn report(number: u64) -> Report {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let code = number % 2;
        let text = format!(
            r#"{{"id":"{id}","stage":"start","exit_code":{code},"started_at":{number},"ended_at":{}}}"#,
            number + 3
        );
        Report::from_json(text.as_bytes()).unwrap()
    }

    fn after(runs: u64) -> Books {
        let mut books = Books::default();
        for number in 0..runs {
            books.enter(&report(number));
        }
        books
    }

    fn same(left: &Books, right: &Books) {
        assert_eq!(left.totals, right.totals);
        assert_eq!(left.pending, right.pending);
        assert!(left.recent().eq(right.recent()));
    }

    #[test]
    fn a_file_cut_anywhere_holds_every_whole_line() {
        let mut text = snapshot(&after(3), "boot").unwrap();
        let mut expected = after(3);
        let mut ends = vec![(text.len(), 3, 3)];
        for number in 3..6 {
            serde_json::to_writer(&mut text, &Line::Ran(report(number))).unwrap();
            text.push(b'\n');
            expected.enter(&report(number));
            ends.push((
                text.len(),
                expected.totals.success.runs + expected.totals.failure.runs,
                expected.pending(),
            ));
        }
        serde_json::to_writer(&mut text, &Line::Settled).unwrap();
        text.push(b'\n');
        ends.push((text.len(), 6, 5));
        for cut in ends[0].0..=text.len() {
            let kept = replay(&text[..cut], "boot");
            let (_, runs, pending) = *ends.iter().rfind(|(end, ..)| *end <= cut).unwrap();
            let totals = kept.books.totals;
            assert_eq!(
                (
                    totals.success.runs + totals.failure.runs,
                    kept.books.pending()
                ),
                (runs, pending)
            );
            assert!(kept.continues && kept.skipped == 0);
        }
    }

    #[test]
    fn totals_of_another_boot_or_of_a_damaged_file_start_anew() {
        let text = snapshot(&after(5), "boot").unwrap();
        same(&Books::resume(replay(&text, "boot")), &after(5));
        let fresh = |kept: Kept| {
            let books = Books::resume(kept);
            assert_eq!(books.totals, Totals::default());
            assert_eq!(books.pending(), 5);
            assert!(books.has(&report(4)));
        };
        fresh(replay(&text, "another boot"));
        fresh(replay(&text, ""));
        fresh(replay(&[&*text, b"\0\0\0\n"].concat(), "boot"));
    }

    #[test]
    fn the_file_follows_the_books_through_snapshots() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weir.sock.scripts");
        let (mut journal, kept) = Journal::open(&path).unwrap().unwrap();
        let mut books = Books::resume(kept);
        for number in 0..20 {
            if number % 7 == 0 {
                journal.snapshot(&books).unwrap();
            }
            journal.ran(&report(number)).unwrap();
            books.enter(&report(number));
        }
        journal.settled().unwrap();
        books.settle();
        assert!(Journal::open(&path).unwrap().is_none(), "another has it");
        drop(journal);
        let (_, kept) = Journal::open(&path).unwrap().unwrap();
        same(&Books::resume(kept), &books);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_not_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weir.sock.scripts");
        let (mut journal, _) = Journal::open(&path).unwrap().unwrap();
        journal.ran(&report(1)).unwrap();
        // What writing to a full disk comes to.
        journal.file = File::open(&path).unwrap();
        assert!(journal.ran(&report(2)).is_err());
        journal.discard().unwrap();
        assert!(!path.exists());
    }
}
