//! The body of a request, written in pieces.

use bytes::{BufMut, Bytes, BytesMut};

use super::{HEADER, MAX_MESSAGE};

/// A request larger than [`MAX_MESSAGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request of {0} bytes, expected at most {MAX_MESSAGE}")]
pub struct RequestTooLarge(pub usize);

/// A request that is written piece by piece. The message is the concatenation of the slices.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is left of the bytes before the message.
    header: Bytes,
    slices: &'a [Bytes],
    /// How much of the first slice is written.
    written: usize,
    /// Bytes that are left to write, with the header.
    remaining: usize,
}

impl<'a> Request<'a> {
    /// Nothing of it is written yet.
    ///
    /// # Errors
    /// When the message is larger than [`MAX_MESSAGE`].
    pub fn new(slices: &'a [Bytes]) -> Result<Self, RequestTooLarge> {
        let length = slices.iter().map(Bytes::len).sum();
        let mut header = BytesMut::with_capacity(HEADER);
        header.put_u8(0);
        match u32::try_from(length) {
            Ok(short) if length <= MAX_MESSAGE => header.put_u32(short),
            _ => return Err(RequestTooLarge(length)),
        }
        Ok(Self {
            header: header.freeze(),
            slices,
            written: 0,
            remaining: HEADER + length,
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
        let header = self.header.split_to(room.min(self.header.len()));
        out.put_slice(&header);
        room -= header.len();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::grpc::{Assembler, Fault};

    /// A request written in pieces of that size.
    fn written(slices: &[Bytes], piece: usize) -> Bytes {
        let mut request = Request::new(slices).unwrap();
        let mut whole = BytesMut::new();
        while request.remaining() > 0 {
            let mut out = BytesMut::new();
            request.write_next(&mut out, piece);
            assert!(!out.is_empty() && out.len() <= piece);
            whole.unsplit(out);
        }
        whole.freeze()
    }

    #[test]
    fn a_request_is_its_slices_behind_their_length() {
        let slices = [&b"ab"[..], b"", b"cde"].map(Bytes::from_static);
        for piece in 1..12 {
            assert_eq!(written(&slices, piece), "\0\0\0\0\x05abcde", "{piece}");
        }
        assert_eq!(written(&[], 9), "\0\0\0\0\0");
    }

    #[test]
    fn a_message_may_be_4_mib_and_no_more() {
        let zeros = Bytes::from(vec![0; MAX_MESSAGE + 1]);
        for length in [MAX_MESSAGE - 1, MAX_MESSAGE] {
            let mut read = Assembler::default();
            read.push(written(&[zeros.slice(..length)], 16 << 10))
                .unwrap();
            assert_eq!(read.finish().unwrap().len(), length);
        }
        let error = Request::new(std::slice::from_ref(&zeros)).unwrap_err();
        assert_eq!(error, RequestTooLarge(MAX_MESSAGE + 1));
        // Said by the length alone, before any of it comes.
        let announced = Assembler::default().push(Bytes::from_static(b"\0\0\x40\0\x01"));
        assert_eq!(announced, Err(Fault::TooLarge(MAX_MESSAGE as u32 + 1)));
    }
}
