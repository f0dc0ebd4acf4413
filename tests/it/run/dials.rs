//! A control plane that cannot be reached yet, or not directly: logs wait, and then arrive.

use std::path::Path;

use futures_util::future::join_all;
use serde_json::{Value, json};
use url::Url;

use super::nobody;
use crate::support::certificates::Certificates;
use crate::support::coderd::{Coderd, TOKEN};
use crate::support::plane::{Plane, WeirPlane};
use crate::support::proxy::Proxy;
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;
use weir::upstream::Transport;

on_each_plane![a_token_that_is_replaced_in_its_file_is_found];

/// Sends a batch while `outcome` is what dials come to, lets `mend` end that, and sees the batch arrive.
async fn waits_then_arrives(
    plane: &impl Plane,
    sidecar: Sidecar,
    outcome: &str,
    mend: impl AsyncFnOnce(&Sidecar),
) {
    let mut session = Session::new("waits");
    let mut sender = Sender::connect(&sidecar.socket).await;
    sender.send(&session.batch()).await;
    let page = sidecar
        .wait_for(&format!("dials that come to {outcome}"), |page| {
            page.dials(outcome) >= 2 && page.count("weir_logs_received_total") == 10
        })
        .await;
    assert_eq!(page.count("weir_upstream_connected"), 0);
    assert_eq!(page.count("weir_logs_in_memory"), 10);
    mend(&sidecar).await;
    sender.send(&session.batch()).await;
    let page = sidecar.forwarded(20).await;
    assert_eq!(page.attempts("accepted"), plane.accepted().await);
    assert_eq!(plane.delivered("waits").await, session.whole());
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
}

/// A refused upgrade, what dials come to, and what the log says of it.
struct Refusal {
    fault: Value,
    outcome: &'static str,
    says: &'static str,
}

#[tokio::test]
async fn each_refusal_is_waited_out_and_told_with_its_meaning() {
    let status = |status: u16| json!({"kind": "refuse", "status": status});
    let version = json!({
        "message": "Unknown or unsupported API version",
        "validations": [{"field": "version", "detail": "server is at 2.6, behind requested minor version 2.7"}],
    });
    let old = json!({"kind": "refuse", "status": 400, "body": version.to_string()});
    let row = |fault, outcome, says| Refusal {
        fault,
        outcome,
        says,
    };
    let over_websocket = [
        row(status(401), "unauthorized", "the token is not accepted yet"),
        row(status(403), "unauthorized", "this agent is not allowed in"),
        row(
            old,
            "version",
            "server is at 2.6, behind requested minor version 2.7",
        ),
        row(status(404), "http", "not a coderd, or one too old"),
        row(status(429), "http", "too many requests"),
        row(status(503), "http", "in trouble"),
        row(json!({"kind": "extension_header"}), "http", "extension"),
        row(
            json!({"kind": "redirect", "to": "ftp://127.0.0.1/", "status": 307}),
            "http",
            "redirected",
        ),
    ];
    join_all(over_websocket.map(|refusal| is_waited_out(Transport::WebSocket, refusal))).await;
    let code = |code: u32| json!({"kind": "refuse", "code": code});
    let over_grpc = [
        row(code(16), "unauthorized", "the token is not accepted yet"),
        row(code(7), "unauthorized", "this agent is not allowed in"),
        row(code(4), "timeout", "no answer in time"),
        row(code(8), "http", "too many requests"),
        row(code(13), "http", "in trouble"),
        row(code(14), "http", "in trouble"),
    ];
    join_all(over_grpc.map(|refusal| is_waited_out(Transport::Grpc, refusal))).await;
}

async fn is_waited_out(transport: Transport, refusal: Refusal) {
    let Some(coderd) = Coderd::over(transport, &[]) else {
        return;
    };
    coderd.fault(refusal.fault).await;
    let sidecar = Sidecar::of(&coderd).start().await;
    waits_then_arrives(&coderd, sidecar, refusal.outcome, async |sidecar| {
        let warning = sidecar.logged(refusal.says).await;
        assert!(warning.contains("WARN"), "{warning}");
        assert!(!warning.contains(TOKEN));
        coderd.clear().await;
    })
    .await;
}

#[tokio::test]
async fn it_may_start_before_coderd() {
    it_may_start_before(Transport::WebSocket, |address| {
        Coderd::start(&["-listen", address])
    })
    .await;
}

