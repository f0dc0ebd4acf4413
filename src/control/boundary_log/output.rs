//! A file or stream of lines that stay whole when writing fails.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Stderr, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Something to append to.
pub(super) trait Output: Write {
    /// Its length when it can be cut to one, else `None`.
    fn length(&self) -> io::Result<Option<u64>>;

    /// Cuts it to a length that it had.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Output for File {
    fn length(&self) -> io::Result<Option<u64>> {
        let metadata = self.metadata()?;
        Ok(metadata.is_file().then_some(metadata.len()))
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

impl Output for Stderr {
    fn length(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn cut(&mut self, _: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
}

/// Opens a file for appending, and makes one for its owner alone when there is none: it tells what people do.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// Whether a file ends inside a line, because whoever wrote it was killed there.
pub(super) fn ends_in_a_line(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    let Some(last) = metadata.len().checked_sub(1).filter(|_| metadata.is_file()) else {
        return Ok(false);
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Appends whole blocks of lines or nothing. Where a failed block cannot be taken back, the next one starts on a line
/// of its own.
pub(super) struct Whole<O> {
    output: O,
    /// A part of a block stands at the end.
    torn: bool,
}

impl<O: Output> Whole<O> {
    /// Appends to an output that ends inside a line when it is `torn`.
    pub(super) fn new(output: O, torn: bool) -> Self {
        Self { output, torn }
    }

    pub(super) fn append(&mut self, block: &[u8]) -> io::Result<()> {
        let length = self.output.length()?;
        let mut written = 0;
        let separator: &[u8] = if self.torn { b"\n" } else { b"" };
        let appended = write_counted(&mut self.output, separator, &mut written)
            .and_then(|()| write_counted(&mut self.output, block, &mut written))
            .and_then(|()| self.output.flush());
        match (&appended, length) {
            (Ok(()), _) => self.torn = false,
            (Err(_), _) if written == 0 => {}
            (Err(_), Some(length)) if self.output.cut(length).is_ok() => {}
            (Err(_), _) => self.torn = true,
        }
        appended
    }
}

/// Writes everything, or as much as `written` says.
fn write_counted(output: &mut impl Write, mut bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while !bytes.is_empty() {
        #[expect(
            clippy::disallowed_methods,
            reason = "what a failed write leaves behind must be known"
        )]
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => {
                *written += length;
                bytes = bytes.get(length..).unwrap_or_default();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
