//! What is wrong with a line, and where.

use std::borrow::Cow;

/// Characters of a page that a fault repeats, at most.
const SHOWN_CHARS: usize = 40;

/// A line that says nothing usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, got {got}")]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// The character of the line, counted from 1; a byte that is not UTF-8 counts as one.
    pub column: usize,
    /// What would have been right there.
    pub expected: Cow<'static, str>,
    /// What is there: the beginning of it, quoted and escaped, or a word such as "the end of the line".
    pub got: String,
}

/// A fault within a line of which only the bytes are known.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Bytes of the line before it.
    at: usize,
    expected: Cow<'static, str>,
    got: String,
}

impl Wrong {
    /// `line` is wrong from byte `at` on.
    pub(super) fn new(line: &[u8], at: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        Self {
            at,
            expected: expected.into(),
            got: shown(line.get(at..).unwrap_or_default()),
        }
    }

    /// Something else than bytes of the line is wrong from byte `at` on.
    pub(super) fn because(
        at: usize,
        expected: impl Into<Cow<'static, str>>,
        got: impl Into<String>,
    ) -> Self {
        Self {
            at,
            expected: expected.into(),
            got: got.into(),
        }
    }

    /// The fault in `line`, the page's line of this number.
    pub(super) fn in_line(self, number: usize, line: &[u8]) -> Fault {
        let before = line.get(..self.at).unwrap_or(line);
        Fault {
            line: number,
            column: String::from_utf8_lossy(before).chars().count() + 1,
            expected: self.expected,
            got: self.got,
        }
    }
}

/// The token that `rest` begins with, cut and escaped.
fn shown(rest: &[u8]) -> String {
    if rest.is_empty() {
        return "the end of the line".to_owned();
    }
    let end = rest
        .iter()
        .skip(1)
        .position(|byte| matches!(byte, b' ' | b'\t'))
        .map_or(rest.len(), |more| more + 1);
    // No character has more than four bytes.
    let head = end.min(4 * SHOWN_CHARS + 4);
    let text = String::from_utf8_lossy(rest.get(..head).unwrap_or(rest));
    let cut = text.chars().count() > SHOWN_CHARS;
    let text: String = text.chars().take(SHOWN_CHARS).collect();
    format!("{text:?}{}", if cut { "..." } else { "" })
}
