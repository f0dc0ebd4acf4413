//! The agents that may connect, as they are configured.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use crate::config::parse;
use crate::config::secret::REDACTED;

/// An agent that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSpec {
    /// What it authenticates with.
    pub token: AgentToken,
    /// Who it is.
    pub labels: Labels,
    /// When it was made; `None`: when the control plane started.
    pub created_at: Option<SystemTime>,
    /// The scripts of its manifest.
    pub scripts: Vec<ScriptSpec>,
}

/// The names of an agent; each has 1 to 256 bytes and no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Owner of the workspace.
    pub username: String,
    /// The workspace.
    pub workspace_name: String,
    /// The agent within the workspace.
    pub agent_name: String,
    /// The template that the workspace was made of.
    pub template_name: String,
}

impl Labels {
    /// Agent, user and workspace: what identifies an agent where the template has no place.
    pub fn identity(&self) -> [&str; 3] {
        [&self.agent_name, &self.username, &self.workspace_name]
    }
}

/// Which names of agents the series of their metrics have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// The owner of the workspace.
    pub username: bool,
    /// The workspace.
    pub workspace_name: bool,
    /// The agent within the workspace.
    pub agent_name: bool,
    /// The template that the workspace was made of.
    pub template_name: bool,
}

impl By {
    /// All of them: the series of different agents are different.
    pub const ALL: Self = Self {
        username: true,
        workspace_name: true,
        agent_name: true,
        template_name: true,
    };

    /// None: all agents share their series.
    pub const NONE: Self = Self {
        username: false,
        workspace_name: false,
        agent_name: false,
        template_name: false,
    };
}

/// A script that an agent is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptSpec {
    /// The script itself.
    pub script: String,
    /// Name for people; may be empty.
    pub display_name: String,
    /// Schedule of 5 or 6 fields, the first of 6 being seconds; empty for none.
    pub cron: String,
    /// Run when the workspace starts.
    pub run_on_start: bool,
    /// Run when the workspace stops.
    pub run_on_stop: bool,
    /// Whether logins wait for it.
    pub start_blocks_login: bool,
    /// How long it may run; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Where its output goes; empty for the agent's own choice.
    pub log_path: String,
    /// Its id; `None`: one that follows from its place in the file.
    pub id: Option<[u8; 16]>,
    /// Id of the source of its log lines; `None`: the same as its id.
    pub log_source_id: Option<[u8; 16]>,
}

/// A token of the form that coderd issues: a UUID. Never shown.
#[derive(Clone, Copy)]
pub struct AgentToken([u8; 16]);

impl AgentToken {
    /// Reads the text form, 8-4-4-4-12 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse::uuid(text).map(Self)
    }

    pub(super) fn bytes(&self) -> [u8; 16] {
        self.0
    }

    /// Whether both are the same, in a time that does not depend on how far they agree.
    pub fn is(&self, other: &Self) -> bool {
        let differing = self
            .0
            .iter()
            .zip(other.0)
            .fold(0, |bits, (a, b)| black_box(bits | (a ^ b)));
        black_box(differing) == 0
    }
}

impl PartialEq for AgentToken {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for AgentToken {}

impl fmt::Debug for AgentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}
