//! The `weir` program: parses, runs one command, maps the outcome to an exit code.

use std::io::{self, ErrorKind, Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use weir::cli::{Cli, Command, Exit, RunFlags, check, generate};
use weir::config::{Config, ThisMachine};

fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Check(arguments) => with_config(&arguments.flags, |config| {
            let report = check::report(&config, &ThisMachine, &mut stdout(), &mut stderr());
            match printed(report) {
                Exit::Done if arguments.connect => unavailable("check --connect"),
                exit => exit,
            }
        }),
        Command::Run(flags) => with_config(&flags, |_| unavailable("run")),
        Command::Status(_) => unavailable("status"),
        Command::Metrics(_) => unavailable("metrics"),
        Command::Completions { shell } => printed(generate::completions(shell, &mut stdout())),
        Command::Man { command } => printed(generate::man(command.as_deref(), &mut stdout())),
    };
    exit.into()
}

/// Runs a command that needs a valid configuration, or lists what is wrong with it.
fn with_config(flags: &RunFlags, run: impl FnOnce(Config) -> Exit) -> Exit {
    match Config::resolve(&flags.0, &ThisMachine) {
        Ok(config) => run(config),
        Err(faults) => {
            complain(&faults.to_string());
            Exit::Usage
        }
    }
}

/// Outcome of a command that only prints. A reader that has seen enough is no failure.
fn printed(result: io::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            complain(&error.to_string());
            match error.kind() {
                ErrorKind::NotFound => Exit::Usage,
                _ => Exit::Failed,
            }
        }
    }
}

fn unavailable(command: &str) -> Exit {
    complain(&format!("{command}: not available in this version"));
    Exit::Failed
}

/// Says what is wrong on stderr. When that fails too, the exit code is all that is left.
fn complain(message: &str) {
    writeln!(stderr(), "weir: {message}").unwrap_or_default();
}
