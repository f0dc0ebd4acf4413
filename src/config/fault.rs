//! What is wrong with a configuration, all of it at once.

use std::fmt;
use std::path::PathBuf;

/// Characters of a refused value that a message repeats: enough to recognise it, and no pasted
/// file floods the log.
const SHOWN_CHARS: usize = 80;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(&'static str),
    /// This line of the configuration file.
    File {
        /// The file, as given to `--config`.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// Nobody set it.
    Default,
}

impl Origin {
    /// Strength: a value of a higher layer replaces one of a lower.
    pub(super) fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Flag => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value that is not what it should be. Never holds a secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(super) expected: String,
    pub(super) got: String,
}

impl Wrong {
    pub(super) fn new(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            got: got.into(),
        }
    }

    /// For a value that is no secret: it is repeated, quoted and cut.
    pub(super) fn value(expected: impl Into<String>, value: &str) -> Self {
        Self::new(expected, quoted(value))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, got {}", self.expected, self.got)
    }
}

/// A value as a message repeats it: quoted, escaped and cut.
pub(super) fn quoted(value: &str) -> String {
    let shown: String = value.chars().take(SHOWN_CHARS).collect();
    let cut = if shown.len() < value.len() { "..." } else { "" };
    format!("{shown:?}{cut}")
}

/// One thing that is wrong: the flag (or file) it is about, where the value came from, what was
/// expected and what came. Secrets are described, never repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    subject: String,
    message: String,
    origin: Option<Origin>,
}

impl Fault {
    pub(super) fn new(
        subject: impl Into<String>,
        message: impl Into<String>,
        origin: Option<Origin>,
    ) -> Self {
        Self {
            subject: subject.into(),
            message: message.into(),
            origin,
        }
    }

    pub(super) fn wrong(subject: impl Into<String>, wrong: &Wrong, origin: Option<Origin>) -> Self {
        Self::new(subject, wrong.to_string(), origin)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// Every fault of a configuration; never empty. `Display` prints one line for each.
#[derive(Debug)]
pub struct Faults(pub(super) Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 fault in the configuration:")?,
            count => write!(f, "{count} faults in the configuration:")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}
