//! The rules of yamux, for the end that did not open the connection, and the settings of either end.
//!
//! The `yamux` crate carries the streams, but lets a peer break rules for which the reference ends the session, and
//! says of the others only that it sent a GOAWAY. A [`Referee`] follows the headers of both directions and names
//! what was broken (hashicorp/yamux session.go, stream.go; spec.md).

mod config;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use config::{PIECE, config};

/// Bytes of a header.
pub const HEADER: usize = 12;

/// Bytes that a peer may send on a new stream before it is granted more.
const INITIAL_WINDOW: u32 = 256 << 10;

const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

/// What a frame is for. The discriminant is its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Data = 0,
    WindowUpdate = 1,
    Ping = 2,
    GoAway = 3,
}

/// Everything of a frame but its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    flags: u16,
    stream: u32,
    length: u32,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// [`Violation::Version`] and [`Violation::Type`].
    pub fn decode(bytes: [u8; HEADER]) -> Result<Self, Violation> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        if version != 0 {
            return Err(Violation::Version(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(Violation::Type(other)),
        };
        Ok(Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    /// Bytes of the body that follows, as declared.
    pub fn body(&self) -> u32 {
        if self.kind == Kind::Data {
            self.length
        } else {
            0
        }
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// What a peer did that ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A version other than 0.
    #[error("frame of version {0}, expected 0")]
    Version(u8),
    /// A type that does not exist.
    #[error("frame of type {0}, expected 0 to 3")]
    Type(u8),
    /// A stream opened under an id that belongs to the other side, or to nobody.
    #[error("stream opened with id {0}, expected an odd one")]
    StreamId(u32),
    /// A stream opened under an id in use.
    #[error("stream opened with id {0}, which is in use")]
    StreamInUse(u32),
    /// More data than was granted.
    #[error("{length} bytes on stream {stream}, which may carry {window} more")]
    Window {
        /// The stream.
        stream: u32,
        /// Bytes that were declared.
        length: u32,
        /// Bytes that were granted and not used.
        window: u32,
    },
    /// A stream closed twice.
    #[error("second FIN on stream {0}")]
    SecondFin(u32),
    /// Too many streams that the peer does not end.
    #[error("more than {0} streams that were not ended")]
    Abandoned(usize),
    /// Something else for which the multiplexer sent a GOAWAY.
    #[error("answered with GOAWAY {0}")]
    GoneAway(u32),
}

/// What becomes of a frame that breaks no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is for the multiplexer.
    Deliver,
    /// It and its body mean nothing to this end.
    Skip,
}

/// Follows one session. Memory: one record for each stream that is not over, of a limited number.
#[derive(Debug)]
pub struct Referee {
    streams: HashMap<u32, Stream>,
    max_streams: usize,
    /// The ping of this end that is not answered.
    ping: Option<u32>,
    gone_away: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    /// Bytes that the peer may still send.
    window: u32,
    closed_by_peer: bool,
    closed_here: bool,
}

impl Referee {
    /// For a session in which at most `max_streams` are open or waiting for the peer to end them.
    pub fn new(max_streams: usize) -> Self {
        Self {
            streams: HashMap::new(),
            max_streams,
            ping: None,
            gone_away: None,
        }
    }

    /// Takes note of a frame from the peer.
    ///
    /// # Errors
    /// When the session is to end; its frames mean nothing from then on.
    pub fn received(&mut self, header: &Header) -> Result<Verdict, Violation> {
        self.check()?;
        match header.kind {
            Kind::Data | Kind::WindowUpdate => self.on_stream(header),
            Kind::Ping if header.has(SYN) => Ok(Verdict::Deliver),
            // The reference looks the number up and ignores one it does not know.
            Kind::Ping => match self.ping.take_if(|sent| *sent == header.length) {
                Some(_) => Ok(Verdict::Deliver),
                None => Ok(Verdict::Skip),
            },
            // The peer will open no more streams; those that are open go on.
            Kind::GoAway if header.length == 0 => Ok(Verdict::Skip),
            Kind::GoAway => Ok(Verdict::Deliver),
        }
    }

    /// Takes note of a frame from this end.
    pub fn sent(&mut self, header: &Header) {
        match header.kind {
            Kind::Data | Kind::WindowUpdate => {
                let Some(stream) = self.streams.get_mut(&header.stream) else {
                    return;
                };
                if header.kind == Kind::WindowUpdate {
                    stream.window = stream.window.saturating_add(header.length);
                }
                stream.closed_here |= header.has(FIN);
                if header.has(RST) || (stream.closed_here && stream.closed_by_peer) {
                    self.streams.remove(&header.stream);
                }
            }
            Kind::Ping if !header.has(ACK) => self.ping = Some(header.length),
            Kind::Ping => {}
            Kind::GoAway => self.gone_away = Some(header.length).filter(|code| *code != 0),
        }
    }

    /// Whether the multiplexer has given the session up.
    ///
    /// # Errors
    /// [`Violation::GoneAway`] when it has.
    pub fn check(&self) -> Result<(), Violation> {
        self.gone_away
            .map_or(Ok(()), |code| Err(Violation::GoneAway(code)))
    }

    fn on_stream(&mut self, header: &Header) -> Result<Verdict, Violation> {
        let id = header.stream;
        if header.has(SYN) {
            self.open(id)?;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(Verdict::Skip);
        };
        if header.kind == Kind::Data {
            stream.window = stream
                .window
                .checked_sub(header.length)
                .ok_or(Violation::Window {
                    stream: id,
                    length: header.length,
                    window: stream.window,
                })?;
        }
        if header.has(FIN) && std::mem::replace(&mut stream.closed_by_peer, true) {
            return Err(Violation::SecondFin(id));
        }
        if header.has(RST) || (stream.closed_by_peer && stream.closed_here) {
            self.streams.remove(&id);
        }
        Ok(Verdict::Deliver)
    }

    fn open(&mut self, id: u32) -> Result<(), Violation> {
        if id.is_multiple_of(2) {
            return Err(Violation::StreamId(id));
        }
        if self.streams.contains_key(&id) {
            return Err(Violation::StreamInUse(id));
        }
        if self.streams.len() == self.max_streams {
            return Err(Violation::Abandoned(self.max_streams));
        }
        self.streams.insert(
            id,
            Stream {
                window: INITIAL_WINDOW,
                closed_by_peer: false,
                closed_here: false,
            },
        );
        Ok(())
    }
}
