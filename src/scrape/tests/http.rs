//! Routes, negotiation and methods.

use std::io::{Read, Write};

use flate2::read::GzDecoder;
use tokio::time::Instant;

use super::{Sidecar, connect, exchange, get, request};
use crate::scrape::health::{Phase, STUCK_AFTER};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[tokio::test]
async fn every_unknown_path_serves_the_metrics() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    for path in [
        "/metrics",
        "/metrics?name[]=x",
        "/favicon.ico",
        "/v1/status",
        "//",
        "/-/",
    ] {
        let answer = get(&endpoint, path);
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(TEXT), "{path}");
        assert!(
            answer.text().contains("\nweir_imbalance_logs 0\n"),
            "{path}"
        );
    }
    let landing = get(&endpoint, "/");
    assert_eq!(
        landing.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(landing.text().contains("<a href=\"/metrics\">"));
}

#[tokio::test]
async fn the_format_and_the_compression_are_the_scrapers_choice() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let ask = |headers: &str| exchange(connect(&endpoint), &request("GET", "/metrics", headers));

    let plain = ask("Accept: */*\r\n");
    assert_eq!(plain.header("content-encoding"), None);
    assert!(!plain.text().contains("# EOF"));

    let openmetrics = ask("Accept: application/openmetrics-text;version=1.0.0;q=0.5\r\n");
    assert_eq!(
        openmetrics.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores")
    );
    assert!(
        openmetrics
            .text()
            .contains("# TYPE weir_logs_received counter\n")
    );
    assert!(openmetrics.text().ends_with("# EOF\n"));

    let packed = ask("Accept-Encoding: gzip\r\n");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("content-type"), Some(TEXT));
    let mut unpacked = String::new();
    GzDecoder::new(&packed.body[..])
        .read_to_string(&mut unpacked)
        .unwrap();
    assert!(unpacked.contains("\nweir_imbalance_logs 0\n"));
    for answer in [plain, openmetrics, packed] {
        assert_eq!(answer.header("vary"), Some("accept, accept-encoding"));
    }
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    for path in ["/", "/status", "/-/ready", "/metrics"] {
        let answer = exchange(connect(&endpoint), &request("HEAD", path, ""));
        assert!(answer.body.is_empty(), "{path}");
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert!(length > 20, "{path}: {length}");
    }
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let asked = request(method, "/metrics", "Content-Length: 0\r\n");
        let answer = exchange(connect(&endpoint), &asked);
        assert_eq!(answer.status(), 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
    }
}

#[tokio::test]
async fn health_and_readiness_give_their_reason() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let healthy = get(&endpoint, "/-/healthy");
    assert_eq!(healthy.status(), 200);
    assert_eq!(healthy.header("content-type"), Some("application/json"));
    assert_eq!(healthy.json()["healthy"], true);

    for (phase, status) in [
        (Phase::Starting, 503),
        (Phase::Accepting, 200),
        (Phase::Draining, 503),
    ] {
        sidecar.view.enter(phase);
        let ready = get(&endpoint, "/-/ready");
        assert_eq!(ready.status(), status);
        assert_eq!(ready.json()["ready"], status == 200);
        let reason = ready.json()["reason"].as_str().unwrap().to_owned();
        assert!(reason.starts_with(phase.name()), "{reason}");
        assert_eq!(get(&endpoint, "/-/healthy").status(), 200);
    }
}

#[tokio::test]
async fn a_data_path_without_a_beat_is_unhealthy_until_it_beats_again() {
    let now = Instant::now();
    let sidecar = Sidecar::started_at(now.checked_sub(STUCK_AFTER).unwrap());
    let endpoint = sidecar.endpoint().await;
    let stuck = get(&endpoint, "/-/healthy");
    assert_eq!(stuck.status(), 503);
    assert_eq!(stuck.json()["healthy"], false);
    // The page is served all the same.
    assert_eq!(get(&endpoint, "/metrics").status(), 200);
    sidecar.view.beat(now);
    assert_eq!(get(&endpoint, "/-/healthy").status(), 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let sidecar = Sidecar::new();
    let endpoint = sidecar.endpoint().await;
    let mut stream = connect(&endpoint);
    let kept = "GET /-/healthy HTTP/1.1\r\nHost: weir\r\n\r\n".repeat(50);
    let last = request("GET", "/-/ready", "");
    stream.write_all((kept + &last).as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 50);
    assert_eq!(answers.matches("\"healthy\":true").count(), 50);
    assert_eq!(answers.matches("HTTP/1.1 503 ").count(), 1);
    assert!(
        answers.trim_end().ends_with("is not open yet\"}"),
        "{answers}"
    );
}
