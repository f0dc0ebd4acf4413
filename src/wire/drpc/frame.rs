//! The header of one frame.

use bytes::BufMut;

/// A varint of 64 bits takes at most this many bytes.
pub(super) const MAX_VARINT: usize = 10;

const DONE: u8 = 0b0000_0001;
const KIND: u8 = 0b0111_1110;
const CONTROL: u8 = 0b1000_0000;

/// What a packet is for. The discriminant is its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Begins a call; the payload is the method's name.
    Invoke = 1,
    /// A message of the call.
    Message = 2,
    /// The call failed; the payload is a [`super::RemoteError`].
    Error = 3,
    /// The call is no longer wanted.
    Cancel = 4,
    /// The sender is finished with the call.
    Close = 5,
    /// The sender sends no more messages.
    CloseSend = 6,
    /// Metadata of the Invoke that follows.
    InvokeMetadata = 7,
}

impl Kind {
    /// The kind of that number, if there is one.
    pub fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Invoke,
            2 => Self::Message,
            3 => Self::Error,
            4 => Self::Cancel,
            5 => Self::Close,
            6 => Self::CloseSend,
            7 => Self::InvokeMetadata,
            _ => return None,
        })
    }

    /// The reference marks Cancel alone, so that peers that do not know it ignore it.
    fn is_control(self) -> bool {
        matches!(self, Self::Cancel)
    }
}

/// Where a packet stands on its connection; ordered as the wire requires: by stream, then by message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PacketId {
    /// The call, from 1.
    pub stream: u64,
    /// The packet within the call and direction, from 1.
    pub message: u64,
}

/// Everything of a frame but its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The number as it came, which need not be a [`Kind`].
    pub(super) kind: u8,
    pub(super) control: bool,
    pub(super) done: bool,
    pub(super) id: PacketId,
    /// Data bytes that follow, as declared: never a reason to allocate.
    pub(super) length: u64,
}

impl Header {
    pub(super) fn new(kind: Kind, id: PacketId, length: u64, done: bool) -> Self {
        Self {
            kind: kind as u8,
            control: kind.is_control(),
            done,
            id,
            length,
        }
    }

    /// Reads a header off the front of `bytes`, with its size. `None`: more bytes are needed.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, VarintTooLong> {
        let Some((&control, mut rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let mut numbers = [0; 3];
        for number in &mut numbers {
            match take_varint(rest)? {
                Some((value, after)) => (*number, rest) = (value, after),
                None => return Ok(None),
            }
        }
        let [stream, message, length] = numbers;
        let header = Self {
            kind: (control & KIND) >> 1,
            control: control & CONTROL != 0,
            done: control & DONE != 0,
            id: PacketId { stream, message },
            length,
        };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Bytes that [`Self::encode`] writes.
    pub(super) fn encoded_len(&self) -> usize {
        let varint = |value: u64| (64 - (value | 1).leading_zeros()).div_ceil(7) as usize;
        1 + [self.id.stream, self.id.message, self.length]
            .map(varint)
            .iter()
            .sum::<usize>()
    }

    pub(super) fn encode(&self, out: &mut impl BufMut) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        out.put_u8((self.kind << 1) & KIND | flag(self.control, CONTROL) | flag(self.done, DONE));
        for number in [self.id.stream, self.id.message, self.length] {
            put_varint(number, out);
        }
    }
}

/// A varint that does not end within 10 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("varint does not end within {MAX_VARINT} bytes")]
pub struct VarintTooLong;

/// Reads a varint off the front. Bits of a tenth byte past the 64th are lost, as in the reference.
pub(super) fn take_varint(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, VarintTooLong> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(MAX_VARINT).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(Some((value, &bytes[at + 1..])));
        }
    }
    if bytes.len() < MAX_VARINT {
        Ok(None)
    } else {
        Err(VarintTooLong)
    }
}

fn put_varint(mut value: u64, out: &mut impl BufMut) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
