//! A page, line by line.

use std::borrow::Cow;

use memchr::memchr;

use super::family::{Contradiction, Families, Family, Kind, TooMany};
use super::fault::{Fault, Wrong};
use super::labels::Label;
use super::line::{self, Exemplar, Line, Scratch, Series};
use super::seen::{Place, Seen};
use super::{Format, MAX_FAMILIES, MAX_LINE};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'r, 'p> {
    /// A value of a series.
    Sample(Sample<'r, 'p>),
    /// The type of a family.
    Type,
    /// The help of a family.
    Help,
    /// The unit of a family.
    Unit,
    /// A remark.
    Comment,
    /// The end of a page of OpenMetrics.
    Eof,
}

/// A value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'r, 'p> {
    /// The name of the metric, never empty.
    pub name: &'r str,
    /// Sorted by name.
    pub labels: &'r [Label<'p>],
    /// The value.
    pub value: f64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// What it has beside it, in OpenMetrics.
    pub exemplar: Option<Exemplar<'r, 'p>>,
    /// What it belongs to.
    pub family: &'r Family<'p>,
}

/// Reads a page from its beginning to its end, once.
///
/// It holds the families of the page and, for each series, a hash of it and where it stands: some 35 bytes. A page of
/// many series is bounded by whoever stops reading.
#[derive(Debug)]
pub struct Reader<'p> {
    page: &'p [u8],
    format: Format,
    /// Bytes of the page that were read.
    at: usize,
    /// Lines that were read.
    line: usize,
    /// `# EOF` was read, or missed and reported.
    ended: bool,
    families: Families<'p>,
    seen: Seen,
    scratch: Scratch<'p>,
    /// The name of the latest sample.
    name: Cow<'p, str>,
}

impl<'p> Reader<'p> {
    /// A reader at the beginning of a page.
    pub fn new(page: &'p [u8], format: Format) -> Self {
        let marked = page.starts_with(BYTE_ORDER_MARK);
        Self {
            page,
            format,
            at: if marked { BYTE_ORDER_MARK.len() } else { 0 },
            line: 0,
            ended: format == Format::Text,
            families: Families::new(format),
            seen: Seen::default(),
            scratch: Scratch::default(),
            name: Cow::Borrowed(""),
        }
    }

    /// The families that were met so far, in the order of the page.
    pub fn families(&self) -> &[Family<'p>] {
        self.families.all()
    }

