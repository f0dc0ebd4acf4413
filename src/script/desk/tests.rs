use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tokio::task::JoinSet;

use super::*;
use crate::metrics::Metrics;
use crate::pb::agent::Timing;
use crate::script::place::Place;
use crate::script::queue;
use crate::upstream::{Outcome, Rpc};

impl Place {
    fn desk(&self) -> Desk {
        Desk::open(&self.socket, Metrics::new().unwrap().scripts)
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("weir.sock.scripts")
    }
}

fn report(number: u64) -> Report {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let text = format!(
        r#"{{"id":"{id}","stage":"start","exit_code":{},"started_at":{number},"ended_at":{}}}"#,
        number % 2,
        number + 4
    );
    Report::from_json(text.as_bytes()).unwrap()
}

const COUNTED: Entry = Entry::Counted { overflow: false };

fn runs(desk: &Desk) -> (u64, u64) {
    (desk.metrics.runs(true), desk.metrics.runs(false))
}

#[test]
fn what_was_taken_in_survives_any_end() {
    let place = Place::new();
    let desk = place.desk();
    for number in 0..5 {
        assert_eq!(desk.enter(&report(number)), COUNTED);
    }
    // Nothing is done at an end: dropping is as good as a kill.
    drop(desk);
    let desk = place.desk();
    assert_eq!(runs(&desk), (3, 2));
    assert_eq!(*desk.pending().borrow(), 5);
    assert_eq!(desk.enter(&report(4)), Entry::Repeated);
    assert_eq!(desk.enter(&report(5)), COUNTED);
    assert_eq!(runs(&desk), (3, 3));
    assert_eq!(
        fs::metadata(place.journal()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn the_journal_stays_bounded() {
    let place = Place::new();
    let desk = place.desk();
    let mut largest = 0;
    for number in 0..12_000 {
        desk.enter(&report(number));
        largest = largest.max(fs::metadata(place.journal()).unwrap().len());
    }
    assert!(largest < 3 << 20, "{largest}");
    drop(desk);
    assert_eq!(runs(&place.desk()), (6_000, 6_000));
}

#[tokio::test]
async fn the_queue_is_taken_in_once() {
    let place = Place::new();
    for number in 0..3 {
        queue::append(&place.socket, &report(number)).await.unwrap();
    }
    let path = place.directory.path().join("weir.sock.queue");
    let before = fs::read(&path).unwrap();
    let desk = place.desk();
    desk.look();
    assert_eq!(
        (runs(&desk), fs::metadata(&path).unwrap().len()),
        ((2, 1), 0)
    );
    // As after a kill between the two.
    fs::write(&path, [&*before, b"no report\n{\"dropped\":7}\n"].concat()).unwrap();
    drop(desk);
    let desk = place.desk();
    desk.look();
    assert_eq!(
        (runs(&desk), fs::metadata(&path).unwrap().len()),
        ((2, 1), 0)
    );
    let text = crate::metrics::exposition::encode(
        &desk.metrics_collected(),
        crate::metrics::exposition::Format::Text,
    );
    let text = String::from_utf8(text.unwrap()).unwrap();
    for line in [
        "repeated\"} 3",
        "invalid\"} 1",
        "queue_full\"} 7",
        "counted\"} 0",
    ] {
        assert!(
            text.contains(&format!("weir_script_reports_total{{outcome=\"{line}\n")),
            "{line}: {text}"
        );
    }
}

impl Desk {
    fn metrics_collected(&self) -> Vec<prometheus::proto::MetricFamily> {
        let registry = prometheus::Registry::new();
        for collector in self.metrics.collectors() {
            registry.register(collector).unwrap();
        }
        registry.gather()
    }
}

#[tokio::test]
async fn without_a_journal_runs_are_counted_and_the_queue_waits() {
    let place = Place::new();
    // In the way of the journal.
    fs::create_dir(place.journal()).unwrap();
    queue::append(&place.socket, &report(9)).await.unwrap();
    let desk = place.desk();
    assert_eq!(desk.enter(&report(0)), COUNTED);
    desk.look();
    assert_eq!(runs(&desk), (1, 0));
    fs::remove_dir(place.journal()).unwrap();
    desk.look();
    assert_eq!(runs(&desk), (1, 1));
    drop(desk);
    assert_eq!(runs(&place.desk()), (1, 1));
}

#[test]
fn two_desks_do_not_share_a_journal() {
    let place = Place::new();
    let (old, new) = (place.desk(), place.desk());
    old.enter(&report(0));
    new.enter(&report(1));
    drop(old);
    // It counts from its own start, and knows what the other knew.
    new.look();
    assert_eq!(runs(&new), (0, 1));
    assert_eq!(new.enter(&report(0)), Entry::Repeated);
    assert_eq!(*new.pending().borrow(), 2);
    drop(new);
    assert_eq!(runs(&place.desk()), (0, 1));
}

/// Answers by a script, and accepts when that has ended.
struct Scripted {
    script: Mutex<VecDeque<Outcome>>,
    told: Mutex<Vec<Timing>>,
    connected: watch::Sender<bool>,
}

impl Upstream for Arc<Scripted> {
    async fn call(&self, rpc: Rpc, body: &[Bytes]) -> Outcome {
        assert_eq!(rpc, Rpc::SCRIPT_COMPLETED);
        let request = WorkspaceAgentScriptCompletedRequest::decode(&*body.concat()).unwrap();
        self.told.lock().unwrap().push(request.timing.unwrap());
        let outcome = self.script.lock().unwrap().pop_front();
        outcome.unwrap_or(Outcome::Accepted(Bytes::new()))
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }
}

/// Has reports of these numbers told, with these outcomes first; returns the starts that were told, and the outcomes that
/// were counted.
async fn told(
    script: impl IntoIterator<Item = Outcome>,
    numbers: &[u64],
    restarted: bool,
) -> (Vec<i64>, Vec<String>) {
    let place = Place::new();
    let mut desk = place.desk();
    for number in numbers {
        desk.enter(&report(*number));
    }
    if restarted {
        drop(desk);
        desk = place.desk();
    }
    let desk = Arc::new(desk);
    let upstream = Arc::new(Scripted {
        script: Mutex::new(script.into_iter().collect()),
        told: Mutex::default(),
        connected: watch::Sender::new(true),
    });
    let schedule = Schedule::new(Duration::from_millis(100), Duration::from_secs(10)).unwrap();
    let stop = CancellationToken::new();
    let mut pending = desk.pending();
    let mut serving = JoinSet::new();
    serving.spawn(Arc::clone(&desk).serve(Arc::clone(&upstream), schedule, stop.clone()));
    // Nothing can be told after the last.
    pending.wait_for(|runs| *runs == 0).await.unwrap();
    stop.cancel();
    serving.join_all().await;
    let told = upstream.told.lock().unwrap();
    let starts = told
        .iter()
        .map(|timing| timing.start.unwrap().seconds)
        .collect();
    let families = desk.metrics_collected();
    let family = families
        .iter()
        .find(|family| family.name() == "weir_script_completions_total");
    let counted = family.unwrap().get_metric().iter();
    let counted = counted.filter(|metric| metric.get_counter().get_value() > 0.0);
    let counted = counted.map(|metric| {
        let count = metric.get_counter().get_value();
        format!("{}={count}", metric.get_label()[0].value())
    });
    // Settled for good.
    drop(desk);
    assert_eq!(*place.desk().pending().borrow(), 0);
    (starts, counted.collect())
}

fn refused() -> Outcome {
    Outcome::Refused("boom".to_owned())
}

fn ambiguous() -> Outcome {
    Outcome::Ambiguous("gone".to_owned())
}

#[tokio::test(start_paused = true)]
async fn runs_are_told_in_order_and_repeated_after_an_attempt_without_an_answer() {
    let outcomes = [Outcome::Retry("away".to_owned()), ambiguous(), refused()];
    let (starts, counted) = told(outcomes, &[1, 2, 3], false).await;
    assert_eq!(starts, [1, 1, 1, 1, 2, 3]);
    assert_eq!(counted, ["delivered=3"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_refused_costs_itself() {
    let (starts, counted) = told([refused(), refused(), refused()], &[1, 2], false).await;
    assert_eq!(starts, [1, 1, 1, 2]);
    assert_eq!(counted, ["delivered=1", "refused=1"]);
    let (starts, counted) = told(
        [Outcome::Rejected("unknown rpc".to_owned())],
        &[1, 2],
        false,
    )
    .await;
    assert_eq!(starts, [1, 2]);
    assert_eq!(counted, ["delivered=1", "rejected=1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_what_may_have_been_taken_is_uncertain() {
    let outcomes = || [refused(), refused(), refused()];
    let (_, counted) = told([ambiguous()].into_iter().chain(outcomes()), &[1], false).await;
    assert_eq!(counted, ["uncertain=1"]);
    // Nobody knows what became of the call under way when the life before was ended.
    let (_, counted) = told(outcomes().into_iter().chain(outcomes()), &[1, 2], true).await;
    assert_eq!(counted, ["refused=1", "uncertain=1"]);
}
