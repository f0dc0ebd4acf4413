//! How a call went: in the trailers of its answer, or in the head of one without a body.

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode;
use tonic::Code;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How the server says that a call went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// [`Code::Unknown`] also for a number that is no code.
    pub code: Code,
    /// Free text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl Status {
    /// Reads it from the trailers of an answer, or from the head of one that has no body. `None` when there is none.
    ///
    /// Not by way of `tonic::Status`: that panics at details which are not base64, and makes a code unknown whose
    /// text is not UTF-8.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let code = Code::from_bytes(headers.get(STATUS)?.as_bytes());
        let text = headers.get(MESSAGE).map_or_else(String::new, |text| {
            percent_decode(text.as_bytes())
                .decode_utf8_lossy()
                .into_owned()
        });
        Some(Self { code, text })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_status_is_read_whatever_is_beside_it() {
        let read = |pairs: &[(&'static str, &'static [u8])]| {
            let header = |(name, value): &(&'static str, &'static [u8])| {
                let value = HeaderValue::from_bytes(value).unwrap();
                (HeaderName::from_static(name), value)
            };
            Status::read(&pairs.iter().map(header).collect())
        };
        let status = |code, text: &str| {
            Some(Status {
                code,
                text: text.to_owned(),
            })
        };
        assert_eq!(read(&[("content-type", b"application/grpc")]), None);
        assert_eq!(read(&[("grpc-status", b"0")]), status(Code::Ok, ""));
        assert_eq!(
            read(&[
                ("grpc-status", b"14"),
                ("grpc-message", b"a%20b%zz%c3%a4%ff")
            ]),
            status(Code::Unavailable, "a b%zz\u{e4}\u{fffd}")
        );
        // Details that are not base64.
        let details = ("grpc-status-details-bin", &b"?"[..]);
        assert_eq!(
            read(&[("grpc-status", b"13"), details]),
            status(Code::Internal, "")
        );
        for number in [&b"17"[..], b"-1", b"", b"0x1", b"00"] {
            assert_eq!(read(&[("grpc-status", number)]), status(Code::Unknown, ""));
        }
    }
}
