//! The rows in the order of the page, a slice at a time.
//!
//! A cursor goes through the families by name, and within a family from the first row to the last. A row is made before
//! the first, where a cursor in its family has been already; a row that is removed takes the cursors that stand on it
//! one further. So a row that is there throughout is met once, and one that was removed and made again is not met
//! twice, whatever happens between two slices.

use std::sync::Arc;

use super::Store;
use super::check::Kind;
use super::labels::LabelSet;
use super::row::Row;
use super::rule::Rule;
use super::slab::Id;
use super::text::{put_header, put_row};

/// Where a collection is.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The family whose rows are met; the next one comes after it.
    family: Option<Arc<[u8]>>,
    /// The row to be met next; `None` at the end of the family.
    row: Option<Id<Row>>,
}

impl Cursor {
    /// Goes on to the next row if it stands on one that is removed.
    pub(super) fn leave(&mut self, removed: Id<Row>, next: Option<Id<Row>>) {
        if self.row == Some(removed) {
            self.row = next;
        }
    }
}

/// A part of the page, with all that its text is made of.
#[derive(Debug, Default)]
pub(in crate::control::aggregate) struct Slice {
    lines: Vec<Line>,
    families: Vec<(Arc<[u8]>, Kind)>,
    /// Labels, and where in the bytes they begin.
    texts: Vec<(Arc<[u8]>, u32)>,
    /// No slice comes after it.
    pub(in crate::control::aggregate) last: bool,
}

/// Indices into the parts of a [`Slice`].
#[derive(Clone, Copy, Debug)]
enum Line {
    /// The rows of the family follow.
    Family(u32),
    Row {
        family: u32,
        /// The labels of its agents.
        group: u32,
        /// Its other labels.
        labels: u32,
        value: f64,
    },
}

impl Slice {
    /// Makes it empty, keeping its memory.
    pub(in crate::control::aggregate) fn clear(&mut self) {
        self.lines.clear();
        self.families.clear();
        self.texts.clear();
        self.last = false;
    }

    /// Writes the lines from that one on until `page` has `limit` bytes, and returns the first that is not written;
    /// `None` when all are.
    pub(in crate::control::aggregate) fn write(
        &self,
        from: usize,
        page: &mut Vec<u8>,
        limit: usize,
    ) -> Option<usize> {
        let text = |index: u32| {
            let (text, from) = &self.texts[index as usize];
            &text[*from as usize..]
        };
        for (index, line) in self.lines.iter().enumerate().skip(from) {
            if page.len() >= limit {
                return Some(index);
            }
            match *line {
                Line::Family(family) => {
                    let (name, kind) = &self.families[family as usize];
                    put_header(page, name, kind.name());
                }
                Line::Row {
                    family,
                    group,
                    labels,
                    value,
                } => {
                    let (name, _) = &self.families[family as usize];
                    put_row(page, name, text(group), text(labels), value);
                }
            }
        }
        None
    }

    fn put_text(&mut self, text: &Arc<[u8]>, from: u32) -> u32 {
        self.texts.push((Arc::clone(text), from));
        // A slice has few lines.
        (self.texts.len() - 1) as u32
    }
}

/// What of the texts of a slice was used last, by what it is of: rows that follow one another often share it.
#[derive(Default)]
struct Used {
    group: Option<(u32, u32)>,
    labels: Option<(Id<LabelSet>, u32)>,
}

impl Store {
    /// Begins a collection, and names it. It is to be [ended](Self::end_collection).
    pub(in crate::control::aggregate) fn begin_collection(&mut self) -> usize {
        let free = self.cursors.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.cursors.push(None);
            self.cursors.len() - 1
        });
        self.cursors[index] = Some(Cursor::default());
        index
    }

    /// Ends a collection, complete or not.
    pub(in crate::control::aggregate) fn end_collection(&mut self, collection: usize) {
        self.cursors[collection] = None;
    }

    /// Puts the next rows of a collection into a slice that is empty: so many, where each member that is added up for a
    /// row counts as one.
    pub(in crate::control::aggregate) fn slice(
        &mut self,
        collection: usize,
        rows: usize,
        slice: &mut Slice,
    ) {
        let mut cursor = self.cursors[collection].take().unwrap_or_default();
        slice.last = self.fill(&mut cursor, rows, slice);
        self.cursors[collection] = Some(cursor);
    }

    /// Whether there are no more rows.
    fn fill(&self, cursor: &mut Cursor, rows: usize, slice: &mut Slice) -> bool {
        let mut used = Used::default();
        let mut cost = 0;
        while cost < rows {
            let begins = cursor.row.is_none();
            let family = match cursor.row {
                Some(row) => &self.families[self.rows[row].family],
                None => match self.families.after(cursor.family.as_deref()) {
                    Some(family) => family,
                    None => return true,
                },
            };
            let index = slice.families.len() as u32;
            slice.families.push((Arc::clone(&family.name), family.kind));
            if begins {
                cursor.family = Some(Arc::clone(&family.name));
                cursor.row = family.first;
                slice.lines.push(Line::Family(index));
            }
            while cost < rows
                && let Some(id) = cursor.row
            {
                let row = &self.rows[id];
                let (value, members) = self.value(row, family.rule);
                let (group, labels) = self.texts(row, slice, &mut used);
                slice.lines.push(Line::Row {
                    family: index,
                    group,
                    labels,
                    value,
                });
                cost += members;
                cursor.row = row.links.next;
            }
        }
        false
    }

    /// The value of a row, and how many members were looked at for it.
    fn value(&self, row: &Row, rule: Rule) -> (f64, usize) {
        if rule != Rule::Sum {
            return (row.value, 1);
        }
        let first = row.first.map(|id| &self.series[id]);
        let members =
            std::iter::successors(first, |series| series.links.next.map(|id| &self.series[id]));
        members.fold((0.0, 0), |(sum, count), series| {
            (sum + series.value, count + 1)
        })
    }

    /// Puts the labels of a row into a slice, if they were not those of the row before.
    fn texts(&self, row: &Row, slice: &mut Slice, used: &mut Used) -> (u32, u32) {
        let group = match used.group {
            Some((group, index)) if group == row.group => index,
            _ => slice.put_text(self.agents.text(row.group), 0),
        };
        let labels = match used.labels {
            Some((labels, index)) if labels == row.labels => index,
            _ => {
                let (text, from) = self.labels.get(row.labels).text();
                slice.put_text(text, from)
            }
        };
        used.group = Some((row.group, group));
        used.labels = Some((row.labels, labels));
        (group, labels)
    }
}
