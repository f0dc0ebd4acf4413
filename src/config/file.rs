//! The configuration file: TOML, one key per setting, named as the flag in snake case.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Origin, Wrong, quoted};
use super::raw::Given;
use super::setting::{ALL, Setting, Shape};

/// Largest configuration file that is read. One with every setting has under 8 KiB; a path to a
/// device must not be read without end.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// The settings that a file holds; `None` when it is not TOML, since what a parser makes of the
/// rest is a guess. What is wrong goes to `faults`, so that one run reports everything.
pub(super) fn parse(
    path: &Path,
    content: &str,
    faults: &mut Vec<Fault>,
) -> Option<Vec<(&'static Setting, Given)>> {
    let line_of = |span: Range<usize>| {
        let before = content.as_bytes().iter().take(span.start);
        1 + before.filter(|&&byte| byte == b'\n').count()
    };
    let at = |line: usize| format!("{}:{line}", path.display());

    let (table, errors) = DeTable::parse_recoverable(content);
    // The message alone: the rendered error would repeat the line, which may hold a secret.
    faults.extend(errors.iter().map(|error| {
        let subject = error
            .span()
            .map_or_else(|| path.display().to_string(), |span| at(line_of(span)));
        Fault::new(subject, format!("not TOML: {}", error.message()), None)
    }));

    if !errors.is_empty() {
        return None;
    }

    let mut given = Vec::new();
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let line = line_of(key.span());
        let name: &str = key.get_ref();
        let Some(setting) = ALL.iter().find(|setting| setting.key() == name) else {
            faults.push(Fault::new(at(line), unknown(name), None));
            continue;
        };
        let path = path.to_owned();
        let origin = Origin::File { path, line };
        let value = match texts(setting.shape, value) {
            Ok(texts) => Given { texts, origin },
            Err(expected) => {
                let got = match value.get_ref() {
                    DeValue::Array(_) if setting.shape == Shape::List => "an array of other values",
                    value => type_name(value),
                };
                let wrong = Wrong::new(expected, got);
                faults.push(Fault::new(at(line), format!("{name}: {wrong}"), None));
                Given::unusable(origin)
            }
        };
        given.push((*setting, value));
    }
    Some(given)
}

fn unknown(name: &str) -> String {
    match ALL.iter().find(|setting| setting.flag == name) {
        Some(setting) => format!("unknown key {}, write {}", quoted(name), setting.key()),
        None => format!("unknown key {}", quoted(name)),
    }
}

/// The value as text, or what was expected instead.
fn texts(shape: Shape, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, &'static str> {
    match (shape, value.get_ref()) {
        (Shape::List, DeValue::Array(items)) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or("an array of strings"),
        (Shape::List, _) => Err("an array of strings"),
        (Shape::Switch, DeValue::Boolean(on)) => Ok(vec![on.to_string()]),
        (Shape::Switch, _) => Err("true or false"),
        (_, DeValue::String(text)) => Ok(vec![text.clone().into_owned()]),
        (Shape::Number, DeValue::Integer(number)) if number.radix() == 10 => {
            Ok(vec![number.to_string()])
        }
        (Shape::Number, _) => Err("a string or a decimal integer"),
        (Shape::Text | Shape::TextOrEmpty | Shape::Path, _) => Err("a string"),
    }
}

/// The type only: the value may be a secret that was not quoted.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
