//! What one line says, taken by itself.

use std::borrow::Cow;

use super::cursor::Cursor;
use super::family::Kind;
use super::fault::Wrong;
use super::labels::{self, Label};
use super::{Format, number};

/// A line that is not blank.
#[derive(Debug)]
pub(super) enum Line<'p> {
    Sample(Series<'p>),
    Type(Cow<'p, str>, Kind),
    Help(Cow<'p, str>, Cow<'p, str>),
    Unit(Cow<'p, str>, Cow<'p, str>),
    Comment,
    Eof,
}

/// A sample but for its labels, which are in [`Scratch`].
#[derive(Debug)]
pub(super) struct Series<'p> {
    pub(super) name: Cow<'p, str>,
    pub(super) value: f64,
    pub(super) timestamp_ms: Option<i64>,
    /// Value and timestamp.
    pub(super) exemplar: Option<(f64, Option<i64>)>,
}

/// An example of what was counted: labels, usually of a trace, and a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar<'r, 'p> {
    /// Sorted by name.
    pub labels: &'r [Label<'p>],
    /// Its value.
    pub value: f64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
}

/// Room for labels that is used again for each line.
#[derive(Debug, Default)]
pub(super) struct Scratch<'p> {
    pub(super) labels: Vec<Label<'p>>,
    pub(super) exemplar: Vec<Label<'p>>,
}

/// Reads one line without its end; `None` when it is blank.
pub(super) fn read<'p>(
    line: &'p [u8],
    format: Format,
    scratch: &mut Scratch<'p>,
) -> Result<Option<Line<'p>>, Wrong> {
    let mut cursor = Cursor::new(line, format);
    cursor.skip_blanks();
    match cursor.peek() {
        None => Ok(None),
        Some(b'#') => metadata(&mut cursor).map(Some),
        Some(_) => sample(&mut cursor, scratch).map(|series| Some(Line::Sample(series))),
    }
}

fn metadata<'p>(cursor: &mut Cursor<'p>) -> Result<Line<'p>, Wrong> {
    cursor.take(b'#');
    cursor.skip_blanks();
    let start = cursor.at();
    let word = cursor.word();
    cursor.skip_blanks();
    let open_metrics = cursor.format() == Format::OpenMetrics;
    match word {
        // A keyword with nothing behind it says nothing.
        b"HELP" | b"TYPE" if cursor.peek().is_none() && !open_metrics => Ok(Line::Comment),
        b"HELP" => Ok(Line::Help(family_name(cursor)?, cursor.help()?)),
        b"TYPE" => {
            let name = family_name(cursor)?;
            let start = cursor.at();
            let kind = Kind::of(cursor.word(), cursor.format())
                .ok_or_else(|| cursor.expected_at(start, types(cursor.format())))?;
            end(cursor)?;
            Ok(Line::Type(name, kind))
        }
        b"UNIT" if open_metrics => {
            let name = family_name(cursor)?;
            let start = cursor.at();
            let unit = cursor.help()?;
            let unit = match unit {
                Cow::Borrowed(unit) => Cow::Borrowed(unit.trim_end_matches([' ', '\t'])),
                Cow::Owned(unit) => Cow::Owned(unit),
            };
            let base = name.strip_suffix(&*unit);
            if unit.is_empty() || base.is_some_and(|base| base.ends_with('_')) {
                Ok(Line::Unit(name, unit))
            } else {
                Err(cursor.expected_at(start, "the unit that the name of the family ends in"))
            }
        }
        b"EOF" if open_metrics => end(cursor).map(|()| Line::Eof),
        _ if open_metrics => Err(cursor.expected_at(start, "HELP, TYPE, UNIT or EOF")),
        _ => Ok(Line::Comment),
    }
}

