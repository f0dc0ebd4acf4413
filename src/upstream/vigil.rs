//! Whether the peer of a connection is alive: what counts is that something comes, whatever it is.

use std::time::Duration;

use tokio::time::Instant;

/// Silence after which the peer is asked for a sign of life. coderd itself pings every 15 s.
pub(super) const PING_AFTER: Duration = Duration::from_secs(10);

/// How long the answer may take. With [`PING_AFTER`], a dead connection is known after 20 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Watches over the silence of one connection.
#[derive(Debug)]
pub(super) struct Vigil {
    ping_after: Duration,
    /// Signs of life so far, and when the last one came.
    heard: u64,
    alive: Instant,
}

/// What is to be done about a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Look again at that time.
    Wait(Instant),
    /// Ask for a sign of life, and look again at that time.
    Ask(Instant),
    /// The question went unanswered: there was silence for so long.
    Dead(Duration),
}

impl Vigil {
    /// Begins with a sign of life, and asks after so long a silence.
    pub(super) fn new(ping_after: Duration) -> Self {
        Self {
            ping_after,
            heard: 0,
            alive: Instant::now(),
        }
    }

    /// Takes note of how many signs of life there were so far.
    pub(super) fn note(&mut self, heard: u64) {
        if heard != self.heard {
            (self.heard, self.alive) = (heard, Instant::now());
        }
    }

    /// When to look first.
    pub(super) fn first_look(&self) -> Instant {
        self.alive + self.ping_after
    }

    /// Judges the silence up to now.
    pub(super) fn look(&self) -> Watch {
        let silence = self.alive.elapsed();
        let limit = self.ping_after + ANSWER_WITHIN;
        if silence >= limit {
            Watch::Dead(limit)
        } else if silence >= self.ping_after {
            Watch::Ask(self.alive + limit)
        } else {
            Watch::Wait(self.alive + self.ping_after)
        }
    }
}
