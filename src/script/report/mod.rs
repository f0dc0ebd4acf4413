//! One run of a script, as it is told.

mod json;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::pb::agent::timing;

/// Longest name, in bytes: it stands in log lines and in every key.
pub const MAX_NAME: usize = 128;

/// The last second that a protobuf Timestamp holds: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// An enum whose variants are the values of a text field; each is spelled once.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident => $wire:path { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value as it is written.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $value,)+ }
            }

            /// The value on the wire.
            pub const fn wire(self) -> $wire {
                match self { $(Self::$variant => <$wire>::$variant,)+ }
            }
        }
    };
}

words! {
    /// When in the life of a workspace a script runs.
    pub enum Stage => timing::Stage {
        /// When the workspace starts.
        Start = "start",
        /// When it stops.
        Stop = "stop",
        /// By a schedule.
        Cron = "cron",
    }
}

words! {
    /// How a run ended. Everything but [`Status::Ok`] counts as a failure (coder/coder
    /// agent/agentscripts/agentscripts.go).
    pub enum Status => timing::Status {
        /// Exit code 0, and nothing was left behind that holds the outputs.
        Ok = "OK",
        /// Another exit code, or a signal, or no start.
        ExitFailure = "EXIT_FAILURE",
        /// Ended because it took too long.
        TimedOut = "TIMED_OUT",
        /// Exit code 0, and a process that it left behind still held its outputs 10 s later.
        PipesLeftOpen = "PIPES_LEFT_OPEN",
    }
}

/// One run of a script. Its values fit together: [`Report::new`] is the only way to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    label: Label,
    stage: Option<Stage>,
    exit_code: i32,
    started_at: SystemTime,
    ended_at: SystemTime,
    status: Status,
}

/// By what a script is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The id that its manifest gives it.
    pub id: Option<[u8; 16]>,
    /// 1 to [`MAX_NAME`] bytes without control characters.
    pub name: Option<Arc<str>>,
}

/// What two reports of one run have in common: the script and its start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The script.
    pub script: Script,
    /// When it began.
    pub started_at: SystemTime,
}

/// A script, by its id or, without one, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Script {
    /// By its id.
    Id([u8; 16]),
    /// By its name.
    Name(Arc<str>),
}

/// Why there is no such report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, got {got}")]
pub struct Wrong {
    field: &'static str,
    expected: String,
    got: String,
}

impl Wrong {
    fn new(field: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self {
            field,
            expected: expected.into(),
            got: got.into(),
        }
    }
}

impl Report {
    /// A run.
    ///
    /// # Errors
    /// When the name is none, an id comes without a stage, a time is not of the years 1970 to 9999, the end is before the
    /// start, or the status contradicts the exit code.
    pub fn new(
        label: Label,
        stage: Option<Stage>,
        exit_code: i32,
        (started_at, ended_at): (SystemTime, SystemTime),
        status: Status,
    ) -> Result<Self, Wrong> {
        if let Some(name) = &label.name {
            check_name(name)?;
        }
        // The control plane stores a stage for each run: none of them would be true of one that names none.
        if label.id.is_some() && stage.is_none() {
            return Err(Wrong::new(
                "stage",
                "start, stop or cron beside an id",
                "nothing",
            ));
        }
        for (field, time) in [("started_at", started_at), ("ended_at", ended_at)] {
            let since = time.duration_since(UNIX_EPOCH);
            if !since.is_ok_and(|since| since.as_secs() <= LAST_SECOND) {
                return Err(Wrong::new(field, "a time from 1970 to 9999", "another"));
            }
        }
        // The control plane refuses such a run (coder/coder coderd/agentapi/scripts.go).
        if ended_at < started_at {
            let got = format!(
                "a time {:?} before it",
                started_at.duration_since(ended_at).unwrap_or_default()
            );
            return Err(Wrong::new(
                "ended_at",
                "a time that is not before started_at",
                got,
            ));
        }
        let contradiction = match status {
            Status::Ok => exit_code != 0,
            Status::ExitFailure => exit_code == 0,
            Status::TimedOut | Status::PipesLeftOpen => false,
        };
        if contradiction {
            let got = format!("{} with exit_code {exit_code}", status.word());
            return Err(Wrong::new(
                "status",
                "OK if and only if exit_code is 0, or TIMED_OUT or PIPES_LEFT_OPEN",
                got,
            ));
        }
        Ok(Self {
            label,
            stage,
            exit_code,
            started_at,
            ended_at,
            status,
        })
    }

    /// Whether the run counts as a success.
    pub fn success(&self) -> bool {
        self.status == Status::Ok
    }

    /// When in the life of the workspace it ran, if it is known.
    pub fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// How long it took.
    pub fn duration(&self) -> Duration {
        self.ended_at
            .duration_since(self.started_at)
            .unwrap_or_default()
    }

    /// By what it is told from other runs; without id and name it is not.
    pub fn key(&self) -> Option<Key> {
        let script = match &self.label {
            Label { id: Some(id), .. } => Script::Id(*id),
            Label { name, .. } => Script::Name(Arc::clone(name.as_ref()?)),
        };
        Some(Key {
            script,
            started_at: self.started_at,
        })
    }

    /// The run for the control plane, which knows scripts by their ids.
    pub fn timing(&self) -> Option<crate::pb::agent::Timing> {
        let (id, stage) = (self.label.id?, self.stage?);
        Some(crate::pb::agent::Timing {
            script_id: bytes::Bytes::copy_from_slice(&id),
            start: Some(self.started_at.into()),
            end: Some(self.ended_at.into()),
            exit_code: self.exit_code,
            stage: stage.wire().into(),
            status: self.status.wire().into(),
        })
    }
}

/// Whether a script can have this name.
///
/// # Errors
/// When it is empty, too long, or has control characters.
pub fn check_name(name: &str) -> Result<(), Wrong> {
    let expected = || format!("1 to {MAX_NAME} bytes without control characters");
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Wrong::new(
            "name",
            expected(),
            format!("{} bytes", name.len()),
        ));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(control) => Err(Wrong::new("name", expected(), format!("{control:?} in it"))),
        None => Ok(()),
    }
}
