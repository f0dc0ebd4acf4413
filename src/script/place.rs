//! A directory for a socket and the files beside it, for tests. What is done there, each test module says itself.

use std::path::PathBuf;

use tempfile::TempDir;

pub(super) struct Place {
    pub(super) directory: TempDir,
    pub(super) socket: PathBuf,
}

impl Place {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("weir.sock");
        Self { directory, socket }
    }
}
