//! What the resolution of a configuration may ask of the machine.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The questions that turn a written configuration into a usable one. A parameter, so that tests
/// answer them without touching the environment or the file system of their process.
pub trait Host {
    /// Value of an environment variable.
    fn variable(&self, name: &str) -> Option<OsString>;

    /// Content of a file.
    ///
    /// # Errors
    /// When the file cannot be read, or holds more than `limit` bytes
    /// ([`io::ErrorKind::FileTooLarge`]).
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// Whether the path leads to an existing directory.
    fn is_directory(&self, path: &Path) -> bool;

    /// Directory that relative paths start from.
    ///
    /// # Errors
    /// When it was removed or may not be entered.
    fn current_directory(&self) -> io::Result<PathBuf>;
}

/// The machine and the process that this code runs in.
#[derive(Clone, Copy, Debug)]
pub struct ThisMachine;

impl Host for ThisMachine {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let read = File::open(path)?
            .take(limit.saturating_add(1))
            .read_to_end(&mut content)?;
        if u64::try_from(read).is_ok_and(|read| read <= limit) {
            Ok(content)
        } else {
            Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {limit} bytes"),
            ))
        }
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn current_directory(&self) -> io::Result<PathBuf> {
        std::env::current_dir()
    }
}
