//! The `weir` program: parses, runs one command, maps the outcome to an exit code.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime;
use weir::app;
use weir::cli::spool::SpoolCommand;
use weir::cli::{
    Cli, Command, ControlFlags, Exit, MetricsCommand, RunFlags, ScrapeArgs, StatusArgs, check,
    emit, exec, generate, spool,
};
use weir::collect::print::{self, PrintError};
use weir::config::control::ControlConfig;
use weir::config::{Config, ThisMachine, resolve_api_socket};
use weir::demo;
use weir::metrics::doc;
use weir::scrape::status::{self, Form, StatusError};
use weir::upstream::RootFiles;

fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Check(arguments) => with_config(&arguments.flags, |config| {
            let report = check::report(&config, &ThisMachine, &mut stdout(), &mut stderr());
            match printed(report) {
                Exit::Done if arguments.connect => app::connect(&config),
                exit => exit,
            }
        }),
        Command::Run(flags) => with_config(&flags, |config| {
            app::run(&config, || Config::resolve(&flags.0, &ThisMachine))
        }),
        Command::ControlPlane(flags) => control_plane(&flags),
        Command::Demo(arguments) => {
            demo::run(arguments.length, stdout().is_terminal(), &mut stdout())
        }
        Command::Exec(arguments) => exec::run(arguments, &ThisMachine, &mut stderr()),
        Command::Emit(arguments) => {
            emit::run(arguments, &ThisMachine, &mut stdout(), &mut stderr())
        }
        Command::Status(arguments) => status(&arguments),
        Command::Spool(command) => spool(command),
        Command::Scrape(arguments) => scrape(&arguments),
        Command::Metrics(view) => metrics(view),
        Command::Completions { shell } => printed(generate::completions(shell, &mut stdout())),
        Command::Man { command } => printed(generate::man(command.as_deref(), &mut stdout())),
    };
    exit.into()
}

fn spool(command: SpoolCommand) -> Exit {
    let mut out = BufWriter::new(stdout());
    let outcome = match command {
        SpoolCommand::Inspect(arguments) => spool::inspect(&arguments, &mut out),
        SpoolCommand::Verify(arguments) => spool::verify(&arguments, &mut out),
        SpoolCommand::Export(arguments) => spool::export(&arguments, &mut out, &mut stderr()),
        SpoolCommand::Replay(arguments) => {
            let flags = RunFlags(arguments.flags.0);
            return with_config(&flags, |config| {
                app::replay(&config, &arguments.dir, arguments.rate)
            });
        }
    };
    match outcome.and_then(|exit| out.flush().map(|()| exit)) {
        Ok(exit) => exit,
        Err(error) => printed(Err(error)),
    }
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

fn control_plane(flags: &ControlFlags) -> Exit {
    match ControlConfig::resolve(&flags.0, &ThisMachine) {
        Ok(config) => app::control_plane(&config),
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

/// Asks the sidecar behind the API socket.
fn status(arguments: &StatusArgs) -> Exit {
    let api_socket = match resolve_api_socket(&arguments.flags.0, &ThisMachine) {
        Ok(path) => path,
        Err(faults) => {
            complain(&faults.to_string());
            return Exit::Usage;
        }
    };
    let form = Form {
        json: arguments.json,
        watch: arguments.watch,
        terminal: stdout().is_terminal(),
    };
    let printed = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StatusError::Output)
        .and_then(|runtime| runtime.block_on(status::print(&api_socket, form, &mut stdout())));
    match printed {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(&error.to_string());
            Exit::Failed
        }
    }
}

/// Prints the page of another program. A reader that has seen enough is no failure.
fn scrape(arguments: &ScrapeArgs) -> Exit {
    let form = print::Form {
        json: arguments.json,
        strict: arguments.strict,
    };
    let printed = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PrintError::Output)
        .and_then(|runtime| {
            let mut out = BufWriter::new(stdout().lock());
            let location = &arguments.location;
            let roots = RootFiles::from_vars(|name| std::env::var(name).ok());
            let mut warnings = stderr();
            let printed = print::print(location, roots, form, &mut out, &mut warnings);
            let printed = runtime.block_on(printed);
            // A name that is still being looked up holds nobody up.
            runtime.shutdown_background();
            printed
        });
    match printed {
        Ok(()) => Exit::Done,
        Err(PrintError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            complain(&error.to_string());
            Exit::Failed
        }
    }
}

fn metrics(view: MetricsCommand) -> Exit {
    let text = match view {
        MetricsCommand::List => Ok(doc::list()),
        MetricsCommand::Docs => doc::markdown().map_err(io::Error::other),
        MetricsCommand::Dump => doc::exposition_with_zeros().map_err(io::Error::other),
    };
    printed(text.and_then(|text| stdout().write_all(text.as_bytes())))
}

/// Says what is wrong on stderr. When that fails too, the exit code is all that is left.
fn complain(message: &str) {
    writeln!(stderr(), "weir: {message}").unwrap_or_default();
}
