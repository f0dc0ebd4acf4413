//! What the log is told of a connection that fails: the first failure, each new kind of failure, and a
//! reminder from time to time; the rest is for who debugs.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use super::super::settings::Settings;
use crate::metrics::DialOutcome;

/// How often a lasting failure is repeated in the log.
const REMIND_AFTER: Duration = Duration::from_secs(60);

/// What has been told so far.
#[derive(Debug, Default)]
pub(super) struct Outage {
    last_warning: Option<Warning>,
    /// Failures since the last good connection.
    failures: u64,
    /// The present connection, or none, is what the log says last at the level that people read.
    announced: bool,
}

#[derive(Debug)]
struct Warning {
    at: Instant,
    /// How the dial counted; `None` for a connection that was lost.
    kind: Option<DialOutcome>,
}

impl Outage {
    /// A dial failed, or with `None` for `kind`, a connection was lost or not even tried.
    pub(super) fn failed(&mut self, kind: Option<DialOutcome>, error: &dyn Display) {
        self.failures += 1;
        let failures = self.failures;
        if self.is_news(kind) {
            self.last_warning = Some(Warning {
                at: Instant::now(),
                kind,
            });
            self.announced = false;
            tracing::warn!(
                failures,
                "no connection to the control plane: {error}; keeps trying"
            );
        } else {
            tracing::debug!(
                failures,
                "no connection to the control plane: {error}; keeps trying"
            );
        }
    }

    /// A connection stands.
    pub(super) fn connected(&mut self, settings: &Settings) {
        let (role, host) = (&settings.role, settings.url.host_str().unwrap_or_default());
        let transport = settings.transport.name();
        if self.announced {
            tracing::debug!(host, role, transport, "connected to the control plane");
        } else {
            self.announced = true;
            tracing::info!(host, role, transport, "connected to the control plane");
        }
    }

    /// The connection has lasted: the next failure is the first of another outage.
    pub(super) fn is_over(&mut self) {
        self.last_warning = None;
        self.failures = 0;
    }

    fn is_news(&self, kind: Option<DialOutcome>) -> bool {
        self.last_warning
            .as_ref()
            .is_none_or(|last| last.kind != kind || last.at.elapsed() >= REMIND_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lasting_failure_is_told_at_first_then_each_minute_and_when_it_changes() {
        let mut outage = Outage::default();
        let told = |outage: &mut Outage, kind| {
            let news = outage.is_news(kind);
            outage.failed(kind, &"it broke");
            news
        };
        let unreachable = Some(DialOutcome::Unreachable);
        assert!(told(&mut outage, unreachable));
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(10)).await;
            assert!(!told(&mut outage, unreachable));
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(told(&mut outage, unreachable));
        assert!(told(&mut outage, Some(DialOutcome::Unauthorized)));
        assert!(told(&mut outage, None));
        assert!(!told(&mut outage, None));
        outage.is_over();
        assert!(told(&mut outage, None));
    }
}
