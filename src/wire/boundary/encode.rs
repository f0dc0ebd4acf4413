//! Frames as a sender writes them.
//!
//! Fields stand in the order of protobuf-go v1.36, so that a frame is the one that a Go sender
//! would write: by number, members of a oneof last, zero values not at all.

use super::envelope::SenderDrops;
use super::frame::{Tag, header, short_header};
use crate::wire::field::{LEN, VARINT, key, message_len, put_message, put_varint, varint_len};

const ENVELOPE_LOGS: u32 = key(1, LEN);
const ENVELOPE_STATUS: u32 = key(2, LEN);

const STATUS_CHANNEL_FULL: u32 = key(1, VARINT);
const STATUS_BATCH_FULL: u32 = key(2, VARINT);

const REQUEST_LOGS: u32 = key(1, LEN);
const REQUEST_SESSION_ID: u32 = key(2, LEN);

const LOG_ALLOWED: u32 = key(1, VARINT);
const LOG_TIME: u32 = key(2, LEN);
const LOG_HTTP_REQUEST: u32 = key(3, LEN);
const LOG_SEQUENCE_NUMBER: u32 = key(4, VARINT);

const TIME_SECONDS: u32 = key(1, VARINT);
const TIME_NANOS: u32 = key(2, VARINT);

const HTTP_METHOD: u32 = key(1, LEN);
const HTTP_URL: u32 = key(2, LEN);
const HTTP_MATCHED_RULE: u32 = key(3, LEN);

/// One log of a request: a `coder.agent.v2.BoundaryLog`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// Whether the request was let through.
    pub allowed: bool,
    /// Seconds since 1970 UTC.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, 0 to 999 999 999.
    pub nanos: i32,
    /// Counts from 0 within a session.
    pub sequence: i32,
    /// The HTTP method.
    pub method: &'a str,
    /// The URL asked for.
    pub url: &'a str,
    /// The rule that let it through; empty when none did.
    pub matched_rule: &'a str,
}

impl LogEntry<'_> {
    /// Appends the log as it stands in a request, ready for [`put_logs_frame`].
    pub fn put(&self, out: &mut Vec<u8>) {
        let time = varint_field_len(TIME_SECONDS, self.seconds.cast_unsigned())
            + varint_field_len(TIME_NANOS, int32(self.nanos));
        let http_request = text_len(HTTP_METHOD, self.method)
            + text_len(HTTP_URL, self.url)
            + text_len(HTTP_MATCHED_RULE, self.matched_rule);
        let log = varint_field_len(LOG_ALLOWED, u64::from(self.allowed))
            + message_len(LOG_TIME, time)
            + varint_field_len(LOG_SEQUENCE_NUMBER, int32(self.sequence))
            + message_len(LOG_HTTP_REQUEST, http_request);

        out.reserve(message_len(REQUEST_LOGS, log));
        put_message(out, REQUEST_LOGS, log);
        put_varint_field(out, LOG_ALLOWED, u64::from(self.allowed));
        put_message(out, LOG_TIME, time);
        put_varint_field(out, TIME_SECONDS, self.seconds.cast_unsigned());
        put_varint_field(out, TIME_NANOS, int32(self.nanos));
        put_varint_field(out, LOG_SEQUENCE_NUMBER, int32(self.sequence));
        put_message(out, LOG_HTTP_REQUEST, http_request);
        put_text(out, HTTP_METHOD, self.method);
        put_text(out, HTTP_URL, self.url);
        put_text(out, HTTP_MATCHED_RULE, self.matched_rule);
    }
}

/// Payload bytes of the tag-2 frame whose logs take `entries` bytes, as [`LogEntry::put`] writes
/// them.
pub fn logs_payload_len(session_id: &str, entries: usize) -> usize {
    message_len(
        ENVELOPE_LOGS,
        entries + text_len(REQUEST_SESSION_ID, session_id),
    )
}

/// Appends a tag-2 frame with the first of `entries`, as many as fit, and says how many those are.
///
/// Each entry is one or more whole logs as [`LogEntry::put`] writes them. When not even the first
/// fits, or there is none, nothing is appended.
pub fn put_logs_frame<E: AsRef<[u8]>>(out: &mut Vec<u8>, session_id: &str, entries: &[E]) -> usize {
    let mut entries_len: usize = entries.iter().map(|entry| entry.as_ref().len()).sum();
    for (index, last) in entries.iter().enumerate().rev() {
        let payload = logs_payload_len(session_id, entries_len);
        if let Ok(header) = header(Tag::V2, payload) {
            out.reserve(header.len() + payload);
            out.extend_from_slice(&header);
            let request = entries_len + text_len(REQUEST_SESSION_ID, session_id);
            put_message(out, ENVELOPE_LOGS, request);
            for entry in &entries[..=index] {
                out.extend_from_slice(entry.as_ref());
            }
            put_text(out, REQUEST_SESSION_ID, session_id);
            return index + 1;
        }
        entries_len -= last.as_ref().len();
    }
    0
}

/// Appends a tag-2 frame that reports `drops`.
pub fn put_status_frame(out: &mut Vec<u8>, drops: SenderDrops) {
    let channel_full = int64(drops.channel_full);
    let batch_full = int64(drops.batch_full);
    let status = varint_field_len(STATUS_CHANNEL_FULL, channel_full)
        + varint_field_len(STATUS_BATCH_FULL, batch_full);
    out.extend_from_slice(&short_header(
        Tag::V2,
        // Two numbers of at most nine bytes each, and their keys.
        message_len(ENVELOPE_STATUS, status) as u8,
    ));
    put_message(out, ENVELOPE_STATUS, status);
    put_varint_field(out, STATUS_CHANNEL_FULL, channel_full);
    put_varint_field(out, STATUS_BATCH_FULL, batch_full);
}

/// An int32 on the wire: negative ones are extended to 64 bits.
fn int32(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

/// A count as an int64, at most the largest.
fn int64(count: u64) -> u64 {
    count.min(i64::MAX.cast_unsigned())
}

fn varint_field_len(key: u32, value: u64) -> usize {
    match value {
        0 => 0,
        _ => varint_len(u64::from(key)) + varint_len(value),
    }
}

fn put_varint_field(out: &mut Vec<u8>, key: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(key));
        put_varint(out, value);
    }
}

fn text_len(key: u32, text: &str) -> usize {
    match text.len() {
        0 => 0,
        length => message_len(key, length),
    }
}

fn put_text(out: &mut Vec<u8>, key: u32, text: &str) {
    if !text.is_empty() {
        put_message(out, key, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}
