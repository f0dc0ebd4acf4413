//! Clients that do not behave. Each costs itself only: the next scrape is answered.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::{Handle, Sidecar, connect, exchange, get, request};
use crate::scrape::listen::{Address, Listener};
use crate::scrape::pages;
use crate::scrape::serve::{Offer, serve};
use crate::scrape::view::View;

const OFFER: Offer<View, Full<Bytes>> = Offer {
    routes: pages::scrape,
    own_user_only: false,
};

fn assert_serves(endpoint: &Handle) {
    assert_eq!(get(endpoint, "/metrics").status(), 200);
}

/// Sends what it may, and reads to the end: a peer that closes early is no failure of the test.
fn provoke(endpoint: &Handle, bytes: &[u8]) -> String {
    let mut stream = connect(endpoint);
    let written = stream.write_all(bytes);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    for result in [written, read.map(drop)] {
        if let Err(error) = result {
            let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(gone.contains(&error.kind()), "{error}");
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_giant_head_is_refused() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "a".repeat(1 << 20));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101));
    let answer = provoke(&endpoint, many.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_serves(&endpoint);
    let answer = provoke(&endpoint, long.as_bytes());
    // What was not read yet when the connection was closed may reset it before the answer is read.
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    assert_serves(&endpoint);
}

#[tokio::test]
async fn a_head_of_common_size_is_not() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let cookie = format!("Cookie: {}\r\n", "c".repeat(12 * 1024));
    let answer = exchange(connect(&endpoint), &request("GET", "/-/healthy", &cookie));
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn garbage_is_refused() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let tls = [
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
    ];
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for garbage in [
        &tls[..],
        http2,
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"\xff\xfe /\r\n\r\n",
    ] {
        let answer = provoke(&endpoint, garbage);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
        assert_serves(&endpoint);
    }
}

#[tokio::test]
async fn a_body_is_not_waited_for() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let body = "Content-Length: 1000000000000\r\n";
    for method in ["GET", "POST"] {
        let answer = provoke(&endpoint, request(method, "/-/healthy", body).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        assert_serves(&endpoint);
    }
}

#[tokio::test]
async fn connections_that_are_merely_held_give_way() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();

    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let mut held: Vec<TcpStream> = Vec::new();
    for number in 0..1000 {
        held.push(connect(&endpoint));
        if number % 100 == 0 {
            assert_serves(&endpoint);
        }
    }
    assert_serves(&endpoint);
    // The oldest were closed. The newest are still served.
    for stream in &mut held[..900] {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    let newest = held.pop().unwrap();
    assert_eq!(
        exchange(newest, &request("GET", "/-/healthy", "")).status(),
        200
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_given_up() {
    let sidecar = Sidecar::new();
    let address = Address::Tcp("127.0.0.1:0".to_owned());
    let (listener, bound) = Listener::bind(&address).await.unwrap();
    let stop = CancellationToken::new();
    let client = async {
        let started = Instant::now();
        let mut stream = tokio::net::TcpStream::connect(bound.to_string())
            .await
            .unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut interval = tokio::time::interval(Duration::from_secs(1));
        let drip = async {
            loop {
                interval.tick().await;
                if tokio::io::AsyncWriteExt::write_all(&mut writer, b"G")
                    .await
                    .is_err()
                {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = drip => unreachable!("it drips for ever"),
            ended = reader.read_to_end(&mut answer) => drop(ended),
        }
        let lasted = started.elapsed().as_secs();
        stop.cancel();
        lasted
    };
    let view = Arc::clone(&sidecar.view);
    let ((), lasted) = tokio::join!(serve(&listener, &OFFER, &view, &stop), client);
    assert!((75..80).contains(&lasted), "{lasted} s");
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_the_listener() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let address = endpoint.bound().unwrap();
    let mut idle = connect(&endpoint);
    assert_serves(&endpoint);
    endpoint.stop();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
