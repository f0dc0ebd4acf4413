//! What signals do: the first one to stop begins the drain, its deadline or a second one ends it.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two moments of a stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Nothing new is taken from now on; what is held is still delivered.
    pub drain: CancellationToken,
    /// Nothing is awaited any more.
    pub deadline: CancellationToken,
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

    /// Serves requests until told to stop, then lets the drain take up to `timeout`, or until a second signal.
    /// Returns at the deadline; drop the future when the drain is done before.
    pub async fn serve(mut self, stop: &Stop, timeout: Duration, mut request: impl FnMut(Request)) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => request(Request::Reload),
                _ = self.user1.recv() => request(Request::Balance),
            }
        }
        let second = async {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        };
        drain(stop, timeout, second).await;
    }
}

/// Lets the drain take up to `timeout`, or until `second`. Returns at the deadline; drop the future when the drain is
/// done before.
pub(crate) async fn drain(stop: &Stop, timeout: Duration, second: impl Future<Output = ()>) {
    tracing::info!(
        ?timeout,
        "stopping: nothing new is taken, what is held is delivered"
    );
    stop.drain.cancel();
    tokio::select! {
        () = tokio::time::sleep(timeout) => tracing::warn!("the drain deadline has passed"),
        () = second => tracing::warn!("told to stop a second time: not waiting for the drain"),
    }
    stop.deadline.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn the_drain_ends_at_its_deadline() {
        let (stop, before) = (Stop::default(), Instant::now());
        let began = async {
            stop.drain.cancelled().await;
            assert!(!stop.deadline.is_cancelled());
            before.elapsed()
        };
        let ((), began) = tokio::join!(drain(&stop, TIMEOUT, std::future::pending()), began);
        assert_eq!((began, before.elapsed()), (Duration::ZERO, TIMEOUT));
        assert!(stop.deadline.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_drain_at_once() {
        let (stop, before) = (Stop::default(), Instant::now());
        drain(&stop, TIMEOUT, std::future::ready(())).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert!(stop.drain.is_cancelled() && stop.deadline.is_cancelled());
    }
}
