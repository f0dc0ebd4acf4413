//! The connection to the socket: there, or to be made when the next frame is written.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

/// Where frames are written.
#[derive(Debug)]
pub(super) struct Link {
    path: PathBuf,
    stream: Option<UnixStream>,
    /// Bytes of the present frame that the socket has taken.
    written: usize,
}

impl Link {
    /// Connects to the socket at `path`.
    pub(super) async fn connect(path: PathBuf) -> io::Result<Self> {
        let stream = Some(UnixStream::connect(&path).await?);
        Ok(Self {
            path,
            stream,
            written: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `frame`, over a new connection when the last one failed.
    ///
    /// Dropped before it ends, it goes on where it was when it is called again with the same
    /// frame. After an error the next frame begins a new connection, so that the reader never
    /// sees the rest of this one.
    pub(super) async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let result = self.write_rest(frame).await;
        self.written = 0;
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    async fn write_rest(&mut self, frame: &[u8]) -> io::Result<()> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(UnixStream::connect(&self.path).await?),
        };
        while let Some(rest) = frame.get(self.written..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                taken => self.written += taken,
            }
        }
        Ok(())
    }
}
