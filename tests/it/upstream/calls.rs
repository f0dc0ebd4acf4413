//! What is seen of a call, for everything that a server can do to it.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;

over_each_transport![
    requests_arrive_byte_for_byte_and_the_close_is_clean("-keep-raw"),
    many_calls_go_side_by_side_on_one_connection,
    an_abandoned_call_is_cancelled_and_costs_only_itself,
    each_fault_of_a_call_is_seen_as_what_it_is,
    bytes_that_a_real_coderd_would_not_decode_are_refused,
    a_connection_that_the_server_ends_is_dialled_again,
];

const METHOD: &str = "ReportBoundaryLogs";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The server holds the connection of that number and none before it: a fault strikes all that it holds,
/// and fails at one that is about to end.
fn holds_only(account: &Value, number: u64) -> bool {
    let connections = &account["connections"];
    connections["opened"] == number && connections["closed"] == number - 1
}

async fn requests_arrive_byte_for_byte_and_the_close_is_clean(coderd: Coderd) {
    let link = Link::start(settings(&coderd));
    let bodies = [
        vec![request("small", 0..1, 10)],
        vec![request("empty", 0..0, 0)],
        (0..20)
            .map(|at| request("slices", at * 10..at * 10 + 10, 200))
            .collect(),
        (0..100)
            .map(|at| request("large", at * 100..at * 100 + 100, 300))
            .collect(),
    ];
    for body in &bodies {
        link.accepted(body).await;
    }
    for (name, body) in ["small", "empty", "slices", "large"].iter().zip(&bodies) {
        assert!(
            coderd.raw(name).await == [hex(&body.concat())],
            "{name} was changed"
        );
    }
    link.stop().await;
    let account = coderd
        .wait_for("a clean close", |account| {
            account["connections"]["closed_cleanly"] == 1
        })
        .await;
    assert_eq!(account["connections"]["opened"], 1);
    assert_eq!(account["cancelled_calls"], 0);
    assert_eq!(account["sessions"]["large"]["logs"], 10_000);
    coderd.expect_clean_wire().await;
}

async fn many_calls_go_side_by_side_on_one_connection(coderd: Coderd) {
    let link = Link::start(settings(&coderd));
    link.connected().await;
    // Several times as many as may be under way at once, of the size that fills a window.
    let calls = join_all((0..300).map(|at| {
        let link = &link;
        async move {
            link.call(&[request(&format!("s{at}"), 0..1_000, 260)])
                .await
        }
    }))
    .await;
    assert!(
        calls
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Accepted(_)))
    );
    // The server counts a call after it has answered it.
    let account = coderd
        .wait_for("all calls", |account| account["calls"][METHOD]["ok"] == 300)
        .await;
    assert_eq!(account["connections"]["opened"], 1);
    coderd.expect_clean_wire().await;
    link.stop().await;
}

async fn an_abandoned_call_is_cancelled_and_costs_only_itself(coderd: Coderd) {
    let link = Link::start(settings(&coderd));
    link.accepted(&[request("before", 0..1, 10)]).await;
    coderd
        .fault(json!({"kind": "no_reply", "method": METHOD}))
        .await;
    let body = [request("abandoned", 0..1, 10)];
    tokio::select! {
        outcome = link.call(&body) => panic!("answered: {outcome:?}"),
        _ = coderd.wait_for("the fault", |account| account["faults_fired"]["no_reply"] == 1) => {}
    }
    coderd.clear().await;
    link.accepted(&[request("after", 0..1, 10)]).await;
    coderd
        .wait_for("the cancellation", |account| {
            account["cancelled_calls"] == 1
        })
        .await;
    assert_eq!(coderd.account().await["connections"]["opened"], 1);
    coderd.expect_clean_wire().await;
    link.stop().await;
}

/// What a fault makes of a call, and whether the link is given up for it.
struct Case {
    fault: Value,
    expected: fn(&Outcome) -> bool,
    redial: bool,
}

