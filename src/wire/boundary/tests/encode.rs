//! What is written is what a Go sender would have written.

use proptest::prelude::*;
use prost::Message as _;

use super::golden::{captured, decode_only};
use super::reference::Request;
use super::unhex;
use crate::wire::boundary::encode::{LogEntry, logs_payload_len, put_logs_frame, put_status_frame};
use crate::wire::boundary::{MAX_PAYLOAD, Message, SenderDrops, Tag, open};

/// Writes a decoded request anew.
fn frame_of(request: &Request) -> Vec<u8> {
    let mut entries = Vec::new();
    for log in &request.logs {
        let time = log.time.unwrap_or_default();
        let http = log.http_request.clone().unwrap_or_default();
        LogEntry {
            allowed: log.allowed,
            seconds: time.seconds,
            nanos: time.nanos,
            sequence: log.sequence_number,
            method: &http.method,
            url: &http.url,
            matched_rule: &http.matched_rule,
        }
        .put(&mut entries);
    }
    let mut frame = Vec::new();
    assert_eq!(
        put_logs_frame(&mut frame, &request.session_id, &[entries]),
        1
    );
    frame
}

#[test]
fn captured_tag_2_frames_are_written_byte_for_byte() {
    let mut compared = 0;
    for captured in captured() {
        let frame = decode_only(&captured.bytes);
        if frame.tag == Tag::V1 {
            continue;
        }
        let written = match open(frame).expect("a good frame") {
            Message::Logs(logs) => {
                frame_of(&Request::decode(&*logs.payload).expect("prost decodes it"))
            }
            Message::Status(drops) => {
                let mut frame = Vec::new();
                put_status_frame(&mut frame, drops);
                frame
            }
            Message::Empty => panic!("{}: no message", captured.name),
        };
        assert_eq!(written, captured.bytes, "{}", captured.name);
        compared += 1;
    }
    assert_eq!(compared, 6);
}

#[test]
fn a_status_leaves_zero_counters_out() {
    for (channel_full, batch_full, expected) in [
        (0, 0, "02000002 1200"),
        (5, 3, "02000006 1204 0805 1003"),
        (0, 16, "02000004 1202 1010"),
        (u64::MAX, 0, "0200000c 120a 08ffffffffffffffff7f"),
    ] {
        let mut frame = Vec::new();
        let drops = SenderDrops {
            channel_full,
            batch_full,
        };
        put_status_frame(&mut frame, drops);
        assert_eq!(frame, unhex(expected));
    }
}

fn entry(url_bytes: usize) -> Vec<u8> {
    let mut entry = Vec::new();
    LogEntry {
        allowed: true,
        seconds: 1,
        nanos: 1,
        sequence: 1,
        method: "GET",
        url: &"u".repeat(url_bytes),
        matched_rule: "",
    }
    .put(&mut entry);
    entry
}

#[test]
fn a_log_fits_up_to_the_last_byte_of_the_limit() {
    let (mut fits, mut refused) = (0, 0);
    for url_bytes in MAX_PAYLOAD - 80..MAX_PAYLOAD - 10 {
        let entry = entry(url_bytes);
        let payload = logs_payload_len("s", entry.len());
        let mut frame = vec![0xff];
        let taken = put_logs_frame(&mut frame, "s", &[entry]);
        if payload <= MAX_PAYLOAD {
            fits += 1;
            assert_eq!(taken, 1);
            assert_eq!(decode_only(&frame[1..]).payload.len(), payload);
        } else {
            refused += 1;
            assert_eq!(taken, 0);
            assert_eq!(frame, [0xff]);
        }
    }
    assert!(fits > 0 && refused > 0, "{fits} fit, {refused} refused");
}

#[test]
fn as_many_logs_as_fit_are_taken() {
    let entries = vec![entry(10_000); 5];
    for (offered, taken) in [(0, 0), (1, 1), (3, 3), (4, 3), (5, 3)] {
        let mut frame = Vec::new();
        assert_eq!(put_logs_frame(&mut frame, "s", &entries[..offered]), taken);
        if taken == 0 {
            assert!(frame.is_empty());
            continue;
        }
        match open(decode_only(&frame)) {
            Ok(Message::Logs(logs)) => assert_eq!(logs.summary.logs, taken as u64),
            other => panic!("expected logs, got {other:?}"),
        }
    }
}

fn request() -> impl Strategy<Value = Request> {
    let log = (
        any::<bool>(),
        (any::<i64>(), any::<i32>()),
        any::<i32>(),
        (".{0,20}", ".{0,300}", ".{0,40}"),
    )
        .prop_map(
            |(allowed, (seconds, nanos), sequence_number, http)| super::reference::Log {
                allowed,
                time: Some(prost_types::Timestamp { seconds, nanos }),
                sequence_number,
                http_request: Some(super::reference::HttpRequest {
                    method: http.0,
                    url: http.1,
                    matched_rule: http.2,
                }),
            },
        );
    (prop::collection::vec(log, 0..8), ".{0,40}").prop_map(|(logs, session_id)| Request {
        logs,
        session_id,
        confined_process_name: String::new(),
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(request in request()) {
        let frame = decode_only(&frame_of(&request));
        let Ok(Message::Logs(logs)) = open(frame) else {
            panic!("the walker refuses it");
        };
        prop_assert_eq!(Request::decode(&*logs.payload), Ok(request));
    }
}
