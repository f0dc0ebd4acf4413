//! Protobuf fields read in place, as strictly as protobuf-go reads them, and how they are written.
//!
//! Two limits differ with the place (protobuf-go `internal/impl/decode.go` and
//! `encoding/protowire/wire.go`): a message's fields are numbered up to 2^29-1, those within an
//! unknown group up to 2^31-1; messages nest as the schema does, unknown groups 10 001 deep.

use std::{ops::Range, str};

pub(in crate::wire) const VARINT: u32 = 0;
pub(in crate::wire) const I64: u32 = 1;
pub(in crate::wire) const LEN: u32 = 2;
const START_GROUP: u32 = 3;
const END_GROUP: u32 = 4;
const I32: u32 = 5;

/// Bytes of the longest varint: 64 bits, seven to a byte.
const MAX_VARINT: usize = 10;

/// Unknown groups nested deeper than this do not decode (protobuf-go `DefaultRecursionLimit`,
/// which counts down past zero).
const MAX_GROUP_DEPTH: usize = 10_001;

/// Nesting tried first, with a stack of 256 bytes. Only what is deeper pays for the 40 KB that
/// [`MAX_GROUP_DEPTH`] takes, and a sender needs 128 bytes each time to make it.
const SHALLOW_GROUP_DEPTH: usize = 64;

/// Why bytes are not a protobuf message that a Go receiver would decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {what}")]
pub struct Malformed {
    /// Where the faulty value starts, counted from the start of the payload.
    pub offset: usize,
    /// What is wrong with it.
    pub what: Fault,
}

impl Malformed {
    /// The same fault, seen from a payload in which the faulty one starts at `base`.
    pub(in crate::wire) fn within(self, base: usize) -> Self {
        Self {
            offset: base + self.offset,
            what: self.what,
        }
    }
}

/// What can be wrong with a protobuf value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The value runs past the end of its message.
    #[error("value of at least {want} bytes in a message with {have} left")]
    Truncated {
        /// Bytes the value needs at least.
        want: u64,
        /// Bytes its message has left.
        have: u64,
    },
    /// A varint of more than 64 bits.
    #[error("varint of more than 64 bits")]
    VarintOverflow,
    /// A field number of zero or beyond the largest.
    #[error("field number {0} is out of range")]
    FieldNumber(u64),
    /// Wire types 6 and 7 are not assigned.
    #[error("wire type {0} does not exist")]
    WireType(u8),
    /// A group ends that is not the one open.
    #[error("end of group {0}, which is not open here")]
    EndGroup(u64),
    /// Groups within groups, beyond what a Go receiver follows.
    #[error("groups nested more than {MAX_GROUP_DEPTH} deep")]
    GroupDepth,
    /// A text field of the schema holds something else.
    #[error("{0} is not valid UTF-8")]
    Utf8(&'static str),
}

/// The place of a text field within the payload it was read from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// The text; empty when the field was absent. `payload` is the one that was read.
    pub fn of(self, payload: &[u8]) -> &str {
        // Reading has proven the range and the UTF-8, so the fallbacks are for foreign payloads.
        let bytes = payload.get(self.range()).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }

    pub(in crate::wire) fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A field's number and wire type in one number, as they stand on the wire.
pub(in crate::wire) const fn key(number: u32, wire_type: u32) -> u32 {
    number << 3 | wire_type
}

