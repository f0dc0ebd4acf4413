//! `weir exec` as users run it, the socket that it reports to, and what becomes of the reports.

mod completed;
mod kills;
mod process;
mod reports;
mod terminal;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// `weir exec` with these arguments, which reports to this socket. It has the variables of a cron job, and no input.
fn command(api: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(["exec", "--report-to"])
        .arg(api)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

fn exec(api: &Path, arguments: &[&str]) -> Output {
    command(api, arguments).output().expect("weir starts")
}

/// The reports that wait beside this socket.
fn queued(api: &Path) -> Vec<Value> {
    let mut path = api.as_os_str().to_owned();
    path.push(".queue");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(serde_json::from_str::<Value>);
    lines
        .map(|line| line.expect("JSON")["ran"].clone())
        .collect()
}
