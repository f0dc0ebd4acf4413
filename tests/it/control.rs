//! `weir control-plane` from outside: with the real Go libraries as its agents, and with `weir run`.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::coderd::TOKEN;
use crate::support::control::{Embedded, agent, agent_command};
use crate::support::plane::{Delivered, Plane as _};
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;

#[track_caller]
fn assert_passes(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<_> = said
        .lines()
        .filter(|line| !line.contains("\"ok\":true"))
        .collect();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{log}", failed.join("\n"));
}

#[tokio::test]
async fn the_agent_runs_its_whole_script() {
    for version in ["2.11", "2.0"] {
        let plane = Embedded::start(&[]);
        let args = ["-mode", "script", "-streams", "50", "-version", version];
        let Some(output) = agent(plane.url(), &args) else {
            return;
        };
        assert_passes(&output);
        plane.wait_for("weir_control_sessions", 0).await;
        assert_eq!(plane.count("weir_control_agents_connected").await, 0);
        // Every entry that was acknowledged has its line; a call that was given up may have left some too.
        let lines = plane.lines();
        let acknowledged = plane.count("weir_control_boundary_logs_total").await;
        assert!(acknowledged > 100_000, "{acknowledged}");
        assert!(lines.len() as u64 >= acknowledged, "{}", lines.len());
        let written = plane
            .count("weir_control_boundary_lines_written_total")
            .await;
        assert_eq!(written, lines.len() as u64);
        let one = plane
            .delivered("00000000-0000-4000-8000-000000000049")
            .await;
        assert_eq!(
            (one.distinct, one.duplicates, one.out_of_order),
            (2000, 0, 0)
        );

        let stopped = plane.stop();
        assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
        assert!(
            stopped.stdout.is_empty(),
            "more than the ready line on stdout"
        );
        assert!(!String::from_utf8_lossy(&stopped.stderr).contains(TOKEN));
    }
}

#[tokio::test]
async fn hostile_clients_cost_nobody_but_themselves() {
    let plane = Embedded::start(&[]);
    let Some(output) = agent(plane.url(), &["-mode", "hostile", "-dials", "10000"]) else {
        return;
    };
    assert_passes(&output);
    plane.wait_for("weir_control_connections", 0).await;
    let page = plane.page().await;
    let refused = "weir_control_dials_refused_total{reason=\"unknown_token\"}";
    assert_eq!(page.count(refused), 10_000);
    for kind in [
        "websocket",
        "yamux_frame",
        "yamux_stream_id",
        "yamux_stream_in_use",
        "yamux_window",
        "yamux_second_fin",
        "yamux_too_many_streams",
        "drpc",
    ] {
        let series = format!("weir_control_protocol_violations_total{{kind=\"{kind}\"}}");
        assert!(page.count(&series) > 0, "{kind}");
    }
    assert_eq!(page.count("weir_panics_total"), 0);
}

#[tokio::test]
async fn tls_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let plane = Embedded::start(&["--tls-cert", &cert, "--tls-key", &key]);
    assert_eq!(plane.url().scheme(), "https");
    let Some(output) = agent(
        plane.url(),
        &["-mode", "script", "-insecure", "-streams", "4"],
    ) else {
        return;
    };
    assert_passes(&output);
    // What speaks no TLS is turned away.
    let mut plain = plane.url().clone();
    plain.set_scheme("http").unwrap();
    let refused = agent(&plain, &["-mode", "idle", "-connections", "1"]).unwrap();
    assert!(!refused.status.success());
    let series = "weir_control_dials_refused_total{reason=\"tls\"}";
    assert_eq!(plane.count(series).await, 1);
}

