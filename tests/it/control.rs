//! `weir control-plane` from outside, with the real Go libraries as its agents.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::coderd::TOKEN;
use crate::support::control::{ControlPlane, agent, agent_command, boundary_lines};
use crate::support::plane::{Delivered, Plane as _, WeirPlane};
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;

#[track_caller]
fn assert_passes(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<_> = said
        .lines()
        .filter(|line| !line.contains("\"ok\":true"))
        .collect();
    assert!(
        output.status.success(),
        "{}\n{}",
        failed.join("\n"),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Both transports, as the agent is told them.
const TRANSPORTS: [&str; 2] = ["websocket", "grpc"];

#[test]
fn the_agent_runs_its_whole_script() {
    for (transport, version) in [("websocket", "2.11"), ("websocket", "2.0"), ("grpc", "")] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("boundary.jsonl");
        let output = path.to_str().unwrap();
        let control_plane = ControlPlane::start(&["--boundary-log-output", output]);
        let args = [
            "-mode",
            "script",
            "-streams",
            "50",
            "-version",
            version,
            "-transport",
            transport,
        ];
        let Some(output) = agent(&control_plane.url, &args) else {
            return;
        };
        assert_passes(&output);
        control_plane.wait_for("weir_control_sessions", 0);
        assert_eq!(control_plane.metric("weir_control_agents_connected"), 0);
        // Every entry that was acknowledged has its line; a call that was given up may have left some too.
        let lines = boundary_lines(&path);
        let acknowledged = control_plane.metric("weir_control_boundary_logs_total");
        assert!(acknowledged > 100_000, "{acknowledged}");
        assert!(lines.len() as u64 >= acknowledged, "{}", lines.len());
        assert_eq!(
            control_plane.metric("weir_control_boundary_lines_written_total"),
            lines.len() as u64
        );
        let mut of_one: Vec<_> = lines
            .iter()
            .filter(|line| line["session_id"] == "00000000-0000-4000-8000-000000000049")
            .map(|line| line["sequence_number"].as_u64().unwrap())
            .collect();
        assert!(of_one.is_sorted());
        of_one.dedup();
        assert_eq!(of_one.len(), 2000);

        let stopped = control_plane.stop();
        assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
        assert!(
            stopped.stdout.is_empty(),
            "more than the ready line on stdout"
        );
        assert!(!String::from_utf8_lossy(&stopped.stderr).contains(TOKEN));
    }
}

#[test]
fn hostile_clients_cost_nobody_but_themselves() {
    let control_plane = ControlPlane::start(&[]);
    let args = ["-mode", "hostile", "-dials", "10000"];
    let Some(output) = agent(&control_plane.url, &args) else {
        return;
    };
    assert_passes(&output);
    control_plane.wait_for("weir_control_connections", 0);
    let refused = "weir_control_dials_refused_total{reason=\"unknown_token\"}";
    assert_eq!(control_plane.metric(refused), 10_000);
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
        assert!(control_plane.metric(&series) > 0, "{kind}");
    }
    assert_eq!(control_plane.metric("weir_control_panics_total"), 0);
}

#[test]
fn hostile_clients_of_http2_cost_nobody_but_themselves() {
    let control_plane = ControlPlane::start(&[]);
    let args = ["-mode", "hostile", "-dials", "10000", "-transport", "grpc"];
    let Some(output) = agent(&control_plane.url, &args) else {
        return;
    };
    assert_passes(&output);
    control_plane.wait_for("weir_control_connections", 0);
    let refused = "weir_control_dials_refused_total{reason=\"unknown_token\"}";
    assert_eq!(control_plane.metric(refused), 10_000);
    for kind in ["http2_frame", "http2_window", "http2_flood", "grpc_message"] {
        let series = format!("weir_control_protocol_violations_total{{kind=\"{kind}\"}}");
        assert!(control_plane.metric(&series) > 0, "{kind}");
    }
    // A cut connection is no failure, wherever it is cut.
    let failed = "weir_control_sessions_ended_total{reason=\"failed\"}";
    assert_eq!(control_plane.metric(failed), 0);
    assert_eq!(control_plane.metric("weir_control_panics_total"), 0);
}

#[test]
fn tls_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let control_plane = ControlPlane::start(&["--tls-cert", cert, "--tls-key", key]);
    assert!(
        control_plane.url.starts_with("https://"),
        "{}",
        control_plane.url
    );
    let plain = control_plane.url.replace("https", "http");
    for (refusals, transport) in TRANSPORTS.into_iter().enumerate() {
        let args = [
            "-transport",
            transport,
            "-mode",
            "script",
            "-insecure",
            "-streams",
            "4",
        ];
        let Some(output) = agent(&control_plane.url, &args) else {
            return;
        };
        assert_passes(&output);
        // What speaks no TLS is turned away.
        let args = [
            "-transport",
            transport,
            "-mode",
            "idle",
            "-connections",
            "1",
        ];
        let refused = agent(&plain, &args).unwrap();
        assert!(!refused.status.success());
        assert_eq!(
            control_plane.metric("weir_control_dials_refused_total{reason=\"tls\"}"),
            refusals as u64 + 1
        );
    }
}

