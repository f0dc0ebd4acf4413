//! Things with a number each, in pages: to grow copies nothing, and a page on which nothing is left gives its memory
//! back.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

/// Places of a page: so many that a page costs little beside its things, so few that one thing left on it does not
/// keep much.
const PAGE: usize = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 10;

/// The number of a thing in a [`Slab`]; an `Option` of it is no larger. It is given anew when the thing is gone.
pub(super) struct Id<T>(NonZeroU32, PhantomData<fn() -> T>);

impl<T> Id<T> {
    fn at(page: usize, place: usize) -> Self {
        // A slab of 2^32 places would not fit into memory.
        let number = (page << PAGE_BITS | place) as u32;
        Self(NonZeroU32::MIN.saturating_add(number), PhantomData)
    }

    fn split(self) -> (usize, usize) {
        let number = self.0.get() as usize - 1;
        (number >> PAGE_BITS, number % PAGE)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Id<T> {}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> std::hash::Hash for Id<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    pages: Vec<Page<T>>,
    /// The pages with a free place, the one to be filled next last.
    with_room: Vec<usize>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    places: Vec<Option<T>>,
    /// Those of `places` with nothing in them.
    free: Vec<u16>,
}

impl<T> Page<T> {
    fn is_full(&self) -> bool {
        self.places.len() == PAGE && self.free.is_empty()
    }
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            pages: Vec::new(),
            with_room: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, thing: T) -> Id<T> {
        let index = *self.with_room.last().unwrap_or(&self.pages.len());
        if index == self.pages.len() {
            self.with_room.push(index);
            self.pages.push(Page {
                places: Vec::new(),
                free: Vec::new(),
            });
        }
        let page = &mut self.pages[index];
        let place = match page.free.pop() {
            Some(place) => {
                page.places[usize::from(place)] = Some(thing);
                usize::from(place)
            }
            None => {
                if page.places.is_empty() {
                    page.places.reserve_exact(PAGE);
                }
                page.places.push(Some(thing));
                page.places.len() - 1
            }
        };
        if page.is_full() {
            self.with_room.pop();
        }
        self.len += 1;
        Id::at(index, place)
    }

    /// Takes a thing out.
    ///
    /// # Panics
    /// When there is none of that number.
    pub(super) fn remove(&mut self, id: Id<T>) -> T {
        let (index, place) = id.split();
        let page = &mut self.pages[index];
        let was_full = page.is_full();
        let Some(thing) = page.places[place].take() else {
            unreachable!("{id:?} is in the slab")
        };
        // Below PAGE, which 16 bits hold.
        page.free.push(place as u16);
        if page.free.len() == page.places.len() {
            page.places = Vec::new();
            page.free = Vec::new();
        }
        if was_full {
            self.with_room.push(index);
        }
        self.len -= 1;
        thing
    }

    /// The thing of a number that may have gone.
    #[inline]
    pub(super) fn get(&self, id: Id<T>) -> Option<&T> {
        let (page, place) = id.split();
        self.pages.get(page)?.places.get(place)?.as_ref()
    }

    /// The things of the page of that index, with their numbers; `None` past the last page.
    pub(super) fn page(&self, index: usize) -> Option<impl Iterator<Item = (Id<T>, &T)>> {
        let places = self.pages.get(index)?.places.iter().enumerate();
        Some(places.filter_map(move |(place, thing)| Some((Id::at(index, place), thing.as_ref()?))))
    }

    /// Places from the page of that index on.
    pub(super) fn places_from(&self, index: usize) -> usize {
        self.pages.len().saturating_sub(index) * PAGE
    }
}

impl<T> Index<Id<T>> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: Id<T>) -> &T {
        match self.get(id) {
            Some(thing) => thing,
            None => unreachable!("{id:?} is in the slab"),
        }
    }
}

impl<T> IndexMut<Id<T>> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        let (page, place) = id.split();
        match self.pages[page].places[place].as_mut() {
            Some(thing) => thing,
            None => unreachable!("{id:?} is in the slab"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn numbers_are_given_anew_and_never_twice() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut slab, mut model) = (Slab::new(), HashMap::new());
        let mut ids = Vec::new();
        for round in 0..40_000_u32 {
            // Fills some pages, then empties them.
            let filling = (round / 10_000).is_multiple_of(2);
            if ids.is_empty() || rng.u8(..10) < if filling { 8 } else { 2 } {
                let id = slab.insert(Box::new(round));
                assert_eq!(model.insert(id, round), None);
                ids.push(id);
            } else {
                let id = ids.swap_remove(rng.usize(..ids.len()));
                assert_eq!(Some(*slab.remove(id)), model.remove(&id));
                assert!(slab.get(id).is_none());
            }
            assert_eq!(slab.len(), model.len());
        }
        let places = slab.places_from(0);
        assert!(places < 9000, "{places} places");
        for id in &ids {
            assert_eq!(*slab[*id], model[id]);
        }
        let found = (0..).map_while(|index| slab.page(index).map(Iterator::collect::<Vec<_>>));
        assert_eq!(found.map(|page| page.len()).sum::<usize>(), model.len());
        for id in ids {
            slab.remove(id);
        }
        assert!(slab.pages.iter().all(|page| page.places.capacity() == 0));
    }
}
