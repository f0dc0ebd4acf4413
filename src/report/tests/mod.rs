//! The loop, against an upstream that answers by a script, on a clock that only waits move.

mod content;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::*;
use crate::metrics::catalog::LOGS_RECEIVED;
use crate::metrics::sample::single;
use crate::metrics::{AttemptOutcome, Metrics};
use crate::pb::agent::UpdateStatsResponse;

/// What the scripted control plane does with a call.
enum Answer {
    Gives(Outcome),
    /// It never answers.
    Nothing,
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    /// Since the start.
    at: Duration,
    /// Our own sample in the report; `None` when it had no stats.
    value: Option<f64>,
    /// Samples behind that.
    others: usize,
}

/// An upstream that answers by a script, and accepts with an interval of 20 s when the script has ended.
struct Scripted {
    start: Instant,
    script: Mutex<VecDeque<Answer>>,
    calls: Mutex<Vec<Call>>,
    connected: watch::Sender<bool>,
}

const INTERVAL: Duration = Duration::from_secs(20);

impl Upstream for Arc<Scripted> {
    async fn call(&self, rpc: Rpc, body: &[Bytes]) -> Outcome {
        assert_eq!(rpc.path(), "/coder.agent.v2.Agent/UpdateStats");
        assert!(*self.connected.borrow(), "called without a link");
        let request = UpdateStatsRequest::decode(&*body.concat()).unwrap();
        let metrics = request.stats.map(|stats| stats.metrics);
        self.calls.lock().unwrap().push(Call {
            at: self.start.elapsed(),
            value: metrics.as_ref().map(|metrics| {
                assert_eq!(metrics[0].name, "weir_logs_received_total");
                metrics[0].value
            }),
            others: metrics.map_or(0, |metrics| metrics.len() - 1),
        });
        let answer = self.script.lock().unwrap().pop_front();
        let outcome = match answer {
            None => accepted(INTERVAL),
            Some(Answer::Gives(outcome)) => outcome,
            Some(Answer::Nothing) => std::future::pending().await,
        };
        if matches!(outcome, Outcome::Retry(_) | Outcome::Ambiguous(_)) {
            self.connected.send_replace(false);
        }
        outcome
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }
}

fn accepted(interval: Duration) -> Outcome {
    let report_interval = interval.try_into().ok();
    Outcome::Accepted(
        UpdateStatsResponse { report_interval }
            .encode_to_vec()
            .into(),
    )
}

fn refused() -> Outcome {
    Outcome::Refused("boom".into())
}

