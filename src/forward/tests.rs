use std::collections::VecDeque;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;

use super::*;
use crate::buffer::WhenFull;
use crate::buffer::batch::{Arrival, LaneKey};
use crate::buffer::ledger::{Ledger, Snapshot};
use crate::buffer::queue::Limits;
use crate::metrics::Metrics;

/// An upstream that answers by a script, and accepts when the script has ended.
struct Scripted {
    script: Mutex<VecDeque<Outcome>>,
    /// The bodies of the calls so far, each concatenated.
    calls: Mutex<Vec<Vec<u8>>>,
    /// A call is answered when it gets a permit.
    gate: Semaphore,
    connected: watch::Sender<bool>,
}

impl Upstream for Arc<Scripted> {
    async fn call(&self, rpc: Rpc, body: &[Bytes]) -> Outcome {
        assert_eq!(rpc, Rpc::REPORT_BOUNDARY_LOGS);
        self.calls.lock().unwrap().push(body.concat());
        self.gate.acquire().await.unwrap().forget();
        let outcome = self.script.lock().unwrap().pop_front();
        let outcome = outcome.unwrap_or(Outcome::Accepted(Bytes::new()));
        if matches!(outcome, Outcome::Retry(_) | Outcome::Ambiguous(_)) {
            self.connected.send_replace(false);
        }
        outcome
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }
}

