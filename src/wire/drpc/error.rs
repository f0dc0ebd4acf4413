//! The payload of an Error packet.

use bytes::BufMut;

/// The code that generated stubs answer with for a method that is not implemented (storj/drpc drpcerr).
pub const UNIMPLEMENTED: u64 = 12;

/// What a handler answered instead of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    /// 0 when the handler gave none.
    pub code: u64,
    /// Free text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl RemoteError {
    /// Reads a payload: the code in 8 bytes, big endian, then the text to the end.
    pub fn decode(payload: &[u8]) -> Result<Self, MalformedError> {
        let (code, text) = payload.split_first_chunk().ok_or(MalformedError {
            length: payload.len(),
        })?;
        Ok(Self {
            code: u64::from_be_bytes(*code),
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u64(self.code);
        out.put_slice(self.text.as_bytes());
    }

    /// Whether the peer does not have the method: the code of a stub, or the text with which the
    /// reference's mux answers a name it does not know (storj/drpc drpcmux/handle_rpc.go).
    pub fn is_unknown_method(&self) -> bool {
        self.code == UNIMPLEMENTED || self.text.starts_with("protocol error: unknown rpc")
    }
}

/// An error payload too short to hold its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error payload of {length} bytes, expected at least 8")]
pub struct MalformedError {
    /// Bytes that came.
    pub length: usize,
}
