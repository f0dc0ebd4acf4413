//! The terminal, when a script runs at one.
//!
//! A process group of its own is in the background of the terminal. It is given the foreground when it asks for it, which
//! the kernel shows by stopping it, so that a script which does not ask leaves the terminal to others of the same pipeline.
//! Until then Ctrl-C and Ctrl-Z reach this process, which hands them on; after that, the script itself.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::sys::signal::{SigSet, Signal as Blocked};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, getpgrp, getppid, getsid, kill_current_process_group};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// The terminal, given to a script.
#[derive(Debug)]
pub(super) struct Terminal(File);

impl Terminal {
    /// Gives the terminal to a group, if this process has it to give.
    pub(super) fn hand_over(group: Pid) -> Option<Self> {
        let tty = controlling()?;
        let given = tcgetpgrp(&tty).is_ok_and(|foreground| foreground == getpgrp())
            && tcsetpgrp(&tty, group).is_ok();
        given.then_some(Self(tty))
    }

    /// Takes the terminal back from a group that has it.
    pub(super) fn take_back(self, group: Pid) {
        if !tcgetpgrp(&self.0).is_ok_and(|foreground| foreground == group) {
            return;
        }
        // From the background that would stop this process.
        let mut signals = SigSet::empty();
        signals.add(Blocked::SIGTTOU);
        let given = signals
            .thread_block()
            .map(|()| tcsetpgrp(&self.0, getpgrp()));
        if !matches!(given, Ok(Ok(()))) || signals.thread_unblock().is_err() {
            tracing::debug!("cannot take the terminal back");
        }
    }
}

/// The terminal that this process is controlled by.
fn controlling() -> Option<File> {
    let flags = OFlags::NOCTTY.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    options.open("/dev/tty").ok()
}

/// Stops the process group of this process, as the terminal's stop key does, because the script has been stopped. Where no
/// shell could see that, and let it go on, the script goes on instead.
pub(super) fn stop_with_it(group: Pid) {
    let Some(_tty) = controlling() else {
        return;
    };
    let session_of_parent = getppid().and_then(|parent| getsid(Some(parent)).ok());
    let same_session = session_of_parent.is_some() && session_of_parent == getsid(None).ok();
    if !same_session {
        super::send(group, Signal::CONT);
        return;
    }
    // Goes on, with SIGCONT, which is handed on, where the shell brings it to the foreground or lets it run behind.
    if let Err(error) = kill_current_process_group(Signal::STOP) {
        tracing::debug!(%error, "cannot stop with the script");
    }
}
