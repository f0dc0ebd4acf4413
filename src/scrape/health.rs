//! Whether the data path makes progress and whether it takes logs: what `/-/healthy` and `/-/ready` answer.
//!
//! Neither asks whether the control plane is up: an outage must fill the buffer, not get the process that holds
//! it killed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Without a beat for this long the data path counts as stuck: three beats of the usual 10 s, so that a few that
/// come late on a busy machine cost nobody a restart.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How far the life of the sidecar has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The audit socket is not open yet.
    Starting,
    /// Logs are taken.
    Accepting,
    /// No more logs are taken, those that are held are sent.
    Draining,
    /// Nothing is held any more.
    Stopped,
}

impl Phase {
    /// The word for it, as the status document has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Accepting => "accepting",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// Answer to a question about the health, with the reason in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether all is well.
    pub good: bool,
    /// Why.
    pub reason: String,
}

/// The health of one sidecar.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    last_beat: Instant,
}

impl Health {
    /// Starting, with a first beat now.
    pub fn new(now: Instant) -> Self {
        let state = Mutex::new(State {
            phase: Phase::Starting,
            last_beat: now,
        });
        Self { state }
    }

    /// The sidecar has come this far.
    pub fn enter(&self, phase: Phase) {
        self.state().phase = phase;
    }

    /// How far the sidecar has come.
    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// The data path's runtime had a turn.
    pub fn beat(&self, now: Instant) {
        self.state().last_beat = now;
    }

    /// Whether the data path makes progress.
    pub fn healthy(&self, now: Instant) -> Verdict {
        let silence = now.saturating_duration_since(self.state().last_beat);
        let good = silence < STUCK_AFTER;
        let (seconds, limit) = (silence.as_secs(), STUCK_AFTER.as_secs());
        let reason = if good {
            format!("the data path had its last turn {seconds} s ago")
        } else {
            format!(
                "the data path is stuck: its last turn was {seconds} s ago, the limit is {limit} s"
            )
        };
        Verdict { good, reason }
    }

    /// Whether logs are taken.
    pub fn ready(&self) -> Verdict {
        let phase = self.phase();
        let reason = match phase {
            Phase::Starting => "starting: the audit socket is not open yet",
            Phase::Accepting => "accepting logs",
            Phase::Draining => "draining: no more logs are taken, those that are held are sent",
            Phase::Stopped => "stopped",
        };
        Verdict {
            good: phase == Phase::Accepting,
            reason: reason.to_owned(),
        }
    }

    /// Both fields are plain values, so a poisoned lock protects a whole state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_a_matter_of_beats_alone() {
        let start = Instant::now();
        let health = Health::new(start);
        let just = Duration::from_nanos(1);
        assert!(health.healthy(start).good);
        assert!(health.healthy(start + STUCK_AFTER - just).good);
        let stuck = health.healthy(start + STUCK_AFTER);
        assert!(!stuck.good);
        assert!(stuck.reason.contains("30 s ago"), "{}", stuck.reason);

        let later = start + STUCK_AFTER * 2;
        health.beat(later);
        health.enter(Phase::Draining);
        assert!(health.healthy(later + STUCK_AFTER - just).good);
        // A clock that is read before the beat and compared after it is no failure.
        assert!(health.healthy(start).good);
    }

    #[test]
    fn only_the_accepting_phase_is_ready() {
        let health = Health::new(Instant::now());
        assert_eq!(health.phase(), Phase::Starting);
        assert!(!health.ready().good);
        for (phase, ready) in [
            (Phase::Accepting, true),
            (Phase::Draining, false),
            (Phase::Stopped, false),
        ] {
            health.enter(phase);
            assert_eq!(health.phase(), phase);
            assert_eq!(health.ready().good, ready);
            assert!(health.ready().reason.starts_with(phase.name()));
        }
    }
}
