//! `expocheck` of `tests/interop`: the real parsers as a process that answers one page after the other.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use weir::wire::exposition::Format;

use super::sampled::{Reading, theirs};
use crate::support::coderd::program;

/// The two parsers of Prometheus. They end with this.
#[derive(Debug)]
pub struct Judge {
    child: Child,
    pages: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

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
        let mut child = Command::new(program("expocheck")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("expocheck starts");
        Some(Self {
            pages: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().expect("stdout is piped")).lines(),
            child,
        })
    }

    /// Lets them read a page.
    pub fn read(&mut self, page: &[u8], format: Format) -> Verdict {
        let word = match format {
            Format::Text => "text",
            Format::OpenMetrics => "openmetrics",
        };
        let hex: String = page.iter().map(|byte| format!("{byte:02x}")).collect();
        let pages = self.pages.as_mut().expect("it runs");
        writeln!(pages, "{word} {hex}").expect("it reads");
        let answer = self.answers.next().expect("an answer").expect("text");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        Verdict {
            textparse: theirs(&answer["textparse"]),
            expfmt: theirs(&answer["expfmt"]),
        }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.pages.take());
        let status = self.child.wait().expect("expocheck can be waited for");
        assert!(status.success() || std::thread::panicking(), "{status}");
    }
}
