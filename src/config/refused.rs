//! Settings that are part of the interface while what they ask for is not: refused with a plain
//! word, never ignored. When a feature arrives, its rows go.

use super::fault::Wrong;
use super::parse::{MAX_SIZE, choice, size};
use super::setting::{ROLE, SPOOL_DIR, SPOOL_MAX_BYTES, SPOOL_SYNC, Setting};

/// What this version can honour of a setting.
pub(crate) struct Refusal {
    pub(crate) setting: &'static Setting,
    /// Whether a value asks for nothing that is absent; an error when it has not the right form.
    pub(crate) available: fn(&str) -> Result<bool, Wrong>,
    /// What is absent, to the user.
    pub(crate) reason: &'static str,
}

/// Default of `--spool-max-bytes`, the only size that asks for nothing.
const SPOOL_DEFAULT_BYTES: u64 = 256 * 1024 * 1024;

const NO_SPOOL: &str = "the disk spool is not built yet";

pub(crate) static REFUSALS: &[Refusal] = &[
    Refusal {
        setting: &ROLE,
        available: |value| Ok(value != "agent"),
        reason: "being the workspace agent is not built yet",
    },
    Refusal {
        setting: &SPOOL_DIR,
        available: |_| Ok(false),
        reason: NO_SPOOL,
    },
    Refusal {
        setting: &SPOOL_MAX_BYTES,
        available: |value| Ok(size(value, 1, MAX_SIZE)? == SPOOL_DEFAULT_BYTES),
        reason: NO_SPOOL,
    },
    Refusal {
        setting: &SPOOL_SYNC,
        available: |value| {
            choice(
                value,
                &[("always", false), ("interval", true), ("never", false)],
            )
        },
        reason: NO_SPOOL,
    },
];