/// Reads the fields of one message.
///
/// The cursor of a nested message is a shorter view of the same buffer, so positions always count
/// from the start of the payload.
#[derive(Debug)]
pub(in crate::wire) struct Cursor<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub(in crate::wire) fn new(payload: &'a [u8]) -> Self {
        Self {
            buf: payload,
            pos: 0,
        }
    }

    /// The next field's key, `None` at the end of the message.
    #[inline]
    pub(in crate::wire) fn field(&mut self) -> Result<Option<u32>, Malformed> {
        if self.pos == self.buf.len() {
            return Ok(None);
        }
        let at = self.pos;
        let raw = self.varint()?;
        // Every key in 32 bits has a number of at most 2^29-1.
        let key = match u32::try_from(raw) {
            Ok(key) if key >> 3 != 0 => key,
            _ => return Err(fault(at, Fault::FieldNumber(raw >> 3))),
        };
        if key & 7 == END_GROUP {
            return Err(fault(at, Fault::EndGroup(raw >> 3)));
        }
        Ok(Some(key))
    }

    /// Checks the value of the field whose key was just read, and passes over it.
    #[inline]
    pub(in crate::wire) fn skip(&mut self, key: u32) -> Result<(), Malformed> {
        match key & 7 {
            START_GROUP => self.skip_group(u64::from(key >> 3)),
            wire_type => self.skip_value(wire_type),
        }
    }

    #[inline]
    pub(in crate::wire) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.buf.get(self.pos) {
            Some(&byte) if byte < 0x80 => {
                self.pos += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    /// The bytes of a length-delimited value.
    #[inline]
    pub(in crate::wire) fn slice(&mut self) -> Result<&'a [u8], Malformed> {
        let span = self.bytes()?;
        Ok(&self.buf[span.range()])
    }

    /// The value of a message field, to be read in turn.
    #[inline]
    pub(in crate::wire) fn message(&mut self) -> Result<Cursor<'a>, Malformed> {
        let Span { start, end } = self.bytes()?;
        Ok(Cursor {
            buf: &self.buf[..end],
            pos: start,
        })
    }

    /// The value of a text field called `name`.
    #[inline]
    pub(in crate::wire) fn text(&mut self, name: &'static str) -> Result<Span, Malformed> {
        let span = self.bytes()?;
        match str::from_utf8(&self.buf[span.range()]) {
            Ok(_) => Ok(span),
            Err(e) => Err(fault(span.start + e.valid_up_to(), Fault::Utf8(name))),
        }
    }

    /// The place of a length-delimited value: `start <= end <= buf.len()`.
    #[inline]
    pub(in crate::wire) fn bytes(&mut self) -> Result<Span, Malformed> {
        let length = self.varint()?;
        let start = self.pos;
        self.advance(length)?;
        Ok(Span {
            start,
            end: self.pos,
        })
    }

    /// The value of a `double` field.
    #[inline]
    pub(in crate::wire) fn double(&mut self) -> Result<f64, Malformed> {
        let start = self.pos;
        self.advance(8)?;
        let bytes = self.buf[start..self.pos].first_chunk();
        Ok(bytes.map_or(0.0, |bytes| f64::from_le_bytes(*bytes)))
    }

    #[inline]
    fn advance(&mut self, want: u64) -> Result<(), Malformed> {
        let have = self.buf.len() - self.pos;
        match usize::try_from(want) {
            Ok(length) if length <= have => {
                self.pos += length;
                Ok(())
            }
            _ => Err(fault(
                self.pos,
                Fault::Truncated {
                    want,
                    have: have as u64,
                },
            )),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let rest = &self.buf[self.pos..];
        let mut value = 0;
        for (index, &byte) in rest.iter().take(MAX_VARINT).enumerate() {
            if index == MAX_VARINT - 1 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.pos += index + 1;
                return Ok(value);
            }
        }
        let have = rest.len();
        let what = if have < MAX_VARINT {
            Fault::Truncated {
                want: have as u64 + 1,
                have: have as u64,
            }
        } else {
            Fault::VarintOverflow
        };
        Err(fault(self.pos, what))
    }

    /// Passes over a value that is no group.
    #[inline]
    fn skip_value(&mut self, wire_type: u32) -> Result<(), Malformed> {
        match wire_type {
            VARINT => self.varint().map(drop),
            I64 => self.advance(8),
            LEN => self.bytes().map(drop),
            I32 => self.advance(4),
            other => Err(fault(self.pos, Fault::WireType(other as u8))),
        }
    }

    #[cold]
    fn skip_group(&mut self, number: u64) -> Result<(), Malformed> {
        let start = self.pos;
        if self.skip_nested::<SHALLOW_GROUP_DEPTH>(number)? {
            return Ok(());
        }
        self.pos = start;
        if self.skip_nested::<MAX_GROUP_DEPTH>(number)? {
            return Ok(());
        }
        Err(fault(self.pos, Fault::GroupDepth))
    }

    /// Passes over the rest of group `outermost`; false when more than `DEPTH` groups are open
    /// at once.
    ///
    /// The open groups stand in an array, because recursion would let the input choose how much
    /// stack it takes, and a vector how much memory.
    #[inline(never)]
    fn skip_nested<const DEPTH: usize>(&mut self, outermost: u64) -> Result<bool, Malformed> {
        let mut open = [0_u32; DEPTH];
        let mut depth = 0;
        let mut opening = Some(outermost);
        loop {
            if let Some(number) = opening.take() {
                let Some(slot) = open.get_mut(depth) else {
                    return Ok(false);
                };
                *slot = number as u32;
                depth += 1;
            }
            let at = self.pos;
            let raw = self.varint()?;
            let number = raw >> 3;
            if number == 0 || number > i32::MAX as u64 {
                return Err(fault(at, Fault::FieldNumber(number)));
            }
            match raw as u32 & 7 {
                START_GROUP => opening = Some(number),
                END_GROUP if u64::from(open[depth - 1]) != number => {
                    return Err(fault(at, Fault::EndGroup(number)));
                }
                END_GROUP if depth == 1 => return Ok(true),
                END_GROUP => depth -= 1,
                wire_type => self.skip_value(wire_type)?,
            }
        }
    }
}

#[cold]
fn fault(offset: usize, what: Fault) -> Malformed {
    Malformed { offset, what }
}

pub(in crate::wire) fn varint_len(value: u64) -> usize {
    // Seven bits to a byte; zero takes one byte too.
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

pub(in crate::wire) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A message field with `length` bytes in it: present even when empty.
pub(in crate::wire) fn message_len(key: u32, length: usize) -> usize {
    varint_len(u64::from(key)) + varint_len(length as u64) + length
}

/// Opens a message field; its `length` bytes are to follow.
pub(in crate::wire) fn put_message(out: &mut Vec<u8>, key: u32, length: usize) {
    put_varint(out, u64::from(key));
    put_varint(out, length as u64);
}
