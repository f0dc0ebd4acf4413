//! Reports from JSON and back, and on the wire.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::pb::agent::WorkspaceAgentScriptCompletedRequest;

const ID: &str = "00010203-0405-0607-0809-0a0b0c0d0e0f";

fn read(text: &str) -> Result<Report, String> {
    Report::from_json(text.as_bytes()).map_err(|error| error.to_string())
}

fn whole() -> String {
    format!(
        r#"{{"id":"{ID}","name":"backup","stage":"start","exit_code":1,
        "started_at":1767225600,"ended_at":"2026-01-01T00:00:03.5Z","status":"EXIT_FAILURE"}}"#
    )
}

/// The bytes are those of protocol.md 5.2, made by protobuf-go.
#[test]
fn a_run_is_encoded_as_the_agent_does() {
    let timing = read(&whole()).unwrap().timing();
    let request = WorkspaceAgentScriptCompletedRequest { timing };
    let expected = [
        "0a2c0a10000102030405060708090a0b0c0d0e0f12060880f2d6ca06",
        "1a0c0883f2d6ca061080cab5ee0120013001",
    ];
    let hex: String = request
        .encode_to_vec()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, expected.concat());
}

#[test]
fn times_are_seconds_or_rfc_3339() {
    let report =
        read(r#"{"exit_code":0,"started_at":0.5,"ended_at":"1970-01-01T00:00:02Z"}"#).unwrap();
    assert_eq!(report.started_at, UNIX_EPOCH + Duration::from_millis(500));
    assert_eq!(report.duration(), Duration::from_millis(1500));
    assert!(report.success());
    assert_eq!(report.key(), None);
    assert_eq!(report.timing(), None);
}

#[test]
fn the_status_follows_from_the_exit_code_unless_it_is_told() {
    let of = |fields: &str| {
        read(&format!(r#"{{"started_at":1,"ended_at":1,{fields}}}"#)).map(|report| report.status)
    };
    assert_eq!(of(r#""exit_code":0"#), Ok(Status::Ok));
    assert_eq!(of(r#""exit_code":255"#), Ok(Status::ExitFailure));
    assert_eq!(
        of(r#""exit_code":0,"status":"PIPES_LEFT_OPEN""#),
        Ok(Status::PipesLeftOpen)
    );
    assert_eq!(
        of(r#""exit_code":124,"status":"TIMED_OUT""#),
        Ok(Status::TimedOut)
    );
    for contradiction in [
        r#""exit_code":3,"status":"OK""#,
        r#""exit_code":0,"status":"EXIT_FAILURE""#,
    ] {
        let said = of(contradiction).unwrap_err();
        assert!(
            said.starts_with("status: expected OK if and only if"),
            "{said}"
        );
    }
}

#[test]
fn every_fault_names_its_field_and_what_came() {
    let valid = r#""exit_code":0,"started_at":1,"ended_at":1"#;
    let cases = [
        ("[]".to_owned(), "expected a report, which is a JSON object"),
        ("{".to_owned(), "line 1 column 1"),
        ("{}".to_owned(), "exit_code: expected a value, got nothing"),
        (
            format!(r#"{{{valid},"exitcode":1}}"#),
            "unknown field `exitcode`, expected one of",
        ),
        (
            format!(r#"{{{valid},"exit_code":1}}"#),
            "duplicate field `exit_code`",
        ),
        (
            format!(r#"{{{valid},"id":"6f1f"}}"#),
            "id: expected a UUID such as",
        ),
        (format!(r#"{{{valid},"id":7}}"#), "got 7"),
        (
            format!(r#"{{{valid},"id":"{ID}"}}"#),
            "stage: expected start, stop or cron beside an id, got nothing",
        ),
        (
            format!(r#"{{{valid},"name":""}}"#),
            "name: expected 1 to 128 bytes without control characters, got 0 bytes",
        ),
        (format!(r#"{{{valid},"name":"a\nb"}}"#), r"got '\n' in it"),
        (
            format!(r#"{{{valid},"name":"{}"}}"#, "n".repeat(129)),
            "got 129 bytes",
        ),
        (
            format!(r#"{{{valid},"stage":"boot"}}"#),
            r#"stage: expected one of start, stop, cron, got "boot""#,
        ),
        (
            format!(r#"{{{valid},"status":"ok"}}"#),
            r#"status: expected one of OK, EXIT_FAILURE,"#,
        ),
        (
            r#"{"exit_code":1.5,"started_at":1,"ended_at":1}"#.to_owned(),
            "exit_code: expected a whole number",
        ),
        (
            r#"{"exit_code":4294967296,"started_at":1,"ended_at":1}"#.to_owned(),
            "got 4294967296",
        ),
        (
            r#"{"exit_code":0,"started_at":-1,"ended_at":1}"#.to_owned(),
            "started_at: expected Unix seconds",
        ),
        (
            r#"{"exit_code":0,"started_at":1,"ended_at":1e30}"#.to_owned(),
            "ended_at: expected Unix seconds",
        ),
        (
            r#"{"exit_code":0,"started_at":1,"ended_at":"tomorrow"}"#.to_owned(),
            r#"got "tomorrow""#,
        ),
        (
            r#"{"exit_code":0,"started_at":2,"ended_at":1}"#.to_owned(),
            "ended_at: expected a time that is not before",
        ),
    ];
    for (text, part) in cases {
        let said = read(&text).unwrap_err();
        assert!(said.contains(part), "{text}: {said}");
    }
    let long = read(&format!(r#"{{{valid},"stage":"{}"}}"#, "x".repeat(10_000))).unwrap_err();
    assert!(long.len() < 300, "{long}");
}

#[test]
fn a_null_is_an_absent_field() {
    let with_nulls = r#"{"id":null,"name":null,"stage":null,"status":null,"exit_code":0,"started_at":1,"ended_at":1}"#;
    assert_eq!(
        read(with_nulls),
        read(r#"{"exit_code":0,"started_at":1,"ended_at":1}"#)
    );
}

#[test]
fn a_run_is_known_by_id_before_name() {
    let report = read(&whole()).unwrap();
    let key = report.key().unwrap();
    assert!(matches!(key.script, Script::Id(id) if id[15] == 15));
    let text = serde_json::to_string(&key).unwrap();
    assert_eq!(serde_json::from_str::<Key>(&text).unwrap(), key);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        id: Option<[u8; 16]>, name in proptest::option::of("[^\\p{C}]{1,30}"), exit_code: i32,
        start in 0u64..250_000_000_000, nanos in 0u32..1_000_000_000, length in 0u64..1_000_000, timed_out: bool,
    ) {
        let started = UNIX_EPOCH + Duration::new(start, nanos);
        let status = match (timed_out, exit_code) {
            (true, _) => Status::TimedOut,
            (false, 0) => Status::Ok,
            (false, _) => Status::ExitFailure,
        };
        let label = Label { id, name: name.map(Into::into) };
        let ended = started + Duration::from_millis(length);
        let report = Report::new(label, Some(Stage::Cron), exit_code, (started, ended), status).unwrap();
        let text = serde_json::to_vec(&report).unwrap();
        prop_assert!(!text.contains(&b'\n'));
        prop_assert_eq!(Report::from_json(&text).unwrap(), report.clone());
        if let Some(key) = report.key() {
            let text = serde_json::to_vec(&key).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Key>(&text).unwrap(), key);
        }
    }
}
