//! From one end of a segment to the other, through a window of bounded size.

use std::io;

use super::record::{HEAD as RECORD_HEAD, MAX_RECORD, Record};
use super::scan::{Step, step};
use super::segment::{self, HEAD, Parsed};
use super::storage::Storage;

/// Bytes read at a time: a few records of the largest size, many of the usual one.
const CHUNK: usize = 128 * 1024;

/// A part of one file, held in memory.
#[derive(Debug, Default)]
pub(super) struct Window {
    name: String,
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes of a file from `at` on: at least those of the largest record, or all up to `end`, and whether they are
    /// all.
    pub(super) fn show(
        &mut self,
        storage: &mut impl Storage,
        name: &str,
        at: u64,
        end: u64,
    ) -> io::Result<(&[u8], bool)> {
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = left.min(MAX_RECORD);
        let offset = at.checked_sub(self.at).filter(|_| self.name == name);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        let held = |offset: usize| self.bytes.len().saturating_sub(offset);
        let offset = match offset.filter(|offset| held(*offset) >= wanted) {
            Some(offset) => offset,
            None => {
                self.forget();
                self.bytes.resize(left.min(CHUNK), 0);
                let read = storage.read(name, at, &mut self.bytes);
                self.bytes.truncate(*read.as_ref().unwrap_or(&0));
                read?;
                name.clone_into(&mut self.name);
                self.at = at;
                0
            }
        };
        let shown = self.bytes.get(offset..).unwrap_or_default();
        let shown = shown.get(..left).unwrap_or(shown);
        // A file that is shorter than it was said to be ends where it ends.
        let last = shown.len() == left || shown.len() < wanted;
        Ok((shown, last))
    }

    /// Holds nothing any more.
    pub(super) fn forget(&mut self) {
        self.name.clear();
        self.bytes.clear();
    }
}

/// What stands in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    /// A record, and where.
    Record { at: u64, record: Record<'a> },
    /// Bytes that are no record.
    Damage { at: u64, bytes: u64, start: Start },
}

/// The first bytes of what is damaged: they may still be the head of a record.
pub(super) type Start = [u8; RECORD_HEAD];

/// Reads a segment of `size` bytes: its head, then every item in its order.
pub(super) fn walk<S: Storage>(
    storage: &mut S,
    name: &str,
    size: u64,
    mut visit: impl FnMut(Item<'_>),
) -> io::Result<Parsed> {
    let mut window = Window::default();
    let (bytes, _) = window.show(storage, name, 0, size)?;
    let head = segment::parse(bytes);
    if let Parsed::Future(_) = head {
        return Ok(head);
    }
    let mut at = HEAD as u64;
    let mut damage: Option<(u64, Start)> = None;
    let end_damage = |damage: &mut Option<(u64, Start)>, at: u64, visit: &mut dyn FnMut(_)| {
        if let Some((from, start)) = damage.take() {
            let bytes = at - from;
            visit(Item::Damage {
                at: from,
                bytes,
                start,
            });
        }
    };
    while at < size {
        let (bytes, last) = window.show(storage, name, at, size)?;
        match step(bytes, last) {
            Step::Record(record) => {
                end_damage(&mut damage, at, &mut visit);
                visit(Item::Record { at, record });
                at += record.size() as u64;
            }
            Step::Skip(some) => {
                damage.get_or_insert_with(|| {
                    let mut start = [0; RECORD_HEAD];
                    start
                        .iter_mut()
                        .zip(bytes)
                        .for_each(|(to, from)| *to = *from);
                    (at, start)
                });
                at += some as u64;
            }
            // The window holds the largest record, so it is never too small; the file has shrunk.
            Step::More | Step::End => break,
        }
    }
    end_damage(&mut damage, at, &mut visit);
    Ok(head)
}
