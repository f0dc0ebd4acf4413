//! What only gRPC has: limits of messages, connections that are told to go, and what is said with each call.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::support::certificates::Certificates;

fn grpc(flags: &[&str]) -> Option<Coderd> {
    Coderd::over(Transport::Grpc, flags)
}

/// A request of exactly so many bytes.
fn request_of(length: usize) -> Bytes {
    let fits = |url_length| request("long", 0..1, url_length);
    // The lengths that stand before the URL take more bytes the longer it is.
    let overhead = fits(length - 100).len() - (length - 100);
    let request = fits(length - overhead);
    assert_eq!(request.len(), length);
    request
}

#[tokio::test]
async fn a_call_says_who_is_calling() {
    let Some(server) = grpc(&[]) else {
        return;
    };
    let mut settings = settings(&server);
    settings.url.set_path("/some/path");
    let link = Link::start(settings);
    link.accepted(&[request("who", 0..1, 10)]).await;
    let account = server.account().await;
    let dial = &account["dials"][0];
    assert_eq!(dial["role"], "weir");
    let agent = concat!("weir/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("coder-session-token", TOKEN),
        ("weir-role", "weir"),
        ("x-extra", "given"),
        ("user-agent", agent),
        ("content-type", "application/grpc"),
        (
            ":authority",
            &server.url[url::Position::BeforeHost..url::Position::AfterPort],
        ),
    ] {
        assert_eq!(dial["headers"][name], json!([value]), "{name}");
    }
    // The dial asks how often to report, and reports nothing.
    assert_eq!(account["calls"]["UpdateStats"], json!({"ok": 1}));
    let agent = &account["agents"][TOKEN];
    assert_eq!(agent["stats_requests"], 1);
    assert_eq!(agent["stats_reports"], 0);
    link.stop().await;
    server
        .wait_for("a clean close", |account| {
            account["connections"]["closed_cleanly"] == 1
        })
        .await;
    server.expect_clean_wire().await;
}

#[tokio::test]
async fn requests_of_up_to_4_mib_arrive_and_none_larger_is_sent() {
    const LIMIT: usize = 4 << 20;
    let Some(server) = grpc(&[]) else {
        return;
    };
    let link = Link::start(settings(&server));
    for length in [LIMIT - 1, LIMIT] {
        link.accepted(&[request_of(length)]).await;
    }
    let outcome = link.call(&[request_of(LIMIT + 1)]).await;
    assert!(
        matches!(&outcome, Outcome::Rejected(text) if text.contains("4194305")),
        "{outcome:?}"
    );
    let account = server.account().await;
    assert_eq!(account["sessions"]["long"]["bytes"], 2 * LIMIT - 1);
    assert_eq!(account["connections"]["opened"], 1);
    server.expect_clean_wire().await;
    link.stop().await;
}

#[tokio::test]
async fn a_limit_of_the_server_is_a_refusal_of_the_request() {
    let Some(server) = grpc(&["-max-message", "1000"]) else {
        return;
    };
    let link = Link::start(settings(&server));
    link.accepted(&[request_of(1_000)]).await;
    for length in [1_001, 1 << 20] {
        let outcome = link.call(&[request_of(length)]).await;
        assert!(
            matches!(&outcome, Outcome::Refused(text) if text.starts_with("ResourceExhausted")),
            "{outcome:?}"
        );
    }
    assert!(link.is_connected());
    link.accepted(&[request_of(1_000)]).await;
    server.expect_clean_wire().await;
    link.stop().await;
}

#[tokio::test]
async fn replies_of_up_to_4_mib_are_taken() {
    const LIMIT: u64 = 4 << 20;
    let Some(server) = grpc(&[]) else {
        return;
    };
    let link = Link::start(settings(&server));
    for (length, taken) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false)] {
        link.connected().await;
        server
            .fault(json!({"kind": "long_reply", "method": "ReportBoundaryLogs", "count": 1, "bytes": length}))
            .await;
        match link.call(&[request("reply", 0..1, 10)]).await {
            Outcome::Accepted(reply) if taken => assert_eq!(reply.len() as u64, length),
            Outcome::Ambiguous(text) if !taken => assert!(text.contains("4194305"), "{text}"),
            other => panic!("{length}: {other:?}"),
        }
    }
    server.expect_clean_wire().await;
    link.stop().await;
}

