//! Signals that are handed on to a script.

use std::convert::Infallible;
use std::io;

use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;
use rustix::process::{Pid, Signal};
use tokio::signal::unix::{self, SignalKind};

use super::send;

/// What is handed on. Those that tell of a fault of this process are its own; SIGTTIN and SIGTTOU are about its own group.
const HANDED_ON: [Signal; 9] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::CONT,
    Signal::TSTP,
];

/// The signals of this process from now on: they end or stop it no more.
#[derive(Debug)]
pub struct Signals(SelectAll<Received>);

/// One signal, each time that it comes.
#[derive(Debug)]
struct Received {
    signal: Signal,
    stream: unix::Signal,
}

impl futures_util::Stream for Received {
    type Item = Signal;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Signal>> {
        let signal = self.signal;
        self.stream.poll_recv(cx).map(|came| came.map(|()| signal))
    }
}

impl Signals {
    /// Takes them over. Those that are ignored stay so, for a script too: nohup(1) and the `&` of a shell mean it.
    ///
    /// Needs a tokio runtime with signals.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn take() -> io::Result<Self> {
        let ignored = ignored();
        let mut all = SelectAll::new();
        for signal in HANDED_ON {
            let number = signal.as_raw();
            if ignored & (1 << (number - 1)) == 0 {
                let stream = unix::signal(SignalKind::from_raw(number))?;
                all.push(Received { signal, stream });
            }
        }
        Ok(Self(all))
    }

    /// Hands on to every process of a group what comes, while it is polled.
    pub async fn hand_on(&mut self, group: Pid) -> Infallible {
        loop {
            match self.0.next().await {
                Some(signal) => send(group, signal),
                // All of them are ignored.
                None => return std::future::pending().await,
            }
        }
    }
}

/// The set of ignored signals (proc_pid_status(5)); without /proc, none.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}
