//! Reports to the control plane: from what this process counts, and samples of other programs, to UpdateStats.
//!
//! A report carries absolute values, so nothing is ever sent again: what becomes of a call changes no number, and the
//! next report replaces one that was lost. It costs the logs nothing either: there is one call at a time, it is made
//! only while the link stands, and one that is not answered is given up before the link would be.

mod check;
mod interval;
mod request;
mod sample;
#[cfg(test)]
mod tests;

use std::fmt::{self, Debug, Formatter};
use std::time::{Duration, SystemTime};

use prometheus::proto::MetricFamily;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::ReportMetrics;
use crate::pb::agent::UpdateStatsRequest;
use crate::upstream::{Outcome, Rpc, Upstream};
use crate::warnings::Warnings;
use check::Origin;
pub use interval::{DEFAULT_INTERVAL, MAX_INTERVAL, MIN_INTERVAL};
use request::{Draft, Memory};
pub use request::{MAX_BYTES, MAX_REFUSED, MAX_SERIES};
pub use sample::{Sample, SampleKind, Source};

/// How long a report may take. Below the deadline of the transport, at which the link would count as lost: a control
/// plane that is slow with reports alone keeps its link for the logs.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Whether metrics under the names of the workspace agent are reported. The agent and a sidecar share a token and so
/// their series: where both report a name, its value flips between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentMetrics {
    /// By who is the agent.
    Auto,
    /// They are.
    Always,
    /// They are not.
    Never,
}

