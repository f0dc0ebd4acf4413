//! Senders that are many, broken or hostile cost only themselves.

use futures_util::future::join_all;

use super::nobody;
use crate::support::coderd::Coderd;
use crate::support::plane::{Plane, WeirPlane};
use crate::support::sender::{Sender, Session, unhex};
use crate::support::sidecar::Sidecar;
use weir::upstream::Transport;

on_each_plane![hostile_frames_cost_only_their_sender];

/// What is sent, as what it is rejected, how often, and whether the connection goes on.
struct Hostile {
    frame: Vec<u8>,
    reason: &'static str,
    goes_on: bool,
}

fn hostile() -> Vec<Hostile> {
    let ends = |hex: &str, reason| Hostile {
        frame: unhex(hex),
        reason,
        goes_on: false,
    };
    let skipped = |hex: &str, reason| Hostile {
        frame: unhex(hex),
        reason,
        goes_on: true,
    };
    vec![
        // A tag that does not exist, and the header of drafts that had none.
        ends("030000020a00", "tag"),
        ends("0000003c", "tag"),
        ends("ffffffff", "tag"),
        // One byte too many, and as many as can be said.
        ends("01008001", "too_large"),
        ends("02ffffff", "too_large"),
        // Garbage, text that is not UTF-8, a length beyond the frame.
        skipped("01000003ffffff", "undecodable"),
        skipped("010000031201ff", "undecodable"),
        skipped("020000060affffffff0f", "undecodable"),
        // Envelopes with nothing in them that is known.
        skipped("02000000", "empty"),
        skipped("020000021a00", "empty"),
    ]
}

async fn hostile_frames_cost_only_their_sender(plane: impl Plane) {
    let sidecar = Sidecar::of(&plane).start().await;
    let mut friend = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("friend");
    let mut seen = std::collections::HashMap::new();
    let mut logs = 0;
    for (
        at,
        Hostile {
            frame,
            reason,
            goes_on,
        },
    ) in hostile().into_iter().enumerate()
    {
        let mut sender = Sender::connect(&sidecar.socket).await;
        sender.send(&frame).await;
        let count: &mut u64 = seen.entry(reason).or_default();
        *count += 1;
        sidecar
            .wait_for(&format!("case {at} rejected as {reason}"), |page| {
                page.rejected(reason) == *count
            })
            .await;
        if goes_on {
            let mut session = Session::new(&format!("case {at}"));
            sender.send(&session.batch()).await;
            logs += 10;
            sidecar.forwarded(logs).await;
            assert_eq!(plane.delivered(&session.id).await, session.whole());
        } else {
            sender.closed().await;
        }
        friend.send(&session.batch()).await;
        logs += 10;
        sidecar.forwarded(logs).await;
    }
    // Ends inside a header and inside a payload, and one right behind a header, which cuts nothing short.
    for (at, (bytes, truncated)) in (1..).zip([("010000050a", 1), ("01000005", 1), ("0100", 2)]) {
        let accepted = hostile().len() as u64 + at + 1;
        let mut sender = Sender::connect(&sidecar.socket).await;
        sender.send(&unhex(bytes)).await;
        drop(sender);
        sidecar
            .wait_for("the end of the sender", |page| {
                page.count("weir_connections_total") == accepted
                    && page.count("weir_connections") == 1
            })
            .await;
        assert_eq!(
            sidecar.page().await.rejected("truncated"),
            truncated,
            "{bytes}"
        );
    }
    let page = sidecar.page().await;
    for (reason, count) in seen {
        assert_eq!(page.rejected(reason), count, "{reason}");
    }
    assert_eq!(plane.delivered("friend").await, session.whole());
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
}

/// One control plane after the other: side by side they would need twice the descriptors.
#[tokio::test]
async fn ten_thousand_senders_are_served() {
    ten_thousand_senders(WeirPlane::start()).await;
    ten_thousand_senders(WeirPlane::over(Transport::Grpc)).await;
    for transport in [Transport::WebSocket, Transport::Grpc] {
        if let Some(coderd) = Coderd::over(transport, &[]) {
            ten_thousand_senders(coderd).await;
        }
    }
}

async fn ten_thousand_senders(plane: impl Plane) {
    const SENDERS: u64 = 10_000;
    let limit = weir::ingest::raise_descriptor_limit().unwrap();
    assert!(
        limit.is_none_or(|limit| limit > SENDERS + 500),
        "the test needs more descriptors"
    );
    let sidecar = Sidecar::of(&plane)
        .flag("--when-full", "block")
        .flag("--block-deadline", "10min")
        .start()
        .await;
    let mut senders = Vec::new();
    // In groups that the backlog holds: beyond it a connect fails at once.
    for group in 1..=10 {
        for _ in 0..SENDERS / 10 {
            senders.push(Sender::connect(&sidecar.socket).await);
        }
        sidecar
            .wait_for("all connections", |page| {
                page.count("weir_connections") == group * SENDERS / 10
            })
            .await;
    }
    // Each speaks once, in one of a hundred sessions.
    let mut sessions: Vec<_> = (0..100).map(|at| Session::new(&format!("s{at}"))).collect();
    for (at, sender) in senders.iter_mut().enumerate() {
        sender.send(&sessions[at % 100].frame(1)).await;
    }
    let page = sidecar.forwarded(SENDERS).await;
    assert_eq!(page.count("weir_connections"), SENDERS);
    let delivered = plane.sessions().await;
    for session in &sessions {
        assert_eq!(delivered[&session.id].distinct, session.logs);
    }
    drop(senders);
    sidecar
        .wait_for("the end of all connections", |page| {
            page.count("weir_connections") == 0
        })
        .await;
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
}

#[tokio::test]
async fn senders_without_a_frame_are_let_be() {
    let sidecar = Sidecar::builder(&nobody()).start().await;
    let mut idle = Sender::connect(&sidecar.socket).await;
    join_all((0..50).map(async |_| drop(Sender::connect(&sidecar.socket).await))).await;
    let page = sidecar
        .wait_for("all have gone", |page| {
            page.count("weir_connections") == 1 && page.count("weir_connections_total") == 51
        })
        .await;
    for reason in ["tag", "too_large", "truncated", "undecodable", "empty"] {
        assert_eq!(page.rejected(reason), 0, "{reason}");
    }
    assert_eq!(page.count("weir_batches_received_total"), 0);
    idle.try_send(&[]).await.unwrap();
    drop(idle);
    sidecar.stop_clean().await;
}
