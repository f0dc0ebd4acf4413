//! The latest keys.

use std::collections::{HashSet, VecDeque};

use crate::script::report::Key;

/// Keys that are remembered: four times what the queue holds, so that no report that waited there can have been forgotten
/// when it is met again; at most a megabyte.
pub(super) const MAX_KEYS: usize = 4096;

/// The latest [`MAX_KEYS`] keys.
#[derive(Debug, Default)]
pub(super) struct Recent {
    set: HashSet<Key>,
    order: VecDeque<Key>,
}

impl Recent {
    pub(super) fn has(&self, key: &Key) -> bool {
        self.set.contains(key)
    }

    /// Remembers a key; false when it is known.
    pub(super) fn add(&mut self, key: Key) -> bool {
        if !self.set.insert(key.clone()) {
            return false;
        }
        if self.order.len() >= MAX_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        self.order.push_back(key);
        true
    }

    /// From the oldest on.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.order.iter()
    }

    /// Forgets all, from the oldest on.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Key> {
        self.set.clear();
        self.order.drain(..)
    }
}
