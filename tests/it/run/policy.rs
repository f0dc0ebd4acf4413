//! What is given up when not everything can be kept, to the log.

use serde_json::json;

use super::nobody;
use crate::support::coderd::Coderd;
use crate::support::page::Page;
use crate::support::plane::{Delivered, Plane};
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::{Builder, Sidecar, held};

on_each_plane![
    drop_newest_keeps_the_first,
    drop_oldest_keeps_the_last,
    bytes_are_a_bound_too,
    block_waits_for_room,
    block_gives_up_at_its_deadline,
    logs_older_than_the_limit_expire,
];

over_each_transport![at_most_once_repeats_nothing];

/// A sidecar for five batches, and a control plane that lets nobody in.
async fn closed_door(plane: &mut impl Plane, settings: impl FnOnce(Builder) -> Builder) -> Sidecar {
    plane.turn_away().await;
    let builder = Sidecar::of(plane).flag("--buffer-max-batches", 5);
    settings(builder).start().await
}

/// Sends `count` batches.
async fn send(sidecar: &Sidecar, session: &mut Session, count: usize) {
    let mut sender = Sender::connect(&sidecar.socket).await;
    for _ in 0..count {
        sender.send(&session.batch()).await;
    }
}

fn received(batches: u64) -> impl Fn(&Page) -> bool {
    move |page| page.count("weir_batches_received_total") == batches
}

/// Opens the door and sees `logs` logs arrive.
async fn open_door(plane: &mut impl Plane, sidecar: Sidecar, logs: u64) -> Delivered {
    plane.let_in().await;
    sidecar.forwarded(logs).await;
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
    plane.delivered("s").await
}

async fn drop_newest_keeps_the_first(mut plane: impl Plane) {
    let sidecar = closed_door(&mut plane, |builder| builder).await;
    let mut session = Session::new("s");
    send(&sidecar, &mut session, 5).await;
    let first = session.whole();
    sidecar.wait_for("the first five", received(5)).await;
    send(&sidecar, &mut session, 3).await;
    let page = sidecar.wait_for("all eight", received(8)).await;
    assert_eq!(page.dropped("batches", "buffer_full"), 3);
    assert_eq!(page.dropped("logs", "buffer_full"), 30);
    assert_eq!(page.count("weir_logs_in_memory"), 50);
    let agent =
        |unit| format!("agent_boundary_log_proxy_{unit}_dropped_total{{reason=\"buffer_full\"}}");
    assert_eq!(page.count(&agent("batches")), 3);
    assert_eq!(page.count(&agent("logs")), 30);
    assert_eq!(open_door(&mut plane, sidecar, 50).await, first);
}

async fn drop_oldest_keeps_the_last(mut plane: impl Plane) {
    let settings = |builder: Builder| builder.flag("--when-full", "drop-oldest");
    let sidecar = closed_door(&mut plane, settings).await;
    // The same numbers, as the record of what is left.
    let mut session = Session::new("other");
    send(&sidecar, &mut session, 3).await;
    sidecar.wait_for("the first three", received(3)).await;
    let mut last = Session::new("s");
    send(&sidecar, &mut last, 5).await;
    let page = sidecar.wait_for("all eight", received(8)).await;
    assert_eq!(page.dropped("batches", "buffer_full"), 3);
    assert_eq!(page.dropped("logs", "buffer_full"), 30);
    assert_eq!(open_door(&mut plane, sidecar, 50).await, last.whole());
    assert_eq!(plane.delivered("other").await, Delivered::default());
}

async fn bytes_are_a_bound_too(mut plane: impl Plane) {
    let settings = |builder: Builder| builder.flag("--buffer-max-bytes", "64KiB");
    let sidecar = closed_door(&mut plane, settings).await;
    let mut session = Session::new("s").with_url(&"u".repeat(3_000));
    send(&sidecar, &mut session, 2).await;
    let first = session.whole();
    sidecar.wait_for("the first two", received(2)).await;
    send(&sidecar, &mut session, 1).await;
    let page = sidecar.wait_for("all three", received(3)).await;
    assert_eq!(page.dropped("batches", "buffer_full"), 1);
    assert!(page.count("weir_buffer_bytes") <= page.count("weir_buffer_capacity_bytes"));
    assert_eq!(open_door(&mut plane, sidecar, 20).await, first);
}

