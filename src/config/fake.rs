//! A machine for tests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::Host;

/// A machine made of maps, with `/cwd` as its current directory and `/dir` as its only other one.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) variables: BTreeMap<String, OsString>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Host for Fake {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        match self.files.get(path) {
            Some(content) if content.len() as u64 > limit => {
                Err(io::ErrorKind::FileTooLarge.into())
            }
            Some(content) => Ok(content.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_directory(&self, path: &Path) -> bool {
        [Path::new("/cwd"), Path::new("/dir"), Path::new("/")].contains(&path)
    }

    fn current_directory(&self) -> io::Result<PathBuf> {
        Ok("/cwd".into())
    }
}

impl Fake {
    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    pub(crate) fn with_file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.into(), content.into());
        self
    }
}
