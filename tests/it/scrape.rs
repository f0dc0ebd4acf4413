//! `weir scrape` from outside.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::certificates::Certificates;
use crate::support::coderd::TOKEN;
use crate::support::control::ControlPlane;
use crate::support::target::{Answer, Target};

const TEXT: &str = "text/plain";

/// Runs the program in an environment with nothing of the caller's, beside the tasks of the test.
pub async fn weir(arguments: &[&str]) -> Output {
    weir_with(&[], arguments).await
}

async fn weir_with(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env_clear();
    command.envs(variables.iter().copied());
    let ended = tokio::task::spawn_blocking(move || command.output());
    ended.await.unwrap().unwrap()
}

#[track_caller]
pub fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

async fn page(body: &str) -> (Target, String) {
    let target = Target::start(Answer::Page(TEXT, body.into())).await;
    let url = format!("http://{}", target.address);
    (target, url)
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

#[tokio::test]
async fn a_page_is_printed_and_its_faults_told_beside_it() {
    let (_target, url) = page("# TYPE a counter\na{b=\"c\"} 1\na{b=\"c} 2\nd 3 x\ne 4\n").await;
    let printed = "a  counter\n  a{b=\"c\"}  1\ne  untyped\n  e  4\n";
    let output = weir(&["scrape", &url]).await;
    assert_exit(&output, 0);
    assert_eq!(str::from_utf8(&output.stdout), Ok(printed));
    assert_eq!(
        stderr(&output),
        format!(
            "weir: {url}/metrics: line 3, column 10: expected a closing quote, got the end of the line\n\
             weir: {url}/metrics: line 4, column 5: expected a timestamp in whole milliseconds, got \"x\"\n"
        )
    );

    let output = weir(&["scrape", "--strict", &url]).await;
    assert_exit(&output, 1);
    assert_eq!(str::from_utf8(&output.stdout), Ok(printed));
    assert_eq!(
        stderr(&output),
        format!(
            "weir: {url}/metrics: line 3, column 10: expected a closing quote, got the end of the line\n"
        )
    );
}

#[tokio::test]
async fn json_is_an_array_of_families() {
    let (_target, url) = page("# HELP a Help.\n# TYPE a gauge\na{b=\"c\"} +Inf 7\n").await;
    let output = weir(&["scrape", &url, "--json", "--strict"]).await;
    assert_exit(&output, 0);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sample = json!({"name": "a", "labels": {"b": "c"}, "value": "+Inf", "timestamp_ms": 7});
    let expected = json!([{"name": "a", "type": "gauge", "help": "Help.", "samples": [sample]}]);
    assert_eq!(json, expected);
}

#[tokio::test]
async fn many_faults_are_counted_and_few_are_listed() {
    let (_target, url) = page(&"bad\n".repeat(1_000)).await;
    let output = weir(&["scrape", &url]).await;
    assert_exit(&output, 0);
    assert_eq!(stderr(&output).lines().count(), 21);
    assert!(stderr(&output).ends_with(": 980 more lines cannot be read\n"));
}

#[tokio::test]
async fn no_page_is_a_failure_and_no_url_bad_usage() {
    let (target, url) = page("").await;
    let elsewhere = format!("{url}/metrics: cannot connect: ");
    drop(target);
    let output = weir(&["scrape", &url]).await;
    assert_exit(&output, 1);
    assert!(
        stderr(&output).starts_with(&format!("weir: no page from {elsewhere}")),
        "{output:?}"
    );
    assert_eq!(output.stdout, b"");

    let target = Target::start(Answer::Page("text/html", b"<html>".to_vec())).await;
    let output = weir(&["scrape", &format!("http://{}", target.address)]).await;
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("got \"text/html\""), "{output:?}");

    for arguments in [
        &["scrape"][..],
        &["scrape", "h:9100"],
        &["scrape", "unix:a"],
    ] {
        let output = weir(arguments).await;
        assert_exit(&output, 2);
        assert_eq!(output.stdout, b"");
    }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_bear_the_name() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::issue(directory.path(), "127.0.0.1");
    let flags = [&["--agent-token", TOKEN][..], &certificates.flags()].concat();
    let server = ControlPlane::start_at("127.0.0.1:0", &flags);
    // No page, but an answer, which only comes over TLS.
    let url = format!("{}/api/v2/buildinfo", server.url);
    let trusted = [("SSL_CERT_FILE", certificates.authority.to_str().unwrap())];
    // Nobody is asked but the host itself.
    let trusted = [trusted[0], ("https_proxy", "http://127.0.0.1:9")];
    let output = weir_with(&trusted, &["scrape", &url]).await;
    assert_exit(&output, 1);
    assert!(
        stderr(&output).contains("got \"application/json"),
        "{output:?}"
    );

    let output = weir_with(
        &trusted,
        &["scrape", &url.replace("127.0.0.1", "localhost")],
    )
    .await;
    assert_exit(&output, 1);
    assert!(
        stderr(&output).contains("cannot connect: TLS: "),
        "{output:?}"
    );

    let elsewhere = tempfile::tempdir().unwrap();
    let other = Certificates::issue(elsewhere.path(), "127.0.0.1");
    let untrusted = [("SSL_CERT_FILE", other.authority.to_str().unwrap())];
    let output = weir_with(&untrusted, &["scrape", &url]).await;
    assert_exit(&output, 1);
    assert!(
        stderr(&output).contains("cannot connect: TLS: "),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_sidecar_that_runs_can_be_scraped_at_its_api_socket() {
    let nobody = "http://127.0.0.1:9".parse().unwrap();
    let sidecar = crate::support::sidecar::Sidecar::builder(&nobody)
        .start()
        .await;
    let api = sidecar.api.clone().unwrap();
    let url = format!("unix:{}:/metrics", api.display());
    let output = weir(&["scrape", &url, "--strict", "--json"]).await;
    assert_exit(&output, 0);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|family| &family["name"])
        .collect();
    // As OpenMetrics names a counter.
    assert!(names.contains(&&json!("weir_logs_received")), "{names:?}");
}
