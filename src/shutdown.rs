//! What signals do: the first one to stop begins the drain, the deadline or a second one ends it.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two moments of a stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Nothing new is taken from now on; what is held is still delivered.
    pub drain: CancellationToken,
    /// Nothing is awaited any more: what is still held is counted as lost.
    pub deadline: CancellationToken,
}

impl Stop {
    /// Begins the drain and waits until it may take no longer: for `timeout`, or until `hurry` comes.
    async fn drain_for(&self, timeout: Duration, hurry: impl Future<Output = ()>) {
        self.drain.cancel();
        tokio::select! {
            () = tokio::time::sleep(timeout) => tracing::warn!(?timeout, "the drain deadline has passed"),
            () = hurry => tracing::warn!("told to stop a second time: not waiting for the drain"),
        }
        self.deadline.cancel();
    }
}

/// The signals that a sidecar listens to.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
}

/// What the operator asks for while the process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGHUP: read configuration, token and certificates again.
    Reload,
    /// SIGUSR1: log the balance.
    Balance,
}

impl Signals {
    /// Takes the signals over from the system's defaults.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Serves requests until told to stop, then lets the drain take up to `drain_timeout`. Returns once
    /// [`Stop::deadline`] is cancelled; drop the future when the drain is done before.
    pub async fn serve(
        mut self,
        stop: &Stop,
        drain_timeout: Duration,
        mut request: impl FnMut(Request),
    ) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => request(Request::Reload),
                _ = self.user1.recv() => request(Request::Balance),
            }
        }
        let hurry = async {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        };
        stop.drain_for(drain_timeout, hurry).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn the_drain_ends_at_its_deadline() {
        let (stop, before) = (Stop::default(), Instant::now());
        let waited = tokio::join!(stop.drain_for(TIMEOUT, std::future::pending()), async {
            stop.drain.cancelled().await;
            assert!(!stop.deadline.is_cancelled());
            before.elapsed()
        });
        assert_eq!((waited.1, before.elapsed()), (Duration::ZERO, TIMEOUT));
        assert!(stop.deadline.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_drain_at_once() {
        let (stop, before) = (Stop::default(), Instant::now());
        stop.drain_for(TIMEOUT, std::future::ready(())).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert!(stop.deadline.is_cancelled());
    }
}
