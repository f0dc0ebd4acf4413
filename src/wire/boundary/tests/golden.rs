//! Bytes that real programs wrote: the examples of the protocol and frames taken off the socket.

use bytes::BytesMut;
use prost::Message as _;

use super::reference::{Request, assert_sums_up};
use super::unhex;
use crate::wire::boundary::{
    Frame, FrameError, Logs, Message, SenderDrops, Summary, Tag, decode, open,
};

const CAPTURED: &str = include_str!("../../../../tests/data/boundary-frames.txt");

const ONE_LOG: &str = "0a3a 0801 1206 0880f2d6ca06 1a2e 0a03474554
    1213 68747470733a2f2f6578616d706c652e636f6d 1a12 646f6d61696e3d6578616d706c652e636f6d";

/// A frame of the file, and what the comment above it says of it.
#[derive(Debug, Default)]
pub(super) struct Captured {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// `sequence 1, denied, 1795415119.451995303, POST https://example.test/`, one per log.
    logs: Vec<String>,
    session: String,
    drops: SenderDrops,
}

pub(super) fn captured() -> Vec<Captured> {
    let mut frames = Vec::new();
    let mut next = Captured::default();
    for line in CAPTURED.lines() {
        let Some(comment) = line.strip_prefix('#') else {
            if let Some((name, hex)) = line.split_once(' ') {
                next.name = name.to_owned();
                next.bytes = unhex(hex);
                frames.push(std::mem::take(&mut next));
            } else {
                next = Captured::default();
            }
            continue;
        };
        let comment = comment.trim_start();
        let mut words = comment
            .split([' ', ';'])
            .skip_while(|word| !word.starts_with("dropped_"));
        if let (Some(counter), Some(count)) = (words.next(), words.next())
            && let Ok(count) = count.parse()
        {
            match counter {
                "dropped_channel_full" => next.drops.channel_full = count,
                "dropped_batch_full" => next.drops.batch_full = count,
                other => panic!("unknown counter {other}"),
            }
        } else if let Some(session) = comment.strip_prefix("session ") {
            next.session = session.to_owned();
        } else if comment.contains("allowed, 1") || comment.contains("denied, 1") {
            next.logs.push(comment.to_owned());
        }
    }
    frames
}

/// A decoded log in the words of the file.
fn describe(log: &super::reference::Log, numbered: bool) -> String {
    let time = log.time.expect("a time");
    let request = log.http_request.as_ref().expect("an HTTP request");
    let sequence = if numbered {
        format!("sequence {}, ", log.sequence_number)
    } else {
        String::new()
    };
    let decision = if log.allowed { "allowed" } else { "denied" };
    let rule = match request.matched_rule.as_str() {
        "" => String::new(),
        rule => format!(", rule \"{rule}\""),
    };
    let (seconds, nanos) = (time.seconds, time.nanos);
    let (method, url) = (&request.method, &request.url);
    format!("{sequence}{decision}, {seconds}.{nanos:09}, {method} {url}{rule}")
}

pub(super) fn decode_only(bytes: &[u8]) -> Frame {
    let mut buf = BytesMut::from(bytes);
    let frame = decode(&mut buf)
        .expect("a good header")
        .expect("a whole frame");
    assert!(buf.is_empty(), "{} bytes after the frame", buf.len());
    frame
}

fn open_logs(frame: Frame) -> Logs {
    match open(frame) {
        Ok(Message::Logs(logs)) => logs,
        other => panic!("expected logs, got {other:?}"),
    }
}

