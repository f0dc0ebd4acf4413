//! What is kept of a series: as an agent reports it, and as the page has it.

use super::families::Family;
use super::labels::LabelSet;
use super::list::{Linked, Links};
use super::slab::Id;

/// A series of one agent, a member of a row.
#[derive(Debug)]
pub(super) struct Series {
    /// What was reported last.
    pub(super) value: f64,
    pub(super) row: Id<Row>,
    /// Whose it is.
    pub(super) agent: u32,
    /// The program that reported it last.
    pub(super) program: u32,
    /// When that was, in ticks.
    pub(super) updated: u32,
    /// The series that came after it in the report: most likely it will again.
    pub(super) after: Option<Id<Series>>,
    /// In the list of the row's members.
    pub(super) links: Links<Series>,
}

/// A line of the page: the series of that name and these labels of all agents that are not told apart.
#[derive(Debug)]
pub(super) struct Row {
    /// Its value, but for a row whose members are added up when it is shown.
    pub(super) value: f64,
    pub(super) family: Id<Family>,
    pub(super) labels: Id<LabelSet>,
    /// The agents that share it.
    pub(super) group: u32,
    /// The members; where the latest counts, the latest is first.
    pub(super) first: Option<Id<Series>>,
    /// In the list of the family's rows.
    pub(super) links: Links<Row>,
}

impl Linked for Series {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.links
    }
}

impl Linked for Row {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.links
    }
}

const _: () = assert!(size_of::<Option<Series>>() == 40 && size_of::<Option<Row>>() == 32);
