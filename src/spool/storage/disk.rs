//! A real directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Space, Storage};

/// Name of the file that is locked while a process writes.
const LOCK: &str = "lock";

/// A directory of the file system, with the two files that are in use held open.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    /// Locked for as long as this lives; `None` when nothing may be written.
    lock: Option<File>,
    written: Option<(String, File)>,
    read: Option<(String, File)>,
}

impl Disk {
    /// Opens a directory to write, after it was created when it is absent, and locks it.
    ///
    /// # Errors
    /// When it cannot be created or written, or another process has it.
    pub fn lock(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                lock: Some(lock),
                ..Self::look(path)
            }),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process uses it",
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens a directory to read, whoever else uses it.
    pub fn look(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            lock: None,
            written: None,
            read: None,
        }
    }

    /// Whether a process has locked the directory.
    pub fn in_use(path: &Path) -> bool {
        File::open(path.join(LOCK))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn writable(&self) -> io::Result<()> {
        match self.lock {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn forget(&mut self, name: &str) {
        for file in [&mut self.written, &mut self.read] {
            file.take_if(|(open, _)| open == name);
        }
    }

    fn for_writing(&mut self, name: &str) -> io::Result<&File> {
        self.writable()?;
        let open = self.written.take_if(|(open, _)| open == name);
        let (_, file) = self.written.insert(match open {
            Some(open) => open,
            None => {
                let path = self.path.join(name);
                (name.to_owned(), OpenOptions::new().write(true).open(path)?)
            }
        });
        Ok(file)
    }

    fn for_reading(&mut self, name: &str) -> io::Result<&File> {
        let open = self.read.take_if(|(open, _)| open == name);
        let (_, file) = self.read.insert(match open {
            Some(open) => open,
            None => (name.to_owned(), File::open(self.path.join(name))?),
        });
        Ok(file)
    }
}

impl Storage for Disk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            // A file that has just gone, and a name that is no text, are none of ours.
            if let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string())
                && metadata.is_file()
            {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn read(&mut self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.for_reading(name)?;
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.writable()?;
        self.forget(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(self.path.join(name))?;
        self.written = Some((name.to_owned(), file));
        Ok(())
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.for_writing(name)?.write_all_at(bytes, at)
    }

    fn truncate(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.for_writing(name)?.set_len(size)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.for_writing(name)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.writable()?;
        self.forget(from);
        self.forget(to);
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.writable()?;
        self.forget(name);
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.writable()?;
        File::open(&self.path)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let system = rustix::fs::statvfs(&self.path)?;
        Ok(Space {
            free: system.f_bavail.saturating_mul(system.f_frsize),
            total: system.f_blocks.saturating_mul(system.f_frsize),
        })
    }
}
