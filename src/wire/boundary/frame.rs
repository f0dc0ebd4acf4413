//! Framing: `u32` big-endian `(tag << 24) | length`, then `length` bytes of payload.

use bytes::{Bytes, BytesMut};

/// Most payload bytes in a frame, header excluded, inclusive.
///
/// The limit of every release of the sender and of the Go agent (coder/coder
/// `agent/boundarylogproxy/codec/codec.go`).
pub const MAX_PAYLOAD: usize = 32_768;

const HEADER_LEN: usize = 4;

/// What a frame's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Tag 1: a bare `ReportBoundaryLogsRequest`.
    V1,
    /// Tag 2: a `BoundaryMessage`, the envelope of a request or a status.
    V2,
}

impl Tag {
    fn byte(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// One frame, its payload not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub tag: Tag,
    /// At most [`MAX_PAYLOAD`] bytes, shared with the buffer they were read into.
    pub payload: Bytes,
}

/// A header no frame can follow. The connection is out of step and cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte is no known tag.
    #[error("unsupported frame tag: expected 1 or 2, got {found}")]
    Tag {
        /// The first byte.
        found: u8,
    },
    /// The payload would exceed [`MAX_PAYLOAD`].
    #[error("frame too large: expected at most {MAX_PAYLOAD} payload bytes, got {length}")]
    TooLarge {
        /// The length the header declares.
        length: u32,
    },
}

/// Takes one frame off the front of `buf`, without copying its payload.
///
/// `None` means that more bytes are needed: `buf` is left as it was and no space is reserved for
/// what the header announces.
///
/// # Errors
///
/// A tag or length outside the format is final for the connection; `buf` is left as it was.
pub fn decode(buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(&header) = buf.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let (tag, length) = parse(header)?;
    if buf.len() < HEADER_LEN + length {
        return Ok(None);
    }
    let mut frame = buf.split_to(HEADER_LEN + length);
    let payload = frame.split_off(HEADER_LEN).freeze();
    Ok(Some(Frame { tag, payload }))
}

/// The header of a frame with `length` payload bytes.
///
/// # Errors
///
/// [`FrameError::TooLarge`] beyond [`MAX_PAYLOAD`].
pub fn header(tag: Tag, length: usize) -> Result<[u8; HEADER_LEN], FrameError> {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if length as usize > MAX_PAYLOAD {
        return Err(FrameError::TooLarge { length });
    }
    let [_, high, mid, low] = length.to_be_bytes();
    Ok([tag.byte(), high, mid, low])
}

/// The header of a frame whose payload is too short to exceed any limit.
pub(super) fn short_header(tag: Tag, length: u8) -> [u8; HEADER_LEN] {
    [tag.byte(), 0, 0, length]
}

/// How a connection ended, judged by what [`decode`] left unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eof {
    /// Between two frames, or after a header of which no payload byte followed: an orderly end.
    Edge,
    /// Inside a frame.
    Truncated {
        /// Bytes of the frame that arrived, header included.
        have: usize,
        /// Bytes it needs; the header's alone while that is incomplete.
        want: usize,
    },
}

/// Judges the end of a connection by `buf`, the bytes for which [`decode`] last said `None`.
pub fn at_eof(buf: &[u8]) -> Eof {
    let have = buf.len();
    match buf.first_chunk::<HEADER_LEN>() {
        None if have == 0 => Eof::Edge,
        None => Eof::Truncated {
            have,
            want: HEADER_LEN,
        },
        Some(_) if have == HEADER_LEN => Eof::Edge,
        Some(&header) => Eof::Truncated {
            have,
            want: HEADER_LEN + declared(header) as usize,
        },
    }
}

fn parse(header: [u8; HEADER_LEN]) -> Result<(Tag, usize), FrameError> {
    let tag = match header[0] {
        1 => Tag::V1,
        2 => Tag::V2,
        found => return Err(FrameError::Tag { found }),
    };
    let length = declared(header);
    if length as usize > MAX_PAYLOAD {
        return Err(FrameError::TooLarge { length });
    }
    Ok((tag, length as usize))
}

fn declared([_, high, mid, low]: [u8; HEADER_LEN]) -> u32 {
    u32::from_be_bytes([0, high, mid, low])
}
