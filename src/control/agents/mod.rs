//! The agents that may connect, and what is known of each.

mod manifest;
mod presence;
pub(super) mod stats;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use prost::Message as _;

use crate::config::control::{AgentSpec, AgentToken, Labels};
use crate::metrics::control::{ControlMetrics, Present};
use crate::pb::agent::lifecycle::State;
use presence::Presence;
pub(super) use presence::{Status, lifecycle_label};
use stats::Statistics;

/// Sessions of one agent at a time. A workspace may run a sidecar in each of its containers, all with the agent's
/// token; a program that dials in a loop without hanging up is stopped before it has taken every descriptor.
const MAX_SESSIONS: usize = 1024;

/// Bytes of log lines that are taken of one agent, all together (coder/coder coderd/agentapi/logs.go).
const MAX_LOG_BYTES: u64 = 1 << 20;

/// Characters of a role that are kept for the log.
const MAX_ROLE: usize = 64;

/// All agents.
#[derive(Debug)]
pub(super) struct Agents {
    all: Vec<(AgentToken, Arc<Agent>)>,
}

impl Agents {
    pub(super) fn new(specs: &[AgentSpec]) -> Self {
        let started = SystemTime::now();
        // Agents that differ in their template alone share what has no label for it.
        let mut statistics = HashMap::new();
        let all = specs.iter().zip(0..).map(|(spec, place)| {
            let shared = statistics.entry(spec.labels.identity());
            let shared = Arc::clone(shared.or_default());
            (
                spec.token,
                Arc::new(Agent::new(spec, place, shared, started)),
            )
        });
        Self { all: all.collect() }
    }

    /// Every agent, in the order of the file.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.all.iter().map(|(_, agent)| agent)
    }

    /// The agent with this token. Every token is looked at, so that the time tells nothing about any of them.
    pub(super) fn find(&self, token: &AgentToken) -> Option<&Arc<Agent>> {
        self.all.iter().fold(
            None,
            |found, (known, agent)| {
                if known.is(token) { Some(agent) } else { found }
            },
        )
    }
}

/// What a session is to the control plane (coder/coder pull request 22052).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The agent itself, whose session is monitored.
    Agent,
    /// Something that shares the agent's token.
    Other(Arc<str>),
}

impl Role {
    /// The role of that name; without one it is the agent.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "" | "agent" => Self::Agent,
            other => Self::Other(kept(other).into()),
        }
    }

    /// What the program calls itself.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Agent => "agent",
            Self::Other(name) => name,
        }
    }

    /// Whether that is its name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        match self {
            Self::Agent => matches!(name, "" | "agent"),
            Self::Other(own) => **own == *kept(name),
        }
    }
}

/// What of a role's name is kept.
fn kept(name: &str) -> &str {
    let end = name.char_indices().nth(MAX_ROLE);
    end.and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    /// Its place among all agents.
    pub(super) place: u32,
    pub(super) labels: Labels,
    /// Its manifest, encoded.
    pub(super) manifest: Bytes,
    /// What it reports of its connections.
    pub(super) statistics: Arc<Statistics>,
    created_at: SystemTime,
    /// Bytes of log lines that were taken.
    log_bytes: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    presence: Presence,
    /// While a session is open.
    connected: Option<Present>,
}

impl Agent {
    fn new(spec: &AgentSpec, place: u32, statistics: Arc<Statistics>, started: SystemTime) -> Self {
        Self {
            place,
            labels: spec.labels.clone(),
            manifest: manifest::manifest(spec).encode_to_vec().into(),
            statistics,
            created_at: spec.created_at.unwrap_or(started),
            log_bytes: AtomicU64::new(0),
            known: Mutex::default(),
        }
    }

    /// Makes a session one of this agent's until the seat is dropped; `None` when it has too many. Sessions begin and
    /// end here and nowhere else, whatever they run on.
    pub(super) fn enter(self: &Arc<Self>, role: Role, metrics: &ControlMetrics) -> Option<Seat> {
        let mut known = self.known();
        if known.presence.open == MAX_SESSIONS {
            return None;
        }
        let is_first = known.presence.enter(&role);
        known.connected.get_or_insert_with(|| metrics.agent());
        drop(known);
        if is_first {
            self.record_first(metrics);
        }
        Some(Seat {
            agent: Arc::clone(self),
            role,
            _session: metrics.session(),
        })
    }

