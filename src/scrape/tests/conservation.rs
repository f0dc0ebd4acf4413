//! The conservation law on the page, while batches move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use futures_util::FutureExt;

use super::{Sidecar, get, series};
use crate::buffer::Buffer;
use crate::buffer::batch::tests::arrival;
use crate::metrics::DropReason;

/// So many scrapes must each see more received than the one before, a tenth of them with batches in flight.
const MOVING_SCRAPES: u64 = 100;
/// If so many were not enough, nothing moves.
const MAX_SCRAPES: u64 = 1_000_000;

#[tokio::test]
async fn the_law_holds_at_every_scrape_while_batches_move() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| churn(&sidecar.buffer, &done));
        // Also when an assertion fails, or the thread would never be joined.
        let _stop = StopOnDrop(&done);
        let (mut moving, mut in_flight, mut last_received) = (0, 0, 0.0);
        for _ in 0..MAX_SCRAPES {
            let answer = get(&endpoint, "/metrics");
            let page = series(answer.text());
            assert_law(&page, "batches");
            assert_law(&page, "logs");
            assert_eq!(page["weir_imbalance_logs"], 0.0);
            let received = page["weir_logs_received_total"];
            assert!(received >= last_received);
            if received > last_received {
                moving += 1;
                in_flight += u64::from(page["weir_logs_in_flight"] > 0.0);
            }
            last_received = received;
            if moving >= MOVING_SCRAPES && in_flight >= MOVING_SCRAPES / 10 {
                return;
            }
        }
        panic!("{moving} scrapes saw a change, {in_flight} saw batches in flight");
    });
    endpoint.stop();
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn assert_law(page: &std::collections::BTreeMap<&str, f64>, unit: &str) {
    let value = |name: String| page[name.as_str()];
    let dropped: f64 = DropReason::VALUES
        .iter()
        .map(|reason| value(format!("weir_{unit}_dropped_total{{reason=\"{reason}\"}}")))
        .sum();
    let accounted = value(format!("weir_{unit}_forwarded_total"))
        + dropped
        + value(format!("weir_{unit}_in_memory"))
        + value(format!("weir_{unit}_on_disk"))
        + value(format!("weir_{unit}_in_flight"));
    assert_eq!(
        value(format!("weir_{unit}_received_total")),
        accounted,
        "{unit}"
    );
}

/// Receives, takes, launches, forwards, returns and drops batches at random.
fn churn(buffer: &Arc<Buffer>, done: &AtomicBool) {
    let mut rng = Rng::with_seed(7);
    let ledger = buffer.ledger();
    while !done.load(Ordering::Relaxed) {
        for _ in 0..rng.usize(..8) {
            let session = if rng.bool() { b"a" } else { b"b" };
            let received = buffer.receive(arrival(session, rng.u64(1..20)));
            received.now_or_never().expect("this policy never waits");
        }
        let Some(mut cargo) = buffer.take(200).now_or_never() else {
            continue;
        };
        ledger.launch(cargo.front_mut(usize::MAX));
        let ended = rng.usize(..=cargo.len());
        match rng.u8(..3) {
            0 => ledger.forwarded(cargo.remove_front(ended)),
            1 => {
                let reason = rng.choice(DropReason::ALL).expect("there are reasons");
                ledger.dropped(cargo.remove_front(ended), *reason);
            }
            _ => cargo
                .front_mut(ended)
                .for_each(|batch| batch.mark_ambiguous()),
        }
        ledger.land(cargo.front_mut(usize::MAX));
        if let Some(lane) = buffer.settle(cargo, 1) {
            buffer.rouse(lane);
        }
    }
}