#[tokio::test]
async fn a_long_text_of_an_error_is_cut_and_costs_nothing_else() {
    let Some(server) = grpc(&[]) else {
        return;
    };
    let link = Link::start(settings(&server));
    link.connected().await;
    let long = "why ".repeat(10_000);
    let fault = json!({"kind": "error", "method": "ReportBoundaryLogs", "code": 3, "message": long, "count": 1});
    server.fault(fault).await;
    match link.call(&[request("long", 0..1, 10)]).await {
        Outcome::Refused(text) => assert!(text.ends_with('…') && text.len() < 400, "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(link.is_connected());
    link.accepted(&[request("long", 0..1, 10)]).await;
    server.expect_clean_wire().await;
    link.stop().await;
}

/// A call that lasts is answered on the old connection, while new ones go on a new one.
#[tokio::test]
async fn calls_under_way_end_on_a_connection_that_is_told_to_go() {
    let Some(server) = grpc(&[]) else {
        return;
    };
    let link = Link::start(settings(&server));
    link.connected().await;
    server
        .fault(json!({"kind": "delay", "method": "ReportBoundaryLogs", "ms": 2_000, "count": 1}))
        .await;
    let long = [request("long", 0..1, 10)];
    let others = async {
        server.struck("delay", 1).await;
        server.fault(json!({"kind": "goaway"})).await;
        server
            .wait_for("a second connection", |account| {
                account["connections"]["opened"] == 2
            })
            .await;
        link.accepted(&[request("new", 0..1, 10)]).await;
        let account = server.account().await;
        assert_eq!(account["sessions"].get("long"), None, "answered too early");
        assert_eq!(account["connections"]["closed"], 0);
    };
    let (outcome, ()) = tokio::join!(link.call(&long), others);
    assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    server
        .wait_for("the end of the old connection", |account| {
            account["connections"]["closed"] == 1
        })
        .await;
    server.expect_clean_wire().await;
    link.stop().await;
}

#[tokio::test]
async fn connections_that_reach_their_age_cost_no_call() {
    let Some(server) = grpc(&["-max-connection-age", "300ms"]) else {
        return;
    };
    let link = Link::start(settings(&server));
    let lanes = (0..8).map(|lane| {
        let (link, server) = (&link, &server);
        async move {
            let mut at = 0;
            loop {
                link.accepted(&[request(&format!("s{lane}"), at..at + 10, 50)])
                    .await;
                at += 10;
                // Long enough for several connections to grow old.
                if at % 500 == 0 && opened(&server.account().await) >= 6 {
                    return u64::from(at);
                }
            }
        }
    });
    let sent = join_all(lanes).await;
    let account = server.account().await;
    for (lane, sent) in sent.into_iter().enumerate() {
        let session = &account["sessions"][format!("s{lane}")];
        assert_eq!(session["distinct"], sent);
        assert_eq!(session["duplicates"], 0);
    }
    server.expect_clean_wire().await;
    link.stop().await;
}

fn opened(account: &Value) -> u64 {
    account["connections"]["opened"].as_u64().unwrap()
}

#[tokio::test]
async fn a_token_that_is_refused_in_mid_life_is_read_again_at_once() {
    let Some(server) = grpc(&[]) else {
        return;
    };
    for code in [16, 7] {
        let mut settings = settings(&server);
        let asked = counted(&mut settings, TOKEN);
        let link = Link::start(settings);
        link.accepted(&[request("token", 0..1, 10)]).await;
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        server
            .fault(
                json!({"kind": "error", "code": code, "method": "ReportBoundaryLogs", "count": 1}),
            )
            .await;
        let outcome = link.call(&[request("token", 0..1, 10)]).await;
        assert!(matches!(outcome, Outcome::Retry(_)), "{outcome:?}");
        link.accepted(&[request("token", 1..2, 10)]).await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(link.dials(DialOutcome::Unauthorized), 0);
        link.stop().await;
    }
}

#[tokio::test]
async fn each_code_at_a_dial_is_counted_as_what_it_means() {
    let Some(server) = grpc(&[]) else {
        return;
    };
    for (code, outcome, token_read_again) in [
        (16, DialOutcome::Unauthorized, true),
        (7, DialOutcome::Unauthorized, true),
        (4, DialOutcome::Timeout, false),
        (2, DialOutcome::Http, false),
        (8, DialOutcome::Http, false),
        (14, DialOutcome::Http, false),
        // That it has no such method is an answer of a control plane.
        (12, DialOutcome::Connected, false),
    ] {
        let mut settings = settings(&server);
        let asked = counted(&mut settings, TOKEN);
        server
            .fault(json!({"kind": "error", "method": "UpdateStats", "code": code}))
            .await;
        let link = Link::start(settings);
        link.dialled(outcome).await;
        assert_eq!(link.is_connected(), code == 12);
        server.clear().await;
        link.accepted(&[request("dial", 0..1, 10)]).await;
        assert_eq!(
            asked.load(Ordering::Relaxed) > 1,
            token_read_again,
            "{code}"
        );
        link.stop().await;
    }
    server.expect_clean_wire().await;
}

#[tokio::test]
async fn a_token_that_is_not_known_is_named_as_such() {
    let Some(server) = grpc(&[]) else {
        return;
    };
    for token in ["not-a-uuid", "00000000-0000-4000-8000-000000000000"] {
        let mut settings = settings(&server);
        counted(&mut settings, token);
        let link = Link::start(settings);
        link.dialled(DialOutcome::Unauthorized).await;
        link.stop().await;
    }
}

#[tokio::test]
async fn a_tls_server_without_http2_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let issued = Certificates::issue(dir.path(), "127.0.0.1");
    // Over TLS, the WebSocket side knows nothing of ALPN.
    let Some(coderd) = Coderd::start(&issued.flags()) else {
        return;
    };
    let mut settings = settings(&coderd);
    settings.transport = Transport::Grpc;
    settings.roots.file = Some(issued.authority);
    let link = Link::start(settings);
    link.dialled(DialOutcome::Http).await;
    assert!(!link.is_connected());
    link.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_one_is_not_taken_for_one() {
    // An error of the frames, or the end of the connection: which it is, is the peer's choice.
    for answer in [
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let link = Link::start(settings_for(&url.parse().unwrap(), Transport::Grpc));
        let (mut server, _) = listener.accept().await.unwrap();
        let mut preface = [0; 24];
        server.read_exact(&mut preface).await.unwrap();
        server.write_all(answer.as_bytes()).await.unwrap();
        drop(server);
        let (mut seen, deadline) = (0, tokio::time::Instant::now() + PATIENCE);
        while seen == 0 {
            assert!(tokio::time::Instant::now() < deadline, "{answer:?}");
            seen = link.dials(DialOutcome::Http) + link.dials(DialOutcome::Unreachable);
            tokio::task::yield_now().await;
        }
        assert!(!link.is_connected());
        link.stop().await;
    }
}

#[tokio::test]
async fn the_websocket_side_of_a_server_is_no_grpc() {
    let Some(coderd) = Coderd::start(&[]) else {
        return;
    };
    let mut settings = settings(&coderd);
    settings.transport = Transport::Grpc;
    let link = Link::start(settings);
    // It takes the preface of HTTP/2 for a bad request of HTTP/1.1.
    link.dialled(DialOutcome::Http).await;
    assert!(!link.is_connected());
    link.stop().await;
}
