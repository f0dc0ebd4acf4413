//! The series that a page has had, to find those that it has twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::labels::Label;

/// Where a series stands on the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The number of its line.
    pub(super) line: usize,
    pub(super) timestamp_ms: Option<i64>,
}

/// Series by a hash of 64 bits. Among 50 000 series two are taken for one on one page in ten thousand million, and with a
/// key of its own for each page nobody can make them collide. To compare the series themselves would read long lines again for
/// each short one.
#[derive(Debug, Default)]
pub(super) struct Seen {
    key: RandomState,
    places: HashMap<u64, Place, BuildHasherDefault<Hashed>>,
    /// What is hashed: in one piece it takes a third of the time.
    bytes: Vec<u8>,
}

impl Seen {
    /// Enters a series at `place`. When it is there already, returns its earlier place, which stays.
    pub(super) fn enter(
        &mut self,
        name: &str,
        labels: &[Label<'_>],
        place: Place,
    ) -> Option<&mut Place> {
        let mut is_new = false;
        let hash = self.hash(name, labels);
        let held = self.places.entry(hash).or_insert_with(|| {
            is_new = true;
            place
        });
        (!is_new).then_some(held)
    }

    /// An empty value means the same as no label.
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