struct Bench {
    upstream: Arc<Scripted>,
    metrics: Metrics,
    /// What is counted: a report that was made later says more.
    counted: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Bench {
    fn new(script: impl IntoIterator<Item = Outcome>) -> Self {
        Self::scripted(script.into_iter().map(Answer::Gives))
    }

    fn scripted(script: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            upstream: Arc::new(Scripted {
                start: Instant::now(),
                script: Mutex::new(script.into_iter().collect()),
                calls: Mutex::default(),
                connected: watch::Sender::new(true),
            }),
            metrics: Metrics::new().unwrap(),
            counted: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    fn reporter(&self) -> Reporter<Arc<Scripted>> {
        let counted = Arc::clone(&self.counted);
        let inputs = Inputs {
            own: Box::new(move || {
                let value = counted.load(Ordering::Relaxed);
                vec![single(&LOGS_RECEIVED, value as f64)]
            }),
            others: Vec::new(),
            agent_metrics: false,
        };
        let random = fastrand::Rng::with_seed(1);
        let report = self.metrics.report.clone();
        Reporter::new(Arc::clone(&self.upstream), inputs, report, random)
    }

    /// Runs a reporter until `until` has happened, then stops it.
    async fn run_until(&self, until: impl Future<Output = ()>) {
        let stop = async {
            until.await;
            self.stop.cancel();
        };
        tokio::join!(self.reporter().run(&self.stop), stop);
    }

    /// Waits for that many calls in all; the clock moves on meanwhile.
    async fn calls_made(&self, count: usize) -> Vec<Call> {
        loop {
            let calls = self.calls();
            if calls.len() >= count {
                return calls;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn calls(&self) -> Vec<Call> {
        self.upstream.calls.lock().unwrap().clone()
    }

    fn attempts(&self, outcome: AttemptOutcome) -> f64 {
        self.metric("weir_report_attempts_total", Some(outcome.label()))
    }

    fn metric(&self, name: &str, label: Option<&str>) -> f64 {
        let registry = prometheus::Registry::new();
        for collector in self.metrics.collectors() {
            registry.register(collector).unwrap();
        }
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let mut metrics = family.unwrap().get_metric().iter();
        let found = metrics.find(|metric| {
            let labels = metric.get_label();
            label.is_none_or(|value| labels.iter().any(|pair| pair.value() == value))
        });
        let metric = found.unwrap();
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }
}

/// One call after another, by an interval less what spreads them.
#[track_caller]
fn assert_apart(calls: &[Call], interval: Duration) {
    let [before, after] = calls else {
        panic!("{calls:?}")
    };
    let apart = after.at - before.at;
    assert!(
        apart > interval.mul_f64(0.89) && apart <= interval,
        "{apart:?} in place of {interval:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn it_asks_how_often_then_reports_at_once_and_again() {
    let bench = Bench::new([]);
    bench
        .run_until(async {
            let calls = bench.calls_made(2).await;
            let call = |value| Call {
                at: Duration::ZERO,
                value,
                others: 0,
            };
            assert_eq!(calls, [None, Some(0.0)].map(call));
            bench.counted.store(7, Ordering::Relaxed);
            let calls = bench.calls_made(4).await;
            assert_eq!(calls[2].value, Some(7.0));
            assert_apart(&calls[1..3], INTERVAL);
            assert_apart(&calls[2..4], INTERVAL);
        })
        .await;
    assert_eq!(bench.attempts(AttemptOutcome::Accepted), 5.0);
    let success = bench.metric("weir_report_last_success_timestamp_seconds", None);
    assert!(success > 1.7e9, "{success}");
}

#[tokio::test(start_paused = true)]
async fn every_reply_may_change_the_interval() {
    let seconds = Duration::from_secs;
    let script = [10, 2, 300, 30].map(|interval| accepted(seconds(interval)));
    let bench = Bench::new(script);
    bench
        .run_until(async {
            let calls = bench.calls_made(5).await;
            // The first was answered before anything was reported.
            assert_apart(&calls[1..3], seconds(2));
            assert_apart(&calls[2..4], MAX_INTERVAL);
            assert_apart(&calls[3..5], seconds(30));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_without_a_link_and_one_report_is_when_it_is_back() {
    let bench = Bench::new([]);
    let hour = Duration::from_secs(3600);
    bench.upstream.connected.send_replace(false);
    bench
        .run_until(async {
            tokio::time::sleep(hour).await;
            assert_eq!(bench.calls(), []);
            bench.upstream.connected.send_replace(true);
            let calls = bench.calls_made(2).await;
            assert!(calls.iter().all(|call| call.at == hour));

            bench.upstream.connected.send_replace(false);
            tokio::time::sleep(hour).await;
            assert_eq!(bench.calls().len(), 2);
            bench.upstream.connected.send_replace(true);
            let calls = bench.calls_made(4).await;
            assert_eq!(calls[2].at, 2 * hour + Duration::from_millis(10));
            assert_apart(&calls[2..4], INTERVAL);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_was_not_written_is_made_anew_with_the_next_link() {
    let bench = Bench::new([accepted(INTERVAL), Outcome::Retry("no stream".into())]);
    bench
        .run_until(async {
            bench.calls_made(2).await;
            bench.counted.store(3, Ordering::Relaxed);
            bench.upstream.connected.send_replace(true);
            let calls = bench.calls_made(3).await;
            assert!(calls[2].at < Duration::from_secs(1));
            assert_eq!((calls[1].value, calls[2].value), (Some(0.0), Some(3.0)));
        })
        .await;
    assert_eq!(bench.attempts(AttemptOutcome::Retry), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_report_whose_fate_is_unknown_is_replaced_by_the_next_in_time() {
    let lost = Outcome::Ambiguous("connection lost".into());
    let bench = Bench::new([accepted(INTERVAL), lost]);
    bench
        .run_until(async {
            bench.calls_made(2).await;
            bench.counted.store(3, Ordering::Relaxed);
            bench.upstream.connected.send_replace(true);
            let calls = bench.calls_made(3).await;
            assert_apart(&calls[1..3], INTERVAL);
            assert_eq!(calls[2].value, Some(3.0));
        })
        .await;
    assert_eq!(bench.attempts(AttemptOutcome::Ambiguous), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_takes_no_reports_is_asked_again_in_time() {
    let rejected = Outcome::Rejected("unimplemented".into());
    let bench = Bench::new([refused(), accepted(INTERVAL), rejected, refused()]);
    bench
        .run_until(async {
            let calls = bench.calls_made(5).await;
            assert_eq!(calls[1].value, None, "how often is still unknown");
            assert_apart(&calls[..2], DEFAULT_INTERVAL);
            assert_apart(&calls[2..4], INTERVAL);
            assert_apart(&calls[3..5], INTERVAL);
        })
        .await;
    assert!(
        *bench.upstream.connected.borrow(),
        "the link is still there"
    );
    assert_eq!(bench.attempts(AttemptOutcome::Refused), 2.0);
    assert_eq!(bench.attempts(AttemptOutcome::Rejected), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_once_and_again_after_a_success() {
    let bench = Bench::new([]);
    let mut reporter = bench.reporter();
    let mut told = |outcome: Outcome| match outcome {
        Outcome::Accepted(_) => {
            reporter.tell(&outcome);
            false
        }
        _ => reporter.is_news(&outcome, Instant::now()).is_some(),
    };
    assert!(!told(accepted(INTERVAL)));
    assert!(!told(Outcome::Retry("not connected".into())));
    assert!(told(refused()));
    assert!(!told(refused()));
    assert!(!told(Outcome::Rejected("unimplemented".into())));
    assert!(!told(accepted(INTERVAL)));
    assert!(told(Outcome::Ambiguous("no answer".into())));
    // By turns it would fill the log, were it not for the pace.
    let times = (0..100).filter(|_| {
        told(accepted(INTERVAL));
        told(refused())
    });
    assert!(times.count() < 100);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_is_given_up_and_the_link_kept() {
    let bench = Bench::scripted([Answer::Nothing, Answer::Nothing]);
    bench
        .run_until(async {
            let calls = bench.calls_made(3).await;
            assert_apart(&calls[..2], DEFAULT_INTERVAL);
            assert_apart(&calls[1..3], DEFAULT_INTERVAL);
        })
        .await;
    assert!(*bench.upstream.connected.borrow());
    assert_eq!(bench.attempts(AttemptOutcome::Ambiguous), 2.0);
}

#[tokio::test]
async fn samples_of_others_pass_the_checks_behind_our_own() {
    let bench = Bench::new([]);
    let mut reporter = bench.reporter();
    let sample = |name: &str| Sample {
        name: name.to_owned(),
        kind: SampleKind::Gauge,
        value: 1.0,
        labels: Vec::new(),
    };
    for names in [vec!["a", "b"], vec!["weir_logs_received_total", "c"]] {
        let samples: Vec<_> = names.into_iter().map(sample).collect();
        reporter
            .inputs
            .others
            .push(Box::new(move || samples.clone()));
    }
    for _ in 0..2 {
        reporter.report().await;
    }
    let calls = bench.calls();
    assert!(
        calls
            .iter()
            .all(|call| call.value == Some(0.0) && call.others == 3)
    );
    let refused = bench.metric("weir_report_samples_refused_total", Some("reserved_name"));
    assert_eq!((calls.len(), refused), (2, 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_with_a_report_of_the_last_totals() {
    let bench = Bench::new([]);
    bench
        .run_until(async {
            bench.calls_made(2).await;
            bench.counted.store(9, Ordering::Relaxed);
        })
        .await;
    let calls = bench.calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[2].value, Some(9.0));
    assert!(calls[2].at < Duration::from_secs(1), "at once");
}

#[tokio::test(start_paused = true)]
async fn the_last_report_comes_after_the_one_under_way() {
    let bench = Bench::scripted([Answer::Gives(accepted(INTERVAL)), Answer::Nothing]);
    bench
        .run_until(async {
            bench.calls_made(2).await;
            bench.counted.store(9, Ordering::Relaxed);
        })
        .await;
    let calls = bench.calls();
    assert_eq!((calls[1].value, calls[2].value), (Some(0.0), Some(9.0)));
    assert_eq!(calls[2].at - calls[1].at, CALL_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_a_link_is_not_held_up() {
    let bench = Bench::new([]);
    bench.upstream.connected.send_replace(false);
    bench.stop.cancel();
    let ended = bench.reporter().run(&bench.stop).now_or_never();
    assert!(ended.is_some());
    assert_eq!(bench.calls(), []);
}

#[test]
fn the_agents_metrics_are_reported_by_the_agent_or_when_told_to() {
    for (setting, by_agent, by_others) in [
        (AgentMetrics::Auto, true, false),
        (AgentMetrics::Always, true, true),
        (AgentMetrics::Never, false, false),
    ] {
        assert_eq!(setting.are_reported("agent"), by_agent);
        assert_eq!(setting.are_reported("weir"), by_others);
        assert_eq!(setting.are_reported("Agent"), by_others);
    }
}
