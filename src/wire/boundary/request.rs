//! `coder.agent.v2.ReportBoundaryLogsRequest`, checked and summed up without being decoded.

use std::ops::RangeInclusive;

use crate::wire::field::{Cursor, LEN, Malformed, Span, VARINT, key};

const LOGS: u32 = key(1, LEN);
const SESSION_ID: u32 = key(2, LEN);
const CONFINED_PROCESS_NAME: u32 = key(3, LEN);

const LOG_TIME: u32 = key(2, LEN);
const LOG_HTTP_REQUEST: u32 = key(3, LEN);
const LOG_SEQUENCE_NUMBER: u32 = key(4, VARINT);

const HTTP_METHOD: u32 = key(1, LEN);
const HTTP_URL: u32 = key(2, LEN);
const HTTP_MATCHED_RULE: u32 = key(3, LEN);

/// What Weir needs to know of a request that a Go receiver would decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Log entries in the request.
    pub logs: u64,
    /// The sender's session; empty from senders without sessions.
    pub session_id: Span,
    /// The confined process; empty when not told.
    pub process: Span,
    /// Lowest to highest sequence number, a missing one being 0; `None` without logs.
    pub sequences: Option<RangeInclusive<i32>>,
    /// Whether this request and another mergeable one of the same session and process, one after
    /// the other, are to every receiver the request with the logs of both.
    ///
    /// True when the top level has nothing but known fields of the right wire type, and session
    /// and process at most once: what a receiver of another version makes of anything else when
    /// it comes twice is unknown.
    pub mergeable: bool,
}

impl Summary {
    /// Walks `payload` once, without allocating.
    ///
    /// As protobuf does, the last of several session ids, process names or sequence numbers
    /// counts, and a field of an unexpected wire type is an unknown field.
    ///
    /// # Errors
    ///
    /// Exactly when protobuf-go v1.36 `proto.Unmarshal` fails: malformed wire data at any level of
    /// the schema, and text fields that are not UTF-8.
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let mut request = Cursor::new(payload);
        let mut logs = 0;
        let mut session_id = None;
        let mut process = None;
        let mut sequences = None;
        let mut mergeable = true;
        while let Some(key) = request.field()? {
            match key {
                LOGS => {
                    let number = read_log(request.message()?)?;
                    logs += 1;
                    let (low, high) = sequences.unwrap_or((number, number));
                    sequences = Some((number.min(low), number.max(high)));
                }
                SESSION_ID => {
                    mergeable &= session_id.replace(request.text("session_id")?).is_none();
                }
                CONFINED_PROCESS_NAME => {
                    let name = request.text("confined_process_name")?;
                    mergeable &= process.replace(name).is_none();
                }
                other => {
                    mergeable = false;
                    request.skip(other)?;
                }
            }
        }
        Ok(Self {
            logs,
            session_id: session_id.unwrap_or_default(),
            process: process.unwrap_or_default(),
            sequences: sequences.map(|(low, high)| low..=high),
            mergeable,
        })
    }
}

/// Checks a `BoundaryLog` and returns its sequence number.
#[inline]
fn read_log(mut log: Cursor<'_>) -> Result<i32, Malformed> {
    let mut sequence = 0;
    while let Some(key) = log.field()? {
        match key {
            // int32 is the low half of its varint (protobuf-go `consumeInt32`).
            LOG_SEQUENCE_NUMBER => sequence = log.varint()? as i32,
            LOG_TIME => read_timestamp(log.message()?)?,
            LOG_HTTP_REQUEST => read_http_request(log.message()?)?,
            other => log.skip(other)?,
        }
    }
    Ok(sequence)
}

/// Checks a `google.protobuf.Timestamp`, whose fields have no rule but to be well formed.
#[inline]
fn read_timestamp(mut time: Cursor<'_>) -> Result<(), Malformed> {
    while let Some(key) = time.field()? {
        time.skip(key)?;
    }
    Ok(())
}

#[inline]
fn read_http_request(mut request: Cursor<'_>) -> Result<(), Malformed> {
    while let Some(key) = request.field()? {
        match key {
            HTTP_METHOD => {
                request.text("method")?;
            }
            HTTP_URL => {
                request.text("url")?;
            }
            HTTP_MATCHED_RULE => {
                request.text("matched_rule")?;
            }
            other => request.skip(other)?,
        }
    }
    Ok(())
}
