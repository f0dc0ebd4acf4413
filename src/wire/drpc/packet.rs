//! Packets out of frames, and frames out of packets.

use bytes::{Bytes, BytesMut};

use super::frame::{Header, Kind, PacketId, VarintTooLong};
use super::{MAX_FRAME, MAX_HEADER, MAX_PACKET};

/// One packet, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is for.
    pub kind: Kind,
    /// Where it stands.
    pub id: PacketId,
    /// Its payload, of at most [`MAX_PACKET`] bytes.
    pub data: Bytes,
}

/// A violation that ends the connection. The reference closes without an Error packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A number in a frame header does not end.
    #[error(transparent)]
    Varint(#[from] VarintTooLong),
    /// An id went back, was used again, or is 0.
    #[error(
        "packet id {}/{} where at least {}/{} is expected",
        found.stream, found.message, floor.stream, floor.message
    )]
    IdNotRising {
        /// The id that came.
        found: PacketId,
        /// The least that could have come.
        floor: PacketId,
    },
    /// Frames of one packet differ in kind.
    #[error("frame of kind {found} inside a packet of kind {expected}")]
    KindChange {
        /// The kind that came.
        found: u8,
        /// The kind of the frames before it.
        expected: u8,
    },
    /// The packet would hold more than [`MAX_PACKET`] bytes.
    #[error("packet of at least {length} bytes, limit is {MAX_PACKET}")]
    PacketTooLarge {
        /// Bytes held and declared so far.
        length: u64,
    },
    /// A kind that is not known and not marked as ignorable.
    #[error("packet of unknown kind {0}")]
    UnknownKind(u8),
}

/// Makes packets of the bytes of one direction. Unusable after an error.
///
/// Holds what has come of one packet, never more: what a header declares is not allocated before it comes.
#[derive(Debug)]
pub struct Assembler {
    /// The least id that a frame may have.
    floor: PacketId,
    /// The front of a header that has not come whole.
    partial_header: PartialHeader,
    /// Data bytes of the present frame that have not come, and whether it ends its packet.
    frame: Option<(u64, bool)>,
    packet: Option<Partial>,
}

#[derive(Debug)]
struct PartialHeader {
    bytes: [u8; MAX_HEADER],
    length: usize,
}

/// A packet whose last frame has not come.
#[derive(Debug)]
struct Partial {
    kind: u8,
    control: bool,
    id: PacketId,
    data: BytesMut,
}

impl Default for Assembler {
    fn default() -> Self {
        Self {
            floor: PacketId {
                stream: 1,
                message: 1,
            },
            partial_header: PartialHeader {
                bytes: [0; MAX_HEADER],
                length: 0,
            },
            frame: None,
            packet: None,
        }
    }
}

impl Assembler {
    /// Takes bytes off the front of `input` until a packet is whole. `None`: all were taken, more are needed.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Packet>, ProtocolError> {
        loop {
            let Some((missing, last)) = self.frame else {
                let Some(header) = self.partial_header.take(input)? else {
                    return Ok(None);
                };
                self.begin(header)?;
                continue;
            };
            let here = usize::try_from(missing).map_or(input.len(), |n| n.min(input.len()));
            let (data, rest) = input.split_at(here);
            *input = rest;
            if let Some(packet) = &mut self.packet {
                packet.data.extend_from_slice(data);
            }
            let missing = missing - here as u64;
            if missing > 0 {
                self.frame = Some((missing, last));
                return Ok(None);
            }
            self.frame = None;
            if let Some(packet) = self.packet.take_if(|_| last) {
                // The id of a finished packet may not come again.
                self.floor.message = packet.id.message.wrapping_add(1);
                match (Kind::from_wire(packet.kind), packet.control) {
                    (Some(kind), _) => {
                        let data = packet.data.freeze();
                        return Ok(Some(Packet {
                            kind,
                            id: packet.id,
                            data,
                        }));
                    }
                    (None, true) => {}
                    (None, false) => return Err(ProtocolError::UnknownKind(packet.kind)),
                }
            }
        }
    }

    /// Checks a frame against what came before it. A higher id drops an unfinished packet.
    fn begin(&mut self, header: Header) -> Result<(), ProtocolError> {
        if header.id < self.floor {
            return Err(ProtocolError::IdNotRising {
                found: header.id,
                floor: self.floor,
            });
        }
        self.floor = header.id;
        let packet = match self.packet.take_if(|packet| packet.id == header.id) {
            Some(packet) if packet.kind != header.kind => {
                return Err(ProtocolError::KindChange {
                    found: header.kind,
                    expected: packet.kind,
                });
            }
            Some(packet) => Partial {
                control: packet.control || header.control,
                ..packet
            },
            None => Partial {
                kind: header.kind,
                control: header.control,
                id: header.id,
                data: BytesMut::new(),
            },
        };
        let length = header.length.saturating_add(packet.data.len() as u64);
        if length > MAX_PACKET as u64 {
            return Err(ProtocolError::PacketTooLarge { length });
        }
        self.packet = Some(packet);
        self.frame = Some((header.length, header.done));
        Ok(())
    }
}

