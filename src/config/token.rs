//! The agent token, and the file it may be read from again.

use std::io;
use std::path::{Path, PathBuf};

use super::fault::Wrong;
use super::host::{Host, ThisMachine};
use super::parse;
use super::secret::Secret;

/// Largest token file that is read: far more than any token, and a path to a device must not be
/// read without end.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Longest token. Servers commonly refuse requests with more than 8 KiB of headers.
const MAX_TOKEN_BYTES: usize = 4096;

/// Where the agent token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// Given as text.
    Inline(Secret),
    /// Read from this file, which may change while running. Absolute.
    File(PathBuf),
}

/// Why a token file holds no usable token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is no token.
    #[error("token file {}: expected {expected}, got {got}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What a token looks like.
        expected: String,
        /// What came instead, described without repeating it.
        got: String,
    },
}

impl TokenSource {
    /// The token as it is now. A file is read each time; it holds at most 64 KiB, so the short
    /// read may be done where it is needed.
    ///
    /// # Errors
    /// When the file cannot be read or holds no token. Inline tokens never fail.
    pub fn read(&self) -> Result<Secret, TokenError> {
        self.read_from(&ThisMachine)
    }

    pub(super) fn read_from(&self, host: &dyn Host) -> Result<Secret, TokenError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => read_file(path, host),
        }
    }
}

fn read_file(path: &Path, host: &dyn Host) -> Result<Secret, TokenError> {
    let content = host
        .read(path, MAX_FILE_BYTES)
        .map_err(|source| TokenError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    token(content.trim_ascii()).map_err(|Wrong { expected, got }| TokenError::Invalid {
        path: path.to_owned(),
        expected,
        got,
    })
}

/// A token that a header can carry. It is never repeated in the error.
pub(super) fn token(bytes: &[u8]) -> Result<Secret, Wrong> {
    let wrong = |got: String| {
        Wrong::new(
            format!("a token of 1 to {MAX_TOKEN_BYTES} visible ASCII characters"),
            got,
        )
    };
    if bytes.is_empty() {
        return Err(wrong("nothing".to_owned()));
    }
    if bytes.len() > MAX_TOKEN_BYTES {
        return Err(wrong(format!("{} bytes", bytes.len())));
    }
    if let Some(index) = bytes.iter().position(|byte| !byte.is_ascii_graphic()) {
        return Err(wrong(format!(
            "another character at position {} of {}",
            index + 1,
            bytes.len()
        )));
    }
    Ok(Secret::new(bytes.iter().copied().map(char::from).collect()))
}

/// Whether the token has the form that coderd issues, a UUID: it answers 401 to any other.
pub(super) fn is_uuid(token: &Secret) -> bool {
    parse::uuid(token.expose()).is_some()
}
