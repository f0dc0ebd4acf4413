//! Logs on stderr, the panic hook, and errors printed with their causes.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};

use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat};

/// Sends the events of `tracing` and `log` to stderr from now on. Nothing goes to stdout.
///
/// # Errors
/// When the process has a subscriber or a logger already.
pub fn init(log: &Log) -> Result<(), TryInitError> {
    let wants_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        // Told on stderr too: where that fails, it would panic.
        .log_internal_errors(false)
        .with_ansi(wants_colour && io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(log.filter.clone())
        .with(lines)
        .try_init()
}

/// Logs every panic of any thread as an error event, and calls `count` once for each. Before
/// [`init`] the event would reach nobody, so the hook that stood before is called instead.
pub fn install_panic_hook(count: impl Fn() + Send + Sync + 'static) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if tracing::dispatcher::has_been_set() {
            log_panic(info);
        } else {
            before(info);
        }
        count();
    }));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a payload that is no text");
    let location = info.location().map(tracing::field::display);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured)
        .then(|| tracing::field::display(backtrace));
    let thread = std::thread::current();
    tracing::error!(
        location,
        thread = thread.name(),
        backtrace,
        "panic: {message}"
    );
}

/// Prints an error and its sources on one line, separated by colons. The `Display` of each says
/// its own level only.
#[derive(Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner(#[source] io::Error);

    #[test]
    fn a_chain_prints_every_level_once() {
        let error = Outer(Inner(io::Error::other("cause")));
        assert_eq!(ErrorChain(&error).to_string(), "outer: inner: cause");
    }
}
