//! What the service manager is told, and what it hands over: `sd_notify(3)` and `sd_listen_fds(3)`.
//!
//! Without a service manager all of this does nothing.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The name of the descriptor that is the audit socket (`FileDescriptorName=`).
const BOUNDARY: &str = "boundary";

/// What the library of the service manager calls a descriptor that was given no name.
const UNNAMED: &str = "unknown";

/// The audit socket that the service manager listens on for this process, if there is one.
///
/// A single socket that has no name of its own is taken for it. Must be called before any thread is started, because
/// it clears the variables that announce the descriptors.
///
/// # Errors
/// When a descriptor was announced that is no listening Unix stream socket.
pub fn inherited_listener() -> std::io::Result<Option<UnixListener>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut inherited = ListenFd::from_env();
    let position = names.split(':').position(|name| name == BOUNDARY);
    let unnamed = inherited.len() == 1 && (names.is_empty() || names == UNNAMED);
    match position.or(unnamed.then_some(0)) {
        Some(index) => inherited.take_unix_listener(index),
        None => Ok(None),
    }
}

/// Says that every listener is bound.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("accepting logs")]);
}

/// Says that the process drains and then ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Says that the data path makes progress.
pub fn progressing() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the service manager wants to hear that there is progress; half of the time after which it gives up.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
