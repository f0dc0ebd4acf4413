use std::collections::VecDeque;
use std::io::Write;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::*;
use crate::control::tests::agent;
use prost::Message as _;

use crate::pb::agent::boundary_log::{HttpRequest, Resource};
use crate::pb::agent::{BoundaryLog as Log, ReportBoundaryLogsRequest};

fn request(urls: &[&str]) -> (Summary, Bytes) {
    let logs = urls.iter().enumerate().map(|(index, url)| Log {
        allowed: index % 2 == 0,
        time: Some(prost_types::Timestamp {
            seconds: 1_767_225_600,
            nanos: 500_000_000,
        }),
        sequence_number: index as i32,
        resource: Some(Resource::HttpRequest(HttpRequest {
            method: "GET".into(),
            url: (*url).into(),
            matched_rule: "domain=example.com".into(),
        })),
    });
    encode(ReportBoundaryLogsRequest {
        logs: logs.collect(),
        session_id: "s".into(),
        confined_process_name: "codex".into(),
    })
}

fn encode(request: ReportBoundaryLogsRequest) -> (Summary, Bytes) {
    let payload = Bytes::from(request.encode_to_vec());
    (Summary::read(&payload).unwrap(), payload)
}

fn metrics() -> ControlMetrics {
    ControlMetrics::new().unwrap()
}

/// An output that does as it is told, one step for each write.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    content: Vec<u8>,
    /// Takes so many bytes, or fails; beyond the steps it takes all.
    steps: VecDeque<Option<usize>>,
    can_cut: bool,
}

impl Scripted {
    fn new(steps: &[Option<usize>], can_cut: bool) -> Self {
        Self(Arc::new(Mutex::new(Script {
            steps: steps.iter().copied().collect(),
            can_cut,
            ..Script::default()
        })))
    }

    fn content(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().content.clone()).unwrap()
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut script = self.0.lock().unwrap();
        let length = match script.steps.pop_front() {
            None => bytes.len(),
            Some(Some(length)) => length.min(bytes.len()),
            Some(None) => return Err(io::ErrorKind::StorageFull.into()),
        };
        script.content.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Scripted {
    fn length(&self) -> io::Result<Option<u64>> {
        let script = self.0.lock().unwrap();
        Ok(script.can_cut.then_some(script.content.len() as u64))
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let mut script = self.0.lock().unwrap();
        script.content.truncate(length as usize);
        Ok(())
    }
}

#[tokio::test]
async fn a_line_has_every_field_and_no_text_breaks_out_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("boundary.jsonl");
    let to = BoundaryLogOutput::File(path.clone());
    let (log, writer) = BoundaryLog::open(&to, metrics()).unwrap();
    let hostile = "https://e.com/\"},{\"decision\":\"allow\"\n\r\u{0}\\\u{2028}\u{7f}é";
    let (summary, payload) = request(&["https://example.com", hostile]);
    log.write(&agent(), summary, payload).await.unwrap();
    let bare = encode(ReportBoundaryLogsRequest {
        logs: vec![Log::default()],
        ..ReportBoundaryLogsRequest::default()
    });
    log.write(&agent(), bare.0, bare.1).await.unwrap();
    drop(log);
    writer.finish().await;

