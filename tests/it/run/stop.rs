//! How it ends: what is waited for, what is counted, and the exit code.

use rustix::process::Signal;
use serde_json::json;

use super::nobody;
use crate::support::coderd::Coderd;
use crate::support::plane::{Plane, WeirPlane};
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::{Ended, Sidecar};
use weir::upstream::Transport;

on_each_plane![who_waits_in_the_backlog_at_a_stop_is_heard,];

over_each_transport![what_was_written_before_a_stop_under_load_arrives(
    "-rtt", "2ms"
)];

fn assert_lost(ended: &Ended, logs: u64, batches: u64) {
    assert_eq!(ended.code(), Some(3), "{}", ended.log());
    assert_eq!(ended.number("received_logs"), logs);
    assert_eq!(ended.number("forwarded_logs"), 0);
    assert_eq!(ended.number("lost_logs"), logs);
    assert_eq!(ended.number("lost_batches"), batches);
}

#[tokio::test]
async fn a_stop_delivers_what_is_held() {
    delivers_what_is_held(&WeirPlane::start()).await;
    delivers_what_is_held(&WeirPlane::over(Transport::Grpc)).await;
    for transport in [Transport::WebSocket, Transport::Grpc] {
        if let Some(coderd) = Coderd::over(transport, &["-rtt", "40ms"]) {
            delivers_what_is_held(&coderd).await;
        }
    }
}

async fn delivers_what_is_held(plane: &impl Plane) {
    for signal in [Signal::TERM, Signal::INT] {
        let sidecar = Sidecar::of(plane).start().await;
        let mut session = Session::new(&format!("{signal:?}"));
        let mut sender = Sender::connect(&sidecar.socket).await;
        for _ in 0..200 {
            sender.send(&session.batch()).await;
        }
        sidecar.signal(signal);
        let ended = sidecar.end().await;
        assert_eq!(ended.code(), Some(0), "{}", ended.log());
        assert_eq!(ended.number("forwarded_logs"), 2_000);
        assert_eq!(plane.delivered(&session.id).await, session.whole());
        // It read to the end and then let go: the sender knows at its next write.
        sender.try_send(&session.batch()).await.unwrap_err();
    }
    plane.expect_clean_wire().await;
}

#[tokio::test]
async fn a_stop_without_a_control_plane_names_what_is_lost() {
    let sidecar = Sidecar::builder(&nobody())
        .flag("--drain-timeout", "200ms")
        .start()
        .await;
    let mut session = Session::new("lost");
    let mut sender = Sender::connect(&sidecar.socket).await;
    for _ in 0..3 {
        sender.send(&session.batch()).await;
    }
    let ended = sidecar.stop().await;
    assert!(ended.log().contains("the drain deadline has passed"));
    assert_lost(&ended, 30, 3);
}

#[tokio::test]
async fn a_second_signal_ends_the_drain() {
    let sidecar = Sidecar::builder(&nobody())
        .flag("--drain-timeout", "30days")
        .start()
        .await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    sender.send(&Session::new("lost").batch()).await;
    sidecar
        .wait_for("the batch", |page| {
            page.count("weir_batches_received_total") == 1
        })
        .await;
    sidecar.signal(Signal::TERM);
    sidecar.logged("stopping").await;
    // While it drains it is scraped as before.
    assert_eq!(sidecar.page().await.count("weir_logs_in_memory"), 10);
    sidecar.signal(Signal::INT);
    let ended = sidecar.end().await;
    assert!(ended.log().contains("told to stop a second time"));
    assert_lost(&ended, 10, 1);
}

#[tokio::test]
async fn a_stop_that_has_nothing_to_deliver_waits_for_nobody() {
    let sidecar = Sidecar::builder(&nobody())
        .flag("--drain-timeout", "30days")
        .start()
        .await;
    let _idle = Sender::connect(&sidecar.socket).await;
    sidecar.stop_clean().await;
}

async fn who_waits_in_the_backlog_at_a_stop_is_heard(plane: impl Plane) {
    let sidecar = Sidecar::of(&plane).start().await;
    sidecar.connected().await;
    // Nothing is accepted before it is to stop.
    sidecar.signal(Signal::STOP);
    let mut sessions: Vec<_> = (0..200).map(|at| Session::new(&format!("s{at}"))).collect();
    let mut senders = Vec::new();
    for session in &mut sessions {
        let mut sender = Sender::connect(&sidecar.socket).await;
        sender.send(&session.batch()).await;
        senders.push(sender);
    }
    sidecar.signal(Signal::TERM);
    sidecar.signal(Signal::CONT);
    let ended = sidecar.end().await;
    assert_eq!(ended.code(), Some(0), "{}", ended.log());
    assert_eq!(ended.number("forwarded_logs"), 2_000);
    for session in &sessions {
        assert_eq!(plane.delivered(&session.id).await, session.whole());
    }
}

async fn what_was_written_before_a_stop_under_load_arrives(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd)
        .flag("--when-full", "block")
        .flag("--drain-timeout", "10min")
        .start()
        .await;
    let socket = sidecar.socket.clone();
    let stop = async {
        coderd
            .wait_for("something of every session", |account| {
                account["sessions"]
                    .as_object()
                    .is_some_and(|all| all.len() == 8)
            })
            .await;
        sidecar.stop_clean().await
    };
    let senders = futures_util::future::join_all((0..8).map(|at| {
        let socket = &socket;
        async move {
            let mut sender = Sender::connect(socket).await;
            let mut session = Session::new(&format!("s{at}"));
            loop {
                let whole = session.whole();
                if sender.try_send(&session.batch()).await.is_err() {
                    return (session.id.clone(), whole);
                }
            }
        }
    }));
    let (senders, ended) = tokio::join!(senders, stop);
    let mut all = 0;
    for (session, written) in senders {
        assert_eq!(coderd.delivered(&session).await, written);
        all += written.distinct;
    }
    assert_eq!(ended.number("received_logs"), all);
    assert_eq!(coderd.account().await["violations"], json!([]));
}