async fn block_waits_for_room(mut plane: impl Plane) {
    let settings = |builder: Builder| {
        builder
            .flag("--when-full", "block")
            .flag("--block-deadline", "10min")
    };
    let sidecar = closed_door(&mut plane, settings).await;
    let mut session = Session::new("s");
    send(&sidecar, &mut session, 8).await;
    // The sixth counts as received while it waits; those behind it are the kernel's.
    let page = sidecar.wait_for("a batch that waits", received(6)).await;
    assert_eq!(page.count("weir_logs_in_memory"), 60);
    assert_eq!(page.dropped("logs", "buffer_full"), 0);
    assert_eq!(open_door(&mut plane, sidecar, 80).await, session.whole());
}

async fn block_gives_up_at_its_deadline(mut plane: impl Plane) {
    let settings = |builder: Builder| {
        builder
            .flag("--when-full", "block")
            .flag("--block-deadline", "100ms")
    };
    let sidecar = closed_door(&mut plane, settings).await;
    let mut session = Session::new("s");
    send(&sidecar, &mut session, 5).await;
    let first = session.whole();
    sidecar.wait_for("the first five", received(5)).await;
    send(&sidecar, &mut session, 3).await;
    sidecar
        .wait_for("three deadlines", |page| {
            page.dropped("logs", "buffer_full") == 30
        })
        .await;
    assert_eq!(open_door(&mut plane, sidecar, 50).await, first);
}

async fn at_most_once_repeats_nothing(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd)
        .flag("--delivery", "at-most-once")
        .start()
        .await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut expected = Vec::new();
    let steps = [None, Some("close_after"), None, Some("close_before"), None];
    for (at, fault) in steps.into_iter().enumerate() {
        let mut session = Session::new(&format!("s{at}"));
        if let Some(kind) = fault {
            coderd
                .fault(json!({"kind": kind, "method": "ReportBoundaryLogs", "count": 1}))
                .await;
        }
        sender.send(&session.batch()).await;
        sidecar
            .wait_for("the end of the batch", |page| {
                held(page) == 0 && page.count("weir_logs_received_total") == 10 * (at as u64 + 1)
            })
            .await;
        expected.push(match fault {
            Some("close_before") => Delivered::default(),
            _ => session.whole(),
        });
    }
    let page = sidecar.forwarded(30).await;
    assert_eq!(page.dropped("logs", "forward_failed"), 20);
    assert_eq!(page.attempts("ambiguous"), 2);
    assert_eq!(page.count("weir_possible_duplicate_logs_total"), 0);
    for (at, expected) in expected.iter().enumerate() {
        assert_eq!(coderd.delivered(&format!("s{at}")).await, *expected, "{at}");
    }
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

async fn logs_older_than_the_limit_expire(mut plane: impl Plane) {
    let settings = |builder: Builder| builder.flag("--retry-max-age", "300ms");
    let sidecar = closed_door(&mut plane, settings).await;
    send(&sidecar, &mut Session::new("old"), 2).await;
    sidecar
        .wait_for("the age", |page| page.dropped("logs", "expired") == 20)
        .await;
    plane.let_in().await;
    sidecar.connected().await;
    let mut session = Session::new("s");
    send(&sidecar, &mut session, 1).await;
    sidecar.forwarded(10).await;
    assert_eq!(plane.delivered("s").await, session.whole());
    assert_eq!(plane.delivered("old").await, Delivered::default());
    sidecar.stop_clean().await;
}

#[tokio::test]
async fn an_age_limit_spares_what_is_young() {
    let sidecar = Sidecar::builder(&nobody())
        .flag("--retry-max-age", "30days")
        .flag("--drain-timeout", "0s")
        .start()
        .await;
    send(&sidecar, &mut Session::new("s"), 2).await;
    let page = sidecar.wait_for("both", received(2)).await;
    assert_eq!(page.count("weir_logs_in_memory"), 20);
    let ended = sidecar.stop().await;
    assert_eq!(
        (ended.code(), ended.number("lost_logs")),
        (Some(3), 20),
        "{}",
        ended.log()
    );
}
