//! A place in a line, and the tokens that may stand there.

use std::borrow::Cow;
use std::str;

use memchr::memchr2;

use super::Format;
use super::fault::Wrong;

/// A place in one line.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'p> {
    line: &'p [u8],
    /// The line again, if it is UTF-8 from end to end: its pieces need no look then.
    text: Option<&'p str>,
    at: usize,
    format: Format,
}

impl<'p> Cursor<'p> {
    /// The start of a line, which has no end of line in it.
    pub(super) fn new(line: &'p [u8], format: Format) -> Self {
        Self {
            line,
            text: str::from_utf8(line).ok(),
            at: 0,
            format,
        }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the line before here.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The line from here to its end.
    pub(super) fn rest(&self) -> &'p [u8] {
        self.line.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    /// Steps over this byte, if it is the next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Everything up to the next blank.
    pub(super) fn word(&mut self) -> &'p [u8] {
        self.take_while(|byte| !matches!(byte, b' ' | b'\t'))
    }

    /// Everything up to the next quote or backslash.
    fn unescaped(&mut self) -> &'p [u8] {
        let rest = self.rest();
        self.split_off(memchr2(b'"', b'\\', rest).unwrap_or(rest.len()))
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'p [u8] {
        let rest = self.rest();
        let end = rest.iter().position(|byte| !belongs(*byte));
        self.split_off(end.unwrap_or(rest.len()))
    }

    /// The next `length` bytes.
    fn split_off(&mut self, length: usize) -> &'p [u8] {
        let taken = self.rest().get(..length).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    /// A metric name without quotes; `None` when none begins here.
    pub(super) fn metric_name(&mut self) -> Option<&'p str> {
        self.name(|byte| byte == b':')
    }

    /// A label name without quotes; `None` when none begins here.
    pub(super) fn label_name(&mut self) -> Option<&'p str> {
        self.name(|_| false)
    }

    fn name(&mut self, also: impl Fn(u8) -> bool) -> Option<&'p str> {
        if self.peek()?.is_ascii_digit() {
            return None;
        }
        let start = self.at;
        let belongs = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte);
        let name = self.take_while(belongs);
        self.text(start, name).ok().filter(|name| !name.is_empty())
    }

    /// A string in quotes, escapes undone.
    pub(super) fn quoted(&mut self, what: &'static str) -> Result<Cow<'p, str>, Wrong> {
        if !self.take(b'"') {
            return Err(self.expected(what));
        }
        let start = self.at;
        let plain = self.unescaped();
        if self.take(b'"') {
            return self.text(start, plain).map(Cow::Borrowed);
        }
        let mut whole = self.text(start, plain)?.to_owned();
        loop {
            self.unescape(&mut whole)?;
            let start = self.at;
            let plain = self.unescaped();
            whole.push_str(self.text(start, plain)?);
            if self.take(b'"') {
                return Ok(Cow::Owned(whole));
            }
        }
    }

    /// The rest of the line, escapes undone.
    pub(super) fn help(&mut self) -> Result<Cow<'p, str>, Wrong> {
        let start = self.at;
        let plain = self.take_while(|byte| byte != b'\\');
        let plain = self.text(start, plain)?;
        if self.peek().is_none() {
            return Ok(Cow::Borrowed(plain));
        }
        let mut whole = plain.to_owned();
        while self.peek().is_some() {
            self.unescape(&mut whole)?;
            let start = self.at;
            let plain = self.take_while(|byte| byte != b'\\');
            whole.push_str(self.text(start, plain)?);
        }
        Ok(Cow::Owned(whole))
    }

    /// Steps over a backslash and what it escapes. The text format knows three escapes; OpenMetrics lets a backslash
    /// before any other character stand for itself.
    fn unescape(&mut self, into: &mut String) -> Result<(), Wrong> {
        let start = self.at;
        if !self.take(b'\\') {
            return Err(self.expected("a closing quote"));
        }
        match (self.peek(), self.format) {
            (Some(b'n'), _) => into.push('\n'),
            (Some(b'\\'), _) => into.push('\\'),
            (Some(b'"'), _) => into.push('"'),
            (Some(_), Format::OpenMetrics) => {
                into.push('\\');
                return Ok(());
            }
            _ => return Err(Wrong::new(self.line, start, r#"the escape \\, \" or \n"#)),
        }
        self.at += 1;
        Ok(())
    }

    /// `bytes` as text; they begin at byte `start` of the line.
    fn text(&self, start: usize, bytes: &'p [u8]) -> Result<&'p str, Wrong> {
        let checked = self
            .text
            .and_then(|text| text.get(start..start + bytes.len()));
        match checked {
            Some(text) => Ok(text),
            None => str::from_utf8(bytes)
                .map_err(|error| Wrong::new(self.line, start + error.valid_up_to(), "UTF-8")),
        }
    }

    /// What stands here is not what it should be.
    pub(super) fn expected(&self, what: impl Into<Cow<'static, str>>) -> Wrong {
        self.expected_at(self.at, what)
    }

    /// What stands at byte `at` is not what it should be.
    pub(super) fn expected_at(&self, at: usize, what: impl Into<Cow<'static, str>>) -> Wrong {
        Wrong::new(self.line, at, what)
    }
}
