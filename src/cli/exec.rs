//! `weir exec`: runs a script as the agent would, and reports it.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::{Args, ValueHint};
use tokio::runtime;

use super::Exit;
use crate::config::{Host, MAX_SOCKET_PATH, resolve_reporter};
use crate::logging::{self, ErrorChain};
use crate::script::report::{Label, MAX_NAME, check_name};
use crate::script::run::{Ended, Inherited, Limits, Running, Signals};
use crate::script::{PostError, Report, Stage, Status, post, queue};
use crate::uuid;

/// How long the sidecar may take to acknowledge, when the script is over. It takes a millisecond, or has other sorrows;
/// what is not acknowledged is queued.
const POST_WITHIN: Duration = Duration::from_millis(500);

/// Arguments of `weir exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Name to report, 1 to 128 bytes [default: that of the command's file]
    #[arg(long, value_parser = name)]
    pub name: Option<String>,
    /// Id of the script in its workspace, a UUID: the control plane is told of the run
    #[arg(long, value_name = "UUID", value_parser = id, requires = "stage")]
    pub id: Option<[u8; 16]>,
    /// When in the life of the workspace it runs: start, stop or cron
    #[arg(long, value_parser = stage)]
    pub stage: Option<Stage>,
    /// How long it may run, as in 10m: then SIGTERM to its process group, SIGKILL 10 s later, exit code 124
    #[arg(long, value_name = "TIME", value_parser = limit)]
    pub timeout: Option<Duration>,
    /// API socket of the sidecar [default: found as by `weir status`]
    #[arg(long, value_name = "SOCKET", value_parser = socket, value_hint = ValueHint::FilePath)]
    pub report_to: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map_err(|wrong| wrong.to_string())?;
    Ok(text.to_owned())
}

fn id(text: &str) -> Result<[u8; 16], String> {
    let expected = "expected a UUID such as 6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";
    uuid::parse(text).ok_or_else(|| expected.to_owned())
}

fn stage(text: &str) -> Result<Stage, String> {
    let found = Stage::ALL.iter().find(|stage| stage.word() == text);
    found
        .copied()
        .ok_or_else(|| "expected start, stop or cron".to_owned())
}

fn limit(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_hours(30 * 24);
    match humantime::parse_duration(text) {
        Ok(limit) if !limit.is_zero() && limit <= MOST => Ok(limit),
        Ok(_) => Err("expected more than 0 and at most 30days".to_owned()),
        Err(error) => Err(format!("expected a duration such as 10m: {error}")),
    }
}

fn socket(text: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(text).map_err(|error| format!("expected a path: {error}"))?;
    match path.as_os_str().len() {
        length if length > MAX_SOCKET_PATH => Err(format!(
            "expected at most {MAX_SOCKET_PATH} bytes, got {length}"
        )),
        _ => Ok(path),
    }
}

/// Runs the script to its end and reports it; the exit is the script's own. What goes wrong with the report is said on
/// `stderr`, and changes nothing.
pub fn run(arguments: ExecArgs, host: &dyn Host, stderr: &mut dyn Write) -> Exit {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(stderr, &format!("cannot run the script: {error}"));
            return Exit::Failed;
        }
    };
    runtime.block_on(exec(arguments, host, stderr))
}

async fn exec(arguments: ExecArgs, host: &dyn Host, stderr: &mut dyn Write) -> Exit {
    let api_socket = match resolve_reporter(arguments.report_to.as_deref(), host) {
        Ok((socket, log)) => {
            // Nobody else in this process has set one up.
            logging::init(&log).unwrap_or_default();
            Some(socket)
        }
        Err(faults) => {
            complain(
                stderr,
                &format!("the script will not be reported: {faults}"),
            );
            None
        }
    };
    let ended = match script(&arguments).await {
        Ok(ended) => ended,
        Err(Failure::NotStarted(ended, says)) => {
            complain(stderr, &says);
            ended
        }
        Err(Failure::Lost(error)) => {
            complain(stderr, &format!("cannot wait for the script: {error}"));
            return Exit::Failed;
        }
    };
    if let Some(api_socket) = api_socket {
        let name = arguments
            .name
            .unwrap_or_else(|| name_of(&arguments.command));
        let label = Label {
            id: arguments.id,
            name: Some(name.into()),
        };
        let report = Report::new(
            label,
            arguments.stage,
            ended.exit_code,
            ended.times,
            ended.status,
        );
        let reported = match report {
            Ok(report) => tell(&api_socket, &report).await,
            Err(wrong) => Err(wrong.to_string()),
        };
        if let Err(why) = reported {
            complain(stderr, &format!("the script is not reported: {why}"));
        }
    }
    // The kernel keeps eight bits of an exit code.
    Exit::Script((ended.exit_code & 0xff) as u8)
}

/// Why there is no regular end.
enum Failure {
    /// It was never started, which counts as a run that failed.
    NotStarted(Ended, String),
    /// It runs, or has run, and nobody knows how it ended.
    Lost(std::io::Error),
}

async fn script(arguments: &ExecArgs) -> Result<Ended, Failure> {
    // Before there is a script for which one could come.
    let mut signals = Signals::take().map_err(Failure::Lost)?;
    let outputs = Inherited::find();
    let mut words = arguments.command.iter();
    let mut command = Command::new(words.next().map_or(OsStr::new(""), OsString::as_os_str));
    command.args(words);
    let started_at = std::time::SystemTime::now();
    let running = Running::start(&mut command).map_err(|error| {
        let ended = Ended {
            exit_code: error.exit_code(),
            status: Status::ExitFailure,
            times: (started_at, started_at),
        };
        Failure::NotStarted(ended, ErrorChain(&error).to_string())
    })?;
    let group = running.group();
    tokio::select! {
        ended = running.end(Limits::with_timeout(arguments.timeout), outputs) => ended.map_err(Failure::Lost),
        never = signals.hand_on(group) => match never {},
    }
}

/// Posts the report, or queues it for a sidecar that comes later.
async fn tell(api_socket: &Path, report: &Report) -> Result<(), String> {
    let unacknowledged = match post(api_socket, report, POST_WITHIN) {
        Ok(()) => return Ok(()),
        Err(refused @ PostError::Refused { .. }) => return Err(refused.to_string()),
        Err(error) => ErrorChain(&error).to_string(),
    };
    match queue::append(api_socket, report).await {
        // Those that had to go are counted in the queue, for the sidecar to show.
        Ok(dropped) => {
            tracing::debug!(dropped, why = %unacknowledged, "queued the report for the sidecar");
        }
        Err(error) => {
            return Err(format!(
                "{unacknowledged}; and it cannot be queued: {error}"
            ));
        }
    }
    Ok(())
}

/// The name of the command's file, made fit for a report.
fn name_of(command: &[OsString]) -> String {
    let file = command
        .first()
        .and_then(|program| Path::new(program).file_name());
    let name: String = file
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    let end = name.floor_char_boundary(MAX_NAME);
    match name.get(..end) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "script".to_owned(),
    }
}

/// When stderr fails too, there is nobody left to tell.
fn complain(stderr: &mut dyn Write, what: &str) {
    writeln!(stderr, "weir: {what}").unwrap_or_default();
}
