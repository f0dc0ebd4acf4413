//! Telling the control plane of scripts that ran, one after the other.

use std::slice;

use crate::backoff::{Backoff, Schedule};
use crate::forward::retry::{Attempt, Delivery, Verdict, verdict};
use crate::metrics::CompletionOutcome;
use crate::upstream::{Outcome, Rpc, Upstream};

use super::Desk;

/// Tells the control plane of each run that waits, for ever. The run that was told of last stays where it is when this is
/// dropped.
///
/// At least once: a run may be told of twice, which coderd refuses, because it stores one per script and start (coder/coder
/// coderd/database/migrations/000257_workspace_agent_script_timings.up.sql).
pub(super) async fn deliver(desk: &Desk, upstream: &impl Upstream, schedule: Schedule) {
    let mut pending = desk.pending();
    let mut connected = upstream.connected();
    let mut random = fastrand::Rng::new();
    let mut tried = desk.first_may_be_told;
    let mut backoff = Backoff::new(schedule);
    let mut refusals = 0;
    loop {
        let some = pending.wait_for(|runs| *runs > 0).await.is_ok();
        if !some || connected.wait_for(|connected| *connected).await.is_err() {
            // The process stops.
            return std::future::pending().await;
        }
        let Some(request) = desk.next_request() else {
            continue;
        };
        let outcome = upstream
            .call(Rpc::SCRIPT_COMPLETED, slice::from_ref(&request))
            .await;
        let attempt = Attempt {
            batches: 1,
            refusals,
            split: false,
        };
        match verdict(&outcome, attempt, Delivery::AtLeastOnce) {
            Verdict::Forwarded => desk.settle(CompletionOutcome::Delivered, ""),
            // There is nothing to split.
            Verdict::Failed | Verdict::Split => {
                let (known_as, seen) = failure(&outcome, tried);
                desk.settle(known_as, seen);
            }
            Verdict::Again => {
                refusals += 1;
                tokio::time::sleep(backoff.next_wait(&mut random)).await;
                continue;
            }
            // Until there is a link again.
            Verdict::Return { ambiguous } => {
                tried |= ambiguous;
                continue;
            }
        }
        (tried, refusals) = (false, 0);
        backoff.reset();
    }
}

fn failure(outcome: &Outcome, tried: bool) -> (CompletionOutcome, &str) {
    match outcome {
        Outcome::Rejected(seen) => (CompletionOutcome::Rejected, seen),
        Outcome::Refused(seen) if tried => (CompletionOutcome::Uncertain, seen),
        Outcome::Accepted(_) => (CompletionOutcome::Delivered, ""),
        Outcome::Refused(seen) | Outcome::Retry(seen) | Outcome::Ambiguous(seen) => {
            (CompletionOutcome::Refused, seen)
        }
    }
}
