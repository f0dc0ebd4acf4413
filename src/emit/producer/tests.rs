//! The rules one by one, and their arithmetic under a socket that does what it likes.

use std::ops::Range;
use std::time::UNIX_EPOCH;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::wire::boundary::{Message, decode, open};

const SESSION: u128 = 0x6f1f_9f3a_2a5e_4c9b_9a53_0d6f_3b1c_2e4d;

/// What a frame says.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Logs(Vec<i32>),
    Status { channel_full: u64, batch_full: u64 },
}

fn logs(sequences: Range<i32>) -> Seen {
    Seen::Logs(sequences.collect())
}

fn channel_full(count: u64) -> Seen {
    Seen::Status {
        channel_full: count,
        batch_full: 0,
    }
}

fn batch_full(count: u64) -> Seen {
    Seen::Status {
        channel_full: 0,
        batch_full: count,
    }
}

/// Reads every whole frame in `bytes`; what is cut off at the end is no frame.
fn read(bytes: &[u8]) -> Vec<Seen> {
    let mut bytes = BytesMut::from(bytes);
    let mut seen = Vec::new();
    while let Some(frame) = decode(&mut bytes).expect("a good header") {
        seen.push(match open(frame).expect("a good frame") {
            Message::Status(drops) => Seen::Status {
                channel_full: drops.channel_full,
                batch_full: drops.batch_full,
            },
            Message::Logs(logs) => {
                assert_eq!(logs.session_id(), SessionId::from_bits(SESSION).as_str());
                Seen::Logs(sequences(&logs.payload))
            }
            Message::Empty => panic!("a frame that says nothing"),
        });
    }
    seen
}

/// The sequence numbers of a request, read by prost.
fn sequences(payload: &[u8]) -> Vec<i32> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Request {
        #[prost(message, repeated, tag = "1")]
        logs: Vec<Numbered>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Numbered {
        #[prost(int32, tag = "4")]
        sequence_number: i32,
    }
    let request: Request = prost::Message::decode(payload).expect("prost decodes it");
    request.logs.iter().map(|log| log.sequence_number).collect()
}

/// A producer, its clock, and what it wrote.
struct Stage {
    producer: Producer,
    now: Instant,
    frame: Vec<u8>,
}

impl Stage {
    fn new(when_full: WhenFull) -> Self {
        Self {
            producer: Producer::new(SessionId::from_bits(SESSION), when_full),
            now: Instant::now(),
            frame: Vec::new(),
        }
    }

    /// Offers `count` logs with no time for the batcher in between; says how many were queued.
    fn burst(&mut self, count: usize) -> usize {
        let log = Log::made_up(0, UNIX_EPOCH, 0);
        (0..count)
            .filter(|_| self.producer.offer(&log) == Offered::Queued)
            .count()
    }

    fn step(&mut self) -> Step {
        self.producer.step(self.now, &mut self.frame)
    }

    /// Writes whatever is to be written, with success.
    fn write(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while self.step() == Step::Send {
            seen.extend(read(&self.frame));
            self.producer.sent(self.now);
        }
        seen
    }

    /// Fails whatever is to be written; says how often.
    fn fail(&mut self) -> usize {
        let mut failures = 0;
        while self.step() == Step::Send {
            self.producer.failed(self.now);
            failures += 1;
        }
        failures
    }

    fn wait(&mut self) -> Duration {
        match self.step() {
            Step::Wait(Some(at)) => at - self.now,
            other => panic!("expected to wait for a time, got {other:?}"),
        }
    }
}

#[test]
fn ten_logs_are_a_batch() {
    let mut stage = Stage::new(WhenFull::Drop);
    stage.burst(9);
    assert_eq!(stage.write(), []);
    stage.burst(1);
    assert_eq!(stage.write(), [logs(0..10)]);
    stage.burst(20);
    assert_eq!(stage.write(), [logs(10..20), logs(20..30)]);
    assert_eq!(stage.step(), Step::Wait(None));
}

#[test]
fn fewer_are_a_batch_five_seconds_after_the_first() {
    let mut stage = Stage::new(WhenFull::Drop);
    assert_eq!(stage.step(), Step::Wait(None));
    stage.burst(1);
    assert_eq!(stage.wait(), Duration::from_secs(5));
    stage.now += Duration::from_millis(4_999);
    stage.burst(1);
    assert_eq!(stage.wait(), Duration::from_millis(1));
    stage.now += Duration::from_millis(1);
    assert_eq!(stage.write(), [logs(0..2)]);
    assert_eq!(stage.step(), Step::Wait(None));
}

