//! A page for people: a line for each family, and below it one for each sample.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use super::{FamilyRead, SampleRead};
use crate::wire::exposition::Format;

pub(super) fn write(
    families: &[FamilyRead],
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    for family in families {
        let FamilyRead {
            name, kind, help, ..
        } = family;
        write!(out, "{}  {}", Shown(name), kind.word(format))?;
        if !help.is_empty() {
            write!(out, "  {}", Shown(help))?;
        }
        writeln!(out)?;
        for sample in &family.samples {
            writeln!(out, "  {sample}")?;
        }
    }
    Ok(())
}

impl Display for SampleRead {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Shown(&self.name).fmt(f)?;
        let mut before = "{";
        for (name, value) in &self.labels {
            write!(f, "{before}{}={value:?}", Shown(name))?;
            before = ",";
        }
        if !self.labels.is_empty() {
            f.write_str("}")?;
        }
        match self.value {
            f64::INFINITY => f.write_str("  +Inf")?,
            f64::NEG_INFINITY => f.write_str("  -Inf")?,
            // Without an exponent the largest numbers have 309 digits.
            value if value.abs() >= 1e17 || value.abs() < 1e-5 && value != 0.0 => {
                write!(f, "  {value:e}")?
            }
            value => write!(f, "  {value}")?,
        }
        match self.timestamp_ms {
            Some(at) => write!(f, "  @{at}"),
            None => Ok(()),
        }
    }
}

/// A text of a page, which must not steer a terminal.
struct Shown<'a>(&'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_debug())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}
