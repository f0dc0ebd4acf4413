//! `weir spool`: what a sidecar left on disk, without that sidecar.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use super::nobody;
use crate::support::coderd::TOKEN;
use crate::support::plane::{Plane, WeirPlane};
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;

on_each_plane![a_replay_delivers_all_and_changes_nothing];

fn weir(command: &str, dir: &Path, flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["spool", command])
        .arg(dir)
        .args(flags)
        .env_clear()
        .output()
        .expect("weir starts")
}

fn text(output: &Output) -> &str {
    str::from_utf8(&output.stdout).expect("text")
}

fn json(output: &Output) -> Value {
    serde_json::from_str(text(output)).expect("JSON")
}

/// A spool that holds 100 batches, and what keeps it there.
async fn spool(session: &mut Session) -> (PathBuf, Arc<TempDir>) {
    let builder = Sidecar::builder(&nobody());
    let dir = builder.path("spool");
    let sidecar = builder
        .flag("--spool-dir", dir.display())
        .flag("--drain-timeout", "0s")
        .start()
        .await;
    let kept = sidecar.directory();
    let mut sender = Sender::connect(&sidecar.socket).await;
    for _ in 0..100 {
        sender.send(&session.batch()).await;
    }
    sidecar
        .wait_for("all batches", |page| {
            page.count("weir_logs_received_total") == 1_000
        })
        .await;
    sidecar.stop_clean().await;
    (dir, kept)
}

fn segment(dir: &Path) -> PathBuf {
    let entries = std::fs::read_dir(dir).expect("the spool is there");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let segment = paths.find(|path| path.extension().is_some_and(|end| end == "seg"));
    segment.expect("a segment")
}

#[tokio::test]
async fn a_spool_is_described_checked_and_printed() {
    let mut session = Session::new("s");
    let (dir, _kept) = spool(&mut session).await;

    let summary = json(&weir("inspect", &dir, &["--json"]));
    assert_eq!(
        (&summary["held_batches"], &summary["held_logs"]),
        (&100.into(), &1_000.into())
    );
    assert_eq!(summary["clean"], true);
    let table = weir("inspect", &dir, &[]);
    assert!(
        text(&table).contains("held         100 batches, 1000 logs"),
        "{table:?}"
    );

    let report = weir("verify", &dir, &["--json"]);
    assert_eq!(report.status.code(), Some(0), "{report:?}");
    let report = json(&report);
    assert_eq!(
        (&report["whole"], &report["head_record"]),
        (&true.into(), &100.into())
    );
    assert_eq!(report["head"].as_str().map(str::len), Some(64));

    let lines = weir("export", &dir, &[]);
    assert_eq!(lines.status.code(), Some(0), "{lines:?}");
    let numbers = text(&lines).lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["session_id"], "s");
        line["sequence_number"].as_u64().expect("a number")
    });
    assert_eq!(numbers.collect::<Vec<_>>(), (0..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn damage_is_named_and_the_rest_is_taken_out() {
    let mut session = Session::new("s");
    let (dir, _kept) = spool(&mut session).await;
    let segment = segment(&dir);
    let mut bytes = std::fs::read(&segment).expect("it is read");
    let (middle, name) = (bytes.len() / 2, segment.file_name().expect("a name"));
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).expect("it is written");

    let report = weir("verify", &dir, &[]);
    assert_eq!(report.status.code(), Some(1));
    let name = name.to_str().expect("text");
    let places: Vec<_> = text(&report)
        .lines()
        .filter(|line| line.starts_with(name) && line.contains("record"))
        .collect();
    assert!(
        places.iter().any(|place| place.ends_with("damaged")),
        "{report:?}"
    );
    assert!(text(&report).ends_with("NOT whole\n"), "{report:?}");

    let lines = weir("export", &dir, &[]);
    assert_eq!(lines.status.code(), Some(1));
    assert_eq!(text(&lines).lines().count(), 990);

    // A sidecar counts it, and delivers the rest.
    let plane = WeirPlane::start();
    let sidecar = Sidecar::of(&plane)
        .flag("--spool-dir", dir.display())
        .start()
        .await;
    let page = sidecar.forwarded(990).await;
    assert_eq!(page.dropped("logs", "spool_corrupt"), 10);
    assert_eq!(plane.delivered("s").await.distinct, 990);
    sidecar.stop_clean().await;
}

async fn a_replay_delivers_all_and_changes_nothing(plane: impl Plane) {
    let mut session = Session::new("s");
    let (dir, _kept) = spool(&mut session).await;
    let flags = [
        format!("--agent-url={}", plane.url()),
        format!("--agent-token={TOKEN}"),
        format!("--transport={}", plane.transport().name()),
    ];
    let replayed = {
        let dir = dir.clone();
        let replay = move || weir("replay", &dir, &flags.each_ref().map(String::as_str));
        tokio::task::spawn_blocking(replay).await.expect("it runs")
    };
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    let outcome = json(&replayed);
    for (field, logs) in [
        ("logs", 1_000),
        ("forwarded", 1_000),
        ("failed", 0),
        ("left", 0),
    ] {
        assert_eq!(outcome[field], logs, "{outcome}");
    }
    assert_eq!(plane.delivered("s").await, session.whole());
    let after = json(&weir("inspect", &dir, &["--json"]));
    assert_eq!(after["held_logs"], 1_000);
    assert_eq!(weir("verify", &dir, &[]).status.code(), Some(0));
}

#[tokio::test]
async fn a_spool_in_use_is_looked_at_but_not_replayed() {
    let builder = Sidecar::builder(&nobody());
    let dir = builder.path("spool");
    let sidecar = builder.flag("--spool-dir", dir.display()).start().await;
    assert_eq!(weir("verify", &dir, &[]).status.code(), Some(0));
    let url = format!("--agent-url={}", nobody());
    let refused = weir("replay", &dir, &[&url, "--agent-token=t"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is in use"), "{said}");
    sidecar.stop_clean().await;
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    for command in ["inspect", "verify", "export"] {
        let output = weir(command, Path::new("/nowhere"), &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("/nowhere"),
            "{output:?}"
        );
    }
}
