//! gRPC in the bodies and headers of HTTP/2 (grpc/grpc doc/PROTOCOL-HTTP2.md): a message behind its length, and the
//! time that a call has.
//!
//! tonic has both, but reserves a message's memory by the length it is told, and its reading of the time is its own.

mod request;
mod status;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderName;

pub use request::{Request, RequestTooLarge};
pub use status::Status;

/// What a content type of gRPC begins with.
pub const CONTENT_TYPE: &str = "application/grpc";

/// The metadata that has the role of who calls: there is no query to put it in, as for a WebSocket.
pub const ROLE: HeaderName = HeaderName::from_static("weir-role");

/// The header that has the time of a call; [`timeout`] reads it.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Bytes before a message: whether it is compressed, and its length.
pub const HEADER: usize = 5;

/// Bytes of a message, at most: what grpc-go takes by default (server.go), and as much as a dRPC packet.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Why a body is not one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is empty.
    #[error("a call takes one message, and there is none")]
    Missing,
    /// There is more after the message.
    #[error("a call takes one message, and there is more")]
    TooMany,
    /// It ends inside the message.
    #[error("the body ends inside the message")]
    Truncated,
    /// The message is compressed, and no compression was agreed on.
    #[error("a compressed message, and no compression is agreed on")]
    Compressed,
    /// The flag before the length is neither 0 nor 1.
    #[error("message flag {0}, expected 0 or 1")]
    Flag(u8),
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("message of {0} bytes, limit is {MAX_MESSAGE}")]
    TooLarge(u32),
}

/// Puts the one message of a call together.
///
/// Holds what has come, never more: the length that was told is not allocated before it comes. A body in one piece is
/// not copied.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The only piece.
    piece: Bytes,
    /// All pieces, when there are several.
    pieces: BytesMut,
}

impl Assembler {
    /// Takes a piece of the body.
    ///
    /// # Errors
    /// As soon as it is known that the body is not one message.
    pub fn push(&mut self, data: Bytes) -> Result<(), Fault> {
        if self.held() == 0 {
            self.piece = data;
        } else {
            if self.pieces.is_empty() {
                self.pieces
                    .extend_from_slice(&std::mem::take(&mut self.piece));
            }
            self.pieces.extend_from_slice(&data);
        }
        match self.declared()? {
            Some(length) if self.held() - HEADER > length => Err(Fault::TooMany),
            _ => Ok(()),
        }
    }

    /// Bytes that have come.
    pub fn held(&self) -> usize {
        self.piece.len() + self.pieces.len()
    }

    /// The message, once the body has ended.
    ///
    /// # Errors
    /// When it is not there whole.
    pub fn finish(self) -> Result<Bytes, Fault> {
        let declared = self.declared()?;
        let mut body = if self.pieces.is_empty() {
            self.piece
        } else {
            self.pieces.freeze()
        };
        match declared {
            None if body.is_empty() => Err(Fault::Missing),
            Some(length) if body.len() - HEADER == length => Ok(body.split_off(HEADER)),
            _ => Err(Fault::Truncated),
        }
    }

    /// Bytes of the message, when its header has come.
    fn declared(&self) -> Result<Option<usize>, Fault> {
        let held = if self.pieces.is_empty() {
            &self.piece
        } else {
            self.pieces.as_ref()
        };
        let Some(&[flag, length @ ..]) = held.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        match flag {
            0 => {}
            1 => return Err(Fault::Compressed),
            other => return Err(Fault::Flag(other)),
        }
        let told = u32::from_be_bytes(length);
        match usize::try_from(told) {
            Ok(length) if length <= MAX_MESSAGE => Ok(Some(length)),
            _ => Err(Fault::TooLarge(told)),
        }
    }
}

/// The body that is a message, when it is not longer than [`MAX_MESSAGE`].
pub fn body(message: &[u8]) -> Option<Bytes> {
    let length = u32::try_from(message.len())
        .ok()
        .filter(|_| message.len() <= MAX_MESSAGE)?;
    // Most answers have nothing in them.
    if message.is_empty() {
        return Some(Bytes::from_static(&[0; HEADER]));
    }
    let mut body = BytesMut::with_capacity(HEADER + message.len());
    body.put_u8(0);
    body.put_u32(length);
    body.put_slice(message);
    Some(body.freeze())
}

/// Reads the header `grpc-timeout`: 1 to 8 digits and a unit. `None`: it is neither.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits
        .iter()
        .fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}
