//! Paths: made absolute, checked for what a socket address can hold, and all different.

use std::path::{Path, PathBuf};

use super::Resolver;
use crate::config::fault::Wrong;
use crate::config::setting::{API_SOCKET, PROMETHEUS_ADDRESS, SOCKET_PATH, Setting};
use crate::config::{MAX_SOCKET_PATH, ScrapeAddress, Socket};

impl Resolver<'_> {
    pub(super) fn socket_path(&mut self) -> Option<PathBuf> {
        if self.raw.get(&SOCKET_PATH).is_some() {
            return self.given_socket(&SOCKET_PATH);
        }
        let directory = self.host.variable("TMPDIR").filter(|dir| !dir.is_empty());
        let directory = directory.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        self.socket_at(&SOCKET_PATH, &directory.join("boundary-audit.sock"))
    }

    pub(super) fn api_socket(&mut self, audit_socket: Option<&Path>) -> Option<PathBuf> {
        if self.raw.get(&API_SOCKET).is_some() {
            return self.given_socket(&API_SOCKET);
        }
        // Without the one there is a fault already, and no place for the other.
        let beside = audit_socket?.with_file_name("weir.sock");
        self.socket_at(&API_SOCKET, &beside)
    }

    fn given_socket(&mut self, setting: &Setting) -> Option<PathBuf> {
        let text = self.raw.get(setting)?.texts.first()?;
        self.socket_at(setting, Path::new(text))
    }

    /// A path that a socket can be bound to.
    pub(super) fn socket_at(&mut self, setting: &Setting, path: &Path) -> Option<PathBuf> {
        let path = self.absolute(setting, path)?;
        let length = path.as_os_str().len();
        let got = if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().contains(&0)
        {
            "no file name, or a NUL".to_owned()
        } else if length > MAX_SOCKET_PATH {
            format!("{length} bytes in {}", path.display())
        } else if self.host.is_directory(&path) {
            format!("the directory {}", path.display())
        } else {
            return Some(path);
        };
        let expected = format!("the path of a socket, at most {MAX_SOCKET_PATH} bytes");
        self.wrong(setting, &Wrong::new(expected, got));
        None
    }

    pub(super) fn path(&mut self, setting: &Setting) -> Option<PathBuf> {
        let text = self.raw.get(setting)?.texts.first()?;
        self.absolute(setting, Path::new(text))
    }

    fn absolute(&mut self, setting: &Setting, path: &Path) -> Option<PathBuf> {
        if path.as_os_str().is_empty() {
            self.wrong(setting, &Wrong::new("a path", "nothing"));
            return None;
        }
        if path.is_absolute() {
            return Some(path.components().collect());
        }
        match self.host.current_directory() {
            Ok(directory) => Some(directory.join(path).components().collect()),
            Err(error) => {
                let message =
                    format!("relative path, and the current directory is unknown: {error}");
                self.fault(setting, message);
                None
            }
        }
    }

    /// Two listeners on one path would take it from each other.
    pub(super) fn check_paths_differ(
        &mut self,
        socket: Option<&Socket>,
        prometheus: Option<&ScrapeAddress>,
        api_socket: Option<&Path>,
    ) {
        let scrape = match prometheus {
            Some(ScrapeAddress::Unix(path)) => Some(path.as_path()),
            Some(ScrapeAddress::Tcp(_)) | None => None,
        };
        let paths = [
            (&SOCKET_PATH, socket.map(|socket| socket.path.as_path())),
            (&PROMETHEUS_ADDRESS, scrape),
            (&API_SOCKET, api_socket),
        ];
        for (index, (setting, path)) in paths.iter().enumerate() {
            let Some(path) = path else { continue };
            let earlier = paths.iter().take(index);
            for (other, _) in earlier.filter(|(_, other)| *other == Some(*path)) {
                let expected = format!("another path than that of {}", other.long());
                self.wrong(setting, &Wrong::new(expected, path.display().to_string()));
            }
        }
    }
}