async fn each_fault_of_a_call_is_seen_as_what_it_is(coderd: Coderd) {
    let accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_));
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
    let rejected = |outcome: &Outcome| matches!(outcome, Outcome::Rejected(_));
    let ambiguous = |outcome: &Outcome| matches!(outcome, Outcome::Ambiguous(_));
    let case = |fault, expected, redial| Case {
        fault,
        expected,
        redial,
    };
    let mut cases = vec![
        case(
            json!({"kind": "error", "code": 0, "message": "boom"}),
            refused,
            false,
        ),
        case(
            json!({"kind": "error", "code": 9, "message": "\u{1}no\n"}),
            refused,
            false,
        ),
        case(json!({"kind": "unimplemented"}), rejected, false),
        case(json!({"kind": "delay", "ms": 50}), accepted, false),
        case(json!({"kind": "close_before"}), ambiguous, true),
        case(json!({"kind": "close_after"}), ambiguous, true),
        case(json!({"kind": "oversize_reply"}), ambiguous, true),
        case(json!({"kind": "garbage_reply"}), ambiguous, true),
        case(
            json!({"kind": "garbage_reply", "form": "frame"}),
            ambiguous,
            true,
        ),
        case(json!({"kind": "stream_reset"}), ambiguous, true),
    ];
    match coderd.transport {
        Transport::WebSocket => cases.push(case(
            json!({"kind": "error", "message": "protocol error: unknown rpc: \"/x\""}),
            rejected,
            false,
        )),
        Transport::Grpc => {
            let retry = |outcome: &Outcome| matches!(outcome, Outcome::Retry(_));
            cases.extend([
                case(json!({"kind": "refuse_stream"}), retry, true),
                case(json!({"kind": "leave_out"}), retry, true),
                case(json!({"kind": "error", "code": 16}), retry, true),
                case(json!({"kind": "error", "code": 14}), ambiguous, true),
            ]);
        }
    }
    let link = Link::start(settings(&coderd));
    for (
        at,
        Case {
            mut fault,
            expected,
            redial,
        },
    ) in cases.into_iter().enumerate()
    {
        fault["method"] = METHOD.into();
        fault["count"] = 1.into();
        link.connected().await;
        let before = link.dials(DialOutcome::Connected);
        coderd.fault(fault.clone()).await;
        let outcome = link
            .call(&[request("case", at as u32..at as u32 + 1, 10)])
            .await;
        assert!(expected(&outcome), "{fault}: {outcome:?}");
        assert_eq!(link.is_connected(), !redial, "{fault}");
        assert_eq!(link.metrics.upstream.connected(), !redial, "{fault}");
        link.accepted(&[request("next", at as u32..at as u32 + 1, 10)])
            .await;
        assert_eq!(
            link.dials(DialOutcome::Connected),
            before + u64::from(redial),
            "{fault}"
        );
    }
    coderd.expect_clean_wire().await;
    link.stop().await;
}

async fn bytes_that_a_real_coderd_would_not_decode_are_refused(coderd: Coderd) {
    let link = Link::start(settings(&coderd));
    link.connected().await;
    let outcome = link.call(&[Bytes::from_static(b"\x12\x01\xff")]).await;
    assert!(
        matches!(&outcome, Outcome::Refused(text) if text.contains("UTF-8")),
        "{outcome:?}"
    );
    assert!(link.is_connected());
    let outcome = link.call(&vec![Bytes::from(vec![0; 1 << 20]); 5]).await;
    assert!(
        matches!(&outcome, Outcome::Rejected(text) if text.contains("4194304")),
        "{outcome:?}"
    );
    assert!(link.is_connected());
    link.stop().await;
}

