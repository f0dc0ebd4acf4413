//! Families: what the metadata of a page says, and which samples belong together.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Format, MAX_FAMILIES};

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, or restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
    /// Quantiles, a sum and a count.
    Summary,
    /// A histogram of what is there now; OpenMetrics only.
    GaugeHistogram,
    /// Labels that say something, with the value 1; OpenMetrics only.
    Info,
    /// One series for each state, 0 or 1; OpenMetrics only.
    StateSet,
    /// Said to be unknown, or not said: `untyped` in the text format, `unknown` in OpenMetrics.
    Unknown,
}

impl Kind {
    /// The type that a word of a `# TYPE` line names.
    pub(super) fn of(word: &[u8], format: Format) -> Option<Self> {
        Some(match (word, format) {
            (b"counter", _) => Self::Counter,
            (b"gauge", _) => Self::Gauge,
            (b"histogram", _) => Self::Histogram,
            (b"summary", _) => Self::Summary,
            (b"untyped", Format::Text) | (b"unknown", Format::OpenMetrics) => Self::Unknown,
            (b"gaugehistogram", Format::OpenMetrics) => Self::GaugeHistogram,
            (b"info", Format::OpenMetrics) => Self::Info,
            (b"stateset", Format::OpenMetrics) => Self::StateSet,
            _ => return None,
        })
    }

    /// The word for it in a page of this format.
    pub const fn word(self, format: Format) -> &'static str {
        match (self, format) {
            (Self::Counter, _) => "counter",
            (Self::Gauge, _) => "gauge",
            (Self::Histogram, _) => "histogram",
            (Self::Summary, _) => "summary",
            (Self::GaugeHistogram, _) => "gaugehistogram",
            (Self::Info, _) => "info",
            (Self::StateSet, _) => "stateset",
            (Self::Unknown, Format::Text) => "untyped",
            (Self::Unknown, Format::OpenMetrics) => "unknown",
        }
    }

    /// Whether samples of such a family may have this suffix behind its name.
    fn has_suffix(self, suffix: &str, format: Format) -> bool {
        match (self, format) {
            (Self::Histogram, _) if matches!(suffix, "_bucket" | "_sum" | "_count") => true,
            (Self::Summary, _) if matches!(suffix, "_sum" | "_count") => true,
            (_, Format::Text) => false,
            (Self::Counter, _) => matches!(suffix, "_total" | "_created"),
            (Self::Histogram | Self::Summary, _) => suffix == "_created",
            (Self::GaugeHistogram, _) => matches!(suffix, "_bucket" | "_gsum" | "_gcount"),
            (Self::Info, _) => suffix == "_info",
            (Self::Gauge | Self::StateSet | Self::Unknown, _) => false,
        }
    }
}

/// One family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family<'p> {
    /// Its place among the families of the page, counted from 0.
    pub index: usize,
    /// Its name; samples may add a suffix.
    pub name: Cow<'p, str>,
    /// Its type.
    pub kind: Kind,
    /// Its help, empty when there is none.
    pub help: Cow<'p, str>,
    /// Its unit, empty when there is none.
    pub unit: Cow<'p, str>,
    has_type: bool,
    has_samples: bool,
}

/// The families of a page, in the order in which they were first named.
#[derive(Debug)]
pub(super) struct Families<'p> {
    all: Vec<Family<'p>>,
    by_name: HashMap<Cow<'p, str>, usize>,
    /// Name and family of the latest sample: most samples have the name of the one before.
    latest: Option<(Cow<'p, str>, usize)>,
    format: Format,
}

/// The page has [`MAX_FAMILIES`] families already.
#[derive(Debug)]
pub(super) struct TooMany;

/// What was expected of metadata, and what came.
pub(super) type Contradiction = (&'static str, &'static str);

#[expect(
    clippy::ptr_arg,
    reason = "a name that is new is kept, which costs nothing where it is a slice of the page"
)]
impl<'p> Families<'p> {
    pub(super) fn new(format: Format) -> Self {
        Self {
            all: Vec::new(),
            by_name: HashMap::new(),
            latest: None,
            format,
        }
    }

    pub(super) fn all(&self) -> &[Family<'p>] {
        &self.all
    }

