//! What people and programs are told when they ask.

use serde_json::{Value, json};

use super::nobody;
use crate::support::plane::Plane;
use crate::support::sender::{Sender, Session, unhex};
use crate::support::sidecar::{Sidecar, status};

on_each_plane![status_tells_what_the_contract_names,];

async fn status_tells_what_the_contract_names(plane: impl Plane) {
    let sidecar = Sidecar::of(&plane).start().await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    sender.send(&Session::new("s").batch()).await;
    // A status that tells of five and three logs which the sender has lost.
    sender.send(&unhex("02000006120408051003")).await;
    sidecar.forwarded(10).await;

    let api = sidecar.api.clone().unwrap();
    let output = status(&["--json"], &api);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({
        "connected": true,
        "received_logs": 10,
        "forwarded_logs": 10,
        "in_memory_logs": 0,
        "on_disk_logs": 0,
        "in_flight_logs": 0,
        "imbalance_logs": 0,
        "oldest_log_age_seconds": 0.0,
        "phase": "accepting",
        "dropped_by_sender": {"channel_full": 5, "batch_full": 3},
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(document[field], *value, "{field}");
    }
    let dropped = document["dropped_logs"].as_object().unwrap();
    assert!(dropped.contains_key("buffer_full") && dropped.values().all(|logs| *logs == 0));
    let [sender] = document["senders"].as_array().unwrap().as_slice() else {
        panic!("one sender: {}", document["senders"]);
    };
    assert_eq!(sender["pid"], std::process::id());
    assert_eq!(
        (&sender["frames"], &sender["logs"]),
        (&json!(2), &json!(10))
    );

    let output = status(&[], &api);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("connected to http://127.0.0.1"), "{table}");
    sidecar.stop_clean().await;

    let output = status(&["--json"], &api);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no sidecar answers there"));
}

#[tokio::test]
async fn every_page_of_the_scrape_address_answers() {
    let sidecar = Sidecar::builder(&nobody()).start().await;
    for (path, status, part) in [
        ("/", 200, "<html"),
        ("/metrics", 200, "weir_logs_received_total 0"),
        ("/any/path", 200, "weir_logs_received_total 0"),
        ("/-/healthy", 200, "\"healthy\":true"),
        // A control plane that is away is no reason to restart the sidecar.
        ("/-/ready", 200, "\"ready\":true"),
        ("/status", 200, "\"connected\":false"),
    ] {
        let (code, body) = sidecar.get(path).await;
        assert_eq!(code, status, "{path}: {body}");
        assert!(body.contains(part), "{path}: {body}");
    }
    assert_eq!(sidecar.ask("/v1/nothing").await.0, 404);
    sidecar.stop_clean().await;
}
