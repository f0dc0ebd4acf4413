//! The way of a report to a sidecar that is there, away, or hard to find.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{exec, queued};
use crate::run::nobody;
use crate::support::page::Page;
use crate::support::sidecar::Sidecar;

/// Runs that were counted: the successes, the failures. Both families agree.
fn runs(page: &Page) -> (u64, u64) {
    let [agent, weir] = ["agent", "weir"].map(|family| {
        let count = |success: bool| {
            page.count(&format!(
                "{family}_scripts_executed_total{{success=\"{success}\"}}"
            ))
        };
        (count(true), count(false))
    });
    assert_eq!(agent, weir);
    weir
}

fn reports(page: &Page, outcome: &str) -> u64 {
    page.count(&format!(
        "weir_script_reports_total{{outcome=\"{outcome}\"}}"
    ))
}

#[tokio::test]
async fn a_run_is_counted_where_the_sidecar_is_there() {
    let sidecar = Sidecar::builder(&nobody()).start().await;
    let api = sidecar.api.clone().unwrap();
    assert_eq!(runs(&sidecar.page().await), (0, 0));
    assert!(
        exec(&api, &["--stage", "start", "sleep", "0.2"])
            .status
            .success()
    );
    assert_eq!(exec(&api, &["false"]).status.code(), Some(1));
    let page = sidecar.page().await;
    assert_eq!((runs(&page), reports(&page, "counted")), ((1, 1), 2));
    let startup = |success| {
        page.value(&format!(
            "coderd_agentstats_startup_script_seconds{{success=\"{success}\"}}"
        ))
    };
    assert!(startup(true) >= 0.2 && startup(true) < 20.0 && startup(false) == 0.0);
    assert!(queued(&api).is_empty());
    sidecar.stop_clean().await;
}

#[tokio::test]
async fn what_was_counted_survives_a_stop_and_what_was_queued_is_counted_at_the_start() {
    let sidecar = Sidecar::builder(&nobody()).start().await;
    let api = sidecar.api.clone().unwrap();
    exec(&api, &["true"]);
    let again = sidecar.beside_at(&nobody());
    sidecar.stop_clean().await;
    for command in ["true", "true", "false"] {
        let output = exec(&api, &[command]);
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(queued(&api).len(), 3);
    let sidecar = again.start().await;
    sidecar
        .wait_for("the queue to be counted", |page| runs(page) == (3, 1))
        .await;
    assert!(queued(&api).is_empty());
    sidecar.stop_clean().await;
}

#[tokio::test]
async fn a_script_that_removes_the_socket_is_counted_all_the_same() {
    let sidecar = Sidecar::builder(&nobody()).start().await;
    let api = sidecar.api.clone().unwrap();
    let output = exec(&api, &["rm", api.to_str().unwrap()]);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    sidecar
        .wait_for("the queue to be counted", |page| runs(page) == (1, 0))
        .await;
    sidecar.stop_clean().await;
}

#[tokio::test]
async fn what_cannot_be_reported_is_said_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent/weir.sock");
    let output = exec(&absent, &["bash", "-c", "exit 5"]);
    assert_eq!(output.status.code(), Some(5));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.starts_with("weir: the script is not reported: no sidecar answers there"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);

    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, directory.path().join("weir.sock.queue")).unwrap();
    let output = exec(&directory.path().join("weir.sock"), &["true"]);
    assert_eq!(
        (output.status.code(), fs::read(&victim).unwrap()),
        (Some(0), b"precious".to_vec())
    );
}

/// Posts with curl, as the README says to. `None` when it is not installed and tests may go without it.
fn curl(api: &Path, body: &str) -> Option<(u16, Value)> {
    let output = Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(api)
        .args(["http://weir/v1/scripts", "-d", body, "-w", "\n%{http_code}"])
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let required = std::env::var_os("WEIR_REQUIRE_INTEROP").is_some();
            assert!(
                !required,
                "curl is not installed, and WEIR_REQUIRE_INTEROP is set"
            );
            eprintln!("SKIPPED: curl is not installed");
            return None;
        }
        output => output.unwrap(),
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let (answer, code) = text
        .trim_end()
        .rsplit_once('\n')
        .unwrap_or_else(|| panic!("{:?}", output.stderr));
    Some((code.parse().unwrap(), serde_json::from_str(answer).unwrap()))
}

#[tokio::test]
async fn a_run_can_be_posted_by_curl() {
    let sidecar = Sidecar::builder(&nobody()).start().await;
    let api = sidecar.api.clone().unwrap();
    let body = r#"{"name":"backup","exit_code":0,"started_at":1767225600,"ended_at":1767225603.5}"#;
    let Some(first) = curl(&api, body) else {
        return;
    };
    assert_eq!(first, (201, json!({"result": "counted"})));
    let second = curl(&api, body).unwrap();
    assert_eq!(second, (200, json!({"result": "repeated"})));
    let (code, answer) = curl(&api, r#"{"exit_code":"0"}"#).unwrap();
    let said = answer["error"].as_str().unwrap();
    assert!(
        code == 400 && said.starts_with("exit_code: expected a whole number of 32 bits, got \"0\""),
        "{said}"
    );
    let page = sidecar.page().await;
    assert_eq!(
        (
            runs(&page),
            reports(&page, "repeated"),
            reports(&page, "invalid")
        ),
        ((1, 0), 1, 1)
    );
    sidecar.stop_clean().await;
}
