//! From a frame to the message in it: `coder.boundarylogproxy.codec.v1.BoundaryMessage`.

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, Tag};
use super::request::Summary;
use crate::wire::field::{Cursor, LEN, Malformed, VARINT, key};

const LOGS: u32 = key(1, LEN);
const STATUS: u32 = key(2, LEN);

const DROPPED_CHANNEL_FULL: u32 = key(1, VARINT);
const DROPPED_BATCH_FULL: u32 = key(2, VARINT);

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A batch of logs to forward.
    Logs(Logs),
    /// Logs that the sender lost since its last status.
    Status(SenderDrops),
    /// An envelope without a member known here.
    Empty,
}

/// A request that a Go receiver would decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// The encoded `ReportBoundaryLogsRequest`.
    pub payload: Bytes,
    /// What `payload` holds.
    pub summary: Summary,
}

impl Logs {
    /// The sender's session; empty from senders without sessions.
    pub fn session_id(&self) -> &str {
        self.summary.session_id.of(&self.payload)
    }

    /// The confined process; empty when not told.
    pub fn process(&self) -> &str {
        self.summary.process.of(&self.payload)
    }
}

/// Increments of the sender's own drop counters; what it reports as zero or less counts as 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderDrops {
    /// Logs lost because the queue to the sender's batcher was full.
    pub channel_full: u64,
    /// Logs lost because a batch that could not be sent was full.
    pub batch_full: u64,
}

/// Reads the message in `frame`. Its logs are a slice of the frame's payload wherever they stand
/// there in one piece.
///
/// # Errors
///
/// When protobuf-go v1.36 `proto.Unmarshal` of the frame's payload fails. The next frame is not
/// affected.
pub fn open(frame: Frame) -> Result<Message, Malformed> {
    let payload = frame.payload;
    match frame.tag {
        Tag::V1 => {
            let summary = Summary::read(&payload)?;
            Ok(Message::Logs(Logs { payload, summary }))
        }
        Tag::V2 => open_envelope(&payload),
    }
}

/// The oneof as read so far. A member that comes again is merged with itself; another member
/// replaces it (protobuf-go `internal/impl/codec_field.go`, `initOneofFieldCoders`).
enum Member {
    None,
    Logs(Logs),
    /// Several `logs` in a row, concatenated, which is what merging them means.
    Joined(BytesMut),
    Status(SenderDrops),
}

fn open_envelope(payload: &Bytes) -> Result<Message, Malformed> {
    let mut envelope = Cursor::new(payload);
    let mut member = Member::None;
    while let Some(key) = envelope.field()? {
        match key {
            LOGS => {
                let part = envelope.bytes()?.range();
                // Each part has to decode by itself, even one that is replaced later.
                let summary =
                    Summary::read(&payload[part.clone()]).map_err(|e| e.within(part.start))?;
                member = match member {
                    Member::Logs(first) => {
                        let mut joined = BytesMut::with_capacity(payload.len());
                        joined.extend_from_slice(&first.payload);
                        joined.extend_from_slice(&payload[part]);
                        Member::Joined(joined)
                    }
                    Member::Joined(mut joined) => {
                        joined.extend_from_slice(&payload[part]);
                        Member::Joined(joined)
                    }
                    Member::None | Member::Status(_) => Member::Logs(Logs {
                        payload: payload.slice(part),
                        summary,
                    }),
                };
            }
            STATUS => {
                let before = match member {
                    Member::Status(drops) => drops,
                    _ => SenderDrops::default(),
                };
                member = Member::Status(read_status(envelope.message()?, before)?);
            }
            other => envelope.skip(other)?,
        }
    }
    Ok(match member {
        Member::None => Message::Empty,
        Member::Logs(logs) => Message::Logs(logs),
        Member::Joined(joined) => {
            let payload = joined.freeze();
            let summary = Summary::read(&payload)?;
            Message::Logs(Logs { payload, summary })
        }
        Member::Status(drops) => Message::Status(drops),
    })
}

/// Reads a `BoundaryStatus` over `drops`, what the same member said before.
fn read_status(mut status: Cursor<'_>, mut drops: SenderDrops) -> Result<SenderDrops, Malformed> {
    while let Some(key) = status.field()? {
        match key {
            DROPPED_CHANNEL_FULL => drops.channel_full = count(status.varint()?),
            DROPPED_BATCH_FULL => drops.batch_full = count(status.varint()?),
            other => status.skip(other)?,
        }
    }
    Ok(drops)
}

/// An int64 increment; the Go agent ignores those that are not positive.
fn count(varint: u64) -> u64 {
    u64::try_from(varint.cast_signed()).unwrap_or(0)
}
