//! What is known of an agent by its sessions and by what it said of itself. No clock: ages are passed in.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::Role;
use crate::pb::agent::lifecycle::State;

/// How long an agent may take to connect for the first time; the default of coderd's templates.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);

/// Where an agent stands (coder/coder coderd/database/modelmethods.go). Only sessions of [`Role::Agent`] count: they are
/// the ones that coderd monitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Status {
    /// It has not been there yet.
    Connecting,
    /// It is there.
    Connected,
    /// It was there.
    Disconnected,
    /// It has not been there for longer than a start takes.
    Timeout,
}

impl Status {
    /// The word for it in metrics.
    pub(in crate::control) const fn label(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
        }
    }
}

/// The word for a lifecycle state in metrics: that of coderd's database.
pub(in crate::control) const fn lifecycle_label(state: State) -> &'static str {
    match state {
        State::Unspecified | State::Created => "created",
        State::Starting => "starting",
        State::StartTimeout => "start_timeout",
        State::StartError => "start_error",
        State::Ready => "ready",
        State::ShuttingDown => "shutting_down",
        State::ShutdownTimeout => "shutdown_timeout",
        State::ShutdownError => "shutdown_error",
        State::Off => "off",
    }
}

/// The sessions of one agent, and what it said on them.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Open sessions of any role.
    pub(super) open: usize,
    /// Whether there was ever one.
    seen: bool,
    /// Open sessions of the agent itself.
    own: usize,
    /// Sessions of the agent itself that ever began.
    own_begun: u64,
    lifecycle: State,
    build: Option<Build>,
}

/// Which program the agent is.
#[derive(Debug)]
struct Build {
    /// The hash of its version, which may be as long as a request.
    version: u64,
    /// How many sessions had begun when it said so.
    own_begun: u64,
}

impl Presence {
    /// A session begins. True for the first there is, whatever its role.
    pub(super) fn enter(&mut self, role: &Role) -> bool {
        self.open += 1;
        if *role == Role::Agent {
            self.own += 1;
            self.own_begun += 1;
        }
        !std::mem::replace(&mut self.seen, true)
    }

    /// A session that had begun ends.
    pub(super) fn leave(&mut self, role: &Role) {
        self.open -= 1;
        if *role == Role::Agent {
            self.own -= 1;
        }
    }

    /// The agent says where it is in its life.
    pub(super) fn set_lifecycle(&mut self, state: State) {
        self.lifecycle = state;
    }

    /// The agent says which build it is. True when it was another one before, on an earlier session: what it reported
    /// then is of a program that is gone.
    pub(super) fn set_build(&mut self, version: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        version.hash(&mut hasher);
        let build = Build {
            version: hasher.finish(),
            own_begun: self.own_begun,
        };
        let before = self.build.replace(build);
        let (Some(before), Some(now)) = (before, &self.build) else {
            return false;
        };
        before.version != now.version && before.own_begun != now.own_begun
    }

    /// Whether a session of the agent itself is open.
    pub(super) fn is_connected(&self) -> bool {
        self.own > 0
    }

    /// Where the agent stands, that long after it was made.
    pub(super) fn status(&self, age: Duration) -> Status {
        match (self.own, self.own_begun) {
            (0, 0) if age > CONNECTION_TIMEOUT => Status::Timeout,
            (0, 0) => Status::Connecting,
            (0, _) => Status::Disconnected,
            _ => Status::Connected,
        }
    }

    /// What the agent last said of where it is in its life.
    pub(super) fn lifecycle(&self) -> State {
        match self.lifecycle {
            State::Unspecified => State::Created,
            said => said,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar() -> Role {
        Role::named("weir")
    }

    #[test]
    fn only_the_agent_itself_makes_it_connected() {
        let mut presence = Presence::default();
        let young = Duration::from_secs(120);
        assert_eq!(presence.status(young), Status::Connecting);
        presence.enter(&sidecar());
        assert_eq!(presence.status(young), Status::Connecting);
        assert_eq!(
            presence.status(young + Duration::from_nanos(1)),
            Status::Timeout
        );

        presence.enter(&Role::Agent);
        presence.enter(&Role::Agent);
        assert_eq!(presence.status(young), Status::Connected);
        assert_eq!(presence.status(Duration::MAX), Status::Connected);
        presence.leave(&Role::Agent);
        assert_eq!(presence.status(young), Status::Connected);
        presence.leave(&Role::Agent);
        assert_eq!(presence.status(Duration::MAX), Status::Disconnected);
        assert!(!presence.is_connected());
        assert_eq!(presence.open, 1);
    }

    #[test]
    fn the_first_session_is_first_once_whatever_its_role() {
        let mut presence = Presence::default();
        assert!(presence.enter(&sidecar()));
        presence.leave(&sidecar());
        assert!(!presence.enter(&Role::Agent));
        assert!(!presence.enter(&sidecar()));
    }

    #[test]
    fn another_build_is_another_version_on_a_later_session() {
        let mut presence = Presence::default();
        presence.enter(&Role::Agent);
        assert!(!presence.set_build("v1.0.0"), "the first");
        assert!(!presence.set_build("v2.0.0"), "the same session");
        presence.leave(&Role::Agent);
        presence.enter(&Role::Agent);
        assert!(!presence.set_build("v2.0.0"), "the same version");
        presence.leave(&Role::Agent);
        presence.enter(&Role::Agent);
        assert!(presence.set_build("v1.0.0"));
        assert!(!presence.set_build("v1.0.0"));
    }

    #[test]
    fn a_life_begins_as_created() {
        let mut presence = Presence::default();
        assert_eq!(lifecycle_label(presence.lifecycle()), "created");
        presence.set_lifecycle(State::ShutdownError);
        assert_eq!(lifecycle_label(presence.lifecycle()), "shutdown_error");
    }
}