impl AgentMetrics {
    /// Whether they are reported by who has this role.
    pub fn are_reported(self, role: &str) -> bool {
        match self {
            Self::Auto => role == "agent",
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// What a report is made of.
pub struct Inputs {
    /// What this process counts, all of one moment.
    pub own: Box<dyn Fn() -> Vec<MetricFamily> + Send>,
    /// Samples of other programs. They pass the same checks, and may not bear our names.
    pub others: Vec<Source>,
    /// Whether metrics under the names of the workspace agent go up, whoever counts them.
    pub agent_metrics: bool,
}

impl Debug for Inputs {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("others", &self.others.len())
            .field("agent_metrics", &self.agent_metrics)
            .finish_non_exhaustive()
    }
}

/// Reports to an upstream.
#[derive(Debug)]
pub struct Reporter<U> {
    upstream: U,
    inputs: Inputs,
    metrics: ReportMetrics,
    random: fastrand::Rng,
    memory: Memory,
    /// As the control plane said last; `None` before it ever did.
    interval: Option<Duration>,
    pace: watch::Sender<Duration>,
    /// The latest call was not answered as it should be.
    failing: bool,
    warnings: Warnings,
}

impl<U: Upstream> Reporter<U> {
    /// A reporter that does nothing until [`Self::run`].
    pub fn new(upstream: U, inputs: Inputs, metrics: ReportMetrics, random: fastrand::Rng) -> Self {
        Self {
            upstream,
            inputs,
            metrics,
            random,
            memory: Memory::default(),
            interval: None,
            pace: watch::Sender::new(DEFAULT_INTERVAL),
            failing: false,
            warnings: Warnings::default(),
        }
    }

    /// The time between two reports, as the control plane says.
    pub fn pace(&self) -> watch::Receiver<Duration> {
        self.pace.subscribe()
    }

    /// Asks how often to report, then reports at once and at that interval, until `stop` is cancelled. Then makes one
    /// last report, if the link stands; who calls this bounds how long that may take.
    pub async fn run(mut self, stop: &CancellationToken) {
        let mut connected = self.upstream.connected();
        let mut due = Instant::now();
        while stop
            .run_until_cancelled(may_call(&mut connected, due))
            .await
            .is_some()
        {
            let begun = Instant::now();
            let asks = self.interval.is_none();
            // A stop does not cut this short: the last report follows in order.
            let outcome = if asks {
                self.call(UpdateStatsRequest::default()).await
            } else {
                self.report().await
            };
            due = match outcome {
                // Only how often has come of it.
                Outcome::Accepted(_) if asks => begun,
                // Nothing has reached the control plane: the next link begins with a report.
                Outcome::Retry(_) => due,
                // Whoever breaks a link over a report is not asked to again at once.
                _ => begun + self.wait(),
            };
        }
        if *connected.borrow_and_update() {
            self.report().await;
        }
    }

    async fn report(&mut self) -> Outcome {
        let others: Vec<_> = self.inputs.others.iter().map(|source| source()).collect();
        let own = (self.inputs.own)();
        let own: Vec<_> = sample::of_families(&own)
            .filter(|own| !yields(own, &others))
            .collect();
        let mut draft = Draft::new(self.inputs.agent_metrics, &mut self.memory);
        draft.add(Origin::Own, own);
        for samples in others {
            draft.add(Origin::Other, samples);
        }
        let (request, refused) = draft.finish();
        for fault in refused {
            self.metrics.refused(fault);
        }
        let outcome = self.call(request).await;
        if let Outcome::Accepted(_) = outcome {
            self.metrics.succeeded_at(SystemTime::now());
        }
        outcome
    }

    /// Makes one call, and learns from the answer.
    async fn call(&mut self, request: UpdateStatsRequest) -> Outcome {
        let body = [request.encode_to_vec().into()];
        let call = self.upstream.call(Rpc::UPDATE_STATS, &body);
        let outcome = timeout(CALL_LIMIT, call)
            .await
            .unwrap_or_else(|_| Outcome::Ambiguous(format!("no answer within {CALL_LIMIT:?}")));
        self.metrics.attempted(outcome.label());
        if let Outcome::Accepted(reply) = &outcome {
            let interval = interval::interval(reply);
            if self.interval.replace(interval) != Some(interval) {
                self.pace.send_replace(interval);
                tracing::debug!(?interval, "metrics are reported to the control plane");
            }
        }
        self.tell(&outcome);
        outcome
    }

    fn wait(&mut self) -> Duration {
        let interval = self.interval.unwrap_or(DEFAULT_INTERVAL);
        interval::wait(interval, &mut self.random)
    }

    fn tell(&mut self, outcome: &Outcome) {
        let (Outcome::Rejected(seen)
        | Outcome::Refused(seen)
        | Outcome::Ambiguous(seen)
        | Outcome::Retry(seen)) = outcome
        else {
            self.failing = false;
            return;
        };
        match self.is_news(outcome, Instant::now()) {
            Some(withheld) => tracing::warn!(
                %seen,
                withheld,
                "the control plane did not take a report of metrics: the next one is made in time, logs go on"
            ),
            None => tracing::debug!(%seen, "the control plane did not take a report of metrics"),
        }
    }

    /// Whether a failure is for everybody to read: the first one after a success, unless there are many of those. If so,
    /// how many were withheld since the last that was. Of a link that is lost its own log tells.
    fn is_news(&mut self, failure: &Outcome, now: Instant) -> Option<u64> {
        if self.failing || matches!(failure, Outcome::Retry(_)) {
            return None;
        }
        self.failing = true;
        self.warnings.admit(now)
    }
}

/// Whether a sample of ours is left out for another program's: under the names of the workspace agent a page of that
/// agent goes before what we count in its place, a whole name at a time, so that no name is put together from both.
fn yields(own: &Sample, others: &[Vec<Sample>]) -> bool {
    check::is_agents(&own.name) && others.iter().flatten().any(|other| other.name == own.name)
}

/// Waits until a call is due and the link stands.
async fn may_call(connected: &mut watch::Receiver<bool>, due: Instant) {
    sleep_until(due).await;
    if connected.wait_for(|connected| *connected).await.is_err() {
        // The link is gone for good, which only happens when the process stops.
        std::future::pending::<()>().await;
    }
}