async fn a_connection_that_the_server_ends_is_dialled_again(coderd: Coderd) {
    let link = Link::start(settings(&coderd));
    link.connected().await;
    let special = match coderd.transport {
        Transport::WebSocket => vec![
            json!({"kind": "text_frame"}),
            json!({"kind": "close_ws", "code": 1000}),
            json!({"kind": "close_ws", "code": 1001}),
            json!({"kind": "close_ws", "code": 1011}),
        ],
        Transport::Grpc => vec![
            json!({"kind": "goaway", "code": 2}),
            json!({"kind": "goaway", "code": 11}),
        ],
    };
    let common = [
        json!({"kind": "rst"}),
        json!({"kind": "goaway"}),
        json!({"kind": "restart", "down_ms": 50}),
    ];
    for (at, fault) in common.into_iter().chain(special).enumerate() {
        let before = link.dials(DialOutcome::Connected);
        assert_eq!(before, at as u64 + 1);
        coderd
            .wait_for("the end of the one before", |account| {
                holds_only(account, before)
            })
            .await;
        coderd.fault(fault.clone()).await;
        coderd
            .wait_for(&format!("a redial after {fault}"), |account| {
                account["connections"]["opened"] == before + 1
            })
            .await;
        link.accepted(&[request("ended", at as u32..at as u32 + 1, 10)])
            .await;
    }
    coderd.expect_clean_wire().await;
    link.stop().await;
}

#[tokio::test]
async fn calls_under_way_when_the_server_goes_away_are_ambiguous() {
    // What a GOAWAY of HTTP/2 means for them is a test of its own.
    for (transport, faults) in [
        (Transport::WebSocket, &["rst", "goaway"][..]),
        (Transport::Grpc, &["rst"]),
    ] {
        if let Some(coderd) = Coderd::over(transport, &[]) {
            are_ambiguous(coderd, faults).await;
        }
    }
}

async fn are_ambiguous(coderd: Coderd, faults: &[&str]) {
    let link = Link::start(settings(&coderd));
    for (at, fault) in (1..).zip(faults) {
        link.connected().await;
        coderd
            .fault(json!({"kind": "no_reply", "method": METHOD, "count": 1}))
            .await;
        let struck = async {
            coderd
                .wait_for("the call", |account| {
                    account["faults_fired"]["no_reply"] == at && holds_only(account, at)
                })
                .await;
            coderd.fault(json!({"kind": fault})).await;
        };
        let body = [request("under way", 0..1, 10)];
        let (outcome, ()) = tokio::join!(link.call(&body), struck);
        assert!(
            matches!(outcome, Outcome::Ambiguous(_)),
            "{fault}: {outcome:?}"
        );
    }
    coderd.expect_clean_wire().await;
    link.stop().await;
}

#[tokio::test]
async fn odd_but_legal_servers_are_served() {
    let slow = json!({"kind": "slow_read", "bytes_per_second": 2_000_000});
    for (transport, fault) in [
        (Transport::WebSocket, json!({"kind": "zero_messages"})),
        (Transport::WebSocket, json!({"kind": "fragments"})),
        (Transport::WebSocket, json!({"kind": "ws_ping"})),
        (Transport::WebSocket, slow.clone()),
        (Transport::Grpc, json!({"kind": "odd_frames"})),
        (Transport::Grpc, slow),
    ] {
        let Some(coderd) = Coderd::over(transport, &[]) else {
            return;
        };
        let armed = matches!(
            fault["kind"].as_str(),
            Some("zero_messages" | "fragments" | "odd_frames")
        );
        if armed {
            coderd.fault(fault.clone()).await;
        }
        let link = Link::start(settings(&coderd));
        link.connected().await;
        if !armed {
            coderd.fault(fault.clone()).await;
        }
        for at in 0..5 {
            link.accepted(&[request("odd", at * 1_000..at * 1_000 + 1_000, 260)])
                .await;
        }
        let account = coderd.account().await;
        assert_eq!(account["connections"]["opened"], 1, "{fault}");
        assert_eq!(account["sessions"]["odd"]["distinct"], 5_000, "{fault}");
        coderd.expect_clean_wire().await;
        link.stop().await;
    }
}

#[tokio::test]
async fn without_a_connection_a_call_is_to_be_tried_again() {
    for transport in [Transport::WebSocket, Transport::Grpc] {
        let nobody = "http://127.0.0.1:1".parse().unwrap();
        let link = Link::start(settings_for(&nobody, transport));
        link.dialled(DialOutcome::Unreachable).await;
        let outcome = link.call(&[request("none", 0..1, 10)]).await;
        assert_eq!(outcome, Outcome::Retry("not connected".to_owned()));
        link.stop().await;
    }
}
