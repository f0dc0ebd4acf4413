//! The series of all agents. Knows no clock, no channel and no metric.
//!
//! A [`Series`] is what one agent reports under a name and labels; it is a member of a [`Row`], which is a line of the
//! page. Where all names of an agent are labels, each row has one member; else the series of all agents that share the
//! labels are members of one row, and its value follows from theirs by a [`Rule`].
//!
//! Names and sets of labels are kept once. A report is expected to have the series of the one before in the same order:
//! each series knows which one came after it, and that one's name and labels are compared with the sample as it stands
//! on the wire. Only a sample that differs is decoded and looked up.

mod agents;
mod check;
mod families;
mod labels;
mod list;
mod page;
mod row;
mod rule;
mod slab;
#[cfg(test)]
mod tests;
mod text;

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::{Reporter, Settings};
use crate::config::control::{By, Labels};
use crate::metrics::control::SampleRefusal;
use crate::wire::stats::{Label, RawMetric, StatsRequest};
use agents::Agents;
use check::Kind;
use families::{Families, Family};
use labels::{LabelSet, LabelSets};
use list::Links;
use page::Cursor;
pub(super) use page::Slice;
use row::{Row, Series};
use rule::Rule;
use slab::{Id, Slab};

/// The unit of ages. A series is never forgotten too early for it, and at most so much too late.
const TICK: Duration = Duration::from_millis(100);

/// Pages of series that [`Store::sweep`] looks at in one go, and series that it then removes: some 100 µs each.
const SWEEP_PAGES: usize = 16;
const SWEEP_REMOVALS: usize = 512;

#[derive(Debug)]
pub(super) struct Store {
    series: Slab<Series>,
    rows: Slab<Row>,
    families: Families,
    labels: LabelSets,
    agents: Agents,
    hasher: RandomState,
    /// Whether rows may have members of several agents.
    aggregated: bool,
    max_series: usize,
    max_series_of_agent: usize,
    /// In ticks.
    expiry: u32,
    now: Duration,
    /// The page of series that the sweep looks at next.
    swept: usize,
    cursors: Vec<Option<Cursor>>,
}

/// What became of the samples of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    refused: [u64; SampleRefusal::ALL.len()],
}

impl Tally {
    fn refuse(&mut self, reason: SampleRefusal) {
        self.refused[reason as usize] += 1;
    }

    /// How many samples were refused for each reason that there was.
    pub(super) fn refused(&self) -> impl Iterator<Item = (SampleRefusal, u64)> {
        let all = SampleRefusal::ALL.iter().copied().zip(self.refused);
        all.filter(|(_, count)| *count > 0)
    }
}

/// What a part of a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swept {
    /// Series that were removed.
    pub(super) expired: usize,
    /// All series have been looked at.
    pub(super) done: bool,
}

