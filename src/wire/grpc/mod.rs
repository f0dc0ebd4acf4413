//! The bodies of a unary gRPC call over HTTP/2 (grpc/grpc doc/PROTOCOL-HTTP2.md): one message with its prefix in
//! either direction, and the status behind the answer. Without compression, which nobody is offered.

#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode;
use tonic::Code;

/// Bytes of the largest message in either direction: what grpc-go receives, unless it is told otherwise.
pub const MAX_MESSAGE: usize = 4 << 20;

/// In front of a message: whether it is compressed, and its length in four bytes, big endian.
const PREFIX: usize = 5;

/// A request larger than [`MAX_MESSAGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request of {0} bytes, expected at most {MAX_MESSAGE}")]
pub struct RequestTooLarge(pub usize);

/// A request that is written piece by piece. The message is the concatenation of the slices.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is left of the prefix.
    prefix: Bytes,
    slices: &'a [Bytes],
    /// How much of the first slice is written.
    written: usize,
    /// Bytes that are left to write, with the prefix.
    remaining: usize,
}

impl<'a> Request<'a> {
    /// Nothing of it is written yet.
    ///
    /// # Errors
    /// When the message is larger than [`MAX_MESSAGE`].
    pub fn new(slices: &'a [Bytes]) -> Result<Self, RequestTooLarge> {
        let length = slices.iter().map(Bytes::len).sum();
        let mut prefix = BytesMut::with_capacity(PREFIX);
        prefix.put_u8(0);
        match u32::try_from(length) {
            Ok(short) if length <= MAX_MESSAGE => prefix.put_u32(short),
            _ => return Err(RequestTooLarge(length)),
        }
        Ok(Self {
            prefix: prefix.freeze(),
            slices,
            written: 0,
            remaining: PREFIX + length,
        })
    }

    /// Bytes that are left to write.
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Appends up to `room` bytes to `out`.
    pub fn write_next(&mut self, out: &mut BytesMut, room: usize) {
        let mut room = room.min(self.remaining);
        self.remaining -= room;
        let prefix = self.prefix.split_to(room.min(self.prefix.len()));
        out.put_slice(&prefix);
        room -= prefix.len();
        while room > 0
            && let Some((slice, rest)) = self.slices.split_first()
        {
            let left = &slice[self.written..];
            let taken = left.len().min(room);
            out.put_slice(&left[..taken]);
            room -= taken;
            self.written += taken;
            if self.written == slice.len() {
                (self.slices, self.written) = (rest, 0);
            }
        }
    }
}

/// What is wrong with the body of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// The first byte is neither 0 nor, for a compression that nobody offered, 1.
    #[error("a reply that begins with {0:#04x}, which is no message")]
    Prefix(u8),
    /// Compressed, with nobody having said by what.
    #[error("a compressed reply, though no compression was offered")]
    Compressed,
    /// Larger than [`MAX_MESSAGE`] by its own account.
    #[error("a reply of {0} bytes, expected at most {MAX_MESSAGE}")]
    TooLarge(u32),
    /// There is something behind the message.
    #[error("more than one message in reply")]
    TooMuch,
    /// The body ended before the message did.
    #[error("half a message in reply")]
    CutShort,
    /// The body ended with nothing in it.
    #[error("no message in reply")]
    Absent,
}

/// Collects the one message of a reply. Holds what came, never what was announced.
#[derive(Debug, Default)]
pub struct Reply {
    bytes: BytesMut,
}

impl Reply {
    /// Takes the next part of the body.
    ///
    /// # Errors
    /// As soon as it cannot become one message of at most [`MAX_MESSAGE`] bytes.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ReplyFault> {
        let missing = PREFIX.saturating_sub(self.bytes.len()).min(chunk.len());
        let (prefix, message) = chunk.split_at(missing);
        self.bytes.put_slice(prefix);
        let Some(length) = self.length()? else {
            return Ok(());
        };
        if self.bytes.len() - PREFIX + message.len() > length {
            return Err(ReplyFault::TooMuch);
        }
        self.bytes.put_slice(message);
        Ok(())
    }

    /// The message, at the end of the body.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn finish(mut self) -> Result<Bytes, ReplyFault> {
        if self.bytes.is_empty() {
            return Err(ReplyFault::Absent);
        }
        match self.length()? {
            Some(length) if self.bytes.len() - PREFIX == length => {
                self.bytes.advance(PREFIX);
                Ok(self.bytes.freeze())
            }
            _ => Err(ReplyFault::CutShort),
        }
    }

    /// The length of the message; `None` as long as the prefix is not whole.
    fn length(&self) -> Result<Option<usize>, ReplyFault> {
        let Some((&[compressed, length @ ..], _)) = self.bytes.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(length);
        match compressed {
            0 => {}
            1 => return Err(ReplyFault::Compressed),
            other => return Err(ReplyFault::Prefix(other)),
        }
        match usize::try_from(length) {
            Ok(fits) if fits <= MAX_MESSAGE => Ok(Some(fits)),
            _ => Err(ReplyFault::TooLarge(length)),
        }
    }
}

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How the server says that a call went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// [`Code::Unknown`] also for a number that is no code.
    pub code: Code,
    /// Free text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl Status {
    /// Reads it from the trailers of an answer, or from the head of one that has no body. `None` when there is none.
    ///
    /// Not by way of `tonic::Status`: that panics at details which are not base64, and makes a code unknown whose
    /// text is not UTF-8.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let code = Code::from_bytes(headers.get(STATUS)?.as_bytes());
        let text = headers.get(MESSAGE).map_or_else(String::new, |text| {
            percent_decode(text.as_bytes())
                .decode_utf8_lossy()
                .into_owned()
        });
        Some(Self { code, text })
    }
}