#[test]
fn a_blocked_write_fills_the_channel_and_a_status_follows_the_blocked_frame() {
    // The numbers of the captured frame `status-channel-full`.
    let mut stage = Stage::new(WhenFull::Drop);
    for _ in 0..93 {
        stage.burst(10);
        assert_eq!(stage.write().len(), 1);
    }
    stage.burst(10);
    assert_eq!(stage.step(), Step::Send);
    assert_eq!(stage.burst(360), 20);
    assert_eq!(stage.step(), Step::Wait(None));
    assert_eq!(stage.producer.held(), 30);

    let blocked = read(&stage.frame);
    assert_eq!(blocked, [logs(930..940)]);
    stage.producer.sent(stage.now);
    assert_eq!(
        stage.write(),
        [channel_full(340), logs(940..950), logs(950..960)]
    );
}

#[test]
fn an_absent_reader_costs_the_logs_after_the_ten_kept() {
    // The numbers of the captured frame `status-batch-full`.
    let mut stage = Stage::new(WhenFull::Drop);
    stage.burst(10);
    assert_eq!(stage.write(), [logs(0..10)]);
    stage.burst(10);
    assert_eq!(stage.fail(), 1, "when the batch is full");
    for _ in 20..36 {
        stage.burst(1);
        assert_eq!(stage.fail(), 1, "on each new log");
    }
    stage.burst(1);
    assert_eq!(stage.write(), [logs(10..20), batch_full(16)]);
    assert_eq!(stage.producer.held(), 1, "the log that prompted the retry");
    stage.burst(9);
    assert_eq!(stage.write(), [logs(36..46)]);
    assert_eq!(stage.producer.totals().batch_full, 16);
}

#[test]
fn an_idle_failure_is_retried_after_five_seconds() {
    let mut stage = Stage::new(WhenFull::Drop);
    stage.burst(3);
    stage.wait();
    stage.now += BATCH_INTERVAL;
    for _ in 0..3 {
        assert_eq!(stage.fail(), 1);
        assert_eq!(stage.wait(), Duration::from_secs(5));
        stage.now += BATCH_INTERVAL;
    }
    assert_eq!(stage.write(), [logs(0..3)]);
}

#[test]
fn a_failed_batch_that_is_not_full_fills_up_first() {
    let mut stage = Stage::new(WhenFull::Drop);
    stage.burst(3);
    stage.wait();
    stage.now += BATCH_INTERVAL;
    assert_eq!(stage.fail(), 1);
    stage.burst(6);
    assert_eq!(stage.fail(), 0);
    stage.burst(1);
    assert_eq!(stage.write(), [logs(0..10)]);
}

#[test]
fn a_status_that_failed_is_told_after_the_next_logs() {
    let mut stage = Stage::new(WhenFull::Drop);
    stage.burst(21);
    assert_eq!(stage.step(), Step::Send);
    stage.producer.sent(stage.now);
    assert_eq!(stage.step(), Step::Send);
    assert_eq!(read(&stage.frame), [channel_full(1)]);
    stage.producer.failed(stage.now);
    assert_eq!(stage.write(), [logs(10..20), channel_full(1)]);
    assert_eq!(stage.write(), []);
}

#[test]
fn nothing_is_dropped_when_the_source_waits() {
    let mut stage = Stage::new(WhenFull::Wait);
    let mut offered = 0;
    while stage.producer.accepts() {
        assert_eq!(stage.burst(1), 1);
        offered += 1;
        stage.fail();
    }
    assert_eq!(offered, 30, "a batch and a channel");
    assert_eq!(stage.producer.held(), 30);
    assert_eq!(stage.wait(), RETRY_INTERVAL);
    stage.now += RETRY_INTERVAL;
    assert_eq!(stage.write(), [logs(0..10), logs(10..20), logs(20..30)]);
    assert!(stage.producer.accepts());
}

#[test]
fn the_tail_is_sent_at_once_and_in_one_piece() {
    let mut stage = Stage::new(WhenFull::Drop);
    stage.burst(3);
    stage.wait();
    stage.burst(20);
    stage.producer.close();
    assert!(!stage.producer.accepts());
    assert_eq!(stage.write(), [logs(0..23)]);
    assert_eq!(stage.step(), Step::Done);
}

