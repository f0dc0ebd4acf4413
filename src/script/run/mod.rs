//! One run of a script, as the workspace agent makes it (coder/coder agent/agentscripts/agentscripts.go): in a process
//! group of its own, ended when it takes too long, and looked after until nothing holds its outputs any more.
//!
//! What a script starts belongs to its group and ends with it at the timeout, unless it leaves the group: a child that
//! calls setsid(2) is out of reach, and goes on.

mod outputs;
mod signals;
mod terminal;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, test_kill_process_group,
    waitid,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

pub use outputs::{Inherited, Outputs};
pub use signals::Signals;
use terminal::Terminal;

use super::Status;

/// Exit code of a run that took too long, as of timeout(1).
pub const TIMED_OUT: i32 = 124;

/// Between two looks at a group that has no other way to tell that it is empty.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a run may take, and its end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the start on; `None` is for ever. Then the group is sent SIGTERM.
    pub timeout: Option<Duration>,
    /// From SIGTERM to SIGKILL of the group.
    pub grace: Duration,
    /// How long a child may hold the outputs of a script that has exited with 0.
    pub hold: Duration,
}

impl Limits {
    /// The agent's, with this timeout: 10 s of grace, 10 s of hold.
    pub fn with_timeout(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            grace: Duration::from_secs(10),
            hold: Duration::from_secs(10),
        }
    }
}

/// A script that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {program}")]
pub struct NotStarted {
    program: String,
    source: io::Error,
}

impl NotStarted {
    /// 127 when there is no such program (or none that its first line names), else 126, as of a shell.
    pub fn exit_code(&self) -> i32 {
        if self.source.kind() == ErrorKind::NotFound {
            127
        } else {
            126
        }
    }
}

/// A run that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The script's own; 128 and the number of the signal that killed it; [`TIMED_OUT`].
    pub exit_code: i32,
    /// What it counts as.
    pub status: Status,
    /// When it began, and when the script itself ended: by the clock at its beginning, and the time that it took.
    pub times: (SystemTime, SystemTime),
}

/// A script that runs. It goes on when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    group: Pid,
    children: tokio::signal::unix::Signal,
    terminal: Option<Terminal>,
    started: Instant,
    started_at: SystemTime,
}

impl Running {
    /// Starts a script in a process group of its own. Where its input and outputs go is the command's affair.
    ///
    /// Needs a tokio runtime with signals and time.
    ///
    /// # Errors
    /// When it cannot be started, or the end of children not be awaited.
    pub fn start(command: &mut Command) -> Result<Self, NotStarted> {
        let (started, started_at) = (Instant::now(), SystemTime::now());
        let spawned = signal(SignalKind::child())
            .and_then(|children| Ok((children, command.process_group(0).spawn()?)));
        let (children, child) = spawned.map_err(|source| NotStarted {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
        Ok(Self {
            group: Pid::from_child(&child),
            child,
            children,
            terminal: None,
            started,
            started_at,
        })
    }

    /// The process group, whose number is that of the script's process.
    pub fn group(&self) -> Pid {
        self.group
    }

    /// The process, for the pipes that it was started with. It must not be waited for.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end, and brings it about at the timeout. `outputs` tell when nothing of the script holds them any
    /// more.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn end(mut self, limits: Limits, outputs: impl Outputs) -> io::Result<Ended> {
        let deadline = limits.timeout.unwrap_or(Duration::MAX);
        let timed_out = match timeout(deadline, self.exited()).await {
            Ok(exited) => exited.map(|()| false)?,
            Err(_) => self.kill(limits.grace).await.map(|()| true)?,
        };
        let elapsed = self.started.elapsed();
        // Only now, because while the process is not waited for no other can have its number, and with it the group's.
        let own_code = exit_code(self.child.wait()?);
        let (exit_code, status) = if timed_out {
            self.kill_rest(
                limits
                    .grace
                    .saturating_sub(elapsed.saturating_sub(deadline)),
            )
            .await;
            (TIMED_OUT, Status::TimedOut)
        } else if own_code != 0 {
            (own_code, Status::ExitFailure)
        } else {
            match timeout(limits.hold, outputs.released(self.group)).await {
                Ok(()) => (0, Status::Ok),
                Err(_) => (0, Status::PipesLeftOpen),
            }
        };
        if let Some(terminal) = self.terminal.take() {
            terminal.take_back(self.group);
        }
        Ok(Ended {
            exit_code,
            status,
            times: (self.started_at, self.started_at + elapsed),
        })
    }

    /// Waits until the process has exited; it is still there to be waited for.
    async fn exited(&mut self) -> io::Result<()> {
        loop {
            // Asked in one call: of a process that has exited in between, its stops alone cannot be asked for.
            let either = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
            match self.look(either)? {
                Some(seen) if seen.stopped() => {
                    // Each stop is seen once. It may be over already, and the process with it.
                    match self.look(WaitIdOptions::STOPPED) {
                        Err(error) if error.raw_os_error() != Some(Errno::CHILD.raw_os_error()) => {
                            return Err(error);
                        }
                        Ok(_) | Err(_) => self.stopped(seen.stopping_signal()),
                    }
                    continue;
                }
                Some(_exited) => return Ok(()),
                None => {}
            }
            if self.children.recv().await.is_none() {
                return Err(io::Error::other("signals are received no more"));
            }
        }
    }

    fn look(&self, what: WaitIdOptions) -> io::Result<Option<WaitIdStatus>> {
        loop {
            match waitid(WaitId::Pid(self.group), what | WaitIdOptions::NOHANG) {
                Err(Errno::INTR) => {}
                seen => return Ok(seen?),
            }
        }
    }

    /// A script that stops because it wants the terminal gets it; one that was told to stop at the terminal stops this
    /// process too, for the shell to see.
    fn stopped(&mut self, signal: Option<i32>) {
        let is = |which: Signal| signal == Some(which.as_raw());
        if is(Signal::TTIN) || is(Signal::TTOU) {
            if let Some(terminal) = Terminal::hand_over(self.group) {
                self.terminal = Some(terminal);
                send(self.group, Signal::CONT);
            }
        } else if is(Signal::TSTP) {
            terminal::stop_with_it(self.group);
        }
    }

    /// Ends the group in order; returns when the process has exited.
    async fn kill(&mut self, grace: Duration) -> io::Result<()> {
        send(self.group, Signal::TERM);
        // What is stopped hears nothing.
        send(self.group, Signal::CONT);
        if let Ok(exited) = timeout(grace, self.exited()).await {
            return exited;
        }
        send(self.group, Signal::KILL);
        self.exited().await
    }

    /// Ends what is left of the group when its first process is gone. While anything is left, the number is the group's.
    async fn kill_rest(&self, grace: Duration) {
        let empty = async {
            while test_kill_process_group(self.group).is_ok() {
                sleep(PAUSE).await;
            }
        };
        if timeout(grace, empty).await.is_err() {
            send(self.group, Signal::KILL);
        }
    }
}

/// Sends a signal to every process of a group. One that has none left needs none.
fn send(group: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(group, signal) {
        tracing::debug!(%error, ?signal, "cannot signal the script");
    }
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        // Neither is never both absent once a process has ended.
        (None, None) => 255,
    }
}