#[tokio::test]
async fn it_may_start_before_grpc_go() {
    it_may_start_before(Transport::Grpc, |address| {
        Coderd::over(Transport::Grpc, &["-listen-grpc", address])
    })
    .await;
}

#[tokio::test]
async fn it_may_start_before_our_own_control_plane() {
    for transport in [Transport::WebSocket, Transport::Grpc] {
        it_may_start_before(transport, |address| {
            Some(WeirPlane::start_with(transport, address, &[]))
        })
        .await;
    }
}

async fn it_may_start_before<P: Plane>(
    transport: Transport,
    start: impl FnOnce(&str) -> Option<P>,
) {
    let url = nobody();
    let address = format!("127.0.0.1:{}", url.port().unwrap());
    let builder = Sidecar::builder(&url).flag("--transport", transport.name());
    let sidecar = builder.start().await;
    let mut session = Session::new("early");
    let mut sender = Sender::connect(&sidecar.socket).await;
    sender.send(&session.batch()).await;
    sidecar
        .wait_for("a failed dial", |page| page.dials("unreachable") > 0)
        .await;
    let Some(plane) = start(&address) else {
        return;
    };
    sidecar.forwarded(10).await;
    assert_eq!(plane.delivered("early").await, session.whole());
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
}

async fn a_token_that_is_replaced_in_its_file_is_found(plane: impl Plane) {
    let builder = Sidecar::of(&plane).without("--agent-token");
    let file = builder.path("token");
    std::fs::write(&file, "00000000-0000-4000-8000-000000000000\n").unwrap();
    let sidecar = builder
        .flag("--agent-token-file", file.display())
        .start()
        .await;
    waits_then_arrives(&plane, sidecar, "unauthorized", async |_: &Sidecar| {
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_redirect_is_followed() {
    let (Some(old), Some(new)) = (Coderd::start(&[]), Coderd::start(&[])) else {
        return;
    };
    let to = new
        .url
        .join("/api/v2/workspaceagents/me/rpc?role=weir&version=2.7")
        .unwrap();
    old.fault(json!({"kind": "redirect", "to": to.as_str(), "status": 307}))
        .await;
    let sidecar = Sidecar::builder(&old.url).start().await;
    let mut session = Session::new("moved");
    Sender::connect(&sidecar.socket)
        .await
        .send(&session.batch())
        .await;
    sidecar.forwarded(10).await;
    assert_eq!(new.delivered("moved").await, session.whole());
    assert_eq!(old.account().await["sessions"], json!({}));
    sidecar.stop_clean().await;
}

#[tokio::test]
async fn tls_with_a_private_authority_through_a_proxy() {
    tls_through_a_proxy(Coderd::start).await;
}

#[tokio::test]
async fn tls_with_grpc_go_through_a_proxy() {
    tls_through_a_proxy(|flags| Coderd::over(Transport::Grpc, flags)).await;
}

#[tokio::test]
async fn tls_with_our_own_control_plane_through_a_proxy() {
    for transport in [Transport::WebSocket, Transport::Grpc] {
        tls_through_a_proxy(|flags| Some(WeirPlane::start_with(transport, "127.0.0.1:0", flags)))
            .await;
    }
}

async fn tls_through_a_proxy<P: Plane>(start: impl FnOnce(&[&str]) -> Option<P>) {
    let files = tempfile::tempdir().unwrap();
    let issued = Certificates::issue(files.path(), "coderd.example");
    let Some(plane) = start(&issued.flags()) else {
        return;
    };
    let target = format!("127.0.0.1:{}", plane.url().port().unwrap());
    let proxy = Proxy::start(target, "Basic dXNlcjpwYXNz").await;
    let trusted = files.path().join("trusted.pem");
    let url: Url = "https://coderd.example/".parse().unwrap();
    let sidecar = Sidecar::builder(&url)
        .flag("--transport", plane.transport().name())
        .variable("HTTPS_PROXY", format!("http://user:pass@{}", proxy.address))
        .variable("SSL_CERT_FILE", trusted.display())
        .start()
        .await;
    let trust = |authority: &Path| std::fs::copy(authority, &trusted).unwrap();
    waits_then_arrives(&plane, sidecar, "tls", async |sidecar: &Sidecar| {
        sidecar.logged("no certificate authority found").await;
        trust(&issued.authority);
    })
    .await;
    assert!(
        proxy
            .asked()
            .iter()
            .all(|line| line == "CONNECT coderd.example:443 HTTP/1.1")
    );
    assert!(!proxy.asked().is_empty());
}
