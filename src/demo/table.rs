//! What the demo shows: a row a second, and the balance.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::parts::Addresses;
use super::reported::Reported;
use crate::buffer::ledger::Snapshot;
use crate::emit::Summary;

/// Back to the start of the line, which is then erased (ECMA-48).
const REDRAW: &str = "\r\x1b[K";

/// Rows as they come.
pub(super) struct Table<'a> {
    out: &'a mut dyn Write,
    terminal: bool,
    /// Whole seconds that have a row that stays.
    seconds: u64,
}

impl<'a> Table<'a> {
    pub(super) fn new(out: &'a mut dyn Write, terminal: bool) -> Self {
        Self {
            out,
            terminal,
            seconds: 0,
        }
    }

    pub(super) fn begin(&mut self, control_plane: &Addresses, socket: &Path) -> io::Result<()> {
        let Addresses { agents, prometheus } = control_plane;
        writeln!(self.out, "control plane  http://{agents}")?;
        writeln!(self.out, "its metrics    http://{prometheus}/metrics")?;
        writeln!(self.out, "audit socket   {}", socket.display())?;
        writeln!(self.out)?;
        writeln!(
            self.out,
            "{:>6}  {:13} {:>9} {:>9} {:>9} {:>9} {:>8} {:>9}",
            "time",
            "control plane",
            "received",
            "forwarded",
            "in memory",
            "in flight",
            "dropped",
            "imbalance"
        )?;
        self.out.flush()
    }

    /// Shows how it stands. A row stays once a second; on a terminal it is redrawn in between.
    pub(super) fn row(&mut self, elapsed: Duration, up: bool, books: &Snapshot) -> io::Result<()> {
        let stays = elapsed.as_secs() > self.seconds;
        if !stays && !self.terminal {
            return Ok(());
        }
        if self.terminal {
            write!(self.out, "{REDRAW}")?;
        }
        write!(
            self.out,
            "{:5.1}s  {:13} {:>9} {:>9} {:>9} {:>9} {:>8} {:>9}",
            elapsed.as_secs_f64(),
            if up { "up" } else { "OUTAGE" },
            books.received.logs,
            books.forwarded.logs,
            books.in_memory.logs,
            books.in_flight.logs,
            books.dropped_in_all().logs,
            books.imbalance(),
        )?;
        if stays {
            self.seconds = elapsed.as_secs();
            writeln!(self.out)?;
        }
        self.out.flush()
    }

    pub(super) fn end(&mut self, account: &Account) -> io::Result<()> {
        if self.terminal {
            write!(self.out, "{REDRAW}")?;
        }
        writeln!(self.out, "\n{}", account.report())?;
        self.out.flush()
    }
}

/// Both ends and the books between them, in logs, after everything has stopped.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Account {
    made: u64,
    lost_by_senders: u64,
    written: u64,
    received: u64,
    forwarded: u64,
    dropped: u64,
    held: u64,
    imbalance: i64,
    possible_duplicates: u64,
    acknowledged: u64,
    reported: Reported,
}

impl Account {
    /// From what the senders did, the books of the sidecar, and what the control plane acknowledged and shows.
    pub(super) fn new(
        sent: &[Summary],
        books: &Snapshot,
        acknowledged: u64,
        reported: Reported,
    ) -> Self {
        Self {
            made: sent.iter().map(|summary| summary.logs).sum(),
            lost_by_senders: sent.iter().map(Summary::lost).sum(),
            written: sent.iter().map(|summary| summary.delivered).sum(),
            received: books.received.logs,
            forwarded: books.forwarded.logs,
            dropped: books.dropped_in_all().logs,
            held: books.in_memory.logs + books.in_flight.logs,
            imbalance: books.imbalance(),
            possible_duplicates: books.possible_duplicates,
            acknowledged,
            reported,
        }
    }

    /// Whether every log that was made is accounted for, from end to end.
    pub(super) fn is_settled(&self) -> bool {
        let twice = self.acknowledged.checked_sub(self.forwarded);
        self.written == self.received
            && self.imbalance == 0
            && self.received == self.forwarded + self.dropped + self.held
            && twice.is_some_and(|twice| twice <= self.possible_duplicates)
            && self.reported == Reported::of(self.received, self.forwarded)
    }

    fn report(&self) -> String {
        let Self {
            made,
            lost_by_senders,
            written,
            received,
            forwarded,
            dropped,
            held,
            ..
        } = self;
        let Self {
            imbalance,
            possible_duplicates,
            acknowledged,
            reported,
            ..
        } = self;
        let verdict = if self.is_settled() {
            "every log is accounted for"
        } else {
            "SOME LOGS ARE NOT ACCOUNTED FOR"
        };
        format!(
            "made by the senders    {made:>9} = {written} written + {lost_by_senders} lost by them\n\
             received               {received:>9} = {forwarded} forwarded + {dropped} dropped + {held} held\n\
             acknowledged           {acknowledged:>9} by the control plane, at most {possible_duplicates} of them twice\n\
             imbalance              {imbalance:>9}\n\
             shown to Prometheus    {reported}\n\
             {verdict}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> Account {
        Account {
            made: 12,
            lost_by_senders: 2,
            written: 10,
            received: 10,
            forwarded: 7,
            dropped: 2,
            held: 1,
            imbalance: 0,
            possible_duplicates: 3,
            acknowledged: 9,
            reported: Reported::of(10, 7),
        }
    }

    #[test]
    fn a_settled_account_says_so() {
        assert!(settled().is_settled());
        assert!(settled().report().ends_with("\nevery log is accounted for"));
    }

    #[test]
    fn whatever_is_missing_is_noticed() {
        let faulty = [
            Account {
                written: 11,
                ..settled()
            },
            Account {
                received: 11,
                written: 11,
                ..settled()
            },
            Account {
                imbalance: 1,
                ..settled()
            },
            Account {
                acknowledged: 6,
                ..settled()
            },
            Account {
                acknowledged: 11,
                ..settled()
            },
            Account {
                reported: Reported::of(10, 6),
                ..settled()
            },
            Account {
                reported: Reported::default(),
                ..settled()
            },
        ];
        for account in faulty {
            assert!(!account.is_settled(), "{account:?}");
            assert!(account.report().contains("NOT ACCOUNTED FOR"));
        }
    }

    #[test]
    fn a_pipe_gets_a_line_a_second_and_a_terminal_every_change() {
        let books = Snapshot::default();
        let show = |terminal| {
            let mut out = Vec::new();
            let mut table = Table::new(&mut out, terminal);
            for tenths in [5, 10, 15, 20] {
                table
                    .row(Duration::from_millis(tenths * 100), true, &books)
                    .unwrap();
            }
            String::from_utf8(out).unwrap()
        };
        assert_eq!(show(false).lines().count(), 2);
        assert!(!show(false).contains(REDRAW));
        assert_eq!(show(true).matches(REDRAW).count(), 4);
    }
}