    /// What the next line that is not blank says, or what is wrong with it; `None` at the end of the page.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator cannot lend what it holds"
    )]
    pub fn next(&mut self) -> Option<Result<Entry<'_, 'p>, Fault>> {
        loop {
            let Some(line) = self.next_line() else {
                return self.missing_eof().map(Err);
            };
            match self.read(line) {
                Ok(None) => {}
                Ok(Some(line)) => return Some(Ok(self.entry(line))),
                Err(wrong) => return Some(Err(wrong.in_line(self.line, line))),
            }
        }
    }

    /// The first line that was not read yet, with what ends it but for the line feed.
    fn rest_of_line(&self) -> Option<&'p [u8]> {
        let rest = self.page.get(self.at..).filter(|rest| !rest.is_empty())?;
        rest.get(..memchr(b'\n', rest).unwrap_or(rest.len()))
    }

    /// Steps over a line, and returns it without its end.
    fn next_line(&mut self) -> Option<&'p [u8]> {
        let line = self.rest_of_line()?;
        self.at += line.len() + 1;
        self.line += 1;
        Some(without_return(line))
    }

    fn missing_eof(&mut self) -> Option<Fault> {
        if self.ended {
            return None;
        }
        self.ended = true;
        let wrong = Wrong::because(0, "# EOF", "the end of the page, which may have been cut");
        Some(wrong.in_line(self.line + 1, b""))
    }

    /// Reads a line and enters what it says into the books of the page. A sample comes with its family.
    fn read(&mut self, line: &'p [u8]) -> Result<Option<(Line<'p>, usize)>, Wrong> {
        if line.len() > MAX_LINE {
            let got = format!("{} bytes", line.len());
            let expected = format!("a line of at most {MAX_LINE} bytes");
            return Err(Wrong::because(0, expected, got));
        }
        let Some(said) = line::read(line, self.format, &mut self.scratch)? else {
            return Ok(None);
        };
        if self.ended && self.format == Format::OpenMetrics {
            return Err(Wrong::new(line, 0, "nothing behind # EOF"));
        }
        let mut family = 0;
        match &said {
            Line::Sample(series) => {
                family = self.families.of_sample(&series.name).map_err(too_many)?;
                self.enter(series)?;
                self.families.sampled(family);
            }
            Line::Type(name, kind) => {
                let kind: Kind = *kind;
                if self.families.may_renew(name, kind) {
                    self.families.renew(name).map_err(too_many)?;
                }
                self.describe(name, |family| family.set_type(kind))?;
            }
            Line::Help(name, help) => {
                if self.next_renews(name) {
                    self.families.renew(name).map_err(too_many)?;
                }
                self.describe(name, |family| family.set_help(help.clone()))?;
            }
            Line::Unit(name, unit) => {
                self.describe(name, |family| family.set_unit(unit.clone()))?;
            }
            Line::Comment => {}
            Line::Eof => self.ended = true,
        }
        Ok(Some((said, family)))
    }

    /// Whether the next line gives a type to another family of this name, so that this line is of that family too.
    fn next_renews(&self, name: &str) -> bool {
        let next = self.rest_of_line().filter(|next| next.len() <= MAX_LINE);
        let Some(next) = next.filter(|_| self.format == Format::OpenMetrics) else {
            return false;
        };
        // It is read again when its turn comes, so that here anything else can be left.
        match line::read(without_return(next), self.format, &mut Scratch::default()) {
            Ok(Some(Line::Type(of, kind))) => of == name && self.families.may_renew(name, kind),
            _ => false,
        }
    }

    #[expect(clippy::ptr_arg, reason = "as that of the families")]
    fn describe(
        &mut self,
        name: &Cow<'p, str>,
        change: impl FnOnce(&mut Family<'p>) -> Result<(), Contradiction>,
    ) -> Result<(), Wrong> {
        let family = self.families.named(name).map_err(too_many)?;
        change(family).map_err(|(expected, got)| Wrong::because(0, expected, got))
    }

    /// Notes that the page has this series. It may come again in OpenMetrics alone, at a later time.
    fn enter(&mut self, series: &Series<'p>) -> Result<(), Wrong> {
        let place = Place {
            line: self.line,
            timestamp_ms: series.timestamp_ms,
        };
        let labels = &self.scratch.labels;
        let Some(earlier) = self.seen.enter(&series.name, labels, place) else {
            return Ok(());
        };
        let later = match (earlier.timestamp_ms, series.timestamp_ms) {
            (Some(before), Some(now)) => self.format == Format::OpenMetrics && now > before,
            _ => false,
        };
        if later {
            *earlier = place;
            return Ok(());
        }
        let got = format!("the one of line {} again", earlier.line);
        Err(Wrong::because(0, "a series that the page has not had", got))
    }

    fn entry(&mut self, (said, family): (Line<'p>, usize)) -> Entry<'_, 'p> {
        let series = match said {
            Line::Sample(series) => series,
            Line::Type(..) => return Entry::Type,
            Line::Help(..) => return Entry::Help,
            Line::Unit(..) => return Entry::Unit,
            Line::Comment => return Entry::Comment,
            Line::Eof => return Entry::Eof,
        };
        self.name = series.name;
        Entry::Sample(Sample {
            name: &self.name,
            labels: &self.scratch.labels,
            value: series.value,
            timestamp_ms: series.timestamp_ms,
            exemplar: series.exemplar.map(|(value, timestamp_ms)| Exemplar {
                labels: &self.scratch.exemplar,
                value,
                timestamp_ms,
            }),
            family: self.families.at(family),
        })
    }
}

fn too_many(TooMany: TooMany) -> Wrong {
    let expected = format!("at most {MAX_FAMILIES} families");
    Wrong::because(0, expected, "one more")
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