#[test]
fn what_came_in_during_the_last_write_is_sent_right_after_it() {
    let mut stage = Stage::new(WhenFull::Drop);
    stage.burst(10);
    assert_eq!(stage.step(), Step::Send);
    stage.burst(21);
    stage.producer.close();
    stage.producer.sent(stage.now);
    assert_eq!(stage.write(), [channel_full(1), logs(10..30)]);
    assert_eq!(stage.step(), Step::Done);
}

#[test]
fn at_the_end_failures_are_retried_soon_and_the_last_drops_are_told() {
    let mut stage = Stage::new(WhenFull::Drop);
    stage.burst(10);
    assert_eq!(stage.fail(), 1);
    stage.burst(1);
    assert_eq!(stage.fail(), 1);
    stage.producer.close();
    assert_eq!(stage.fail(), 1);
    assert_eq!(stage.wait(), RETRY_INTERVAL);
    stage.now += RETRY_INTERVAL;

    assert_eq!(stage.step(), Step::Send);
    assert_eq!(read(&stage.frame), [logs(0..10)]);
    stage.producer.sent(stage.now);
    assert_eq!(stage.fail(), 1, "the status");
    assert_eq!(stage.wait(), RETRY_INTERVAL);
    stage.now += RETRY_INTERVAL;
    assert_eq!(stage.write(), [batch_full(1)]);
    assert_eq!(stage.step(), Step::Done);
}

#[test]
fn a_batch_too_large_for_a_frame_is_split() {
    let mut stage = Stage::new(WhenFull::Drop);
    let log = Log::made_up(0, UNIX_EPOCH, 10_000);
    for _ in 0..10 {
        assert_eq!(stage.producer.offer(&log), Offered::Queued);
    }
    assert_eq!(stage.step(), Step::Send);
    assert_eq!(read(&stage.frame), [logs(0..3)]);
    stage.producer.sent(stage.now);
    assert_eq!(stage.step(), Step::Send);
    stage.producer.failed(stage.now);
    assert_eq!(stage.producer.held(), 7, "what was written is not kept");
    stage.now += BATCH_INTERVAL;
    assert_eq!(stage.write(), [logs(3..6), logs(6..9), logs(9..10)]);
}

#[test]
fn a_log_too_large_for_any_frame_is_dropped_and_told() {
    let mut stage = Stage::new(WhenFull::Drop);
    let payload = |url_bytes| {
        let log = Log::made_up(0, UNIX_EPOCH, url_bytes);
        match Stage::new(WhenFull::Drop).producer.offer(&log) {
            Offered::TooLarge(payload) => payload,
            other => panic!("{url_bytes} bytes: {other:?}"),
        }
    };
    let excess = payload(MAX_PAYLOAD) - MAX_PAYLOAD;
    assert_eq!(payload(MAX_PAYLOAD - excess + 1), MAX_PAYLOAD + 1);

    let largest = Log::made_up(0, UNIX_EPOCH, MAX_PAYLOAD - excess);
    assert_eq!(stage.producer.offer(&largest), Offered::Queued);
    let too_large = Log::made_up(0, UNIX_EPOCH, MAX_PAYLOAD);
    assert!(matches!(
        stage.producer.offer(&too_large),
        Offered::TooLarge(_)
    ));
    stage.producer.close();
    assert_eq!(stage.write(), [logs(0..1), batch_full(1)]);
    assert_eq!(stage.producer.totals().too_large, 1);
}

#[test]
fn a_session_ends_with_its_numbers() {
    let mut stage = Stage::new(WhenFull::Drop);
    stage.producer.next_sequence = Some(i32::MAX);
    assert_eq!(stage.burst(2), 1);
    assert_eq!(stage.producer.totals().offered, 1);
    let log = Log::made_up(0, UNIX_EPOCH, 0);
    assert_eq!(stage.producer.offer(&log), Offered::SessionFull);
}

/// What happens next to a producer and its socket.
#[derive(Debug, Clone)]
enum Event {
    Offer {
        url_bytes: usize,
    },
    Pass(Duration),
    /// The socket takes this many bytes of the frame, or fails when they are `None`.
    Write(Option<usize>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => Just(Event::Offer { url_bytes: 0 }),
        1 => (0..40_000_usize).prop_map(|url_bytes| Event::Offer { url_bytes }),
        2 => (0..6_000_u64).prop_map(|ms| Event::Pass(Duration::from_millis(ms))),
        4 => Just(Event::Write(Some(usize::MAX))),
        2 => (0..2_000_usize).prop_map(|taken| Event::Write(Some(taken))),
        3 => Just(Event::Write(None)),
    ]
}

