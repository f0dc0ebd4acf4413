//! Ends of scripts on the API socket.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::{Answer, PATIENCE, Sidecar, exchange, request};
use crate::scrape::endpoint::{Endpoint, Handle};

async fn endpoint(sidecar: &Sidecar) -> Handle {
    let endpoint = Endpoint {
        scrape: None,
        api: Some(sidecar.api()),
    };
    endpoint.start(Arc::clone(&sidecar.view)).await.unwrap()
}

fn connect(sidecar: &Sidecar) -> UnixStream {
    let stream = UnixStream::connect(sidecar.api()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn posted(sidecar: &Sidecar, body: &str) -> Answer {
    let length = format!("Content-Length: {}\r\n", body.len());
    let head = request("POST", "/v1/scripts", &length);
    exchange(connect(sidecar), &(head + body))
}

const VALID: &str =
    r#"{"name":"backup","stage":"start","exit_code":0,"started_at":10,"ended_at":12.5}"#;

#[tokio::test]
async fn a_run_is_counted_once() {
    let sidecar = Sidecar::new();
    let _endpoint = endpoint(&sidecar).await;
    let first = posted(&sidecar, VALID);
    assert_eq!(
        (first.status(), first.text()),
        (201, "{\"result\":\"counted\"}\n")
    );
    let second = posted(&sidecar, VALID);
    assert_eq!(
        (second.status(), second.text()),
        (200, "{\"result\":\"repeated\"}\n")
    );
    let failed = r#"{"exit_code":3,"started_at":"1970-01-01T00:00:00Z","ended_at":1}"#;
    assert_eq!(posted(&sidecar, failed).status(), 201);

    let page = exchange(connect(&sidecar), &request("GET", "/metrics", ""));
    for line in [
        "agent_scripts_executed_total{success=\"true\"} 1",
        "agent_scripts_executed_total{success=\"false\"} 1",
        "weir_scripts_executed_total{success=\"true\"} 1",
        "weir_scripts_executed_total{success=\"false\"} 1",
        "coderd_agentstats_startup_script_seconds{success=\"true\"} 2.5",
        "coderd_agentstats_startup_script_seconds{success=\"false\"} 0",
        "weir_script_reports_total{outcome=\"counted\"} 2",
        "weir_script_reports_total{outcome=\"repeated\"} 1",
    ] {
        assert!(page.text().contains(&format!("\n{line}\n")), "{line}");
    }
}

#[tokio::test]
async fn what_is_no_report_is_told_and_counted() {
    let sidecar = Sidecar::new();
    let _endpoint = endpoint(&sidecar).await;
    let wrong = posted(&sidecar, &VALID.replace("start\"", "boot\""));
    assert_eq!(wrong.status(), 400);
    let said = wrong.json()["error"].as_str().unwrap().to_owned();
    assert!(
        said.starts_with("stage: expected one of start, stop, cron, got \"boot\""),
        "{said}"
    );
    let empty = posted(&sidecar, "");
    assert_eq!(empty.status(), 400);

    let large = posted(&sidecar, &" ".repeat(16 * 1024 + 1));
    assert_eq!(large.status(), 413);
    assert_eq!(large.json()["error"], "expected at most 16384 bytes");
    // Told a length beyond all bounds, nothing of it is waited for.
    let head = request("POST", "/v1/scripts", "Content-Length: 1000000000000\r\n");
    assert_eq!(exchange(connect(&sidecar), &head).status(), 413);

    let get = exchange(connect(&sidecar), &request("GET", "/v1/scripts", ""));
    assert_eq!((get.status(), get.header("allow")), (405, Some("POST")));
    let elsewhere = request("POST", "/v1/status", "Content-Length: 0\r\n");
    assert_eq!(exchange(connect(&sidecar), &elsewhere).status(), 405);

    let page = exchange(connect(&sidecar), &request("GET", "/metrics", ""));
    assert!(
        page.text()
            .contains("weir_script_reports_total{outcome=\"invalid\"} 4\n"),
        "{}",
        page.text()
    );
    assert!(
        page.text()
            .contains("weir_scripts_executed_total{success=\"true\"} 0\n")
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_holds_nobody_up() {
    let sidecar = Sidecar::new();
    let _endpoint = endpoint(&sidecar).await;
    let mut slow = connect(&sidecar);
    let head = request("POST", "/v1/scripts", "Content-Length: 100\r\n");
    slow.write_all(head.as_bytes()).unwrap();
    assert_eq!(posted(&sidecar, VALID).status(), 201);
    // One that breaks off in the middle counts as no run.
    drop(slow);
    let page = exchange(connect(&sidecar), &request("GET", "/metrics", ""));
    assert!(
        page.text()
            .contains("weir_scripts_executed_total{success=\"true\"} 1\n")
    );
}
