//! Many logs while the control plane comes and goes.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::coderd::Coderd;
use crate::support::page::Page;
use crate::support::plane::{Plane, WeirPlane};
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;
use weir::upstream::Transport;

const SESSIONS: u64 = 16;

/// What happens to coderd on the way.
fn disasters() -> Vec<Value> {
    let restart = json!({"kind": "restart", "down_ms": 100});
    let close = json!({"kind": "close_after", "method": "ReportBoundaryLogs", "count": 1});
    [0, 1, 0, 1, 0, 0, 1, 0]
        .map(|which| [&restart, &close][which].clone())
        .into()
}

over_each_transport![a_million_logs_outlive_restarts_and_lost_replies];

async fn a_million_logs_outlive_restarts_and_lost_replies(mut coderd: Coderd) {
    let disasters = disasters();
    let strike = async |coderd: &mut Coderd, at: usize| coderd.fault(disasters[at].clone()).await;
    let end = outlive(&mut coderd, 1_000_000, disasters.len(), strike).await;
    // Each reply that was lost has made some.
    assert!(end.duplicates >= 3, "{}", end.duplicates);
    assert!(end.page.dials("connected") > 8);
    let account = coderd.account().await;
    assert_eq!(
        account["faults_fired"],
        json!({"close_after": 3, "restart": 5})
    );
}

#[tokio::test]
async fn logs_outlive_five_kills_of_our_own_control_plane() {
    // A build for debugging writes and reads a million lines in half a minute.
    const ALL: u64 = 200_000;
    for transport in [Transport::WebSocket, Transport::Grpc] {
        let mut plane = WeirPlane::over(transport);
        let strike = async |plane: &mut WeirPlane, _| plane.restart();
        let end = outlive(&mut plane, ALL, 5, strike).await;
        assert_eq!(end.page.dials("connected"), 6);
    }
}

/// What there is to see at the end.
struct End {
    page: Page,
    duplicates: u64,
}

/// Sends `all` logs, lets disasters strike at equal distances, and expects each log to arrive.
async fn outlive<P: Plane>(
    plane: &mut P,
    all: u64,
    disasters: usize,
    mut strike: impl AsyncFnMut(&mut P, usize),
) -> End {
    let sidecar = Sidecar::of(plane)
        .flag("--when-full", "block")
        .flag("--block-deadline", "10min")
        .flag("--buffer-max-bytes", "4MiB")
        .start()
        .await;
    let mut sessions: Vec<_> = (0..SESSIONS)
        .map(|at| Session::new(&format!("5e551085-0000-4000-8000-{at:012}")))
        .collect();
    let senders = join_all(sessions.iter_mut().map(async |session| {
        let mut sender = Sender::connect(&sidecar.socket).await;
        while session.logs < all / SESSIONS {
            sender.send(&session.batch()).await;
        }
    }));
    let strikes = async {
        let distance = all / (disasters as u64 + 1);
        for (at, passed) in (0..disasters).zip(1..) {
            sidecar
                .wait_for(&format!("the way to disaster {at}"), |page| {
                    page.count("weir_logs_forwarded_total") >= passed * distance
                })
                .await;
            strike(plane, at).await;
        }
    };
    tokio::join!(senders, strikes);
    let page = sidecar.forwarded(all).await;

    let mut duplicates = 0;
    let mut arrived = plane.sessions().await;
    for session in &sessions {
        let mut delivered = arrived.remove(&session.id).unwrap_or_default();
        duplicates += std::mem::take(&mut delivered.duplicates);
        assert_eq!(delivered, session.whole(), "{}", session.id);
    }
    assert!(duplicates <= page.count("weir_possible_duplicate_logs_total"));
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
    End { page, duplicates }
}