#[tokio::test]
async fn a_stop_closes_the_sessions_of_agents_that_are_idle() {
    let plane = Embedded::start(&[]);
    let Some(mut command) = agent_command(plane.url(), &["-mode", "idle", "-connections", "20"])
    else {
        return;
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut idle = command.spawn().unwrap();
    let mut said = BufReader::new(idle.stdout.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    plane.wait_for("weir_control_sessions", 20).await;
    assert_eq!(plane.count("weir_control_agents_connected").await, 1);
    let stopped = plane.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    let log = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(log.matches("reason=closed\n").count(), 20, "{log}");
    drop(idle.stdin.take());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("{\"alive\":0}"), "{rest}");
    idle.wait().unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_to_the_agent() {
    let plane = Embedded::start(&["--boundary-log-output", "/dev/full"]);
    let args = ["-mode", "load", "-seconds", "1", "-lanes", "1"];
    let Some(output) = agent(plane.url(), &args) else {
        return;
    };
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("No space left on device"), "{said}");
    let page = plane.page().await;
    assert_eq!(page.count("weir_control_boundary_logs_total"), 0);
    assert_eq!(page.count("weir_control_boundary_output_failures_total"), 1);
}

#[tokio::test]
async fn agents_of_a_file_have_the_names_it_gives_them() {
    let directory = tempfile::tempdir().unwrap();
    let agents = directory.path().join("agents.toml");
    let content = format!(
        "[[agent]]\ntoken = \"{TOKEN}\"\nusername = \"alice\"\nworkspace_name = \"dev\"\n\
         agent_name = \"main\"\ntemplate_name = \"docker\"\n"
    );
    std::fs::write(&agents, content).unwrap();
    let plane = Embedded::start_for(&["--agents", agents.to_str().unwrap()], &[]);
    let args = [
        "-mode",
        "load",
        "-seconds",
        "0.1",
        "-request-bytes",
        "10000",
    ];
    let Some(output) = agent(plane.url(), &args) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = plane.lines();
    assert_eq!(Some(lines.len() as u64), told["logs"].as_u64());
    let names = ["username", "workspace_name", "agent_name"].map(|name| &lines[0][name]);
    assert_eq!(names, ["alice", "dev", "main"]);
}

#[tokio::test]
async fn logs_outlive_a_control_plane_that_is_killed() {
    let mut plane = Embedded::start(&[]);
    let sidecar = Sidecar::builder(plane.url())
        .flag("--when-full", "block")
        .flag("--block-deadline", "10min")
        .start()
        .await;
    let mut session = Session::new("6f1f9f3a-0000-4000-8000-000000000001");
    let mut sender = Sender::connect(&sidecar.socket).await;
    for _ in 0..3 {
        for _ in 0..500 {
            sender.send(&session.batch()).await;
        }
        plane.restart();
    }
    sender.send(&session.batch()).await;
    let page = sidecar.forwarded(session.logs).await;
    let delivered = plane.delivered(&session.id).await;
    let possible = page.count("weir_possible_duplicate_logs_total");
    assert!(
        delivered.duplicates <= possible,
        "{delivered:?}, {possible}"
    );
    let whole = Delivered {
        duplicates: delivered.duplicates,
        ..session.whole()
    };
    assert_eq!(delivered, whole);
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
}

fn control_plane(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("control-plane")
        .args(args)
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn what_cannot_be_bound_or_opened_is_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = "--listen=127.0.0.1:0";
    for (args, said) in [
        (vec!["--listen", &taken], "cannot listen on"),
        (
            vec![free, "--prometheus-enable", "--prometheus-address", &taken],
            "cannot serve metrics on",
        ),
        (
            vec![free, "--boundary-log-output", "/none/log"],
            "cannot open the boundary log output",
        ),
    ] {
        let output = control_plane(&[vec!["--agent-token", TOKEN], args].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(said) && !log.contains(TOKEN), "{log}");
    }
}

#[test]
fn every_fault_of_the_configuration_is_listed_at_once() {
    let output = control_plane(&["--listen=nowhere", "--metrics-expiry=1s", "--tls-key=k"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let log = String::from_utf8_lossy(&output.stderr);
    for fault in [
        "--listen: expected",
        "--agents: required",
        "--metrics-expiry: not available",
        "--tls-cert: required",
    ] {
        assert!(log.contains(fault), "{fault} in {log}");
    }
}