    /// Takes log lines of so many bytes; false when they would be more than an agent may send.
    pub(super) fn take_log_lines(&self, bytes: u64) -> bool {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= MAX_LOG_BYTES);
        self.log_bytes
            .try_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Where the agent stands, and what it said of where it is in its life.
    pub(super) fn status(&self, now: SystemTime) -> (Status, State) {
        let age = now.duration_since(self.created_at).unwrap_or_default();
        let presence = &self.known().presence;
        (presence.status(age), presence.lifecycle())
    }

    /// Whether a session of the agent itself is open.
    pub(super) fn is_connected(&self) -> bool {
        self.known().presence.is_connected()
    }

    /// The agent says where it is in its life.
    pub(super) fn set_lifecycle(&self, state: State) {
        self.known().presence.set_lifecycle(state);
    }

    /// The agent says which build it is; true when its earlier sessions were another one's.
    pub(super) fn set_build(&self, version: &str) -> bool {
        self.known().presence.set_build(version)
    }

    /// Records how long the first connection took. As in coderd, a clock that runs behind the one that told when the
    /// agent was made spoils no average.
    fn record_first(&self, metrics: &ControlMetrics) {
        let Labels {
            template_name,
            agent_name,
            ..
        } = &self.labels;
        match SystemTime::now().duration_since(self.created_at) {
            Ok(waited) => metrics.first_connected(template_name, agent_name, waited),
            Err(ahead) => tracing::warn!(
                username = self.labels.username,
                workspace = self.labels.workspace_name,
                agent = agent_name,
                ahead = ?ahead.duration(),
                "an agent connected before it was made: its first connection is not timed"
            ),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing that can panic runs while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session of an agent.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) agent: Arc<Agent>,
    pub(super) role: Role,
    _session: Present,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut known = self.agent.known();
        known.presence.leave(&self.role);
        if known.presence.open == 0 {
            known.connected = None;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::control::ScriptSpec;

    pub(super) fn spec(token: u8, agent_name: &str) -> AgentSpec {
        let token = format!("{token:08x}-0000-4000-8000-000000000000");
        AgentSpec {
            token: AgentToken::parse(&token).unwrap(),
            labels: Labels {
                username: "alice".into(),
                workspace_name: "dev".into(),
                agent_name: agent_name.into(),
                template_name: "docker".into(),
            },
            created_at: None,
            scripts: vec![ScriptSpec {
                script: "true".into(),
                run_on_start: true,
                timeout: Some(std::time::Duration::from_millis(1500)),
                ..ScriptSpec::default()
            }],
        }
    }

    #[test]
    fn an_agent_is_found_by_its_token_alone() {
        let specs = [spec(1, "one"), spec(2, "two")];
        let agents = Agents::new(&specs);
        for spec in &specs {
            let found = agents.find(&spec.token).unwrap();
            assert_eq!(found.labels, spec.labels);
        }
        assert!(agents.find(&spec(3, "one").token).is_none());
    }

    #[test]
    fn roles_go_by_their_names() {
        let long = "é".repeat(MAX_ROLE + 1);
        for name in ["", "agent", "weir", &long] {
            assert!(Role::named(name).is_named(name), "{name}");
        }
        assert_eq!(Role::named(""), Role::named("agent"));
        assert!(!Role::named("weir").is_named("agent"));
        assert!(!Role::Agent.is_named("weir"));
        assert_eq!(Role::named(&long), Role::Other("é".repeat(MAX_ROLE).into()));
    }

    #[test]
    fn sessions_are_limited_and_counted() {
        let metrics = ControlMetrics::new().unwrap();
        let agents = Agents::new(&[spec(1, "one")]);
        let agent = agents.find(&spec(1, "one").token).unwrap();
        let mut seats: Vec<_> = (0..MAX_SESSIONS)
            .map(|_| agent.enter(Role::Agent, &metrics).unwrap())
            .collect();
        assert!(agent.enter(Role::Agent, &metrics).is_none());
        assert!(agent.known().connected.is_some());
        seats.pop();
        assert!(agent.enter(Role::Agent, &metrics).is_some());
        seats.clear();
        assert!(agent.known().connected.is_none());
    }

    #[test]
    fn log_lines_are_taken_up_to_the_limit() {
        let agents = Agents::new(&[spec(1, "one")]);
        let agent = agents.find(&spec(1, "one").token).unwrap();
        assert!(agent.take_log_lines(MAX_LOG_BYTES - 1));
        assert!(!agent.take_log_lines(2));
        assert!(agent.take_log_lines(1));
        assert!(!agent.take_log_lines(u64::MAX));
        assert!(agent.take_log_lines(0));
    }
}
