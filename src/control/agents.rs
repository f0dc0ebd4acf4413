//! The agents that may connect, and what is known of each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use prost::Message as _;

use crate::config::control::{AgentSpec, AgentToken, Labels, ScriptSpec};
use crate::metrics::control::{ControlMetrics, Present};
use crate::pb::agent::{Manifest, WorkspaceAgentScript};

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
        let all = specs
            .iter()
            .map(|spec| (spec.token, Arc::new(Agent::new(spec))))
            .collect();
        Self { all }
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
    pub(super) labels: Labels,
    /// Its manifest, encoded.
    pub(super) manifest: Bytes,
    /// Bytes of log lines that were taken.
    log_bytes: AtomicU64,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    open: usize,
    /// While any is open.
    connected: Option<Present>,
}

impl Agent {
    fn new(spec: &AgentSpec) -> Self {
        Self {
            labels: spec.labels.clone(),
            manifest: manifest(spec).encode_to_vec().into(),
            log_bytes: AtomicU64::new(0),
            sessions: Mutex::default(),
        }
    }

    /// Makes a session one of this agent's until the seat is dropped; `None` when it has too many. Sessions begin and
    /// end here and nowhere else, whatever they run on.
    pub(super) fn enter(self: &Arc<Self>, role: Role, metrics: &ControlMetrics) -> Option<Seat> {
        let mut sessions = self.sessions();
        if sessions.open == MAX_SESSIONS {
            return None;
        }
        sessions.open += 1;
        sessions.connected.get_or_insert_with(|| metrics.agent());
        drop(sessions);
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

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        // Nothing that can panic runs while it is held.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut sessions = self.agent.sessions();
        sessions.open -= 1;
        if sessions.open == 0 {
            sessions.connected = None;
        }
    }
}

fn manifest(spec: &AgentSpec) -> Manifest {
    let Labels {
        username,
        workspace_name,
        agent_name,
        ..
    } = &spec.labels;
    let workspace = id_of(&[username, workspace_name]);
    let scripts = spec.scripts.iter().enumerate();
    Manifest {
        agent_id: id_of(&[username, workspace_name, agent_name]),
        agent_name: agent_name.clone(),
        owner_username: username.clone(),
        workspace_id: workspace,
        workspace_name: workspace_name.clone(),
        scripts: scripts
            .map(|(index, script)| script_of(&spec.labels, index, script))
            .collect(),
        ..Manifest::default()
    }
}

fn script_of(labels: &Labels, index: usize, script: &ScriptSpec) -> WorkspaceAgentScript {
    let given = |id: Option<[u8; 16]>| id.map(|id| Bytes::copy_from_slice(&id));
    let id = given(script.id).unwrap_or_else(|| {
        let index = index.to_string();
        id_of(&[
            &labels.username,
            &labels.workspace_name,
            &labels.agent_name,
            &index,
        ])
    });
    WorkspaceAgentScript {
        log_source_id: given(script.log_source_id).unwrap_or_else(|| id.clone()),
        log_path: script.log_path.clone(),
        script: script.script.clone(),
        cron: script.cron.clone(),
        run_on_start: script.run_on_start,
        run_on_stop: script.run_on_stop,
        start_blocks_login: script.start_blocks_login,
        // Far below the range of a protobuf duration: settings allow 30 days.
        timeout: script.timeout.and_then(|timeout| timeout.try_into().ok()),
        display_name: script.display_name.clone(),
        id,
    }
}

/// A UUID of version 8 (RFC 9562) that follows from names, so that it is the same after a restart: their FNV-1a hash
/// of 128 bits, each name followed by a byte that is in none of them.
fn id_of(names: &[&str]) -> Bytes {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    let bytes = names.iter().flat_map(|name| name.bytes().chain([0]));
    let hash = bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    let id = hash & !VERSION & !VARIANT | 8 << 76 | 0b10 << 62;
    Bytes::copy_from_slice(&id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(token: u8, agent_name: &str) -> AgentSpec {
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
    fn the_manifest_names_the_agent_and_its_scripts() {
        let decode = |spec: &AgentSpec| {
            let agents = Agents::new(std::slice::from_ref(spec));
            let agent = agents.find(&spec.token).unwrap();
            Manifest::decode(agent.manifest.clone()).unwrap()
        };
        let manifest = decode(&spec(1, "one"));
        assert_eq!(manifest.agent_name, "one");
        assert_eq!(manifest.owner_username, "alice");
        assert_eq!(manifest.workspace_name, "dev");
        assert_eq!(
            (manifest.agent_id[6] >> 4, manifest.agent_id[8] >> 6),
            (8, 2)
        );
        let script = &manifest.scripts[0];
        assert_eq!(
            (script.script.as_str(), script.run_on_start),
            ("true", true)
        );
        assert_eq!(script.id, script.log_source_id);
        assert_eq!(script.timeout.unwrap().nanos, 500_000_000);

        // The same after a restart, and different for each.
        assert_eq!(decode(&spec(9, "one")), manifest);
        let other = decode(&spec(1, "two"));
        assert_ne!(other.agent_id, manifest.agent_id);
        assert_eq!(other.workspace_id, manifest.workspace_id);
        assert_ne!(other.scripts[0].id, script.id);
        assert_eq!(script.id.len(), 16);
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
        assert!(agent.sessions().connected.is_some());
        seats.pop();
        assert!(agent.enter(Role::Agent, &metrics).is_some());
        seats.clear();
        assert!(agent.sessions().connected.is_none());
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
