//! The series that a page has had, to find those that it has twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::labels::Label;

/// Where a series stands on the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Bytes of the page before its line.
    pub(super) offset: usize,
    /// The number of its line.
    pub(super) line: usize,
}

/// Series by a hash of them. The hash has a key of its own for each page, so that nobody can make series collide.
#[derive(Debug, Default)]
pub(super) struct Seen {
    key: RandomState,
    places: HashMap<u64, Place, BuildHasherDefault<Hashed>>,
    /// What is hashed: in one piece it takes a third of the time.
    bytes: Vec<u8>,
}

impl Seen {
    /// Enters a series at `place`. When it is there already, which `same` finds out for a place with the same hash,
    /// returns the earlier place, which stays.
    pub(super) fn enter(
        &mut self,
        name: &str,
        labels: &[Label<'_>],
        place: Place,
        mut same: impl FnMut(Place) -> bool,
    ) -> Option<&mut Place> {
        let mut hash = self.hash(name, labels);
        // Different series with one hash stand side by side.
        while let Some(earlier) = self.places.get(&hash) {
            if same(*earlier) {
                return self.places.get_mut(&hash);
            }
            hash = hash.wrapping_add(1);
        }
        self.places.insert(hash, place);
        None
    }

    fn hash(&mut self, name: &str, labels: &[Label<'_>]) -> u64 {
        self.bytes.clear();
        self.bytes.extend_from_slice(name.as_bytes());
        for label in labels.iter().filter(|label| !label.value.is_empty()) {
            for text in [&label.name, &label.value] {
                // No UTF-8 has this byte.
                self.bytes.push(0xff);
                self.bytes.extend_from_slice(text.as_bytes());
            }
        }
        let mut hasher = self.key.build_hasher();
        hasher.write(&self.bytes);
        hasher.finish()
    }
}

/// Whether two sorted label sets mean the same: an empty value is no label.
pub(super) fn same_labels(one: &[Label<'_>], other: &[Label<'_>]) -> bool {
    let full = |label: &&Label<'_>| !label.value.is_empty();
    one.iter().filter(full).eq(other.iter().filter(full))
}

/// Passes on what is a hash already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
