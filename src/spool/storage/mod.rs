//! What the log needs of a directory, so that it can be tested without one.

mod disk;
#[cfg(test)]
pub(crate) mod memory;

use std::io;

pub use disk::Disk;

/// Room of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that may be written.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A flat directory of files.
pub trait Storage {
    /// Names and sizes of all files.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Reads from an offset until the buffer is full or the file ends, and says how many bytes that were.
    fn read(&mut self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Begins a file, in place of one of this name.
    fn create(&mut self, name: &str) -> io::Result<()>;

    /// Writes at an offset, which is the end of the file.
    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file off.
    fn truncate(&mut self, name: &str, size: u64) -> io::Result<()>;

    /// Returns once what was written to the file survives a loss of power.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of what had that.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Returns once the names of the files survive a loss of power.
    fn sync_names(&mut self) -> io::Result<()>;

    /// Room of the file system.
    fn space(&self) -> io::Result<Space>;
}
