//! A report as JSON: what is posted, queued and kept.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{Key, LAST_SECOND, Label, Report, Script, Stage, Status, Wrong};
use crate::uuid;

/// Bytes of a wrong value that are repeated.
const MAX_SHOWN: usize = 64;

/// A report as it is written. An absent field and a null one are the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a report, which is a JSON object")]
struct Written {
    id: Option<Value>,
    name: Option<Value>,
    stage: Option<Value>,
    exit_code: Option<Value>,
    started_at: Option<Value>,
    ended_at: Option<Value>,
    status: Option<Value>,
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// What is wrong, with the field or the place.
    pub fn from_json(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }
}

impl<'de> Deserialize<'de> for Report {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        Self::try_from(written).map_err(serde::de::Error::custom)
    }
}

impl TryFrom<Written> for Report {
    type Error = Wrong;

    fn try_from(written: Written) -> Result<Self, Wrong> {
        let id = written.id.as_ref().map(|id| {
            let read = id.as_str().and_then(uuid::parse);
            read.ok_or_else(|| {
                wrong(
                    "id",
                    "a UUID such as 6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d",
                    id,
                )
            })
        });
        let name = written.name.as_ref().map(|name| {
            let read = name.as_str();
            read.ok_or_else(|| wrong("name", "a text", name))
        });
        let stage = written.stage.as_ref();
        let stage = stage.map(|stage| word("stage", Stage::ALL, Stage::word, stage));
        let exit_code = required("exit_code", written.exit_code)?;
        let exit_code = exit_code
            .as_i64()
            .and_then(|code| i32::try_from(code).ok())
            .ok_or_else(|| wrong("exit_code", "a whole number of 32 bits", &exit_code))?;
        let started_at = time("started_at", &required("started_at", written.started_at)?)?;
        let ended_at = time("ended_at", &required("ended_at", written.ended_at)?)?;
        let status = match &written.status {
            Some(status) => word("status", Status::ALL, Status::word, status)?,
            None if exit_code == 0 => Status::Ok,
            None => Status::ExitFailure,
        };
        let label = Label {
            id: id.transpose()?,
            name: name.transpose()?.map(Into::into),
        };
        Self::new(
            label,
            stage.transpose()?,
            exit_code,
            (started_at, ended_at),
            status,
        )
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = self.label.id {
            map.serialize_entry("id", &uuid::Text(id).to_string())?;
        }
        if let Some(name) = &self.label.name {
            map.serialize_entry("name", &**name)?;
        }
        if let Some(stage) = self.stage {
            map.serialize_entry("stage", stage.word())?;
        }
        map.serialize_entry("exit_code", &self.exit_code)?;
        map.serialize_entry("started_at", &text(self.started_at))?;
        map.serialize_entry("ended_at", &text(self.ended_at))?;
        map.serialize_entry("status", self.status.word())?;
        map.end()
    }
}

/// A key as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    id: Option<Value>,
    name: Option<String>,
    started_at: Value,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let written = WrittenKey::deserialize(deserializer)?;
        let script = match (&written.id, written.name) {
            (Some(id), None) => id.as_str().and_then(uuid::parse).map(Script::Id),
            (None, Some(name)) => Some(Script::Name(name.into())),
            _ => None,
        };
        Ok(Self {
            script: script.ok_or_else(|| D::Error::custom("expected an id or a name"))?,
            started_at: time("started_at", &written.started_at).map_err(D::Error::custom)?,
        })
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match &self.script {
            Script::Id(id) => map.serialize_entry("id", &uuid::Text(*id).to_string())?,
            Script::Name(name) => map.serialize_entry("name", &**name)?,
        }
        map.serialize_entry("started_at", &text(self.started_at))?;
        map.end()
    }
}

fn required(field: &'static str, value: Option<Value>) -> Result<Value, Wrong> {
    value.ok_or_else(|| Wrong::new(field, "a value", "nothing"))
}

fn word<T: Copy>(
    field: &'static str,
    all: &[T],
    spelled: fn(T) -> &'static str,
    value: &Value,
) -> Result<T, Wrong> {
    let found = all
        .iter()
        .find(|word| value.as_str() == Some(spelled(**word)));
    found.copied().ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|word| spelled(*word)).collect();
        wrong(field, &format!("one of {}", words.join(", ")), value)
    })
}

/// A moment from 1970 to 9999: Unix seconds, fractions allowed, or RFC 3339 in UTC.
fn time(field: &'static str, value: &Value) -> Result<SystemTime, Wrong> {
    let moment = match value {
        Value::String(text) => humantime::parse_rfc3339(text).ok(),
        Value::Number(seconds) => seconds.as_f64().and_then(|seconds| {
            let since = Duration::try_from_secs_f64(seconds).ok()?;
            (since.as_secs() <= LAST_SECOND).then(|| UNIX_EPOCH + since)
        }),
        _ => None,
    };
    moment.ok_or_else(|| {
        let expected = "Unix seconds such as 1767225600.25, or a time such as 2026-01-01T00:00:00.25Z, from 1970 to 9999";
        wrong(field, expected, value)
    })
}

fn text(moment: SystemTime) -> String {
    humantime::format_rfc3339_nanos(moment).to_string()
}

fn wrong(field: &'static str, expected: &str, value: &Value) -> Wrong {
    let value = value.to_string();
    let mut shown: String = value.chars().take(MAX_SHOWN).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    Wrong::new(field, expected, shown)
}