#[test]
fn captured_frames_say_what_their_comments_say() {
    let frames = captured();
    let names: Vec<_> = frames.iter().map(|frame| frame.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "logs-one-allowed",
            "logs-denied-allowed",
            "logs-full-batch",
            "status-batch-full",
            "status-channel-full",
            "logs-v0.9.0",
            "logs-v0.8.3"
        ]
    );
    for expected in frames {
        let name = &expected.name;
        let frame = decode_only(&expected.bytes);
        let tag = if name == "logs-v0.8.3" {
            Tag::V1
        } else {
            Tag::V2
        };
        assert_eq!(frame.tag, tag, "{name}");
        if name.starts_with("status-") {
            assert_ne!(expected.drops, SenderDrops::default(), "{name}");
            assert_eq!(open(frame), Ok(Message::Status(expected.drops)), "{name}");
            continue;
        }

        let logs = open_logs(frame);
        let decoded = Request::decode(&*logs.payload).expect("prost decodes it");
        let numbered = !name.starts_with("logs-v");
        let described: Vec<_> = decoded
            .logs
            .iter()
            .map(|log| describe(log, numbered))
            .collect();
        assert!(
            !expected.logs.is_empty(),
            "{name}: the comment names no log"
        );
        assert_eq!(described, expected.logs, "{name}");
        assert_eq!(decoded.session_id, expected.session, "{name}");
        assert_sums_up(&logs.summary, &logs.payload, &decoded);
        assert!(logs.summary.mergeable, "{name}");
    }
}

#[test]
fn a_v1_frame_is_the_bare_request() {
    let mut bytes = unhex("0100003c");
    bytes.extend(unhex(ONE_LOG));
    let frame = decode_only(&bytes);
    assert_eq!(frame.tag, Tag::V1);
    let logs = open_logs(frame);
    assert_eq!(logs.payload, unhex(ONE_LOG));
    assert_eq!(logs.summary.logs, 1);
    assert_eq!(logs.summary.sequences, Some(0..=0));
    assert_eq!(logs.session_id(), "");
    assert_eq!(logs.process(), "");
    assert!(logs.summary.mergeable);
}

#[test]
fn a_v2_frame_is_an_envelope() {
    let request = unhex(
        "0a3c 0801 1206 0880f2d6ca06 1a2e 0a03474554
         1213 68747470733a2f2f6578616d706c652e636f6d
         1a12 646f6d61696e3d6578616d706c652e636f6d 2005
         1224 36663166396633612d326135652d346339622d396135332d306436663362316332653464
         1a05 636f646578",
    );
    let mut bytes = unhex("0200006d 0a6b");
    bytes.extend(&request);
    let logs = open_logs(decode_only(&bytes));
    assert_eq!(logs.payload, request);
    assert_eq!(logs.summary.logs, 1);
    assert_eq!(logs.summary.sequences, Some(5..=5));
    assert_eq!(logs.session_id(), "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d");
    assert_eq!(logs.process(), "codex");
    assert!(logs.summary.mergeable);
}

#[test]
fn a_v2_status_counts_what_the_sender_dropped() {
    let frame = decode_only(&unhex("02000006 1204 0805 1003"));
    let drops = SenderDrops {
        channel_full: 5,
        batch_full: 3,
    };
    assert_eq!(open(frame), Ok(Message::Status(drops)));
}

#[test]
fn headers_at_the_limit() {
    assert_eq!(
        decode(&mut BytesMut::from(&unhex("01008000")[..])),
        Ok(None)
    );
    assert_eq!(
        decode(&mut BytesMut::from(&unhex("01008001")[..])),
        Err(FrameError::TooLarge { length: 32_769 })
    );
    assert_eq!(
        decode(&mut BytesMut::from(&unhex("0000003c")[..])),
        Err(FrameError::Tag { found: 0 })
    );
}

#[test]
fn the_payload_example_is_one_allowed_get() {
    let payload = unhex(ONE_LOG);
    let decoded = Request::decode(&*payload).expect("prost decodes it");
    assert_eq!(
        describe(&decoded.logs[0], false),
        "allowed, 1767225600.000000000, GET https://example.com, rule \"domain=example.com\""
    );
    let summary = Summary::read(&payload).expect("the walker takes it");
    assert_sums_up(&summary, &payload, &decoded);
}
