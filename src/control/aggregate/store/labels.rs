//! Sets of labels, each kept once however many series have it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use super::slab::{Id, Slab};
use super::text::put_label;
use crate::wire::stats::{Label, encode_label};

/// A set of labels that series have.
#[derive(Debug)]
pub(super) struct LabelSet {
    /// The set as it stands on the wire, then as it stands on the page.
    both: Arc<[u8]>,
    /// Where the text of the page begins.
    split: u32,
    /// Rows that have the set; it goes with the last.
    rows: u32,
    hash: u64,
}

impl LabelSet {
    /// The labels as an agent sends them, if it sorts them by name and leaves empty ones out.
    #[inline]
    pub(super) fn wire(&self) -> &[u8] {
        &self.both[..self.split as usize]
    }

    /// The text of the page: what is returned, from the place that is.
    pub(super) fn text(&self) -> (&Arc<[u8]>, u32) {
        (&self.both, self.split)
    }
}

/// All sets of labels.
#[derive(Debug)]
pub(super) struct LabelSets {
    sets: Slab<LabelSet>,
    by_wire: HashTable<Id<LabelSet>>,
    hasher: RandomState,
    /// The set that is looked for, encoded.
    wire: Vec<u8>,
    text: Vec<u8>,
}

impl LabelSets {
    pub(super) fn new() -> Self {
        Self {
            sets: Slab::new(),
            by_wire: HashTable::new(),
            hasher: RandomState::new(),
            wire: Vec::new(),
            text: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn get(&self, id: Id<LabelSet>) -> &LabelSet {
        &self.sets[id]
    }

    /// The set of these labels, which are sorted.
    pub(super) fn find(&mut self, labels: &[Label<'_>]) -> Option<Id<LabelSet>> {
        self.encode(labels);
        let hash = self.hasher.hash_one(&self.wire[..]);
        let (sets, wire) = (&self.sets, &self.wire[..]);
        let same = |id: &Id<LabelSet>| sets[*id].wire() == wire;
        self.by_wire.find(hash, same).copied()
    }

    /// The set of these labels, which are sorted; made if it is not there. It stays until it is
    /// [released](Self::release).
    pub(super) fn retain(&mut self, labels: &[Label<'_>]) -> Id<LabelSet> {
        if let Some(id) = self.find(labels) {
            self.sets[id].rows += 1;
            return id;
        }
        let hash = self.hasher.hash_one(&self.wire[..]);
        self.text.clear();
        for label in labels {
            put_label(&mut self.text, label.name, label.value);
        }
        let id = self.sets.insert(LabelSet {
            both: self.wire.iter().chain(&self.text).copied().collect(),
            // Labels are of a few KiB at most.
            split: self.wire.len() as u32,
            rows: 1,
            hash,
        });
        let sets = &self.sets;
        self.by_wire.insert_unique(hash, id, |id| sets[*id].hash);
        id
    }

    /// Gives a set back.
    pub(super) fn release(&mut self, id: Id<LabelSet>) {
        let set = &mut self.sets[id];
        set.rows -= 1;
        if set.rows > 0 {
            return;
        }
        if let Ok(entry) = self.by_wire.find_entry(set.hash, |other| *other == id) {
            entry.remove();
        }
        self.sets.remove(id);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sets.len()
    }

    fn encode(&mut self, labels: &[Label<'_>]) {
        self.wire.clear();
        for label in labels {
            encode_label(&mut self.wire, *label);
        }
    }
}