impl Store {
    /// A store without series, for agents no two of which have the same labels.
    pub(super) fn new<'a>(
        settings: &Settings,
        agents: impl IntoIterator<Item = &'a Labels>,
    ) -> Self {
        let agents = Agents::new(settings.by, agents);
        // Fairness among many, and yet enough for one of a few.
        let share = (settings.max_series / agents.len().max(1)).max(settings.max_series / 10);
        Self {
            series: Slab::new(),
            rows: Slab::new(),
            families: Families::new(),
            labels: LabelSets::new(),
            agents,
            hasher: RandomState::new(),
            aggregated: settings.by != By::ALL,
            max_series: settings.max_series,
            max_series_of_agent: share.max(1),
            expiry: ticks(
                settings
                    .expiry
                    .saturating_add(TICK - Duration::from_nanos(1)),
            ),
            now: Duration::ZERO,
            swept: 0,
            cursors: Vec::new(),
        }
    }

    /// Agents that may report.
    pub(super) fn agents(&self) -> usize {
        self.agents.len()
    }

    /// Series that are stored.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Workspaces of whose agents series are stored.
    pub(super) fn workspaces(&self) -> usize {
        self.agents.workspaces()
    }

    /// Stores what an agent reports. `now` is the time since some moment; one that lies before an earlier one is taken
    /// for that.
    pub(super) fn apply(
        &mut self,
        reporter: Reporter,
        report: &StatsRequest,
        now: Duration,
    ) -> Tally {
        let now = self.advance(now);
        let mut tally = Tally::default();
        let mut labels = Vec::new();
        let mut before: Option<Id<Series>> = None;
        let mut expected = self.agents[reporter.agent].first;
        for raw in report.metrics() {
            let known =
                expected.and_then(|id| Some((id, self.recognise(id, reporter.agent, raw)?)));
            let found = match known {
                Some((id, (value, kind))) => {
                    expected = self.series[id].after;
                    match kind.allows(value) {
                        true => Ok((id, value)),
                        false => Err(SampleRefusal::InvalidValue),
                    }
                }
                None => self.find_or_insert(reporter.agent, raw, &mut labels),
            };
            let (id, value) = match found {
                Ok(found) => found,
                Err(reason) => {
                    tally.refuse(reason);
                    continue;
                }
            };
            self.set(id, value, reporter.program, now);
            expected = self.series[id].after;
            match before.replace(id) {
                Some(before) => self.series[before].after = Some(id),
                None => self.agents[reporter.agent].first = Some(id),
            }
        }
        tally
    }

    /// Removes the series that the program reported last.
    pub(super) fn rebuilt(&mut self, reporter: Reporter) {
        let series = &self.series;
        let own = self.agents[reporter.agent].series.iter().copied();
        let written: Vec<_> = own
            .filter(|id| series[*id].program == reporter.program)
            .collect();
        for id in written {
            self.remove(id);
        }
    }

    /// Looks at some of the series, and removes those that are not reported any more. Repeated until it is done, it has
    /// looked at all that were there when it began.
    pub(super) fn sweep(&mut self, now: Duration) -> Swept {
        let now = self.advance(now);
        let mut expired = Vec::new();
        for _ in 0..SWEEP_PAGES {
            let Some(page) = self.series.page(self.swept) else {
                self.swept = 0;
                return self.expire(&expired, true);
            };
            let old = |series: &Series| now.wrapping_sub(series.updated) > self.expiry;
            expired.extend(page.filter(|(_, series)| old(series)).map(|(id, _)| id));
            self.swept += 1;
            if expired.len() > SWEEP_REMOVALS {
                break;
            }
        }
        self.expire(&expired, false)
    }

    fn expire(&mut self, expired: &[Id<Series>], done: bool) -> Swept {
        for id in expired {
            self.remove(*id);
        }
        let expired = expired.len();
        Swept { expired, done }
    }

    /// Series that the sweep has still to look at, at most; none when it has not begun.
    pub(super) fn to_sweep(&self) -> usize {
        match self.swept {
            0 => 0,
            swept => self.series.places_from(swept).min(self.series.len()),
        }
    }

    fn advance(&mut self, now: Duration) -> u32 {
        self.now = self.now.max(now);
        ticks(self.now)
    }

    /// The value of a sample and its type, if it is one of this series.
    #[inline]
    fn recognise(&self, id: Id<Series>, agent: u32, raw: RawMetric<'_>) -> Option<(f64, Kind)> {
        let series = self.series.get(id).filter(|series| series.agent == agent)?;
        let row = &self.rows[series.row];
        let family = &self.families[row.family];
        let value = raw.value_if(&family.head, self.labels.get(row.labels).wire())?;
        Some((value, family.kind))
    }

    fn find_or_insert<'a>(
        &mut self,
        agent: u32,
        raw: RawMetric<'a>,
        labels: &mut Vec<Label<'a>>,
    ) -> Result<(Id<Series>, f64), SampleRefusal> {
        let (metric, kind) = check::check(raw, labels)?;
        let family = self.families.find(metric.name);
        if family.is_some_and(|id| self.families[id].kind != kind) {
            return Err(SampleRefusal::Type);
        }
        let key = family.zip(self.labels.find(labels));
        if let Some(id) = key.and_then(|key| self.find_series(agent, key)) {
            return Ok((id, metric.value));
        }
        if self.series.len() >= self.max_series
            || self.agents[agent].series.len() >= self.max_series_of_agent
        {
            return Err(SampleRefusal::MaxSeries);
        }
        let group = self.agents[agent].group;
        let row = match key.and_then(|key| self.find_row(group, key)) {
            Some(row) => row,
            None => {
                let family = family.unwrap_or_else(|| {
                    let rule = match self.aggregated {
                        true => Rule::of(metric.name, kind),
                        false => Rule::Latest,
                    };
                    self.families.insert(metric.name, kind, rule)
                });
                let labels = self.labels.retain(labels);
                self.insert_row(group, family, labels)
            }
        };
        Ok((self.insert_series(agent, row), metric.value))
    }

    fn find_series(&self, agent: u32, key: (Id<Family>, Id<LabelSet>)) -> Option<Id<Series>> {
        let same = |id: &Id<Series>| self.key(self.series[*id].row) == key;
        let table = &self.agents[agent].series;
        table.find(self.hasher.hash_one(key), same).copied()
    }

    fn find_row(&self, group: u32, key: (Id<Family>, Id<LabelSet>)) -> Option<Id<Row>> {
        let same = |id: &Id<Row>| self.key(*id) == key;
        let table = self.agents.rows(group);
        table.find(self.hasher.hash_one(key), same).copied()
    }

    fn key(&self, row: Id<Row>) -> (Id<Family>, Id<LabelSet>) {
        let row = &self.rows[row];
        (row.family, row.labels)
    }

    fn insert_row(&mut self, group: u32, family: Id<Family>, labels: Id<LabelSet>) -> Id<Row> {
        let id = self.rows.insert(Row {
            value: 0.0,
            family,
            labels,
            group,
            first: None,
            links: Links::NONE,
        });
        list::push_front(&mut self.rows, &mut self.families[family].first, id);
        let (hasher, rows) = (&self.hasher, &self.rows);
        let hash = |id: &Id<Row>| hasher.hash_one((rows[*id].family, rows[*id].labels));
        let table = self.agents.rows_mut(group);
        table.insert_unique(hash(&id), id, hash);
        id
    }

    fn insert_series(&mut self, agent: u32, row: Id<Row>) -> Id<Series> {
        let id = self.series.insert(Series {
            value: 0.0,
            row,
            agent,
            program: 0,
            updated: 0,
            after: None,
            links: Links::NONE,
        });
        list::push_front(&mut self.series, &mut self.rows[row].first, id);
        let (hasher, rows, series) = (&self.hasher, &self.rows, &self.series);
        let hash = |id: &Id<Series>| {
            let row = &rows[series[*id].row];
            hasher.hash_one((row.family, row.labels))
        };
        self.agents.add(agent, hash(&id), id, hash);
        id
    }

    /// Gives a series a value that its type allows.
    #[inline]
    fn set(&mut self, id: Id<Series>, value: f64, program: u32, now: u32) {
        let series = &mut self.series[id];
        let former = std::mem::replace(&mut series.value, value);
        series.program = program;
        series.updated = now;
        let row = &mut self.rows[series.row];
        match self.families[row.family].rule {
            // It is never taken away from, so that it never falls. A value below the former one means that the agent
            // counts from zero again: all of it is new.
            Rule::Total if value < former => row.value += value,
            Rule::Total => row.value += value - former,
            Rule::Latest => {
                row.value = value;
                if row.first != Some(id) {
                    list::unlink(&mut self.series, &mut row.first, id);
                    list::push_front(&mut self.series, &mut row.first, id);
                }
            }
            Rule::Sum => {}
        }
    }

    fn remove(&mut self, id: Id<Series>) {
        let row_id = self.series[id].row;
        let key = self.key(row_id);
        let row = &mut self.rows[row_id];
        list::unlink(&mut self.series, &mut row.first, id);
        let series = self.series.remove(id);
        self.agents
            .drop_series(series.agent, self.hasher.hash_one(key), id);
        match row.first {
            None => self.remove_row(row_id, key),
            Some(latest) if self.families[key.0].rule == Rule::Latest => {
                row.value = self.series[latest].value;
            }
            Some(_) => {}
        }
    }

    fn remove_row(&mut self, id: Id<Row>, key: (Id<Family>, Id<LabelSet>)) {
        let next = self.rows[id].links.next;
        for cursor in self.cursors.iter_mut().flatten() {
            cursor.leave(id, next);
        }
        let (family, labels) = key;
        list::unlink(&mut self.rows, &mut self.families[family].first, id);
        let row = self.rows.remove(id);
        self.agents
            .drop_row(row.group, self.hasher.hash_one(key), id);
        self.labels.release(labels);
        if self.families[family].first.is_none() {
            self.families.remove(family);
        }
    }
}

/// Whole ticks. They begin anew after more than 13 years, which no age reaches.
fn ticks(time: Duration) -> u32 {
    (time.as_millis() / TICK.as_millis()) as u32
}
