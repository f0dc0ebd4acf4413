//! Programs of `tests/interop` that answer each line with a line of JSON.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::coderd::program;

/// A running one. It ends with this, and must have no complaint then.
#[derive(Debug)]
pub struct Asked {
    child: Child,
    /// Taken at the end.
    questions: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Asked {
    /// Starts it. `None`, with a line saying so, when Go is not installed and tests may go without it.
    pub fn start(name: &str) -> Option<Self> {
        let mut child = Command::new(program(name)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        Some(Self {
            questions: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().expect("stdout is piped")).lines(),
            child,
        })
    }

    /// Says a line that has no answer.
    pub fn tell(&mut self, line: impl Display) {
        let questions = self.questions.as_mut().expect("it runs");
        writeln!(questions, "{line}").expect("it reads");
    }

    /// Says a line, and hears the answer.
    pub fn ask(&mut self, line: impl Display) -> Value {
        self.tell(line);
        let answer = self.answers.next().expect("an answer").expect("text");
        serde_json::from_str(&answer).expect("JSON")
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.questions.take());
        let status = self.child.wait().expect("it can be waited for");
        assert!(status.success() || std::thread::panicking(), "{status}");
    }
}
