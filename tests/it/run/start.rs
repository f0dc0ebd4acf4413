//! What stands in the way of a start, and what does not.

use std::os::unix::net::UnixListener;
use std::path::Path;

use super::nobody;
use crate::support::plane::Plane;
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::{Builder, Sidecar};

on_each_plane![
    a_second_instance_is_refused_and_costs_the_first_nothing,
    a_path_is_taken_over_without_a_loss,
    a_restart_finds_its_own_path_again,
];

/// Expects a refusal to start, with this exit code and these words in the log.
async fn refused(builder: Builder, code: i32, says: &str) {
    let ended = builder.fail().await;
    assert_eq!(ended.code(), Some(code), "{}", ended.log());
    assert!(
        ended.log().contains(says),
        "expected {says:?}: {}",
        ended.log()
    );
}

fn with_socket(path: &Path) -> Builder {
    Sidecar::builder(&nobody()).flag("--boundary-log-proxy-socket-path", path.display())
}

async fn a_second_instance_is_refused_and_costs_the_first_nothing(plane: impl Plane) {
    let first = Sidecar::of(&plane).start().await;
    let mut session = Session::new("s");
    let mut sender = Sender::connect(&first.socket).await;
    sender.send(&session.batch()).await;
    refused(first.beside(&plane), 1, "another instance holds it").await;
    sender.send(&session.batch()).await;
    Sender::connect(&first.socket)
        .await
        .send(&session.batch())
        .await;
    first.forwarded(30).await;
    assert_eq!(plane.delivered("s").await.distinct, 30);
    first.stop_clean().await;
}

async fn a_path_is_taken_over_without_a_loss(plane: impl Plane) {
    let first = Sidecar::of(&plane).start().await;
    let (mut old, mut new) = (Session::new("old"), Session::new("new"));
    let mut sender = Sender::connect(&first.socket).await;
    sender.send(&old.batch()).await;
    let second = first
        .beside(&plane)
        .flag("--take-over", true)
        .flag(
            "--api-socket",
            first.socket.with_file_name("second.sock").display(),
        )
        .start()
        .await;
    assert_eq!(second.socket, first.socket);
    Sender::connect(&second.socket)
        .await
        .send(&new.batch())
        .await;
    second.forwarded(10).await;
    sender.send(&old.batch()).await;
    // The first reads to their end the senders that it has, delivers, and ends by itself.
    let ended = first.end().await;
    assert_eq!(ended.code(), Some(0), "{}", ended.log());
    assert_eq!(ended.number("forwarded_logs"), 20, "{}", ended.log());
    assert_eq!(plane.delivered("old").await, old.whole());
    // The path is the second's, and stays so.
    Sender::connect(&second.socket)
        .await
        .send(&new.batch())
        .await;
    second.forwarded(20).await;
    assert_eq!(plane.delivered("new").await, new.whole());
    second.stop_clean().await;
}

async fn a_restart_finds_its_own_path_again(plane: impl Plane) {
    let first = Sidecar::of(&plane).start().await;
    let again = first.beside(&plane);
    let socket = first.socket.clone();
    first.stop_clean().await;
    // A sender that looks for it now keeps auditing on.
    assert!(socket.exists());
    let second = again.start().await;
    let mut session = Session::new("s");
    Sender::connect(&socket).await.send(&session.batch()).await;
    second.forwarded(10).await;
    assert_eq!(plane.delivered("s").await, session.whole());
    second.stop_clean().await;
}

#[tokio::test]
async fn what_is_at_the_path_already_is_respected() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    refused(
        with_socket(&file),
        1,
        "expected a socket or nothing, got a regular file",
    )
    .await;
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");

    let foreign = directory.path().join("foreign.sock");
    let listener = UnixListener::bind(&foreign).unwrap();
    refused(with_socket(&foreign), 1, "another program listens on it").await;
    drop(listener);
    with_socket(&foreign).start().await.stop_clean().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    refused(
        with_socket(&file.join("audit.sock")),
        1,
        "expected an existing directory",
    )
    .await;
    let absent = directory.path().join("absent/audit.sock");
    refused(with_socket(&absent), 1, "expected an existing directory").await;
    // Where not even root may create a file.
    refused(with_socket(Path::new("/proc/audit.sock")), 1, "/proc/").await;
}

#[tokio::test]
async fn bad_settings_are_all_named_at_once() {
    let url = nobody();
    let builder = || Sidecar::builder(&url);
    let bad = builder()
        .flag("--agent-url", "ftp://example.com")
        .flag("--agent-token", "two words")
        .flag("--when-full", "explode")
        .flag("--buffer-max-batches", 0);
    refused(bad, 2, "4 faults in the configuration").await;
    refused(builder().flag("--no-such-flag", 1), 2, "--no-such-flag").await;
    refused(builder().without("--agent-token"), 2, "--agent-token").await;
    refused(builder().flag("--role", "agent"), 2, "not built yet").await;
    let long = format!("/tmp/{}", "x".repeat(110));
    refused(with_socket(Path::new(&long)), 2, "107 bytes").await;
    let unreadable = builder()
        .without("--agent-token")
        .flag("--agent-token-file", "/nowhere");
    refused(unreadable, 2, "/nowhere").await;
}

#[tokio::test]
async fn metrics_are_served_where_one_asks_for_them() {
    let off = Sidecar::builder(&nobody())
        .flag("--prometheus-address", "")
        .start()
        .await;
    assert_eq!(off.prometheus, None);
    assert_eq!(off.api_page().await.count("weir_upstream_connected"), 0);
    off.stop_clean().await;

    let builder = Sidecar::builder(&nobody());
    let address = format!("unix:{}", builder.path("metrics.sock").display());
    let unix = builder.flag("--prometheus-address", &address).start().await;
    assert_eq!(unix.prometheus, Some(address));
    unix.stop_clean().await;
}
