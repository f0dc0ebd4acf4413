//! What a control plane can do to a connection and to a call, and what becomes of the logs.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::coderd::Coderd;
use crate::support::plane::{Delivered, Plane as _};
use crate::support::sender::{BATCH, Sender, Session};
use crate::support::sidecar::Sidecar;
use weir::upstream::Transport::{self, Grpc, WebSocket};

over_each_transport![a_poisonous_batch_costs_itself];

const METHOD: &str = "ReportBoundaryLogs";

/// What a fault leaves behind when it has struck one call, which carries one batch.
struct Trouble {
    fault: Value,
    /// As what its attempts count, and how many there are.
    attempts: (&'static str, u64),
    /// Whether the batch is given up.
    dropped: bool,
    /// How often the batch arrives beside the time that counts.
    duplicates: u64,
    dials: u64,
}

impl Trouble {
    fn new(fault: Value, attempts: (&'static str, u64)) -> Self {
        let lost_link = matches!(attempts.0, "ambiguous" | "retry");
        Self {
            fault,
            attempts,
            dropped: false,
            duplicates: 0,
            dials: 1 + u64::from(lost_link),
        }
    }

    fn dropped(self) -> Self {
        Self {
            dropped: true,
            ..self
        }
    }

    fn duplicated(self) -> Self {
        Self {
            duplicates: 1,
            ..self
        }
    }
}

#[tokio::test]
async fn each_trouble_of_a_call_has_its_price() {
    let unknown = json!({"kind": "error", "message": "protocol error: unknown rpc: \"/x\""});
    let each = |transport| troubles().into_iter().map(move |one| costs(transport, one));
    let dropped = Trouble::new(unknown, ("rejected", 1)).dropped();
    join_all(each(WebSocket).chain([costs(WebSocket, dropped)])).await;
    join_all(each(Grpc).chain(grpc_troubles().into_iter().map(|one| costs(Grpc, one)))).await;
}

/// What can happen to a call over either transport.
fn troubles() -> Vec<Trouble> {
    let frame = json!({"kind": "garbage_reply", "form": "frame"});
    let refusal = |count: u64| json!({"kind": "error", "message": "boom", "count": count});
    let only = |kind: &str| json!({ "kind": kind });
    vec![
        Trouble::new(refusal(1), ("refused", 1)),
        Trouble::new(refusal(2), ("refused", 2)),
        Trouble::new(refusal(3), ("refused", 3)).dropped(),
        Trouble::new(only("unimplemented"), ("rejected", 1)).dropped(),
        Trouble::new(only("close_before"), ("ambiguous", 1)),
        Trouble::new(only("close_after"), ("ambiguous", 1)).duplicated(),
        Trouble::new(only("stream_reset"), ("ambiguous", 1)).duplicated(),
        Trouble::new(only("oversize_reply"), ("ambiguous", 1)).duplicated(),
        Trouble::new(only("garbage_reply"), ("ambiguous", 1)).duplicated(),
        Trouble::new(frame, ("ambiguous", 1)).duplicated(),
        Trouble::new(json!({"kind": "delay", "ms": 200}), ("accepted", 3)),
    ]
}

/// What only gRPC can say.
fn grpc_troubles() -> Vec<Trouble> {
    let code = |code: u32, count: u64| json!({"kind": "error", "code": code, "count": count});
    let only = |kind: &str| json!({ "kind": kind });
    vec![
        // INTERNAL and RESOURCE_EXHAUSTED are about the request.
        Trouble::new(code(13, 1), ("refused", 1)),
        Trouble::new(code(8, 3), ("refused", 3)).dropped(),
        // DEADLINE_EXCEEDED, CANCELLED, ABORTED and UNAVAILABLE leave open what became of it.
        Trouble::new(code(4, 1), ("ambiguous", 1)),
        Trouble::new(code(1, 1), ("ambiguous", 1)),
        Trouble::new(code(10, 1), ("ambiguous", 1)),
        Trouble::new(code(14, 1), ("ambiguous", 1)),
        // UNAUTHENTICATED and PERMISSION_DENIED are about the token.
        Trouble::new(code(16, 1), ("retry", 1)),
        Trouble::new(code(7, 1), ("retry", 1)),
        // Proof that it was not handled.
        Trouble::new(only("refuse_stream"), ("retry", 1)),
        Trouble::new(only("leave_out"), ("retry", 1)),
        Trouble::new(json!({"kind": "leave_out", "code": 2}), ("retry", 1)),
    ]
}

/// Sends a batch, one that meets the trouble, and another.
async fn costs(transport: Transport, trouble: Trouble) {
    let Some(coderd) = Coderd::over(transport, &[]) else {
        return;
    };
    let mut fault = trouble.fault;
    let what = format!("{transport:?}: {fault}");
    fault["method"] = METHOD.into();
    let count = fault["count"].as_u64().unwrap_or(1);
    fault["count"] = count.into();
    let sidecar = Sidecar::of(&coderd).start().await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let (mut arrives, mut meets) = (Session::new("arrives"), Session::new("meets"));
    let batch = BATCH as u64;

    sender.send(&arrives.batch()).await;
    sidecar.forwarded(batch).await;
    coderd.fault(fault.clone()).await;
    sender.send(&meets.batch()).await;
    coderd.struck(fault["kind"].as_str().unwrap(), count).await;
    let lost = if trouble.dropped { batch } else { 0 };
    sidecar.forwarded(2 * batch - lost).await;
    sender.send(&arrives.batch()).await;
    let page = sidecar.forwarded(3 * batch - lost).await;

    let (outcome, attempts) = trouble.attempts;
    assert_eq!(page.attempts(outcome), attempts, "{what}");
    assert_eq!(page.dropped("logs", "forward_failed"), lost, "{what}");
    assert_eq!(page.dials("connected"), trouble.dials, "{what}");
    let repeated = if outcome == "ambiguous" { batch } else { 0 };
    assert_eq!(
        page.count("weir_possible_duplicate_logs_total"),
        repeated,
        "{what}"
    );
    assert_eq!(coderd.delivered("arrives").await, arrives.whole(), "{what}");
    let mut expected = match trouble.dropped {
        true => Delivered::default(),
        false => meets.whole(),
    };
    expected.duplicates = trouble.duplicates * batch;
    assert_eq!(coderd.delivered("meets").await, expected, "{what}");
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

#[tokio::test]
async fn each_end_of_a_connection_is_survived() {
    join_all(
        [
            json!({"kind": "rst"}),
            json!({"kind": "goaway"}),
            json!({"kind": "text_frame"}),
            json!({"kind": "close_ws", "code": 1000}),
            json!({"kind": "close_ws", "code": 1011}),
            json!({"kind": "restart", "down_ms": 300}),
        ]
        .map(|fault| survives(WebSocket, fault, 1)),
    )
    .await;
    join_all([
        survives(Grpc, json!({"kind": "rst"}), 1),
        survives(Grpc, json!({"kind": "restart", "down_ms": 300}), 1),
        // Calls that are under way come to their ends.
        survives(Grpc, json!({"kind": "goaway"}), 0),
        survives(Grpc, json!({"kind": "goaway", "code": 2}), 0),
    ])
    .await;
}

/// As an operator of gRPC servers has it, to spread clients over them.
#[tokio::test]
async fn connections_that_are_ended_at_an_age_cost_nothing() {
    let Some(server) = Coderd::over(Grpc, &["-max-connection-age", "200ms"]) else {
        return;
    };
    let sidecar = Sidecar::of(&server).start().await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("s");
    while sidecar.page().await.dials("connected") < 6 {
        sender.send(&session.batch()).await;
    }
    let page = sidecar.forwarded(session.logs).await;
    for outcome in ["retry", "ambiguous"] {
        assert_eq!(page.attempts(outcome), 0, "{outcome}");
    }
    assert_eq!(server.delivered("s").await, session.whole());
    let ended = sidecar.stop_clean().await;
    assert!(!ended.log().contains("WARN"), "{}", ended.log());
    server.expect_clean_wire().await;
}

/// Has the end strike an idle connection, then one that carries a call, which is lost if so many are.
async fn survives(transport: Transport, fault: Value, lost: u64) {
    let Some(coderd) = Coderd::over(transport, &[]) else {
        return;
    };
    let what = format!("{transport:?}: {fault}");
    let sidecar = Sidecar::of(&coderd).start().await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("s");

    // Both ends have it: over gRPC a dial ends only with the answer to a first call.
    sidecar
        .wait_for("a connection", |page| page.dials("connected") == 1)
        .await;
    coderd.serves(1).await;
    coderd.fault(fault.clone()).await;
    sidecar
        .wait_for(&format!("a new connection after {what}"), |page| {
            page.dials("connected") == 2 && page.count("weir_upstream_connected") == 1
        })
        .await;
    sender.send(&session.batch()).await;
    sidecar.forwarded(10).await;

    let held = json!({"kind": "delay", "method": METHOD, "ms": 200, "count": 1});
    coderd.fault(held).await;
    sender.send(&session.batch()).await;
    coderd.struck("delay", 1).await;
    coderd.fault(fault).await;
    sender.send(&session.batch()).await;
    let page = sidecar.forwarded(30).await;
    assert_eq!(page.attempts("ambiguous"), lost, "{what}");
    assert_eq!(page.attempts("retry"), 0, "{what}");
    assert_eq!(
        page.count("weir_possible_duplicate_logs_total"),
        lost * 10,
        "{what}"
    );
    let mut delivered = coderd.delivered("s").await;
    assert!(delivered.duplicates <= lost * 10, "{what}");
    delivered.duplicates = 0;
    assert_eq!(delivered, session.whole(), "{what}");
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

#[tokio::test]
async fn odd_but_legal_control_planes_are_served() {
    let ping = json!({"kind": "ws_ping"});
    let slow = json!({"kind": "slow_read", "bytes_per_second": 400_000});
    join_all(
        [
            json!({"kind": "zero_messages"}),
            json!({"kind": "fragments"}),
            ping,
            slow.clone(),
        ]
        .map(|fault| is_served(WebSocket, fault)),
    )
    .await;
    join_all([json!({"kind": "odd_frames"}), slow].map(|fault| is_served(Grpc, fault))).await;
}

async fn is_served(transport: Transport, fault: Value) {
    let Some(coderd) = Coderd::over(transport, &[]) else {
        return;
    };
    let sidecar = Sidecar::of(&coderd).start().await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("s").with_url(&"u".repeat(1_000));
    coderd.serves(1).await;
    coderd.fault(fault.clone()).await;
    for _ in 0..50 {
        sender.send(&session.batch()).await;
    }
    let page = sidecar.forwarded(500).await;
    assert_eq!(page.dials("connected"), 1, "{fault}");
    assert_eq!(page.attempts("ambiguous"), 0, "{fault}");
    assert_eq!(coderd.delivered("s").await, session.whole(), "{fault}");
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

async fn a_poisonous_batch_costs_itself(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd).start().await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("s");
    coderd
        .fault(json!({"kind": "error", "method": METHOD, "message": "boom", "match": "poison"}))
        .await;
    // While the first call waits, the batches behind it become one request.
    coderd
        .fault(json!({"kind": "delay", "method": METHOD, "ms": 2_000, "count": 1}))
        .await;
    sender.send(&session.batch()).await;
    coderd.struck("delay", 1).await;
    for at in 0..20 {
        session = session.with_url(match at {
            7 => "https://example.com/poison",
            _ => "https://example.com/food",
        });
        sender.send(&session.batch()).await;
    }
    let page = sidecar
        .wait_for("all batches", |page| {
            page.count("weir_logs_received_total") == 210
        })
        .await;
    assert_eq!(
        page.count("weir_logs_in_flight"),
        10,
        "the call was not held up"
    );
    let page = sidecar.forwarded(200).await;
    assert_eq!(page.dropped("batches", "forward_failed"), 1);
    // Three times together, then the one alone.
    assert_eq!(page.attempts("refused"), 4);
    assert_eq!(page.attempts("accepted"), 1 + 19);
    let delivered = coderd.delivered("s").await;
    assert_eq!(
        (
            delivered.distinct,
            delivered.duplicates,
            delivered.out_of_order
        ),
        (200, 0, 0)
    );
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}
