//! What a dial comes to, for everything that stands between here and the control plane.

use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::support::certificates::Certificates;
use crate::support::proxy::Proxy;

over_each_transport![
    a_token_is_read_again_when_it_was_refused_and_on_reload_only,
    a_reload_ends_a_long_wait,
    a_token_that_cannot_be_read_is_asked_for_again,
    a_proxy_is_asked_for_a_tunnel,
];

fn body() -> [Bytes; 1] {
    [request("dial", 0..1, 10)]
}

fn last_dial(account: &Value) -> Value {
    account["dials"]
        .as_array()
        .and_then(|dials| dials.last())
        .cloned()
        .unwrap_or_default()
}

#[tokio::test]
async fn a_dial_says_who_is_calling() {
    let Some(coderd) = Coderd::start(&[]) else {
        return;
    };
    let mut with_path = settings(&coderd);
    with_path.url.set_path("/some/path");
    let link = Link::start(with_path);
    link.accepted(&body()).await;
    let dial = last_dial(&coderd.account().await);
    assert_eq!(dial["role"], "weir");
    assert_eq!(dial["version"], "2.7");
    assert_eq!(dial["headers"]["Coder-Session-Token"], json!([TOKEN]));
    assert_eq!(dial["headers"]["X-Extra"], json!(["given"]));
    for absent in [
        "Origin",
        "Sec-Websocket-Extensions",
        "Sec-Websocket-Protocol",
    ] {
        assert_eq!(dial["headers"][absent], Value::Null);
    }
    link.stop().await;
}

#[tokio::test]
async fn each_refusal_is_counted_as_what_it_means_and_tried_again() {
    let Some(coderd) = Coderd::start(&[]) else {
        return;
    };
    let version = r#"{"message":"Unknown or unsupported API version",
        "validations":[{"field":"version","detail":"behind requested minor version"}]}"#;
    for (fault, outcome, token_read_again) in [
        (
            json!({"kind": "refuse", "status": 401}),
            DialOutcome::Unauthorized,
            true,
        ),
        (
            json!({"kind": "refuse", "status": 403}),
            DialOutcome::Unauthorized,
            true,
        ),
        (
            json!({"kind": "refuse", "status": 400, "body": version}),
            DialOutcome::Version,
            false,
        ),
        (
            json!({"kind": "refuse", "status": 400, "body": "{}"}),
            DialOutcome::Http,
            false,
        ),
        (
            json!({"kind": "refuse", "status": 404, "body": "<html>"}),
            DialOutcome::Http,
            false,
        ),
        (
            json!({"kind": "refuse", "status": 429}),
            DialOutcome::Http,
            false,
        ),
        (
            json!({"kind": "refuse", "status": 500, "body": ""}),
            DialOutcome::Http,
            false,
        ),
        (
            json!({"kind": "refuse", "status": 503}),
            DialOutcome::Http,
            false,
        ),
        (
            json!({"kind": "extension_header"}),
            DialOutcome::Http,
            false,
        ),
    ] {
        let mut settings = settings(&coderd);
        let asked = counted(&mut settings, TOKEN);
        coderd.fault(fault.clone()).await;
        let link = Link::start(settings);
        link.dialled(outcome).await;
        assert!(!link.is_connected());
        coderd.clear().await;
        link.accepted(&body()).await;
        assert_eq!(
            asked.load(Ordering::Relaxed) > 1,
            token_read_again,
            "{fault}"
        );
        link.stop().await;
    }
    coderd.expect_clean_wire().await;
}

#[tokio::test]
async fn a_token_or_version_that_the_server_does_not_take_is_named_as_such() {
    let Some(coderd) = Coderd::start(&["-max-version", "2.6"]) else {
        return;
    };
    for (token, outcome) in [
        ("not-a-uuid", DialOutcome::Unauthorized),
        (
            "00000000-0000-4000-8000-000000000000",
            DialOutcome::Unauthorized,
        ),
        (TOKEN, DialOutcome::Version),
    ] {
        let mut settings = settings(&coderd);
        counted(&mut settings, token);
        let link = Link::start(settings);
        link.dialled(outcome).await;
        link.stop().await;
    }
}

