//! The body of an answer: decompressed as it arrives, and never more of it in memory than may be.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Gzip,
}

/// What is wrong with a body.
#[derive(Debug)]
pub(super) enum BodyFault {
    /// It unpacks to more than the limit.
    TooLarge,
    /// It cannot be unpacked.
    Gzip(io::Error),
}

/// A body in the making.
#[derive(Debug)]
pub(super) enum Body {
    Plain(Capped),
    Gzip(Box<MultiGzDecoder<Capped>>),
}

impl Body {
    /// An empty one, which holds at most `limit` bytes.
    pub(super) fn new(encoding: Encoding, limit: usize) -> Self {
        let capped = Capped {
            bytes: Vec::new(),
            limit,
            full: false,
        };
        match encoding {
            Encoding::Plain => Self::Plain(capped),
            Encoding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(capped))),
        }
    }

    /// Takes the next bytes as they arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), BodyFault> {
        match self {
            Self::Plain(capped) => capped.write_all(bytes).map_err(|_| BodyFault::TooLarge),
            Self::Gzip(decoder) => decoder
                .write_all(bytes)
                .map_err(|error| fault(decoder.get_ref(), error)),
        }
    }

    /// The whole body, if nothing of it is missing.
    pub(super) fn finish(self) -> Result<Vec<u8>, BodyFault> {
        match self {
            Self::Plain(capped) => Ok(capped.bytes),
            Self::Gzip(mut decoder) => {
                if let Err(error) = decoder.try_finish() {
                    return Err(fault(decoder.get_ref(), error));
                }
                let capped = decoder.finish().map_err(BodyFault::Gzip)?;
                Ok(capped.bytes)
            }
        }
    }
}

fn fault(capped: &Capped, error: io::Error) -> BodyFault {
    if capped.full {
        BodyFault::TooLarge
    } else {
        BodyFault::Gzip(error)
    }
}

/// Bytes up to a limit, in no more memory than that.
#[derive(Debug)]
pub(super) struct Capped {
    bytes: Vec<u8>,
    limit: usize,
    /// More came.
    full: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len() + bytes.len();
        if length > self.limit {
            self.full = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        if length > self.bytes.capacity() {
            let room = (2 * self.bytes.capacity()).clamp(length, self.limit);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const LIMIT: usize = 100_000;

    fn unpack(encoding: Encoding, packed: &[u8]) -> Result<Vec<u8>, BodyFault> {
        let mut body = Body::new(encoding, LIMIT);
        for piece in packed.chunks(1_000) {
            body.push(piece)?;
        }
        body.finish()
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_body_up_to_the_limit_is_taken_and_not_one_byte_more() {
        let plain = vec![b'x'; LIMIT];
        assert_eq!(unpack(Encoding::Plain, &plain).unwrap(), plain);
        assert_eq!(unpack(Encoding::Gzip, &gzip(&plain)).unwrap(), plain);
        assert!(unpack(Encoding::Gzip, &gzip(&plain)).unwrap().capacity() <= LIMIT);
        let more = vec![b'x'; LIMIT + 1];
        for (encoding, body) in [
            (Encoding::Plain, more.clone()),
            (Encoding::Gzip, gzip(&more)),
        ] {
            assert!(matches!(unpack(encoding, &body), Err(BodyFault::TooLarge)));
        }
    }

    #[test]
    fn a_bomb_goes_off_at_the_limit() {
        let bomb = gzip(&vec![0; 200 << 20]);
        assert!(bomb.len() < 300_000);
        assert!(matches!(
            unpack(Encoding::Gzip, &bomb),
            Err(BodyFault::TooLarge)
        ));
    }

    #[test]
    fn a_gzip_body_that_is_cut_or_damaged_is_a_fault() {
        let whole = gzip(&b"weir_logs_received_total 0\n".repeat(1_000));
        for length in 0..whole.len() {
            let cut = unpack(Encoding::Gzip, &whole[..length]);
            assert!(
                matches!(cut, Err(BodyFault::Gzip(_))),
                "{length} bytes: {cut:?}"
            );
        }
        let mut damaged = whole.clone();
        let crc = damaged.len() - 6;
        damaged[crc] ^= 1;
        assert!(matches!(
            unpack(Encoding::Gzip, &damaged),
            Err(BodyFault::Gzip(_))
        ));
        assert!(matches!(
            unpack(Encoding::Gzip, b"not gzip"),
            Err(BodyFault::Gzip(_))
        ));
        let twice = [whole.clone(), whole].concat();
        assert_eq!(unpack(Encoding::Gzip, &twice).unwrap().len(), 2 * 27_000);
    }
}