#[test]
fn a_stop_closes_the_sessions_of_agents_that_are_idle() {
    for transport in TRANSPORTS {
        stop_among_idle_agents(transport);
    }
}

fn stop_among_idle_agents(transport: &str) {
    let control_plane = ControlPlane::start(&[]);
    let args = [
        "-mode",
        "idle",
        "-connections",
        "20",
        "-transport",
        transport,
    ];
    let Some(mut command) = agent_command(&control_plane.url, &args) else {
        return;
    };
    let mut idle = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(idle.stdout.take().unwrap());
    let mut ready = String::new();
    said.read_line(&mut ready).unwrap();
    control_plane.wait_for("weir_control_sessions", 20);
    assert_eq!(control_plane.metric("weir_control_agents_connected"), 1);
    let stopped = control_plane.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    let log = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(log.matches("reason=closed\n").count(), 20, "{log}");
    drop(idle.stdin.take());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("{\"alive\":0}"), "{rest}");
    idle.wait().unwrap();
}

#[test]
fn a_full_disk_is_told_to_the_agent() {
    let control_plane = ControlPlane::start(&["--boundary-log-output", "/dev/full"]);
    for (failures, transport) in TRANSPORTS.into_iter().enumerate() {
        let args = [
            "-mode",
            "load",
            "-seconds",
            "1",
            "-lanes",
            "1",
            "-transport",
            transport,
        ];
        let Some(output) = agent(&control_plane.url, &args) else {
            return;
        };
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("No space left on device"), "{said}");
        assert_eq!(control_plane.metric("weir_control_boundary_logs_total"), 0);
        assert_eq!(
            control_plane.metric("weir_control_boundary_output_failures_total"),
            failures as u64 + 1
        );
    }
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
fn addresses_in_use_and_outputs_that_cannot_be_opened_are_failures() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, said) in [
        (
            ["--listen", &taken, "--prometheus-enable=false"],
            "cannot listen on",
        ),
        (
            [
                "--listen=127.0.0.1:0",
                "--prometheus-enable",
                &format!("--prometheus-address={taken}"),
            ],
            "cannot serve metrics on",
        ),
        (
            ["--listen=127.0.0.1:0", "--boundary-log-output", "/none/log"],
            "cannot open the boundary log output",
        ),
    ] {
        let output = control_plane(&[&["--agent-token", TOKEN], args.as_slice()].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(said) && !log.contains(TOKEN), "{log}");
    }
}

#[test]
fn every_fault_of_the_configuration_is_listed_at_once() {
    let output = control_plane(&["--listen=nowhere", "--metrics-expiry=soon", "--tls-key=k"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let log = String::from_utf8_lossy(&output.stderr);
    for flag in [
        "--listen:",
        "--agents: required",
        "--metrics-expiry: expected a duration",
        "--tls-cert: required",
    ] {
        assert!(log.contains(flag), "{flag} in {log}");
    }
}

#[test]
fn agents_of_a_file_have_the_names_it_gives_them() {
    let directory = tempfile::tempdir().unwrap();
    let (agents, log) = (
        directory.path().join("agents.toml"),
        directory.path().join("log"),
    );
    let tokens = ["11111111", "22222222"].map(|front| TOKEN.replace("6f1f9f3a", front));
    let table = |token: &String, user: &str| {
        format!(
            "[[agent]]\ntoken = \"{token}\"\nusername = \"{user}\"\nworkspace_name = \"dev\"\n\
             agent_name = \"main\"\ntemplate_name = \"t\"\n"
        )
    };
    let [one, other] = &tokens;
    std::fs::write(&agents, table(one, "alice") + &table(other, "bob")).unwrap();
    let control_plane = ControlPlane::start_with(&[
        "--agents",
        agents.to_str().unwrap(),
        "--boundary-log-output",
        log.to_str().unwrap(),
    ]);
    let load = [
        "-mode",
        "load",
        "-seconds",
        "0.1",
        "-request-bytes",
        "10000",
    ];
    for transport in TRANSPORTS {
        for (token, user) in tokens.iter().zip(["alice", "bob"]) {
            let before = boundary_lines(&log).len();
            let who = ["-token", token, "-transport", transport];
            let Some(output) = agent(&control_plane.url, &[&load[..], &who].concat()) else {
                return;
            };
            assert!(output.status.success(), "{output:?}");
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            // All that was acknowledged is written, at once.
            let lines = boundary_lines(&log).split_off(before);
            assert_eq!(Some(lines.len() as u64), told["logs"].as_u64());
            let is_theirs = |line: &Value| {
                let names = ["username", "workspace_name", "agent_name"].map(|name| &line[name]);
                names == [user, "dev", "main"]
            };
            assert!(lines.iter().all(is_theirs), "{}", lines[0]);
        }
    }
    control_plane.wait_for("weir_control_agents_connected", 0);
}

#[tokio::test]
async fn logs_outlive_a_control_plane_that_is_killed() {
    let mut plane = WeirPlane::start();
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
