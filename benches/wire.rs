//! What a frame from the boundary socket costs: time, and allocations as `alloc` rows.
//!
//! `walk` and `open_frame` must show no `alloc` row. The one of `decode_and_open` is the read
//! buffer's share count, allocated once per buffer however many frames it holds.
//! `decode_with_prost` is what decoding instead of walking would cost.
#![allow(
    clippy::expect_used,
    reason = "a bench without its input has nothing to measure"
)]

use bytes::{Bytes, BytesMut};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use prost::Message as _;
use weir::wire::boundary::{Frame, Message, Summary, Tag, decode, header, open};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const CAPTURED: &str = include_str!("../tests/data/boundary-frames.txt");

const LOGS: u16 = 10;

/// A ten-log frame: as captured, with 30-byte URLs, or made up, with 200-byte URLs.
#[derive(Debug, Clone, Copy)]
enum Batch {
    Captured,
    LongUrls,
}

const BATCHES: [Batch; 2] = [Batch::Captured, Batch::LongUrls];

fn main() {
    divan::main();
}

#[divan::bench(args = BATCHES)]
fn walk(bencher: Bencher<'_, '_>, batch: Batch) {
    let payload = request(batch);
    bencher
        .counter(ItemsCount::new(LOGS))
        .counter(BytesCount::new(payload.len()))
        .bench_local(|| Summary::read(black_box(&payload)));
}

#[divan::bench(args = BATCHES)]
fn open_frame(bencher: Bencher<'_, '_>, batch: Batch) {
    let payload = frame(batch).split_off(4).freeze();
    bencher
        .counter(ItemsCount::new(LOGS))
        .with_inputs(|| Frame {
            tag: Tag::V2,
            payload: payload.clone(),
        })
        .bench_local_values(open);
}

/// From a full read buffer to the message, as a connection does it.
#[divan::bench(args = BATCHES)]
fn decode_and_open(bencher: Bencher<'_, '_>, batch: Batch) {
    let bytes = frame(batch);
    bencher
        .counter(ItemsCount::new(LOGS))
        .with_inputs(|| bytes.clone())
        .bench_local_values(|mut buf| decode(&mut buf).map(|frame| frame.map(open)));
}

#[divan::bench(args = BATCHES)]
fn decode_with_prost(bencher: Bencher<'_, '_>, batch: Batch) {
    let payload = request(batch);
    bencher
        .counter(ItemsCount::new(LOGS))
        .bench_local(|| Request::decode(black_box(&payload[..])));
}

fn frame(batch: Batch) -> BytesMut {
    match batch {
        Batch::Captured => {
            let hex = CAPTURED
                .lines()
                .find_map(|line| line.strip_prefix("logs-full-batch "))
                .expect("the frame is in the file");
            let digit = |at| u8::from_str_radix(hex.get(at..at + 2).expect("whole bytes"), 16);
            (0..hex.len())
                .step_by(2)
                .map(|at| digit(at).expect("hex digits"))
                .collect()
        }
        Batch::LongUrls => {
            let logs = (0..i32::from(LOGS)).map(long_log).collect();
            let session_id = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d".to_owned();
            let envelope = Envelope {
                logs: Some(Request { logs, session_id }),
            }
            .encode_to_vec();
            let head = header(Tag::V2, envelope.len()).expect("within the limit");
            head.into_iter().chain(envelope).collect()
        }
    }
}

fn request(batch: Batch) -> Bytes {
    let payload = frame(batch).split_off(4).freeze();
    match open(Frame {
        tag: Tag::V2,
        payload,
    }) {
        Ok(Message::Logs(logs)) => logs.payload,
        other => panic!("expected logs, got {other:?}"),
    }
}

fn long_log(sequence_number: i32) -> Log {
    let time = prost_types::Timestamp {
        seconds: 1_795_415_113,
        nanos: 821_608_835,
    };
    let url = format!("https://example.com/{}", "a".repeat(180));
    let http_request = HttpRequest {
        method: "GET".to_owned(),
        url,
        matched_rule: "domain=example.com".to_owned(),
    };
    Log {
        allowed: true,
        time: Some(time),
        http_request: Some(http_request),
        sequence_number,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    logs: Option<Request>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    logs: Vec<Log>,
    #[prost(string, tag = "2")]
    session_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Log {
    #[prost(bool, tag = "1")]
    allowed: bool,
    #[prost(message, optional, tag = "2")]
    time: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "3")]
    http_request: Option<HttpRequest>,
    #[prost(int32, tag = "4")]
    sequence_number: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HttpRequest {
    #[prost(string, tag = "1")]
    method: String,
    #[prost(string, tag = "2")]
    url: String,
    #[prost(string, tag = "3")]
    matched_rule: String,
}
