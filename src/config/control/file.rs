//! The agents file: TOML with an `[[agent]]` table for each agent that may connect.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::agents::{AgentSpec, AgentToken, Labels, ScriptSpec};
use crate::config::fault::quoted;
use crate::config::file::type_name;
use crate::config::parse;

/// Largest agents file: some 50 000 agents. A path to a device must not be read without end.
pub(crate) const MAX_FILE_BYTES: u64 = 16 << 20;

/// Longest name: it becomes a label value of every metric of its agent.
const MAX_NAME_BYTES: usize = 256;

/// Longest script: a manifest with one must fit a dRPC packet of 4 MiB.
const MAX_SCRIPT_BYTES: usize = 1 << 20;

/// Scripts of one agent, all of them: the manifest must fit a packet.
const MAX_SCRIPTS_BYTES: usize = 3 << 20;

/// One thing that is wrong with the file. Never holds a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileFault {
    /// Line, from 1.
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// The agents of a file.
///
/// # Errors
/// Every fault at once; of a file that is not TOML, those of its form alone.
pub(crate) fn parse_file(content: &str) -> Result<Vec<AgentSpec>, Vec<FileFault>> {
    let ends = content
        .bytes()
        .enumerate()
        .filter(|(_, byte)| *byte == b'\n');
    let mut reader = Reader {
        line_ends: ends.map(|(offset, _)| offset).collect(),
        faults: Vec::new(),
    };
    let (table, errors) = DeTable::parse_recoverable(content);
    for error in &errors {
        // The message alone: the rendered error would repeat the line, which may hold a token.
        let line = error.span().map_or(1, |span| reader.line_of(span.start));
        reader.fault_at(line, format!("not TOML: {}", error.message()));
    }
    if errors.is_empty() {
        let agents = reader.agents(table.get_ref());
        if reader.faults.is_empty() {
            return Ok(agents);
        }
    }
    Err(reader.faults)
}

struct Reader {
    /// Where each line ends: the line of an offset is asked for with every field of a large file.
    line_ends: Vec<usize>,
    faults: Vec<FileFault>,
}

/// The fields of a table that were not asked for yet, in a table that begins at this line.
struct Fields<'t, 'de> {
    line: usize,
    left: Vec<(&'t Spanned<Cow<'de, str>>, &'t Spanned<DeValue<'de>>)>,
}

