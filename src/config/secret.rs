//! A string that never shows itself.

use std::fmt;

/// What stands wherever a secret would be printed.
pub(crate) const REDACTED: &str = "[redacted]";

/// A secret such as the agent token. `Debug` and `Display` print `[redacted]`, and there is no
/// serialisation: the content leaves only through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(super) fn new(content: String) -> Self {
        Self(content)
    }

    /// The content, to be put where it is needed and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}
