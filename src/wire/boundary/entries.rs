//! The entries of a `ReportBoundaryLogsRequest`, read in place.

use crate::wire::field::{Cursor, LEN, Malformed, VARINT, key};

const LOGS: u32 = key(1, LEN);

const ALLOWED: u32 = key(1, VARINT);
const TIME: u32 = key(2, LEN);
const HTTP_REQUEST: u32 = key(3, LEN);
const SEQUENCE_NUMBER: u32 = key(4, VARINT);

const SECONDS: u32 = key(1, VARINT);
const NANOS: u32 = key(2, VARINT);

const METHOD: u32 = key(1, LEN);
const URL: u32 = key(2, LEN);
const MATCHED_RULE: u32 = key(3, LEN);

/// One `BoundaryLog`. What was absent is empty, zero or false, as protobuf has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whether the request was let through.
    pub allowed: bool,
    /// When, in seconds and nanoseconds since the Unix epoch, as sent; `None` when absent.
    pub time: Option<(i64, i32)>,
    /// Number within the session.
    pub sequence_number: i32,
    /// Method of the request; empty for a resource that is no HTTP request.
    pub method: &'a str,
    /// URL of the request.
    pub url: &'a str,
    /// The rule that decided.
    pub matched_rule: &'a str,
}

/// The entries of a request, in their order.
#[derive(Debug)]
pub struct Entries<'a> {
    payload: &'a [u8],
    request: Cursor<'a>,
}

impl<'a> Entries<'a> {
    /// The entries of `payload`.
    pub fn of(payload: &'a [u8]) -> Self {
        Self {
            payload,
            request: Cursor::new(payload),
        }
    }

    fn find(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        while let Some(key) = self.request.field()? {
            if key == LOGS {
                return self.entry().map(Some);
            }
            self.request.skip(key)?;
        }
        Ok(None)
    }

    /// Reads a `BoundaryLog`. Of a scalar that comes twice the last one counts, and of a message
    /// that comes twice the fields of both, which reading on into the same entry amounts to.
    fn entry(&mut self) -> Result<Entry<'a>, Malformed> {
        let mut log = self.request.message()?;
        let mut entry = Entry::default();
        while let Some(key) = log.field()? {
            match key {
                ALLOWED => entry.allowed = log.varint()? != 0,
                // int32 is the low half of its varint (protobuf-go `consumeInt32`).
                SEQUENCE_NUMBER => entry.sequence_number = log.varint()? as i32,
                TIME => {
                    let mut time = log.message()?;
                    let (seconds, nanos) = entry.time.get_or_insert_default();
                    while let Some(key) = time.field()? {
                        match key {
                            SECONDS => *seconds = time.varint()?.cast_signed(),
                            NANOS => *nanos = time.varint()? as i32,
                            other => time.skip(other)?,
                        }
                    }
                }
                HTTP_REQUEST => {
                    let mut request = log.message()?;
                    while let Some(key) = request.field()? {
                        let (text, name) = match key {
                            METHOD => (&mut entry.method, "method"),
                            URL => (&mut entry.url, "url"),
                            MATCHED_RULE => (&mut entry.matched_rule, "matched_rule"),
                            other => {
                                request.skip(other)?;
                                continue;
                            }
                        };
                        *text = request.text(name)?.of(self.payload);
                    }
                }
                other => log.skip(other)?,
            }
        }
        Ok(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    /// An error ends the entries; there is none in a payload that a [`super::Summary`] was read of.
    type Item = Result<Entry<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.find();
        if found.is_err() {
            self.request = Cursor::new(&[]);
        }
        found.transpose()
    }
}
