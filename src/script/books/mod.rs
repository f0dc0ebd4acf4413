//! What is known of all runs: how many there were, which were seen lately, and which the control plane is still to be
//! told of. Pure; [`Journal`] keeps it on disk.

mod journal;
mod recent;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use journal::{Journal, Kept};
use recent::Recent;

use super::Report;
use super::report::{Key, Stage};

/// Most runs that wait for the control plane: days of scripts in an outage, some 300 KiB.
pub const MAX_PENDING: usize = 1000;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It was counted.
    Counted {
        /// The control plane will not be told, because [`MAX_PENDING`] runs wait for it already.
        overflow: bool,
    },
    /// It was counted before, as far as is remembered.
    Repeated,
}

/// All runs that ended one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// How many there were.
    pub runs: u64,
    /// How long the start script that ended last took, in seconds; 0 before the first.
    pub startup_seconds: f64,
}

/// The runs by success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Those that succeeded.
    pub success: Tally,
    /// The others.
    pub failure: Tally,
}

/// The books.
#[derive(Debug, Default)]
pub struct Books {
    totals: Totals,
    recent: Recent,
    pending: VecDeque<Report>,
}

impl Books {
    /// How many runs there were.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether this run was entered before, as far as is remembered.
    pub fn has(&self, report: &Report) -> bool {
        report.key().is_some_and(|key| self.recent.has(&key))
    }

    /// Counts a run, unless it was counted before.
    pub fn enter(&mut self, report: &Report) -> Entry {
        if let Some(key) = report.key()
            && !self.recent.add(key)
        {
            return Entry::Repeated;
        }
        let tally = match report.success() {
            true => &mut self.totals.success,
            false => &mut self.totals.failure,
        };
        tally.runs += 1;
        if report.stage() == Some(Stage::Start) {
            tally.startup_seconds = report.duration().as_secs_f64();
        }
        let for_control_plane = report.timing().is_some();
        let overflow = for_control_plane && self.pending.len() >= MAX_PENDING;
        if for_control_plane && !overflow {
            self.pending.push_back(report.clone());
        }
        Entry::Counted { overflow }
    }

    /// How many runs wait for the control plane.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The run that has waited longest.
    pub fn first_pending(&self) -> Option<&Report> {
        self.pending.front()
    }

    /// The run that had waited longest waits no more.
    pub fn settle(&mut self) {
        self.pending.pop_front();
    }

    /// Takes over what others, or this process in another life, have seen and not told. Its totals are not: they were
    /// counted under another start.
    fn adopt(&mut self, other: Self) {
        let mut mine = std::mem::replace(&mut self.recent, other.recent);
        for report in other.pending {
            if !report.key().is_some_and(|key| mine.has(&key)) && self.pending.len() < MAX_PENDING {
                self.pending.push_back(report);
            }
        }
        for key in mine.drain() {
            self.recent.add(key);
        }
    }

    fn recent(&self) -> impl Iterator<Item = &Key> {
        self.recent.iter()
    }
}
