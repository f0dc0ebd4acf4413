//! What takes its time by nature, side by side: limits of 10, 20 and 30 seconds, and rest.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::nobody;
use crate::support::coderd::Coderd;
use crate::support::plane::Plane as _;
use crate::support::sender::{Sender, Session, unhex};
use crate::support::sidecar::Sidecar;
use weir::upstream::Transport;

/// grpc-go's own policy of pings, which every answer begins anew; so there are to be none.
const FORBIDDING: [&str; 4] = ["-ping-interval", "0", "-refresh", "1h"];

#[tokio::test]
async fn limits_of_time_hold() {
    let start = |transport| Coderd::over(transport, &[]);
    let each = async |transport| {
        let (Some(first), Some(second), Some(third), Some(fourth)) = (
            start(transport),
            start(transport),
            start(transport),
            start(transport),
        ) else {
            return;
        };
        tokio::join!(
            a_silent_connection_is_given_up(first),
            a_call_without_an_answer_is_made_again(second),
            a_dial_without_an_answer_is_made_again(third),
            a_sidecar_at_rest_rests(fourth),
        );
    };
    let forbidden_pings = async {
        if let Some(server) = Coderd::over(Transport::Grpc, &FORBIDDING) {
            pings_that_a_server_forbids_cost_nothing(server).await;
        }
    };
    let slow_frames = async {
        if let Some(coderd) = Coderd::start(&[]) {
            frames_may_come_a_byte_a_second(coderd).await;
        }
    };
    tokio::join!(
        each(Transport::WebSocket),
        each(Transport::Grpc),
        forbidden_pings,
        slow_frames,
        a_scrape_address_that_is_taken_is_awaited(),
    );
}

/// The path is cut without a word: a dead link is known after 20 s, not after the 30 s of a call.
async fn a_silent_connection_is_given_up(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd).start().await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("s");
    sender.send(&session.batch()).await;
    sidecar.forwarded(10).await;
    let begun = Instant::now();
    coderd.fault(json!({"kind": "blackhole"})).await;
    sender.send(&session.batch()).await;
    sidecar
        .wait_for("the end of the connection", |page| {
            page.count("weir_upstream_connected") == 0
        })
        .await;
    let taken = begun.elapsed();
    // Counted from the last byte that came, which was before the cut.
    assert!((19..28).contains(&taken.as_secs()), "{taken:?}");
    sidecar.logged("nothing received for 20s").await;
    sender.send(&session.batch()).await;
    coderd.clear().await;
    let page = sidecar.forwarded(30).await;
    assert_eq!(page.attempts("ambiguous"), 1);
    let mut delivered = coderd.delivered("s").await;
    assert!(delivered.duplicates <= page.count("weir_possible_duplicate_logs_total"));
    delivered.duplicates = 0;
    assert_eq!(delivered, session.whole());
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

/// The connection answers pings, the call is never answered.
async fn a_call_without_an_answer_is_made_again(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd).start().await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let (mut stuck, mut other) = (Session::new("stuck"), Session::new("other"));
    coderd
        .fault(json!({"kind": "no_reply", "method": "ReportBoundaryLogs", "count": 1}))
        .await;
    sender.send(&stuck.batch()).await;
    coderd.struck("no_reply", 1).await;
    let begun = Instant::now();
    // It holds up nobody else.
    sender.send(&other.batch()).await;
    sidecar
        .wait_for("the other session", |page| {
            page.count("weir_logs_forwarded_total") == 10
        })
        .await;
    let page = sidecar.forwarded(20).await;
    let taken = begun.elapsed();
    assert!((29..40).contains(&taken.as_secs()), "{taken:?}");
    assert_eq!(page.attempts("ambiguous"), 1);
    assert_eq!(page.count("weir_possible_duplicate_logs_total"), 10);
    assert_eq!(page.dials("connected"), 2);
    assert_eq!(coderd.delivered("stuck").await.duplicates, 10);
    assert_eq!(coderd.delivered("other").await, other.whole());
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