async fn a_token_is_read_again_when_it_was_refused_and_on_reload_only(coderd: Coderd) {
    let token = Arc::new(Mutex::new("stale".to_owned()));
    let reads = Arc::new(AtomicUsize::new(0));
    let mut settings = settings(&coderd);
    settings.token = {
        let (token, reads) = (Arc::clone(&token), Arc::clone(&reads));
        Arc::new(move || {
            reads.fetch_add(1, Ordering::Relaxed);
            Ok(token.lock().unwrap().clone())
        })
    };
    let link = Link::start(settings.clone());
    link.dialled(DialOutcome::Unauthorized).await;
    *token.lock().unwrap() = TOKEN.to_owned();
    link.accepted(&body()).await;

    let before = reads.load(Ordering::Relaxed);
    let opened = |account: &Value, count: u64| account["connections"]["opened"] == count;
    coderd.fault(json!({"kind": "rst"})).await;
    coderd
        .wait_for("a redial", |account| opened(account, 2))
        .await;
    link.accepted(&body()).await;
    assert_eq!(
        reads.load(Ordering::Relaxed),
        before,
        "read without a reason"
    );

    link.upstream.reload();
    link.accepted(&body()).await;
    assert!(
        opened(&coderd.account().await, 2),
        "a reload keeps the connection"
    );
    coderd.fault(json!({"kind": "rst"})).await;
    coderd
        .wait_for("a redial", |account| opened(account, 3))
        .await;
    link.accepted(&body()).await;
    assert_eq!(reads.load(Ordering::Relaxed), before + 1);

    settings.role = "other".to_owned();
    link.upstream.redial(settings);
    coderd
        .wait_for("a redial", |account| opened(account, 4))
        .await;
    link.accepted(&body()).await;
    assert_eq!(last_dial(&coderd.account().await)["role"], "other");
    link.stop().await;
}

async fn a_reload_ends_a_long_wait(coderd: Coderd) {
    let hour = Duration::from_secs(3_600);
    let mut settings = settings(&coderd);
    settings.schedule = Schedule::new(hour, hour).unwrap();
    coderd
        .fault(json!({"kind": "refuse", "status": 503, "count": 1}))
        .await;
    let link = Link::start(settings);
    link.dialled(DialOutcome::Http).await;
    link.upstream.reload();
    link.accepted(&body()).await;
    link.stop().await;
}

async fn a_token_that_cannot_be_read_is_asked_for_again(coderd: Coderd) {
    let mut settings = settings(&coderd);
    let reads = AtomicUsize::new(0);
    settings.token = Arc::new(move || match reads.fetch_add(1, Ordering::Relaxed) {
        0 => Err(std::io::ErrorKind::NotFound.into()),
        1 => Ok("two\nlines".to_owned()),
        _ => Ok(TOKEN.to_owned()),
    });
    let link = Link::start(settings);
    link.accepted(&body()).await;
    assert_eq!(coderd.account().await["dials_total"], 1);
    link.stop().await;
}

#[tokio::test]
async fn redirects_are_followed_and_the_token_stays_with_its_host() {
    let (Some(first), Some(second)) = (Coderd::start(&[]), Coderd::start(&[])) else {
        return;
    };
    let path = "/api/v2/workspaceagents/me/rpc?role=weir&version=2.7";
    let port = second.url.port().unwrap();
    let redirect = |to: String| json!({"kind": "redirect", "to": to, "status": 307});

    first
        .fault(redirect(format!("http://127.0.0.1:{port}{path}")))
        .await;
    let link = Link::start(settings(&first));
    link.accepted(&body()).await;
    let dial = last_dial(&second.account().await);
    assert_eq!(dial["headers"]["Coder-Session-Token"], json!([TOKEN]));
    link.stop().await;
    first.clear().await;
    second.fault(json!({"kind": "refuse", "status": 401})).await;

    first
        .fault(redirect(format!("http://localhost:{port}{path}")))
        .await;
    let link = Link::start(settings(&first));
    link.dialled(DialOutcome::Unauthorized).await;
    let dial = last_dial(&second.account().await);
    for secret in ["Coder-Session-Token", "X-Extra"] {
        assert_eq!(dial["headers"][secret], Value::Null);
    }
    link.stop().await;
    first.clear().await;

    for to in [path, "ftp://127.0.0.1/"] {
        first.fault(redirect(to.to_owned())).await;
        let link = Link::start(settings(&first));
        link.dialled(DialOutcome::Http).await;
        link.stop().await;
        first.clear().await;
    }
}

#[tokio::test]
async fn tls_trusts_the_given_authorities_and_reads_them_again() {
    for transport in [Transport::WebSocket, Transport::Grpc] {
        let dir = tempfile::tempdir().unwrap();
        let issued = Certificates::issue(dir.path(), "127.0.0.1");
        if let Some(coderd) = Coderd::over(transport, &issued.flags()) {
            tls_trusts_the_given_authorities(coderd, dir.path(), &issued).await;
        }
    }
}

