//! dRPC as `storj.io/drpc` v0.0.34 speaks it: frames, packets, error payloads.
//!
//! A frame is a control byte, three varints and data; one or more frames make a packet. Ids, limits and
//! error cases are those of the reference (storj/drpc drpcwire/reader.go, packet.go, varint.go). Both ends
//! of a connection use the same code.

mod error;
mod frame;
pub mod metadata;
mod packet;
#[cfg(test)]
mod tests;

pub use error::{MalformedError, RemoteError, UNIMPLEMENTED};
pub use frame::{Kind, PacketId, VarintTooLong};
pub use packet::{Assembler, Frames, Packet, PacketTooLarge, ProtocolError, Writer};

/// Data bytes of one packet, at most; the reference reads no more (drpcwire/reader.go).
pub const MAX_PACKET: usize = 4 << 20;

/// Data bytes of one frame as written here; the reference splits at the same size (drpcwire/split.go).
pub const MAX_FRAME: usize = 64 << 10;

/// Bytes that a frame takes beside its data, at most: the control byte and three varints.
pub const MAX_HEADER: usize = 1 + 3 * frame::MAX_VARINT;
