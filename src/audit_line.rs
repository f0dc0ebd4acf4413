//! One entry of an audit log as a line of JSON: the output of the control plane, and of what is taken out of a spool.

use prost_types::Timestamp;
use serde::{Serialize, Serializer};

use crate::wire::boundary::{Entries, Malformed, Summary};

/// Seconds of the years 1 to 9999, those that RFC 3339 can write.
const WRITABLE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Where entries come from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin<'a> {
    pub(crate) username: &'a str,
    pub(crate) workspace_name: &'a str,
    pub(crate) agent_name: &'a str,
}

/// What stands in a line, in this order.
#[derive(Serialize)]
struct Line<'a> {
    time: Time,
    decision: &'static str,
    username: &'a str,
    workspace_name: &'a str,
    agent_name: &'a str,
    session_id: &'a str,
    sequence_number: i32,
    confined_process_name: &'a str,
    http_method: &'a str,
    http_url: &'a str,
    matched_rule: &'a str,
}

/// RFC 3339 in UTC; null when the entry has no time, or one that cannot be written so.
struct Time(Option<(i64, i32)>);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some((seconds, nanos))
                if WRITABLE.contains(&seconds) && (0..1_000_000_000).contains(&nanos) =>
            {
                serializer.collect_str(&Timestamp { seconds, nanos })
            }
            _ => serializer.serialize_none(),
        }
    }
}

/// Appends a line for each entry of `payload`, of which `summary` was read. An entry of a resource that is no HTTP
/// request has a line too, with empty texts: none is lost.
pub(crate) fn render(
    origin: Origin<'_>,
    summary: &Summary,
    payload: &[u8],
    lines: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let session_id = summary.session_id.of(payload);
    let confined_process_name = summary.process.of(payload);
    for entry in Entries::of(payload) {
        let entry = entry?;
        let line = Line {
            time: Time(entry.time),
            decision: if entry.allowed { "allow" } else { "deny" },
            username: origin.username,
            workspace_name: origin.workspace_name,
            agent_name: origin.agent_name,
            session_id,
            sequence_number: entry.sequence_number,
            confined_process_name,
            http_method: entry.method,
            http_url: entry.url,
            matched_rule: entry.matched_rule,
        };
        // A vector takes everything, and texts and numbers can all be written.
        serde_json::to_writer(&mut *lines, &line).unwrap_or_default();
        lines.push(b'\n');
    }
    Ok(())
}
