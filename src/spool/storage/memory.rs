//! A directory in memory, which fails and crashes as it is told to.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Space, Storage};

/// Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Inner>>);

#[derive(Clone, Debug, Default)]
struct Inner {
    /// Contents by number; a name is one of them.
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    /// As they were when they were last synced.
    durable_names: BTreeMap<String, u64>,
    next: u64,
    /// Operations that change something, so far.
    operations: u64,
    /// The machine stops in this operation, when so many bytes of it are written.
    stops_in: Option<(u64, usize)>,
    /// Bytes that fit; `None` without a limit.
    capacity: Option<u64>,
    /// What changes something fails.
    broken: bool,
    /// What reads fails.
    unreadable: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    /// As it was when it was last synced.
    durable: Vec<u8>,
}

/// What a stop of the machine leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// All: only the process was killed.
    All,
    /// So many bytes at the end of each file, and the names as they are.
    Bytes(usize),
    /// Nothing, and the names as they were.
    Nothing,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Operations that changed something, so far.
    pub(crate) fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// Lets the machine stop in an operation, counted from now, when so many bytes of it are written.
    pub(crate) fn stop_in(&self, operations: u64, bytes: usize) {
        let mut inner = self.inner();
        inner.stops_in = Some((inner.operations + operations, bytes));
    }

    pub(crate) fn set_capacity(&self, capacity: Option<u64>) {
        self.inner().capacity = capacity;
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.inner().broken = broken;
    }

    pub(crate) fn set_unreadable(&self, unreadable: bool) {
        self.inner().unreadable = unreadable;
    }

    /// The directory as it is found after a stop.
    pub(crate) fn after(&self, left: Left) -> Self {
        let mut inner = self.inner().clone();
        inner.stops_in = None;
        (inner.broken, inner.unreadable) = (false, false);
        if left == Left::Nothing {
            inner.names = inner.durable_names.clone();
        }
        for file in inner.files.values_mut() {
            let kept = match left {
                Left::All => file.now.len(),
                Left::Bytes(more) => file.now.len().min(file.durable.len() + more),
                Left::Nothing => 0,
            };
            file.now = match left {
                Left::Nothing => file.durable.clone(),
                _ if file.now.starts_with(&file.durable) => file.now[..kept].to_vec(),
                _ => file.now.clone(),
            };
            file.durable = file.now.clone();
        }
        inner.durable_names = inner.names.clone();
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Names and contents.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = self.inner();
        let content = |number| inner.files[number].now.clone();
        inner
            .names
            .iter()
            .map(|(name, number)| (name.clone(), content(number)))
            .collect()
    }

    /// A directory with these files.
    pub(crate) fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        let mut inner = Inner::default();
        for (number, (name, bytes)) in (0..).zip(files) {
            let content = Content {
                now: bytes.clone(),
                durable: bytes,
            };
            inner.files.insert(number, content);
            inner.names.insert(name, number);
            inner.next = number + 1;
        }
        inner.durable_names = inner.names.clone();
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Changes bytes of a file behind the back of who uses it.
    pub(crate) fn patch(&self, name: &str, at: usize, bytes: &[u8]) {
        let mut inner = self.inner();
        let file = inner.file(name).unwrap();
        file.now[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn used(&self) -> u64 {
        let files = self.files();
        files.values().map(|bytes| bytes.len() as u64).sum()
    }
}

impl Inner {
    /// Counts an operation; an error when the machine has stopped, or how many bytes of it are still written.
    fn change(&mut self) -> io::Result<Option<usize>> {
        self.operations += 1;
        match self.stops_in {
            Some((at, _)) if self.operations > at => Err(ErrorKind::ConnectionAborted.into()),
            Some((at, bytes)) if self.operations == at => Ok(Some(bytes)),
            _ if self.broken => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(None),
        }
    }

    /// The same for an operation that is done whole or not at all.
    fn change_whole(&mut self) -> io::Result<()> {
        match self.change()? {
            Some(0) => Err(ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    fn file(&mut self, name: &str) -> io::Result<&mut Content> {
        let number = self.names.get(name).ok_or(ErrorKind::NotFound)?;
        self.files
            .get_mut(number)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Storage for Memory {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let files = self.files().into_iter();
        Ok(files
            .map(|(name, bytes)| (name, bytes.len() as u64))
            .collect())
    }

    fn read(&mut self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.inner();
        if inner.unreadable {
            return Err(io::Error::from_raw_os_error(5));
        }
        let file = inner.file(name)?;
        let rest = file.now.get(at as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.change_whole()?;
        let number = inner.next;
        inner.next += 1;
        inner.files.insert(number, Content::default());
        inner.names.insert(name.to_owned(), number);
        Ok(())
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let used = self.used();
        let mut inner = self.inner();
        let stops = inner.change()?;
        let room = inner.capacity.map_or(usize::MAX, |capacity| {
            capacity.saturating_sub(used) as usize
        });
        let fits = bytes.len().min(room).min(stops.unwrap_or(usize::MAX));
        let file = inner.file(name)?;
        assert!(at as usize <= file.now.len(), "a hole in {name}");
        file.now.truncate(at as usize);
        file.now.extend_from_slice(&bytes[..fits]);
        match (stops, fits == bytes.len()) {
            (Some(_), _) => Err(ErrorKind::ConnectionAborted.into()),
            (None, false) => Err(ErrorKind::StorageFull.into()),
            (None, true) => Ok(()),
        }
    }

    fn truncate(&mut self, name: &str, size: u64) -> io::Result<()> {
        let mut inner = self.inner();
        inner.change_whole()?;
        inner.file(name)?.now.truncate(size as usize);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.change_whole()?;
        let file = inner.file(name)?;
        file.durable = file.now.clone();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.change_whole()?;
        let number = inner.names.remove(from).ok_or(ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.change_whole()?;
        inner.names.remove(name).ok_or(ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.change_whole()?;
        inner.durable_names = inner.names.clone();
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let used = self.used();
        let total = self.inner().capacity.unwrap_or(1 << 40);
        Ok(Space {
            free: total.saturating_sub(used),
            total,
        })
    }
}