async fn tls_trusts_the_given_authorities(coderd: Coderd, dir: &Path, issued: &Certificates) {
    let mut settings = settings(&coderd);
    assert_eq!(settings.url.scheme(), "https");
    let trusted = dir.join("trusted.pem");
    settings.roots.file = Some(trusted.clone());
    // No file, then another authority, then the right one beside it.
    let link = Link::start(settings.clone());
    link.dialled(DialOutcome::Tls).await;
    link.stop().await;
    let other = tempfile::tempdir().unwrap();
    let others = Certificates::issue(other.path(), "127.0.0.1");
    std::fs::copy(others.authority, &trusted).unwrap();
    let link = Link::start(settings);
    link.dialled(DialOutcome::Tls).await;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&trusted)
        .unwrap();
    file.write_all(&std::fs::read(&issued.authority).unwrap())
        .unwrap();
    link.accepted(&body()).await;
    link.accepted(&[request("tls", 0..10_000, 260)]).await;
    link.stop().await;
    coderd
        .wait_for("a clean close", |account| {
            account["connections"]["closed_cleanly"] == 1
        })
        .await;
    coderd.expect_clean_wire().await;
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let issued = Certificates::issue(dir.path(), "elsewhere.example");
    for transport in [Transport::WebSocket, Transport::Grpc] {
        let Some(coderd) = Coderd::over(transport, &issued.flags()) else {
            return;
        };
        let mut settings = settings(&coderd);
        settings.roots.file = Some(issued.authority.clone());
        let link = Link::start(settings);
        link.dialled(DialOutcome::Tls).await;
        assert!(!link.is_connected());
        link.stop().await;
    }
}

async fn a_proxy_is_asked_for_a_tunnel(coderd: Coderd) {
    let target = format!("127.0.0.1:{}", coderd.url.port().unwrap());
    let proxy = Proxy::start(target, "Basic dXNlcjpwYXNz").await;
    let mut settings = settings(&coderd);
    settings.url = "http://coderd.example:3000".parse().unwrap();
    for (login, outcome) in [
        ("user:wrong", DialOutcome::Unreachable),
        ("user:pass", DialOutcome::Connected),
    ] {
        let url = format!("http://{login}@{}", proxy.address);
        settings.proxy =
            ProxySettings::from_vars(|name| (name == "HTTP_PROXY").then(|| url.clone())).unwrap();
        let link = Link::start(settings.clone());
        link.dialled(outcome).await;
        if outcome == DialOutcome::Connected {
            link.accepted(&[request("proxy", 0..10_000, 260)]).await;
        }
        link.stop().await;
    }
    assert_eq!(proxy.asked()[0], "CONNECT coderd.example:3000 HTTP/1.1");
    coderd.expect_clean_wire().await;
}

#[tokio::test]
async fn a_server_that_never_answers_a_dial_is_given_up() {
    for transport in [Transport::WebSocket, Transport::Grpc] {
        never_answers(transport).await;
        tokio::time::resume();
    }
}

async fn never_answers(transport: Transport) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let link = Link::start(settings_for(&url, transport));
    let (mut silent, _) = listener.accept().await.unwrap();
    silent.read_u8().await.unwrap();
    let begun = tokio::time::Instant::now();
    // From here on nothing but timers is waited for.
    tokio::time::pause();
    link.dialled(DialOutcome::Timeout).await;
    let taken = begun.elapsed();
    assert!(
        (Duration::from_secs(9)..Duration::from_secs(11)).contains(&taken),
        "{taken:?}"
    );
    link.stop().await;
}

/// What other servers say.
const NO_SERVERS: [&str; 5] = [
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: wrong\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n<html>",
    "SSH-2.0-OpenSSH\r\n",
    "",
];

#[tokio::test]
async fn a_server_that_is_not_one_is_not_taken_for_one() {
    for answer in NO_SERVERS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let link = Link::start(settings_for(&url, Transport::WebSocket));
        let (mut server, _) = listener.accept().await.unwrap();
        // The request is read first: a close with unread bytes would be a reset.
        let mut request = [0; 4_096];
        assert!(server.read(&mut request).await.unwrap() > 0);
        server.write_all(answer.as_bytes()).await.unwrap();
        drop(server);
        link.dialled(DialOutcome::Http).await;
        assert!(!link.is_connected());
        link.stop().await;
    }
}
