//! A million logs while the control plane comes and goes.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::coderd::Coderd;
use crate::support::plane::Plane as _;
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;

const SESSIONS: u64 = 16;
const LOGS_EACH: u64 = 62_500;
const ALL: u64 = SESSIONS * LOGS_EACH;

/// What happens to the control plane on the way, at equal distances.
fn disasters() -> Vec<Value> {
    let restart = json!({"kind": "restart", "down_ms": 100});
    let close = json!({"kind": "close_after", "method": "ReportBoundaryLogs", "count": 1});
    [0, 1, 0, 1, 0, 0, 1, 0]
        .map(|which| [&restart, &close][which].clone())
        .into()
}

#[tokio::test]
async fn a_million_logs_outlive_restarts_and_lost_replies() {
    let Some(coderd) = Coderd::start(&[]) else {
        return;
    };
    let sidecar = Sidecar::builder(&coderd.url)
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
        while session.logs < LOGS_EACH {
            sender.send(&session.batch()).await;
        }
    }));
    let disasters = async {
        let all = disasters();
        let distance = ALL / (all.len() as u64 + 1);
        for (at, fault) in (1..).zip(&all) {
            sidecar
                .wait_for(&format!("the way to disaster {at}"), |page| {
                    page.count("weir_logs_forwarded_total") >= at * distance
                })
                .await;
            coderd.fault(fault.clone()).await;
        }
    };
    tokio::join!(senders, disasters);
    let page = sidecar.forwarded(ALL).await;

    let mut duplicates = 0;
    for session in &sessions {
        let mut delivered = coderd.delivered(&session.id).await;
        duplicates += std::mem::take(&mut delivered.duplicates);
        assert_eq!(delivered, session.whole(), "{}", session.id);
    }
    // Each reply that was lost has made some.
    assert!(duplicates >= 3, "{duplicates}");
    assert!(duplicates <= page.count("weir_possible_duplicate_logs_total"));
    assert!(page.dials("connected") > 8);
    let account = coderd.account().await;
    assert_eq!(
        account["faults_fired"],
        json!({"close_after": 3, "restart": 5})
    );
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}