impl Reader {
    fn line_of(&self, offset: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < offset)
    }

    fn fault_at(&mut self, line: usize, message: impl Into<String>) {
        let message = message.into();
        self.faults.push(FileFault { line, message });
    }

    fn agents(&mut self, file: &DeTable<'_>) -> Vec<AgentSpec> {
        let mut fields = self.fields(1, file);
        let tables = self.tables(&mut fields, "agent");
        self.refuse_left(&fields);
        if tables.is_empty() && self.faults.is_empty() {
            self.fault_at(1, "expected at least one [[agent]] table");
        }
        let mut agents = Vec::new();
        let mut by_labels = HashMap::new();
        let mut by_token = HashMap::new();
        for (line, table) in tables {
            let Some(agent) = self.agent(line, table) else {
                continue;
            };
            if let Some(first) = by_token.insert(agent.token.bytes(), line) {
                self.fault_at(
                    line,
                    format!("token: the same as that of the agent in line {first}"),
                );
            }
            if let Some(first) = by_labels.insert(agent.labels.clone(), line) {
                self.fault_at(line, format!("the same names as the agent in line {first}"));
            }
            agents.push(agent);
        }
        agents
    }

    fn agent(&mut self, line: usize, table: &DeTable<'_>) -> Option<AgentSpec> {
        let mut fields = self.fields(line, table);
        let token = self.token(&mut fields);
        let username = self.name(&mut fields, "username");
        let workspace_name = self.name(&mut fields, "workspace_name");
        let agent_name = self.name(&mut fields, "agent_name");
        let template_name = self.name(&mut fields, "template_name");
        let created_at = self.time(&mut fields, "created_at");
        let scripts: Vec<_> = self
            .tables(&mut fields, "script")
            .into_iter()
            .filter_map(|(line, table)| self.script(line, table))
            .collect();
        let bytes: usize = scripts.iter().map(|script| script.script.len()).sum();
        if bytes > MAX_SCRIPTS_BYTES {
            let message = format!("script: expected at most 3MiB together, got {bytes} bytes");
            self.fault_at(line, message);
        }
        self.refuse_left(&fields);
        Some(AgentSpec {
            token: token?,
            labels: Labels {
                username: username?,
                workspace_name: workspace_name?,
                agent_name: agent_name?,
                template_name: template_name?,
            },
            created_at,
            scripts,
        })
    }

    fn script(&mut self, line: usize, table: &DeTable<'_>) -> Option<ScriptSpec> {
        let mut fields = self.fields(line, table);
        let script = self.required_text(&mut fields, "script", MAX_SCRIPT_BYTES);
        let spec = ScriptSpec {
            script: String::new(),
            display_name: self.text(&mut fields, "display_name"),
            cron: self.cron(&mut fields),
            run_on_start: self.switch(&mut fields, "run_on_start"),
            run_on_stop: self.switch(&mut fields, "run_on_stop"),
            start_blocks_login: self.switch(&mut fields, "start_blocks_login"),
            timeout: self.duration(&mut fields, "timeout"),
            log_path: self.text(&mut fields, "log_path"),
            id: self.id(&mut fields, "id"),
            log_source_id: self.id(&mut fields, "log_source_id"),
        };
        self.refuse_left(&fields);
        let (_, script) = script?;
        Some(ScriptSpec {
            script: script.to_owned(),
            ..spec
        })
    }

    fn fields<'t, 'de>(&self, line: usize, table: &'t DeTable<'de>) -> Fields<'t, 'de> {
        let mut left: Vec<_> = table.iter().collect();
        left.sort_by_key(|(key, _)| key.span().start);
        Fields { line, left }
    }

    fn refuse_left(&mut self, fields: &Fields<'_, '_>) {
        for (key, _) in &fields.left {
            let line = self.line_of(key.span().start);
            self.fault_at(line, format!("unknown key {}", quoted(key.get_ref())));
        }
    }

    /// The tables of an array of tables, each with its line; none when the key is absent.
    fn tables<'t, 'de>(
        &mut self,
        fields: &mut Fields<'t, 'de>,
        key: &str,
    ) -> Vec<(usize, &'t DeTable<'de>)> {
        let Some((line, value)) = self.take(fields, key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value else {
            self.fault_at(
                line,
                format!("expected [[{key}]] tables, got {}", type_name(value)),
            );
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            let line = self.line_of(item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => tables.push((line, table)),
                other => {
                    let got = type_name(other);
                    self.fault_at(line, format!("expected [[{key}]] tables, got {got}"));
                }
            }
        }
        tables
    }

    /// Takes a field out of those that are left, with its line.
    fn take<'t, 'de>(
        &self,
        fields: &mut Fields<'t, 'de>,
        key: &str,
    ) -> Option<(usize, &'t DeValue<'de>)> {
        let at = fields
            .left
            .iter()
            .position(|(name, _)| name.get_ref() == key)?;
        let (name, value) = fields.left.remove(at);
        Some((self.line_of(name.span().start), value.get_ref()))
    }

    fn take_text<'t>(
        &mut self,
        fields: &mut Fields<'t, '_>,
        key: &str,
    ) -> Option<(usize, &'t str)> {
        let (line, value) = self.take(fields, key)?;
        let text = value.as_str();
        if text.is_none() {
            self.fault_at(
                line,
                format!("{key}: expected a string, got {}", type_name(value)),
            );
        }
        Some((line, text?))
    }

    fn text(&mut self, fields: &mut Fields<'_, '_>, key: &str) -> String {
        self.take_text(fields, key)
            .map_or_else(String::new, |(_, text)| text.to_owned())
    }

    /// A text of 1 to `max` bytes, with its line.
    fn required_text<'t>(
        &mut self,
        fields: &mut Fields<'t, '_>,
        key: &str,
        max: usize,
    ) -> Option<(usize, &'t str)> {
        let before = self.faults.len();
        let Some((line, text)) = self.take_text(fields, key) else {
            if self.faults.len() == before {
                self.fault_at(fields.line, format!("{key}: required, but absent"));
            }
            return None;
        };
        if text.is_empty() || text.len() > max {
            let got = text.len();
            self.fault_at(line, format!("{key}: expected 1 to {max} bytes, got {got}"));
            return None;
        }
        Some((line, text))
    }

    fn name(&mut self, fields: &mut Fields<'_, '_>, key: &str) -> Option<String> {
        let (line, name) = self.required_text(fields, key, MAX_NAME_BYTES)?;
        if name.chars().any(char::is_control) {
            let got = quoted(name);
            self.fault_at(
                line,
                format!("{key}: expected no control characters, got {got}"),
            );
            return None;
        }
        Some(name.to_owned())
    }

    fn token(&mut self, fields: &mut Fields<'_, '_>) -> Option<AgentToken> {
        let (line, text) = self.required_text(fields, "token", MAX_NAME_BYTES)?;
        let token = AgentToken::parse(text);
        if token.is_none() {
            let got = text.len();
            let message = format!("token: expected a UUID, got {got} other bytes (not shown)");
            self.fault_at(line, message);
        }
        token
    }

    fn id(&mut self, fields: &mut Fields<'_, '_>, key: &str) -> Option<[u8; 16]> {
        let (line, text) = self.take_text(fields, key)?;
        let id = parse::uuid(text);
        if id.is_none() {
            self.fault_at(
                line,
                format!("{key}: expected a UUID, got {}", quoted(text)),
            );
        }
        id
    }

    fn switch(&mut self, fields: &mut Fields<'_, '_>, key: &str) -> bool {
        match self.take(fields, key) {
            None => false,
            Some((_, DeValue::Boolean(on))) => *on,
            Some((line, other)) => {
                let got = type_name(other);
                self.fault_at(line, format!("{key}: expected true or false, got {got}"));
                false
            }
        }
    }

    fn duration(&mut self, fields: &mut Fields<'_, '_>, key: &str) -> Option<Duration> {
        let (line, text) = self.take_text(fields, key)?;
        match parse::positive_duration(text) {
            Ok(duration) => Some(duration),
            Err(wrong) => {
                self.fault_at(line, format!("{key}: {wrong}"));
                None
            }
        }
    }

    fn cron(&mut self, fields: &mut Fields<'_, '_>) -> String {
        let Some((line, text)) = self.take_text(fields, "cron") else {
            return String::new();
        };
        if ![0, 5, 6].contains(&text.split_whitespace().count()) {
            let got = quoted(text);
            self.fault_at(line, format!("cron: expected 5 or 6 fields, got {got}"));
        }
        text.to_owned()
    }

    fn time(&mut self, fields: &mut Fields<'_, '_>, key: &str) -> Option<SystemTime> {
        let (line, value) = self.take(fields, key)?;
        let text = match value {
            DeValue::Datetime(time) => time.to_string(),
            DeValue::String(text) => text.clone().into_owned(),
            other => {
                let got = type_name(other);
                self.fault_at(line, format!("{key}: expected a date and time, got {got}"));
                return None;
            }
        };
        let time = instant(&text);
        if time.is_none() {
            let expected = "a date and time with an offset, such as 2026-01-01T00:00:00Z";
            self.fault_at(
                line,
                format!("{key}: expected {expected}, got {}", quoted(&text)),
            );
        }
        time
    }
}

/// A moment in RFC 3339.
fn instant(text: &str) -> Option<SystemTime> {
    let parts: toml::value::Datetime = text.parse().ok()?;
    // Of TOML's four kinds, the one that names a moment.
    let (_, _, _) = (parts.date?, parts.time?, parts.offset?);
    let time: Timestamp = parts.to_string().parse().ok()?;
    SystemTime::try_from(time).ok()
}