/// grpc-go itself ends a connection for its third ping within minutes.
async fn pings_that_a_server_forbids_cost_nothing(server: Coderd) {
    let sidecar = Sidecar::of(&server).start().await;
    sidecar.connected().await;
    let page = sidecar
        .wait_for("the end of the connection, and another", |page| {
            page.dials("connected") == 2 && page.count("weir_upstream_connected") == 1
        })
        .await;
    assert_eq!(page.attempts("retry"), 0);
    sidecar.logged("excessive load").await;
    let account = server.account().await;
    let violations = account["violations"].as_array().unwrap();
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert_eq!(violations[0]["detail"], "ENHANCE_YOUR_CALM too_many_pings");
    let mut session = Session::new("s");
    Sender::connect(&sidecar.socket)
        .await
        .send(&session.batch())
        .await;
    sidecar.forwarded(10).await;
    assert_eq!(server.delivered("s").await, session.whole());
    sidecar.stop_clean().await;
}

/// A TCP connection is accepted, and nothing more.
async fn a_dial_without_an_answer_is_made_again(coderd: Coderd) {
    coderd.fault(json!({"kind": "half_open"})).await;
    let sidecar = Sidecar::of(&coderd).start().await;
    let mut session = Session::new("s");
    Sender::connect(&sidecar.socket)
        .await
        .send(&session.batch())
        .await;
    sidecar
        .wait_for("a dial that is given up", |page| page.dials("timeout") == 1)
        .await;
    coderd.clear().await;
    sidecar.forwarded(10).await;
    assert_eq!(coderd.delivered("s").await, session.whole());
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

/// A hundred senders that need seconds for a frame, and one that does not.
async fn frames_may_come_a_byte_a_second(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd).start().await;
    // A request with one log in which nothing is set.
    let frame = unhex("010000020a00");
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(Sender::connect(&sidecar.socket).await);
    }
    let mut quick = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("quick");
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for (at, byte) in (1..).zip(&frame) {
        seconds.tick().await;
        join_all(
            slow.iter_mut()
                .map(|sender| sender.send(std::slice::from_ref(byte))),
        )
        .await;
        quick.send(&session.batch()).await;
        let slow = if at == frame.len() as u64 { 100 } else { 0 };
        sidecar.forwarded(10 * at + slow).await;
    }
    assert_eq!(coderd.delivered("quick").await, session.whole());
    assert_eq!(coderd.delivered("").await.distinct, 100);
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

/// Connected, with senders that say nothing: the state in which it spends its life.
async fn a_sidecar_at_rest_rests(coderd: Coderd) {
    const SPAN: Duration = Duration::from_secs(15);
    let sidecar = Sidecar::of(&coderd).start().await;
    let mut senders = Vec::new();
    for _ in 0..10 {
        let mut sender = Sender::connect(&sidecar.socket).await;
        sender.send(&Session::new("s").batch()).await;
        senders.push(sender);
    }
    sidecar.forwarded(100).await;
    // From the end of the last scrape's connection on, nobody asks anything of it.
    sleep(Duration::from_secs(1)).await;
    let before = wakeups(sidecar.pid());
    sleep(SPAN).await;
    let woken = wakeups(sidecar.pid()) - before;
    assert!(woken <= SPAN.as_secs(), "woken {woken} times in {SPAN:?}");
    let threads = fs::read_dir(format!("/proc/{}/task", sidecar.pid()))
        .unwrap()
        .count();
    assert!(threads <= 3, "{threads} threads");
    let resident = sidecar.page().await.count("process_resident_memory_bytes");
    // A build for debugging is larger by its code, which is mapped as it is used.
    let limit = if cfg!(debug_assertions) { 24 } else { 8 };
    assert!(resident <= limit << 20, "{resident} bytes resident");
    sidecar.stop_clean().await;
}

/// How often the threads of a process went to sleep, which they do once for each time they were woken.
fn wakeups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let switches = tasks.map(|task| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse::<u64>().unwrap()
    });
    switches.sum()
}

/// As when the Go agent of the same workspace has the usual port.
async fn a_scrape_address_that_is_taken_is_awaited() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut sidecar = Sidecar::builder(&nobody())
        .flag("--prometheus-address", &address)
        .flag("--drain-timeout", "0s")
        .start()
        .await;
    assert_eq!(sidecar.prometheus, None);
    let warning = sidecar.logged("cannot listen").await;
    assert!(
        warning.contains("choose another --prometheus-address"),
        "{warning}"
    );
    Sender::connect(&sidecar.socket)
        .await
        .send(&Session::new("s").batch())
        .await;
    while sidecar.api_page().await.count("weir_logs_received_total") != 10 {}
    drop(taken);
    sidecar.logged("listening at last").await;
    sidecar.prometheus = Some(address);
    assert_eq!(sidecar.page().await.count("weir_logs_in_memory"), 10);
    assert_eq!(sidecar.stop().await.number("lost_logs"), 10);
}
