//! `expocheck` of `tests/interop`: the real parsers as a process that answers one page after the other.

use weir::wire::exposition::Format;

use super::sampled::{Reading, theirs};
use crate::support::asked::Asked;

/// The two parsers of Prometheus. They end with this.
#[derive(Debug)]
pub struct Judge(Asked);

/// What both make of a page.
#[derive(Debug)]
pub struct Verdict {
    pub textparse: Reading,
    pub expfmt: Reading,
}

impl Verdict {
    /// Whether they take the page as a whole: textparse, expfmt.
    pub fn takers(&self) -> [bool; 2] {
        [&self.textparse, &self.expfmt].map(|reading| reading.fault.is_none())
    }
}

impl Judge {
    /// Starts them. `None`, with a line saying so, when Go is not installed and tests may go without it.
    pub fn start() -> Option<Self> {
        Asked::start("expocheck").map(Self)
    }

    /// Lets them read a page.
    pub fn read(&mut self, page: &[u8], format: Format) -> Verdict {
        let word = match format {
            Format::Text => "text",
            Format::OpenMetrics => "openmetrics",
        };
        let hex: String = page.iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = self.0.ask(format_args!("{word} {hex}"));
        Verdict {
            textparse: theirs(&answer["textparse"]),
            expfmt: theirs(&answer["expfmt"]),
        }
    }
}