    let content = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = content.lines().collect();
    assert_eq!(lines.len(), 3, "{content}");
    assert_eq!(
        lines[0],
        "{\"time\":\"2026-01-01T00:00:00.500Z\",\"decision\":\"allow\",\"username\":\"name\",\
         \"workspace_name\":\"name\",\"agent_name\":\"name\",\"session_id\":\"s\",\
         \"sequence_number\":0,\"confined_process_name\":\"codex\",\"http_method\":\"GET\",\
         \"http_url\":\"https://example.com\",\"matched_rule\":\"domain=example.com\"}"
    );
    let second: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(second["http_url"], hostile);
    assert_eq!(second["decision"], "deny");
    let third: Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(
        (&third["time"], &third["http_url"]),
        (&Value::Null, &json!(""))
    );
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_time_that_cannot_be_written_is_null() {
    let at = |seconds, nanos| {
        let (summary, payload) = encode(ReportBoundaryLogsRequest {
            logs: vec![Log {
                time: Some(prost_types::Timestamp { seconds, nanos }),
                ..Log::default()
            }],
            ..ReportBoundaryLogsRequest::default()
        });
        let mut lines = Vec::new();
        audit_line::render(Origin::default(), &summary, &payload, &mut lines).unwrap();
        serde_json::from_slice::<Value>(&lines).unwrap()["time"].clone()
    };
    assert_eq!(at(0, 0), "1970-01-01T00:00:00Z");
    assert_eq!(at(-1, 999_999_999), "1969-12-31T23:59:59.999999999Z");
    assert_eq!(at(253_402_300_799, 0), "9999-12-31T23:59:59Z");
    for (seconds, nanos) in [
        (253_402_300_800, 0),
        (i64::MIN, 0),
        (i64::MAX, 0),
        (0, -1),
        (0, 1_000_000_000),
    ] {
        assert_eq!(at(seconds, nanos), Value::Null, "{seconds} {nanos}");
    }
}

#[test]
fn a_block_that_fails_leaves_nothing_behind() {
    let output = Scripted::new(&[None, Some(3), None, Some(2), Some(2)], true);
    let mut whole = Whole::new(output.clone(), false);
    for _ in 0..2 {
        assert!(whole.append(b"lost\n").is_err());
        assert_eq!(output.content(), "");
    }
    whole.append(b"kept\n").unwrap();
    assert_eq!(output.content(), "kept\n");
}

#[test]
fn a_part_that_cannot_be_taken_back_gets_a_line_of_its_own() {
    let output = Scripted::new(&[Some(3), None, None, Some(1), None], false);
    let mut whole = Whole::new(output.clone(), false);
    for content in ["los", "los", "los\n"] {
        assert!(whole.append(b"lost\n").is_err());
        assert_eq!(output.content(), content);
    }
    whole.append(b"kept\n").unwrap();
    whole.append(b"too\n").unwrap();
    assert_eq!(output.content(), "los\n\nkept\ntoo\n");
}

#[tokio::test]
async fn what_a_killed_process_left_of_a_line_gets_a_line_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("boundary.jsonl");
    for (before, parts) in [("", 0), ("{}\n", 1), ("{}\n{\"time\":\"20", 2)] {
        std::fs::write(&path, before).unwrap();
        let (log, writer) =
            BoundaryLog::open(&BoundaryLogOutput::File(path.clone()), metrics()).unwrap();
        let (summary, payload) = request(&["https://example.com"]);
        log.write(&agent(), summary, payload).await.unwrap();
        drop(log);
        writer.finish().await;
        let content = std::fs::read_to_string(&path).unwrap();
        assert!(content.starts_with(before), "{content}");
        let line = content.lines().nth(parts).unwrap();
        serde_json::from_str::<Value>(line).unwrap();
        assert_eq!(content.lines().count(), parts + 1, "{content}");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_to_the_agent() {
    let to = BoundaryLogOutput::File("/dev/full".into());
    let (log, writer) = BoundaryLog::open(&to, metrics()).unwrap();
    let (summary, payload) = request(&["https://example.com"]);
    for _ in 0..2 {
        let failed = log.write(&agent(), summary.clone(), payload.clone()).await;
        let error = failed.unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
    }
    drop(log);
    writer.finish().await;
    let absent = BoundaryLogOutput::File("/nonexistent/boundary.jsonl".into());
    assert!(BoundaryLog::open(&absent, metrics()).is_err());
}

/// An output that blocks until it is let go.
struct Blocked(std::sync::mpsc::Receiver<()>, Scripted);

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().unwrap();
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Blocked {
    fn length(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn cut(&mut self, _: u64) -> io::Result<()> {
        unreachable!("it has no length")
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_is_an_error_and_what_was_given_up_is_not_written() {
    let (go, wait) = std::sync::mpsc::sync_channel(QUEUE + 2);
    let output = Scripted::default();
    let (log, writer) =
        BoundaryLog::start(Whole::new(Blocked(wait, output.clone()), false), metrics()).unwrap();
    let agent = agent();
    let (summary, payload) = request(&["https://example.com/first"]);
    let began = Instant::now();
    // One is being written, the queue is full, and one more waits for room.
    let calls = (0..QUEUE + 2).map(|_| log.write(&agent, summary.clone(), payload.clone()));
    for outcome in futures_util::future::join_all(calls).await {
        assert!(matches!(outcome, Err(NotWritten::TooSlow)));
    }
    assert_eq!(began.elapsed(), WRITE_LIMIT);

    let (summary, payload) = request(&["https://example.com/second"]);
    let second = log.write(&agent, summary, payload);
    let release = async {
        sleep(Duration::from_millis(1)).await;
        for _ in 0..QUEUE + 2 {
            go.send(()).unwrap();
        }
    };
    // The thread runs in real time, which a paused clock must not overtake.
    tokio::time::resume();
    let (second, ()) = tokio::join!(second, release);
    second.unwrap();
    drop(log);
    writer.finish().await;
    let content = output.content();
    let first = content.matches("/first").count();
    assert!(first <= 1, "only the one that was being written: {content}");
    assert_eq!(content.matches("/second").count(), 1);
    assert_eq!(content.lines().count(), first + 1);
}