    /// The family of this number, which one of the other methods has returned.
    pub(super) fn at(&self, index: usize) -> &Family<'p> {
        &self.all[index]
    }

    /// The number of the family of a sample. A family that bears the very name goes before one that bears it without its
    /// suffix.
    pub(super) fn of_sample(&mut self, name: &Cow<'p, str>) -> Result<usize, TooMany> {
        if let Some((latest, index)) = &self.latest
            && latest == name
        {
            return Ok(*index);
        }
        let known = self.by_name.get(name).copied();
        let index = match known.or_else(|| self.of_suffixed(name)) {
            Some(index) => index,
            None => self.index(name)?,
        };
        self.latest = Some((name.clone(), index));
        Ok(index)
    }

    /// The family of this number has a sample now.
    pub(super) fn sampled(&mut self, index: usize) {
        self.all[index].has_samples = true;
    }

    fn of_suffixed(&self, name: &str) -> Option<usize> {
        let (base, suffix) = name.split_at_checked(name.rfind('_')?)?;
        let index = *self.by_name.get(base)?;
        let family = self.all.get(index)?;
        family.kind.has_suffix(suffix, self.format).then_some(index)
    }

    /// The family of this name for metadata, made if it is not there.
    pub(super) fn named(&mut self, name: &Cow<'p, str>) -> Result<&mut Family<'p>, TooMany> {
        // What a suffix means may change with a type.
        self.latest = None;
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => self.index(name)?,
        };
        self.all.get_mut(index).ok_or(TooMany)
    }

    /// Makes another family of a name that stands for one already: from here on it stands for the new one.
    pub(super) fn renew(&mut self, name: &Cow<'p, str>) -> Result<&mut Family<'p>, TooMany> {
        self.latest = None;
        let index = self.index(name)?;
        self.all.get_mut(index).ok_or(TooMany)
    }

    /// Whether metadata with this type, behind the samples of the family of this name, begins another family: a gauge
    /// `x` and a counter `x_total` are both `x` to OpenMetrics. client_golang writes such pages, of every Go program.
    pub(super) fn may_renew(&self, name: &str, kind: Kind) -> bool {
        let known = self
            .by_name
            .get(name)
            .and_then(|index| self.all.get(*index));
        self.format == Format::OpenMetrics
            && known.is_some_and(|known| {
                let one_counts = (known.kind == Kind::Counter) != (kind == Kind::Counter);
                known.has_type && known.has_samples && one_counts
            })
    }

    /// Makes a family.
    fn index(&mut self, name: &Cow<'p, str>) -> Result<usize, TooMany> {
        let index = self.all.len();
        if index >= MAX_FAMILIES {
            return Err(TooMany);
        }
        self.by_name.insert(name.clone(), index);
        self.all.push(Family {
            index,
            name: name.clone(),
            kind: Kind::Unknown,
            help: Cow::Borrowed(""),
            unit: Cow::Borrowed(""),
            has_type: false,
            has_samples: false,
        });
        Ok(index)
    }
}

impl<'p> Family<'p> {
    /// Takes the type. It may be said again, as in a page that was put together from others, but not otherwise, nor
    /// behind samples that were read without it.
    pub(super) fn set_type(&mut self, kind: Kind) -> Result<(), Contradiction> {
        if self.has_type && self.kind != kind {
            return Err(("one type for a family", "a second one"));
        }
        if !self.has_type && self.has_samples {
            return Err(("the type before the samples of a family", "it behind them"));
        }
        self.kind = kind;
        self.has_type = true;
        Ok(())
    }

    /// Takes the help.
    pub(super) fn set_help(&mut self, help: Cow<'p, str>) -> Result<(), Contradiction> {
        say(&mut self.help, help).map_err(|got| ("one help for a family", got))
    }

    /// Takes the unit.
    pub(super) fn set_unit(&mut self, unit: Cow<'p, str>) -> Result<(), Contradiction> {
        say(&mut self.unit, unit).map_err(|got| ("one unit for a family", got))
    }
}

/// Takes a text, which may be said again, but not otherwise; an empty one says nothing.
fn say<'p>(said: &mut Cow<'p, str>, text: Cow<'p, str>) -> Result<(), &'static str> {
    if said.is_empty() {
        *said = text;
    } else if !text.is_empty() && *said != text {
        return Err("a second one");
    }
    Ok(())
}
