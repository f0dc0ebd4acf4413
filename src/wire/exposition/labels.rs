//! Label sets.

use std::borrow::Cow;

use super::MAX_LABELS;
use super::cursor::Cursor;
use super::fault::Wrong;

/// The label that stands for the metric name inside Prometheus; nobody may set it.
const RESERVED: &str = "__name__";

/// One label.
#[derive(Clone, Debug)]
pub struct Label<'p> {
    /// Its name, never empty, no name twice in a set.
    pub name: Cow<'p, str>,
    /// Its value; an empty one means the same as no such label.
    pub value: Cow<'p, str>,
    /// Where it begins in its line.
    at: usize,
}

impl PartialEq for Label<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

impl Eq for Label<'_> {}

/// Reads what follows an opening brace, the closing one included, into `labels`, which is cleared before and sorted
/// by name afterwards. Returns the string in quotes that stood among them without a value, the metric name.
pub(super) fn read<'p>(
    cursor: &mut Cursor<'p>,
    labels: &mut Vec<Label<'p>>,
) -> Result<Option<Cow<'p, str>>, Wrong> {
    labels.clear();
    let mut metric = None;
    let mut sorted = true;
    loop {
        cursor.skip_blanks();
        if cursor.take(b'}') {
            break;
        }
        let at = cursor.at();
        let quoted = cursor.peek() == Some(b'"');
        let name = if quoted {
            let name = cursor.quoted("a name")?;
            if name.is_empty() {
                return Err(cursor.expected_at(at, "a name of at least one character"));
            }
            name
        } else {
            let name = cursor.label_name();
            Cow::Borrowed(name.ok_or_else(|| cursor.expected("a label name or }"))?)
        };
        cursor.skip_blanks();
        if cursor.take(b'=') {
            cursor.skip_blanks();
            let value = cursor.quoted("a label value in quotes")?;
            if name == RESERVED {
                return Err(cursor.expected_at(at, "a label name that is not reserved"));
            }
            if labels.len() >= MAX_LABELS {
                return Err(cursor.expected_at(at, format!("at most {MAX_LABELS} labels")));
            }
            sorted &= labels.last().is_none_or(|before| before.name < name);
            labels.push(Label { name, value, at });
            cursor.skip_blanks();
        } else if quoted && metric.is_none() && matches!(cursor.peek(), Some(b',' | b'}')) {
            metric = Some(name);
        } else {
            return Err(cursor.expected("="));
        }
        if !cursor.take(b',') && cursor.peek() != Some(b'}') {
            return Err(cursor.expected(", or }"));
        }
    }
    if !sorted {
        sort(cursor, labels)?;
    }
    Ok(metric)
}

fn sort(cursor: &Cursor<'_>, labels: &mut [Label<'_>]) -> Result<(), Wrong> {
    labels.sort_unstable_by(|one, other| (&one.name, one.at).cmp(&(&other.name, other.at)));
    let twice = labels
        .windows(2)
        .filter_map(|pair| match pair {
            [one, other] if one.name == other.name => Some(other.at),
            _ => None,
        })
        .min();
    match twice {
        Some(at) => Err(cursor.expected_at(at, "a label name that this sample has not had")),
        None => Ok(()),
    }
}
