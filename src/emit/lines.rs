//! Logs as lines of JSON.
//!
//! One object a line. Blank lines, and fields not listed here, are passed over, so that what the
//! control plane writes about boundary requests can be sent again.
//!
//! | field | |
//! |---|---|
//! | `decision` or `allowed` | `"allow"` or `"deny"`; `true` or `false`. One of them, or both alike |
//! | `http_method`, `http_url` | text |
//! | `matched_rule` | text; empty when absent |
//! | `time` | RFC 3339 in UTC, such as `"2026-11-23T09:00:00.123Z"`; now when absent |

use std::io::{self, BufRead, Read as _};
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Unexpected};

use super::log::Log;

/// Longest line, newline excluded. What fits into a frame of 32 KiB takes at most six times as
/// much when every byte of it is escaped.
pub const MAX_LINE: usize = 256 * 1024;

/// A line that is no log.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct BadLine {
    /// Counted from 1.
    pub line: u64,
    /// In bytes, counted from 1: where the fault was noticed.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

/// Reads logs from lines: each item is a log, or what is wrong with its line, or why the input
/// cannot be read.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Nothing is read yet.
    pub fn new(input: R) -> Self {
        Self {
            input,
            line: 0,
            buffer: Vec::new(),
        }
    }

    fn read(&mut self) -> io::Result<Option<Result<Log, BadLine>>> {
        loop {
            self.buffer.clear();
            self.line += 1;
            // One byte more tells a line of the longest length from a longer one.
            let limit = MAX_LINE as u64 + 1;
            let read = (&mut self.input)
                .take(limit)
                .read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                return Ok(None);
            }
            if self.buffer.len() > MAX_LINE && !self.buffer.ends_with(b"\n") {
                skip_line(&mut self.input)?;
                let what = format!("expected at most {MAX_LINE} bytes before the newline");
                return Ok(Some(Err(self.bad(MAX_LINE, what))));
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Some(self.parse()));
            }
        }
    }

    fn parse(&self) -> Result<Log, BadLine> {
        // Deriving would take an array for an object with its fields in order.
        let blanks = self.buffer.len() - self.buffer.trim_ascii_start().len();
        if self.buffer.get(blanks) != Some(&b'{') {
            return Err(self.bad(blanks + 1, "expected an object".to_owned()));
        }
        let object: Object = serde_json::from_slice(&self.buffer).map_err(|error| {
            let what = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let what = what.strip_suffix(&place).unwrap_or(&what);
            self.bad(error.column(), what.to_owned())
        })?;
        let allowed = match (
            object.decision.map(|it| it == Decision::Allow),
            object.allowed,
        ) {
            (Some(decision), Some(allowed)) if decision != allowed => {
                let what = "`decision` and `allowed` contradict each other";
                return Err(self.bad(1, what.to_owned()));
            }
            (Some(allowed), _) | (None, Some(allowed)) => allowed,
            (None, None) => {
                return Err(self.bad(1, "missing field `decision`".to_owned()));
            }
        };
        Ok(Log {
            allowed,
            time: object.time.unwrap_or_else(SystemTime::now),
            method: object.http_method,
            url: object.http_url,
            matched_rule: object.matched_rule,
        })
    }

    fn bad(&self, column: usize, what: String) -> BadLine {
        BadLine {
            line: self.line,
            column: column.max(1),
            what,
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Result<Log, BadLine>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[derive(Deserialize)]
struct Object {
    #[serde(default, deserialize_with = "rfc3339")]
    time: Option<SystemTime>,
    decision: Option<Decision>,
    allowed: Option<bool>,
    http_method: String,
    http_url: String,
    #[serde(default)]
    matched_rule: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Allow,
    Deny,
}

fn rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map(Some).map_err(|_| {
        let expected = &"a time like 2026-11-23T09:00:00.123Z";
        D::Error::invalid_value(Unexpected::Str(&text), expected)
    })
}

/// Reads up to and including the next newline, and keeps nothing.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (used, ended) = match available.iter().position(|byte| *byte == b'\n') {
            Some(newline) => (newline + 1, true),
            None => (available.len(), available.is_empty()),
        };
        input.consume(used);
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn only(line: &str) -> Result<Log, BadLine> {
        let mut lines = Lines::new(line.as_bytes());
        let log = lines.next().expect("a line").expect("readable");
        assert!(lines.next().is_none());
        log
    }

    #[test]
    fn a_full_line_is_a_log() {
        let log = only(
            r#"{"time":"2026-11-23T09:00:00.123Z","decision":"allow","username":"u",
               "session_id":"s","sequence_number":7,"http_method":"GET",
               "http_url":"https://example.test/ä","matched_rule":"domain=example.test"}"#
                .replace('\n', " ")
                .as_str(),
        )
        .expect("a log");
        let time = UNIX_EPOCH + Duration::from_millis(1_795_424_400_123);
        assert_eq!(
            log,
            Log {
                allowed: true,
                time,
                method: "GET".to_owned(),
                url: "https://example.test/ä".to_owned(),
                matched_rule: "domain=example.test".to_owned(),
            }
        );
    }

    #[test]
    fn the_decision_has_two_spellings() {
        for (fields, allowed) in [
            (r#""decision":"allow""#, true),
            (r#""decision":"deny""#, false),
            (r#""allowed":true"#, true),
            (r#""allowed":false,"decision":"deny""#, false),
        ] {
            let before = SystemTime::now();
            let line = format!(r#"{{"http_method":"GET","http_url":"u",{fields}}}"#);
            let log = only(&line).expect("a log");
            assert_eq!(log.allowed, allowed, "{fields}");
            assert_eq!(log.matched_rule, "");
            assert!(log.time >= before);
        }
    }

    #[test]
    fn a_fault_is_named_and_placed() {
        for (line, expected) in [
            ("{", "line 1, column 1: EOF while parsing an object"),
            (
                r#" ["2026-11-23T09:00:00Z","allow",true,"GET","u",""]"#,
                "line 1, column 2: expected an object",
            ),
            (
                r#"{"http_method":"GET","http_url":"u"}"#,
                "line 1, column 1: missing field `decision`",
            ),
            (
                r#"{"http_method":"GET","allowed":true}"#,
                "line 1, column 36: missing field `http_url`",
            ),
            (
                r#"{"http_method":"GET","http_url":"u","decision":"maybe"}"#,
                "column 54: unknown variant `maybe`, expected `allow` or `deny`",
            ),
            (
                r#"{"http_method":"GET","http_url":"u","decision":"deny","allowed":true}"#,
                "`decision` and `allowed` contradict each other",
            ),
            (
                r#"{"time":"yesterday","http_method":"GET","http_url":"u","allowed":true}"#,
                "expected a time like 2026-11-23T09:00:00.123Z",
            ),
            (
                r#"{"time":"2026-11-23T09:00:00+02:00","http_method":"GET","http_url":"u"}"#,
                "expected a time like",
            ),
        ] {
            let error = only(line).expect_err("a fault").to_string();
            assert!(error.contains(expected), "{line}: {error}");
            assert!(!error.contains("at line"), "{error}");
        }
    }

    #[test]
    fn a_bad_line_costs_only_itself() {
        let good = r#"{"allowed":true,"http_method":"GET","http_url":"u"}"#;
        let long = "x".repeat(MAX_LINE + 1);
        let longest = format!("{good}{}", " ".repeat(MAX_LINE - good.len()));
        let input =
            format!("{good}\r\n\n \nnot json\n{good}\n{long}\n{longest}\n\"\u{fffd}\n{good}");
        let seen: Vec<_> = Lines::new(input.as_bytes())
            .map(|line| line.expect("readable"))
            .map(|line| line.map_err(|bad| bad.line).map(|log| log.url))
            .collect();
        let log = || Ok("u".to_owned());
        assert_eq!(seen, [log(), Err(4), log(), Err(6), log(), Err(8), log()]);
    }

    #[test]
    fn bytes_that_are_no_text_are_a_bad_line() {
        let mut lines = Lines::new(&b"{\"allowed\":true,\"http_method\":\"\xff\"}\n"[..]);
        assert!(lines.next().expect("a line").expect("readable").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_as_many_results_as_lines(input: Vec<u8>) {
            let results = Lines::new(&input[..]).count();
            let lines = input.split(|byte| *byte == b'\n');
            prop_assert_eq!(results, lines.filter(|line| !line.trim_ascii().is_empty()).count());
        }

        #[test]
        fn any_time_is_read_or_refused(time in "[0-9TZ:+. -]{0,30}|.{0,30}") {
            let line = serde_json::json!({
                "time": time, "allowed": true, "http_method": "GET", "http_url": "u",
            });
            let result = only(&line.to_string());
            prop_assert_eq!(result.is_ok(), humantime::parse_rfc3339(&time).is_ok());
        }
    }
}