struct Bench {
    buffer: Arc<Buffer>,
    upstream: Arc<Scripted>,
    settings: Settings,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Bench {
    fn new(script: impl IntoIterator<Item = Outcome>) -> Self {
        let limits = Limits {
            max_batches: 1_000,
            max_bytes: 1_000,
        };
        Self {
            buffer: Buffer::new(limits, WhenFull::DropNewest, Ledger::new()),
            upstream: Arc::new(Scripted {
                script: Mutex::new(script.into_iter().collect()),
                calls: Mutex::default(),
                gate: Semaphore::new(Semaphore::MAX_PERMITS),
                connected: watch::Sender::new(true),
            }),
            settings: Settings {
                delivery: Delivery::AtLeastOnce,
                schedule: Schedule::new(Duration::from_millis(100), Duration::from_secs(10))
                    .unwrap(),
                max_age: None,
                coalesce_max_bytes: 100,
            },
            metrics: Metrics::new().unwrap(),
            stop: CancellationToken::new(),
        }
    }

    async fn receive(&self, lane: u64, payload: &'static [u8]) {
        let arrival = Arrival {
            payload: Bytes::from_static(payload),
            logs: 1,
            lane: LaneKey::Connection(lane),
            process: Bytes::new(),
            mergeable: true,
            received_at: Instant::now(),
        };
        self.buffer.receive(arrival).await;
    }

    /// Runs the forwarder until `until` has happened, then stops it. The books must balance all along.
    async fn run_until(&self, until: impl Future<Output = ()>) {
        let forwarder = Forwarder::new(
            Arc::clone(&self.buffer),
            Arc::clone(&self.upstream),
            self.settings,
            self.metrics.forward.clone(),
        );
        let run = forwarder.run(&self.stop);
        let stop = async {
            until.await;
            self.stop.cancel();
        };
        tokio::join!(run, stop);
        assert_eq!(self.books().imbalance(), 0);
        assert_eq!(self.books().in_flight.batches, 0);
    }

    async fn run_until_empty(&self) {
        self.run_until(self.buffer.idle()).await;
    }

    async fn calls_made(&self, count: usize) {
        while self.upstream.calls.lock().unwrap().len() < count {
            tokio::task::yield_now().await;
        }
    }

    fn calls(&self) -> Vec<String> {
        let calls = self.upstream.calls.lock().unwrap();
        calls
            .iter()
            .map(|body| String::from_utf8(body.clone()).unwrap())
            .collect()
    }

    fn books(&self) -> Snapshot {
        self.buffer.ledger().snapshot()
    }
}

fn refused() -> Outcome {
    Outcome::Refused("boom".into())
}

fn ambiguous() -> Outcome {
    Outcome::Ambiguous("connection lost".into())
}

#[tokio::test]
async fn a_backlog_goes_up_as_one_request() {
    let bench = Bench::new([]);
    for payload in [b"a", b"b", b"c"] {
        bench.receive(1, payload).await;
    }
    bench.run_until_empty().await;
    assert_eq!(bench.calls(), ["abc"]);
    assert_eq!(
        bench.books().forwarded.batches,
        3,
        "batches are counted as they were received"
    );
}

#[tokio::test]
async fn without_coalescing_each_batch_is_a_request() {
    let mut bench = Bench::new([]);
    bench.settings.coalesce_max_bytes = 0;
    bench.receive(1, b"a").await;
    bench.receive(1, b"b").await;
    bench.run_until_empty().await;
    assert_eq!(bench.calls(), ["a", "b"]);
}

#[tokio::test]
async fn a_lane_has_one_request_in_flight_and_lanes_go_side_by_side() {
    let mut bench = Bench::new([]);
    bench.settings.coalesce_max_bytes = 0;
    bench.upstream.gate.forget_permits(Semaphore::MAX_PERMITS);
    for lane in [1, 2, 3] {
        bench.receive(lane, b"x").await;
        bench.receive(lane, b"y").await;
    }
    bench
        .run_until(async {
            bench.calls_made(3).await;
            assert_eq!(bench.calls(), ["x", "x", "x"]);
            assert_eq!(bench.books().in_flight.batches, 3);
            assert_eq!(bench.books().in_memory.batches, 3);
            bench.upstream.gate.add_permits(6);
            bench.buffer.idle().await;
        })
        .await;
    assert_eq!(bench.calls(), ["x", "x", "x", "y", "y", "y"]);
}

#[tokio::test]
async fn lanes_in_flight_are_bounded() {
    let bench = Bench::new([]);
    bench.upstream.gate.forget_permits(Semaphore::MAX_PERMITS);
    for lane in 0..=MAX_LANES_IN_FLIGHT as u64 {
        bench.receive(lane, b"x").await;
    }
    bench
        .run_until(async {
            bench.calls_made(MAX_LANES_IN_FLIGHT).await;
            assert_eq!(bench.books().in_memory.batches, 1);
            bench.upstream.gate.add_permits(MAX_LANES_IN_FLIGHT + 1);
            bench.buffer.idle().await;
        })
        .await;
    assert_eq!(bench.calls().len(), MAX_LANES_IN_FLIGHT + 1);
}

#[tokio::test(start_paused = true)]
async fn a_poison_batch_costs_itself() {
    // The merged request three times, then each batch alone: the second one is refused.
    let accepted = Outcome::Accepted(Bytes::new());
    let bench = Bench::new([refused(), refused(), refused(), accepted, refused()]);
    for payload in [b"a", b"b", b"c"] {
        bench.receive(1, payload).await;
    }
    bench.run_until_empty().await;
    assert_eq!(bench.calls(), ["abc", "abc", "abc", "a", "b", "c"]);
    assert_eq!(bench.books().forwarded.batches, 2);
    assert_eq!(bench.books().dropped(DropReason::ForwardFailed).batches, 1);
    assert_eq!(
        bench.books().possible_duplicates,
        0,
        "a refusal is no ambiguity"
    );
}

#[tokio::test]
async fn a_method_that_does_not_exist_costs_the_request_at_once() {
    let bench = Bench::new([Outcome::Rejected("unimplemented".into())]);
    bench.receive(1, b"a").await;
    bench.run_until_empty().await;
    assert_eq!(bench.calls(), ["a"]);
    assert_eq!(bench.books().dropped(DropReason::ForwardFailed).batches, 1);
}

#[tokio::test]
async fn an_ambiguous_request_is_sent_again_in_order_and_counted() {
    let bench = Bench::new([ambiguous()]);
    bench.receive(1, b"a").await;
    bench
        .run_until(async {
            bench
                .upstream
                .connected
                .subscribe()
                .wait_for(|connected| !*connected)
                .await
                .unwrap();
            bench.receive(1, b"b").await;
            assert_eq!(bench.calls(), ["a"], "nothing is sent without a link");
            assert_eq!(bench.books().possible_duplicates, 0, "not sent again yet");
            bench.upstream.connected.send_replace(true);
            bench.buffer.idle().await;
        })
        .await;
    assert_eq!(bench.calls(), ["a", "ab"]);
    assert_eq!(bench.books().forwarded.logs, 2);
    assert_eq!(bench.books().possible_duplicates, 1);
}

#[tokio::test]
async fn what_stays_ambiguous_is_sent_alone() {
    let bench = Bench::new([ambiguous(), ambiguous(), ambiguous()]);
    bench.receive(1, b"a").await;
    bench.receive(1, b"b").await;
    bench
        .run_until(async {
            for _ in 0..3 {
                let mut connected = bench.upstream.connected.subscribe();
                connected.wait_for(|connected| !*connected).await.unwrap();
                bench.upstream.connected.send_replace(true);
            }
            bench.buffer.idle().await;
        })
        .await;
    assert_eq!(bench.calls(), ["ab", "ab", "ab", "a", "b"]);
    assert_eq!(bench.books().possible_duplicates, 6);
}

#[tokio::test(start_paused = true)]
async fn lanes_that_rest_take_no_place_from_others() {
    let bench = Bench::new([]);
    let lanes = 4 * MAX_LANES_IN_FLIGHT as u64;
    for lane in 0..lanes {
        bench.receive(lane, b"x").await;
    }
    let before = Instant::now();
    bench.run_until_empty().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(bench.books().forwarded.batches, lanes);
}

#[tokio::test]
async fn at_most_once_drops_what_is_ambiguous() {
    let mut bench = Bench::new([ambiguous()]);
    bench.settings.delivery = Delivery::AtMostOnce;
    bench.receive(1, b"a").await;
    bench.run_until_empty().await;
    assert_eq!(bench.calls(), ["a"]);
    assert_eq!(bench.books().dropped(DropReason::ForwardFailed).logs, 1);
    assert_eq!(bench.books().possible_duplicates, 0);
}

#[tokio::test]
async fn what_was_not_written_is_no_possible_duplicate() {
    let bench = Bench::new([Outcome::Retry("no stream".into())]);
    bench.receive(1, b"a").await;
    bench
        .run_until(async {
            bench
                .upstream
                .connected
                .subscribe()
                .wait_for(|connected| !*connected)
                .await
                .unwrap();
            bench.upstream.connected.send_replace(true);
            bench.buffer.idle().await;
        })
        .await;
    assert_eq!(bench.calls(), ["a", "a"]);
    assert_eq!(bench.books().possible_duplicates, 0);
}

#[tokio::test]
async fn stopping_in_mid_call_puts_the_batches_back() {
    let bench = Bench::new([]);
    bench.upstream.gate.forget_permits(Semaphore::MAX_PERMITS);
    bench.receive(1, b"a").await;
    bench.run_until(bench.calls_made(1)).await;
    assert_eq!(bench.books().in_memory.batches, 1);
    bench.buffer.close();
    assert_eq!(bench.books().dropped(DropReason::Shutdown).batches, 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_backoff() {
    let mut bench = Bench::new([refused()]);
    let hour = Duration::from_secs(3600);
    bench.settings.schedule = Schedule::new(hour, hour).unwrap();
    bench.receive(1, b"a").await;
    let before = Instant::now();
    bench.run_until(bench.calls_made(1)).await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(bench.books().in_memory.batches, 1);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_too_long_expires_during_an_outage() {
    let mut bench = Bench::new([]);
    bench.settings.max_age = Some(Duration::from_secs(60));
    bench.upstream.connected.send_replace(false);
    bench.receive(1, b"a").await;
    tokio::time::advance(Duration::from_secs(30)).await;
    bench.receive(1, b"b").await;
    let before = Instant::now();
    bench
        .run_until(async {
            while bench.books().dropped(DropReason::Expired).batches == 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(before.elapsed().as_secs(), 30);
            bench.upstream.connected.send_replace(true);
            bench.buffer.idle().await;
        })
        .await;
    assert_eq!(bench.calls(), ["b"]);
}

#[tokio::test]
async fn a_forwarder_without_a_link_takes_nothing() {
    let bench = Bench::new([]);
    bench.upstream.connected.send_replace(false);
    bench.receive(1, b"a").await;
    let forwarder = Forwarder::new(
        Arc::clone(&bench.buffer),
        Arc::clone(&bench.upstream),
        bench.settings,
        bench.metrics.forward.clone(),
    );
    assert!(forwarder.run(&bench.stop).now_or_never().is_none());
    assert_eq!(bench.books().in_memory.batches, 1);
    assert!(bench.calls().is_empty());
}
