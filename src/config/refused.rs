//! Settings that are part of the interface while what they ask for is not: refused with a plain
//! word, never ignored. When a feature arrives, its rows go.

use super::fault::Wrong;
use super::setting::{ROLE, Setting};

/// What this version can honour of a setting.
pub(crate) struct Refusal {
    pub(crate) setting: &'static Setting,
    /// Whether a value asks for nothing that is absent; an error when it has not the right form.
    pub(crate) available: fn(&str) -> Result<bool, Wrong>,
    /// What is absent, to the user.
    pub(crate) reason: &'static str,
}

pub(crate) static REFUSALS: &[Refusal] = &[Refusal {
    setting: &ROLE,
    available: |value| Ok(value != "agent"),
    reason: "being the workspace agent is not built yet",
}];
