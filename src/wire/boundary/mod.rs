//! The boundary audit socket: frames, the requests in them, and the tag-2 envelope.
//!
//! A sender writes frames ([`Frame`]); [`open`] turns one into a [`Message`]. Requests are checked
//! field by field but never decoded ([`Summary`]), so what is forwarded are the sender's own bytes.
//!
//! Formats: coder/coder `agent/boundarylogproxy/codec/codec.go` and `boundary.proto`,
//! `agent/proto/agent.proto`. What "decodes" means: protobuf-go v1.36 `proto.Unmarshal`.

pub mod encode;
mod entries;
mod envelope;
mod frame;
mod request;
#[cfg(test)]
mod tests;

pub use super::field::{Fault, Malformed, Span};
pub use entries::{Entries, Entry};
pub use envelope::{Logs, Message, SenderDrops, open};
pub use frame::{Eof, Frame, FrameError, MAX_PAYLOAD, Tag, at_eof, decode, header};
pub use request::Summary;
