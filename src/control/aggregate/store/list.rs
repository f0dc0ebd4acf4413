//! Lists through the things of a slab: to take one out needs no search.

use super::slab::{Id, Slab};

/// The neighbours of a thing in its list.
#[derive(Debug)]
pub(super) struct Links<T> {
    pub(super) prev: Option<Id<T>>,
    pub(super) next: Option<Id<T>>,
}

impl<T> Links<T> {
    pub(super) const NONE: Self = Self {
        prev: None,
        next: None,
    };
}

/// What can be in a list, one at a time.
pub(super) trait Linked: Sized {
    fn links(&mut self) -> &mut Links<Self>;
}

/// Puts a thing that is in no list before the first.
pub(super) fn push_front<T: Linked>(slab: &mut Slab<T>, first: &mut Option<Id<T>>, id: Id<T>) {
    let next = first.replace(id);
    if let Some(next) = next {
        slab[next].links().prev = Some(id);
    }
    *slab[id].links() = Links { prev: None, next };
}

/// Takes a thing out of its list.
pub(super) fn unlink<T: Linked>(slab: &mut Slab<T>, first: &mut Option<Id<T>>, id: Id<T>) {
    let Links { prev, next } = std::mem::replace(slab[id].links(), Links::NONE);
    match prev {
        Some(prev) => slab[prev].links().next = next,
        None => *first = next,
    }
    if let Some(next) = next {
        slab[next].links().prev = prev;
    }
}