impl Assembler {
    /// Payload bytes held of a packet that is not whole.
    pub fn held(&self) -> usize {
        self.packet.as_ref().map_or(0, |packet| packet.data.len())
    }
}

#[cfg(test)]
impl Assembler {
    /// Payload bytes for which there is room.
    pub(super) fn capacity(&self) -> usize {
        self.packet
            .as_ref()
            .map_or(0, |packet| packet.data.capacity())
    }
}

impl PartialHeader {
    /// Takes a header off `input`, of which earlier calls may have taken the front.
    fn take(&mut self, input: &mut &[u8]) -> Result<Option<Header>, VarintTooLong> {
        if self.length == 0
            && let Some((header, size)) = Header::decode(input)?
        {
            *input = &input[size..];
            return Ok(Some(header));
        }
        // A header is either whole or broken within MAX_HEADER bytes, so the array cannot run over.
        while let Some((&byte, rest)) = input.split_first() {
            self.bytes[self.length] = byte;
            self.length += 1;
            *input = rest;
            if let Some((header, _)) = Header::decode(&self.bytes[..self.length])? {
                self.length = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

/// Writes the packets of one call, numbered from 1.
#[derive(Debug)]
pub struct Writer {
    next: PacketId,
}

impl Writer {
    /// For the call with that stream id.
    pub fn new(stream: u64) -> Self {
        Self {
            next: PacketId { stream, message: 1 },
        }
    }

    /// Appends a whole packet to `out`.
    pub fn packet(
        &mut self,
        kind: Kind,
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), PacketTooLarge> {
        let mut frames = self.frames(kind, std::slice::from_ref(&data))?;
        while frames.write_next(out, usize::MAX) {}
        Ok(())
    }

    /// Begins a packet whose payload is the concatenation of `parts`, to be written frame by frame.
    pub fn frames<'a, B: AsRef<[u8]>>(
        &mut self,
        kind: Kind,
        parts: &'a [B],
    ) -> Result<Frames<'a, B>, PacketTooLarge> {
        let length = parts.iter().map(|part| part.as_ref().len()).sum();
        if length > MAX_PACKET {
            return Err(PacketTooLarge { length });
        }
        let id = self.next;
        self.next.message += 1;
        Ok(Frames {
            kind,
            id,
            parts,
            offset: 0,
            missing: length,
            done: false,
        })
    }
}

/// A payload that no peer would read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet of {length} bytes, limit is {MAX_PACKET}")]
pub struct PacketTooLarge {
    /// Its size in bytes.
    pub length: usize,
}

/// What is left to write of one packet.
#[derive(Debug)]
pub struct Frames<'a, B> {
    kind: Kind,
    id: PacketId,
    /// The parts that are not written, the first of them from `offset` on.
    parts: &'a [B],
    offset: usize,
    missing: usize,
    done: bool,
}

impl<B: AsRef<[u8]>> Frames<'_, B> {
    /// Appends the next frame to `out`: as much of the packet as makes `out` no longer than `limit`, at
    /// most [`MAX_FRAME`] data bytes, and at least one. False: there was none left.
    pub fn write_next(&mut self, out: &mut BytesMut, limit: usize) -> bool {
        if self.done {
            return false;
        }
        let whole = self.missing.min(MAX_FRAME);
        // The header of a shorter frame is no longer than that of a longer one.
        let header = Header::new(self.kind, self.id, whole as u64, true).encoded_len();
        let fitting = limit.saturating_sub(out.len() + header).max(1);
        let mut room = whole.min(fitting);
        self.missing -= room;
        self.done = self.missing == 0;
        out.reserve(header + room);
        Header::new(self.kind, self.id, room as u64, self.done).encode(out);
        while let Some((first, rest)) = self.parts.split_first() {
            let left = &first.as_ref()[self.offset..];
            let here = left.len().min(room);
            out.extend_from_slice(&left[..here]);
            room -= here;
            if here < left.len() {
                self.offset += here;
                break;
            }
            (self.parts, self.offset) = (rest, 0);
        }
        true
    }

    /// Whether the last frame has been written.
    pub fn is_done(&self) -> bool {
        self.done
    }
}
