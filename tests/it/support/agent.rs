//! The agent on the real Go libraries, told call by call what to do.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::control::agent_command;

/// An agent that is connected; it disconnects when this is dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    calls: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    /// Connects one. `None` when Go is not installed and tests may go without it.
    pub fn connect(url: &str, args: &[&str]) -> Option<Self> {
        let mut child = agent_command(url, &[&["-mode", "calls"], args].concat())?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        Some(Self {
            calls: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().expect("stdout is piped")),
            child,
        })
    }

    /// Makes a call. The answer, or what was wrong.
    pub fn call(&mut self, method: &str, request: &Value) -> Result<Value, String> {
        let calls = self.calls.as_mut().expect("stdin is piped");
        let line = json!({"method": method, "request": request});
        writeln!(calls, "{line}").expect("the agent reads");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the agent answers");
        let answer: Value = serde_json::from_str(&answer).expect("a line of JSON");
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["response"].clone()),
        }
    }

    /// Reports what is to be taken.
    #[track_caller]
    pub fn report(&mut self, stats: Value) {
        let request = json!({"stats": stats});
        self.call("UpdateStats", &request)
            .expect("a report is taken");
    }

    /// Says which build it is.
    #[track_caller]
    pub fn start_up(&mut self, version: &str) {
        let request = json!({"startup": {"version": version}});
        self.call("UpdateStartup", &request)
            .expect("a version is taken");
    }

    /// Says where it is in its life.
    #[track_caller]
    pub fn is(&mut self, state: &str) {
        let request = json!({"lifecycle": {"state": state}});
        self.call("UpdateLifecycle", &request)
            .expect("a state is taken");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.calls.take());
        let status = self.child.wait().expect("the agent ends");
        assert!(status.success() || std::thread::panicking(), "{status}");
    }
}

/// A metric of a report.
pub fn metric(name: &str, kind: &str, value: Value, labels: &[(&str, &str)]) -> Value {
    let labels = labels
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}));
    json!({"name": name, "type": kind, "value": value, "labels": labels.collect::<Vec<_>>()})
}