/// The name behind a keyword, and the blanks behind the name.
fn family_name<'p>(cursor: &mut Cursor<'p>) -> Result<Cow<'p, str>, Wrong> {
    let at = cursor.at();
    let name = if cursor.peek() == Some(b'"') {
        cursor.quoted("a metric name")?
    } else {
        let name = cursor.metric_name();
        Cow::Borrowed(name.ok_or_else(|| cursor.expected("a metric name"))?)
    };
    if name.is_empty() {
        return Err(cursor.expected_at(at, "a name of at least one character"));
    }
    if !matches!(cursor.peek(), None | Some(b' ' | b'\t')) {
        return Err(cursor.expected("a blank behind the metric name"));
    }
    cursor.skip_blanks();
    Ok(name)
}

fn types(format: Format) -> &'static str {
    match format {
        Format::Text => "counter, gauge, histogram, summary or untyped",
        Format::OpenMetrics => {
            "counter, gauge, histogram, gaugehistogram, summary, info, stateset or unknown"
        }
    }
}

fn sample<'p>(cursor: &mut Cursor<'p>, scratch: &mut Scratch<'p>) -> Result<Series<'p>, Wrong> {
    let name = if cursor.take(b'{') {
        let end =
            |cursor: &Cursor<'_>| cursor.expected_at(cursor.at() - 1, "a metric name in quotes");
        labels::read(cursor, &mut scratch.labels)?.ok_or_else(|| end(cursor))?
    } else {
        let name = cursor.metric_name();
        let name = name.ok_or_else(|| cursor.expected("a metric name, # or a blank line"))?;
        scratch.labels.clear();
        let adjoins = !matches!(cursor.peek(), None | Some(b' ' | b'\t' | b'{'));
        if adjoins && cursor.format() == Format::OpenMetrics {
            return Err(cursor.expected("a blank or { behind the metric name"));
        }
        cursor.skip_blanks();
        let brace = cursor.at();
        if cursor.take(b'{') && labels::read(cursor, &mut scratch.labels)?.is_some() {
            return Err(cursor.expected_at(brace, "one metric name"));
        }
        Cow::Borrowed(name)
    };
    cursor.skip_blanks();
    let value = token(cursor, number::value)?;
    cursor.skip_blanks();
    let timestamp_ms = match cursor.peek() {
        None => None,
        Some(b'#') if cursor.format() == Format::OpenMetrics => None,
        Some(_) => Some(timestamp(cursor)?),
    };
    cursor.skip_blanks();
    let exemplar = match cursor.format() {
        Format::OpenMetrics if cursor.take(b'#') => Some(exemplar(cursor, &mut scratch.exemplar)?),
        _ => None,
    };
    end(cursor)?;
    Ok(Series {
        name,
        value,
        timestamp_ms,
        exemplar,
    })
}

fn exemplar<'p>(
    cursor: &mut Cursor<'p>,
    labels: &mut Vec<Label<'p>>,
) -> Result<(f64, Option<i64>), Wrong> {
    cursor.skip_blanks();
    let brace = cursor.at();
    if !cursor.take(b'{') {
        return Err(cursor.expected("the labels of an exemplar in braces"));
    }
    if labels::read(cursor, labels)?.is_some() {
        return Err(cursor.expected_at(brace, "an exemplar, which has no metric name"));
    }
    cursor.skip_blanks();
    let value = token(cursor, number::value)?;
    cursor.skip_blanks();
    let timestamp_ms = match cursor.peek() {
        None => None,
        Some(_) => Some(timestamp(cursor)?),
    };
    Ok((value, timestamp_ms))
}

fn timestamp(cursor: &mut Cursor<'_>) -> Result<i64, Wrong> {
    match cursor.format() {
        Format::Text => token(cursor, number::milliseconds),
        Format::OpenMetrics => token(cursor, number::seconds),
    }
}

/// The next word, read by `read`.
fn token<'p, T>(
    cursor: &mut Cursor<'p>,
    read: impl FnOnce(&'p [u8]) -> Result<T, &'static str>,
) -> Result<T, Wrong> {
    let start = cursor.at();
    read(cursor.word()).map_err(|expected| cursor.expected_at(start, expected))
}

/// Nothing but blanks may follow.
fn end(cursor: &mut Cursor<'_>) -> Result<(), Wrong> {
    cursor.skip_blanks();
    match cursor.peek() {
        None => Ok(()),
        Some(_) => Err(cursor.expected("the end of the line")),
    }
}
