//! The control plane is told of scripts with an id.

use std::path::Path;

use serde_json::{Value, json};

use super::exec;
use crate::run::nobody;
use crate::support::coderd::{Coderd, TOKEN};
use crate::support::page::Page;
use crate::support::plane::{Plane, WeirPlane};
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;

on_each_plane![
    the_control_plane_is_told_of_runs_with_an_id,
    runs_of_an_outage_and_of_a_life_before_are_told,
];

const METHOD: &str = "ScriptCompleted";

fn id(number: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{number:02x}")
}

/// The id as protobuf's JSON has it.
fn base64(number: u8) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let last = [
        DIGITS[usize::from(number >> 2)],
        DIGITS[usize::from(number & 3) << 4],
    ];
    format!("AAAAAAAAQACAAAAAAAAA{}==", String::from_utf8_lossy(&last))
}

fn ran(api: &Path, number: u8, stage: &str, script: &str) {
    let output = exec(
        api,
        &[
            "--id",
            &id(number),
            "--stage",
            stage,
            "--timeout",
            "500ms",
            "bash",
            "-c",
            script,
        ],
    );
    assert!(output.stderr.is_empty(), "{output:?}");
}

fn completions(page: &Page, outcome: &str) -> u64 {
    page.count(&format!(
        "weir_script_completions_total{{outcome=\"{outcome}\"}}"
    ))
}

async fn delivered(sidecar: &Sidecar, runs: u64) -> Page {
    sidecar
        .wait_for(&format!("{runs} runs delivered"), |page| {
            completions(page, "delivered") == runs
                && page.count("weir_script_completions_pending") == 0
        })
        .await
}

async fn the_control_plane_is_told_of_runs_with_an_id(plane: impl Plane) {
    let sidecar = Sidecar::of(&plane).start().await;
    let api = sidecar.api.clone().unwrap();
    exec(&api, &["true"]);
    ran(&api, 1, "start", "exit 0");
    ran(&api, 2, "cron", "exit 3");
    ran(&api, 3, "stop", "sleep 1000");
    // Logs go their way all the while.
    Sender::connect(&sidecar.socket)
        .await
        .send(&Session::new("s").batch())
        .await;
    delivered(&sidecar, 3).await;
    sidecar.forwarded(10).await;
    assert_eq!(plane.completed_scripts().await, 3);
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
}

async fn runs_of_an_outage_and_of_a_life_before_are_told(mut plane: impl Plane) {
    plane.turn_away().await;
    let sidecar = Sidecar::of(&plane).start().await;
    let api = sidecar.api.clone().unwrap();
    ran(&api, 1, "start", "true");
    ran(&api, 2, "start", "true");
    let pending = |runs| move |page: &Page| page.count("weir_script_completions_pending") == runs;
    sidecar.wait_for("two that wait", pending(2)).await;
    let again = sidecar.beside(&plane);
    drop(sidecar);
    ran(&api, 3, "start", "true");
    let sidecar = again.start().await;
    sidecar.wait_for("three that wait", pending(3)).await;
    plane.let_in().await;
    delivered(&sidecar, 3).await;
    assert_eq!(plane.completed_scripts().await, 3);
    sidecar.stop_clean().await;
}

#[tokio::test]
async fn each_run_arrives_as_it_was() {
    let Some(coderd) = Coderd::start(&[]) else {
        return;
    };
    let sidecar = Sidecar::builder(&coderd.url).start().await;
    let api = sidecar.api.clone().unwrap();
    ran(&api, 1, "start", "exit 0");
    ran(&api, 2, "cron", "exit 3");
    ran(&api, 3, "stop", "sleep 1000");
    ran(&api, 255, "cron", "kill -9 $$");
    delivered(&sidecar, 4).await;
    let account = coderd.account().await;
    let scripts = account["agents"][TOKEN]["scripts_completed"]
        .as_array()
        .unwrap();
    let as_told = |script: &Value| {
        let mut script = script.clone();
        let fields = script.as_object_mut().unwrap();
        for time in ["start", "end"] {
            let text = fields.remove(time).unwrap();
            humantime::parse_rfc3339(text.as_str().unwrap()).unwrap();
        }
        script
    };
    let scripts: Vec<_> = scripts.iter().map(as_told).collect();
    // Zeroes are not written.
    let expected = [
        json!({"script_id": base64(1)}),
        json!({"script_id": base64(2), "exit_code": 3, "stage": "CRON", "status": "EXIT_FAILURE"}),
        json!({"script_id": base64(3), "exit_code": 124, "stage": "STOP", "status": "TIMED_OUT"}),
        json!({"script_id": base64(255), "exit_code": 137, "stage": "CRON", "status": "EXIT_FAILURE"}),
    ];
    assert_eq!(scripts, expected);
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

#[tokio::test]
async fn each_trouble_of_a_call_has_its_outcome() {
    let refusal = |count: u64| json!({"kind": "error", "message": "boom", "count": count});
    for (mut fault, outcome, arrives) in [
        (refusal(2), "delivered", 1),
        (refusal(3), "refused", 0),
        (json!({"kind": "unimplemented", "count": 1}), "rejected", 0),
        (json!({"kind": "close_before", "count": 1}), "delivered", 1),
        (json!({"kind": "close_after", "count": 1}), "delivered", 2),
    ] {
        let Some(coderd) = Coderd::start(&[]) else {
            return;
        };
        let sidecar = Sidecar::builder(&coderd.url).start().await;
        sidecar.connected().await;
        fault["method"] = METHOD.into();
        coderd.fault(fault.clone()).await;
        let api = sidecar.api.clone().unwrap();
        ran(&api, 1, "cron", "true");
        sidecar
            .wait_for(&fault.to_string(), |page| completions(page, outcome) == 1)
            .await;
        assert_eq!(coderd.completed_scripts().await, arrives, "{fault}");
        // The next is none the worse for it.
        ran(&api, 2, "cron", "true");
        delivered(&sidecar, 1 + u64::from(outcome == "delivered")).await;
        sidecar.stop_clean().await;
        coderd.expect_clean_wire().await;
    }
}

#[tokio::test]
async fn a_stop_tells_what_it_can_and_keeps_the_rest() {
    let plane = WeirPlane::start();
    let sidecar = Sidecar::of(&plane).start().await;
    sidecar.connected().await;
    let api = sidecar.api.clone().unwrap();
    ran(&api, 1, "stop", "true");
    sidecar.stop_clean().await;
    assert_eq!(plane.completed_scripts().await, 1);

    // Without a link nothing is waited for.
    let sidecar = Sidecar::builder(&nobody())
        .flag("--drain-timeout", "1h")
        .start()
        .await;
    let api = sidecar.api.clone().unwrap();
    ran(&api, 2, "stop", "true");
    let ended = sidecar.stop_clean().await;
    assert!(
        ended
            .log()
            .contains("the control plane is still to be told of scripts"),
        "{}",
        ended.log()
    );
}