/// The receiving end: what arrived on each connection.
#[derive(Default)]
struct Receiver {
    connections: Vec<Vec<u8>>,
    /// Bytes of the present frame that were taken.
    taken: usize,
}

impl Receiver {
    /// Takes some of `frame`; true when all of it has been taken.
    fn take(&mut self, frame: &[u8], most: usize) -> bool {
        if self.connections.is_empty() {
            self.connections.push(Vec::new());
        }
        let rest = &frame[self.taken..];
        let part = &rest[..rest.len().min(most)];
        self.connections.last_mut().expect("one").extend(part);
        self.taken += part.len();
        self.taken == frame.len()
    }

    fn totals(&self) -> (Vec<i32>, u64, u64) {
        let (mut arrived, mut channel_full, mut batch_full) = (Vec::new(), 0, 0);
        for seen in self.connections.iter().flat_map(|bytes| read(bytes)) {
            match seen {
                Seen::Logs(sequences) => arrived.extend(sequences),
                Seen::Status {
                    channel_full: channel,
                    batch_full: batch,
                } => {
                    assert!(channel + batch > 0, "a status that says nothing");
                    channel_full += channel;
                    batch_full += batch;
                }
            }
        }
        (arrived, channel_full, batch_full)
    }
}

fn assert_balanced(producer: &Producer) {
    let totals = producer.totals();
    let dropped = totals.channel_full + totals.batch_full + totals.too_large;
    assert_eq!(
        totals.offered,
        totals.delivered + dropped + producer.held() as u64,
        "{producer:?}"
    );
    assert!(producer.held() <= CHANNEL_LOGS + 1 + BATCH_LOGS);
}

fn survive(when_full: WhenFull, events: Vec<Event>) {
    let mut stage = Stage::new(when_full);
    let mut receiver = Receiver::default();
    let mut sending = false;
    let end = [Event::Write(Some(usize::MAX))];
    for event in events.iter().chain(&end) {
        match *event {
            Event::Offer { url_bytes } if stage.producer.accepts() => {
                let log = Log::made_up(0, UNIX_EPOCH, url_bytes);
                let offered = stage.producer.offer(&log);
                assert!(when_full == WhenFull::Drop || offered != Offered::ChannelFull);
            }
            Event::Offer { .. } => assert_eq!(when_full, WhenFull::Wait),
            Event::Pass(time) => stage.now += time,
            Event::Write(Some(most)) if sending => {
                if receiver.take(&stage.frame, most) {
                    receiver.taken = 0;
                    sending = false;
                    stage.producer.sent(stage.now);
                }
            }
            Event::Write(None) if sending => {
                receiver.connections.push(Vec::new());
                receiver.taken = 0;
                sending = false;
                stage.producer.failed(stage.now);
            }
            Event::Write(_) => {}
        }
        if !sending {
            sending = stage.step() == Step::Send;
        }
        assert_balanced(&stage.producer);
    }

    stage.producer.close();
    loop {
        match stage.step() {
            Step::Send => sending = true,
            Step::Wait(Some(at)) => stage.now = at,
            Step::Wait(None) => assert!(sending, "waits for nothing: {:?}", stage.producer),
            Step::Done => break,
        }
        if sending {
            assert!(receiver.take(&stage.frame, usize::MAX));
            receiver.taken = 0;
            sending = false;
            stage.producer.sent(stage.now);
        }
        assert_balanced(&stage.producer);
    }

    let totals = stage.producer.totals();
    let (arrived, channel_full, batch_full) = receiver.totals();
    assert_eq!(stage.producer.held(), 0);
    assert_eq!(arrived.len() as u64, totals.delivered);
    assert!(
        arrived.windows(2).all(|pair| pair[0] < pair[1]),
        "out of order or twice: {arrived:?}"
    );
    assert!(arrived.iter().all(|it| (*it as u64) < totals.offered));
    assert_eq!(channel_full, totals.channel_full);
    assert_eq!(batch_full, totals.batch_full + totals.too_large);
    if when_full == WhenFull::Wait {
        assert_eq!((totals.channel_full, totals.batch_full), (0, 0));
    }
}

proptest! {
    #[test]
    fn every_log_is_delivered_or_counted_whatever_the_socket_does(
        events in prop::collection::vec(event(), 0..400), waits: bool,
    ) {
        survive(if waits { WhenFull::Wait } else { WhenFull::Drop }, events);
    }
}
