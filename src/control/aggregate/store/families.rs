//! The families that have series, by name.

use std::collections::BTreeMap;
use std::ops::{Bound, Index, IndexMut};
use std::sync::Arc;

use super::check::Kind;
use super::row::Row;
use super::rule::Rule;
use super::slab::{Id, Slab};
use crate::wire::stats::encode_head;

/// A family that has rows. It is gone with its last one, and its name may then be that of another type.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: Arc<[u8]>,
    pub(super) kind: Kind,
    pub(super) rule: Rule,
    /// Name and type as an agent sends them.
    pub(super) head: Box<[u8]>,
    pub(super) first: Option<Id<Row>>,
}

#[derive(Debug)]
pub(super) struct Families {
    families: Slab<Family>,
    by_name: BTreeMap<Arc<[u8]>, Id<Family>>,
}

impl Families {
    pub(super) const fn new() -> Self {
        Self {
            families: Slab::new(),
            by_name: BTreeMap::new(),
        }
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Id<Family>> {
        self.by_name.get(name).copied()
    }

    pub(super) fn insert(&mut self, name: &[u8], kind: Kind, rule: Rule) -> Id<Family> {
        let name: Arc<[u8]> = name.into();
        let id = self.families.insert(Family {
            name: Arc::clone(&name),
            kind,
            rule,
            head: encode_head(&name, kind.number()).into(),
            first: None,
        });
        self.by_name.insert(name, id);
        id
    }

    pub(super) fn remove(&mut self, id: Id<Family>) {
        let family = self.families.remove(id);
        self.by_name.remove(&family.name);
    }

    /// The family whose name comes next, or first.
    pub(super) fn after(&self, name: Option<&[u8]>) -> Option<&Family> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.by_name.range::<[u8], _>((from, Bound::Unbounded));
        rest.next().map(|(_, id)| &self.families[*id])
    }
}

impl Index<Id<Family>> for Families {
    type Output = Family;

    #[inline]
    fn index(&self, id: Id<Family>) -> &Family {
        &self.families[id]
    }
}

impl IndexMut<Id<Family>> for Families {
    fn index_mut(&mut self, id: Id<Family>) -> &mut Family {
        &mut self.families[id]
    }
}
