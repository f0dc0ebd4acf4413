//! Why a dial failed, and what that means to whoever reads the log.

use std::error::Error as _;
use std::fmt;
use std::io;

use http::StatusCode;
use serde::Deserialize;
use tonic::Code;

use super::settings::API_VERSION;
use super::transport::Ended;
use crate::metrics::DialOutcome;
use crate::wire::grpc::Status;

/// Characters of a text from the peer that are repeated in a log line.
const MAX_TEXT: usize = 300;

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("the agent token cannot be read")]
    Token(#[source] io::Error),
    #[error("cannot look up {host}")]
    Resolve { host: String, source: io::Error },
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("the proxy {proxy} answered {status} to CONNECT")]
    Proxy { proxy: String, status: StatusCode },
    #[error("TLS")]
    Tls(#[source] io::Error),
    #[error("HTTP")]
    Http(#[from] hyper::Error),
    #[error("the upgrade to WebSocket is faulty: {0}")]
    Upgrade(&'static str),
    #[error("redirected to {0:?}")]
    Redirect(String),
    #[error("redirected more than {0} times")]
    Redirects(usize),
    #[error("{0}")]
    Refused(Refusal),
    // The text may be the peer's.
    #[error("HTTP/2: {}", excerpt(&.0.to_string()))]
    Http2(h2::Error),
    #[error("the control plane does not speak HTTP/2 over TLS")]
    NoHttp2,
    #[error("the first call has no answer of gRPC: {0}")]
    NotGrpc(String),
    #[error("the connection ended with the first call: {0}")]
    Ended(Ended),
    #[error("URL, role or token do not fit an HTTP/2 request")]
    Unfit,
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
}

impl DialError {
    /// How the dial counts. A token that cannot be read is no dial at all.
    pub(super) fn outcome(&self) -> Option<DialOutcome> {
        Some(match self {
            Self::Token(_) => return None,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Proxy { .. } => {
                DialOutcome::Unreachable
            }
            Self::Tls(_) => DialOutcome::Tls,
            // The connection broke before anything that could be called an answer.
            Self::Http(error) if is_broken(error) => DialOutcome::Unreachable,
            Self::Http2(error) if error.is_io() => DialOutcome::Unreachable,
            Self::Ended(Ended::Failed(_) | Ended::ByPeer | Ended::Silent(_)) => {
                DialOutcome::Unreachable
            }
            Self::Http(_) | Self::Upgrade(_) | Self::Redirect(_) | Self::Redirects(_) => {
                DialOutcome::Http
            }
            Self::Http2(_) | Self::NoHttp2 | Self::NotGrpc(_) | Self::Ended(_) | Self::Unfit => {
                DialOutcome::Http
            }
            Self::Refused(refusal) => refusal.outcome(),
            Self::Timeout(_) => DialOutcome::Timeout,
        })
    }
}

/// Whether the transport failed under an exchange, rather than the exchange on it.
fn is_broken(error: &hyper::Error) -> bool {
    std::iter::successors(error.source(), |&error| error.source())
        .any(|error| error.is::<io::Error>())
}

/// An answer of the control plane that is not the upgrade (coderd/workspaceagentsrpc.go,
/// coderd/httpmw/workspaceagent.go), or not the first answer of gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The status in the words of its protocol.
    status: String,
    meaning: Meaning,
    /// What the server says about it, if it does.
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// A token becomes valid only when its workspace build has finished, so this is not final.
    TokenNotAccepted,
    /// Older servers say so of an agent of an outdated build.
    Forbidden,
    VersionNotSupported,
    BadRequest,
    NotCoderd,
    RateLimited,
    ServerTrouble,
    TooLate,
    Unexpected,
}

/// The error document of coderd.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    message: String,
    detail: String,
    validations: Vec<Validation>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Validation {
    field: String,
    detail: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, body: &[u8]) -> Self {
        // Of a body that is no such document nothing is repeated: it may be a page of HTML.
        let document: Document = serde_json::from_slice(body).unwrap_or_default();
        let of_version = |validation: &Validation| validation.field == "version";
        let meaning = match status.as_u16() {
            401 => Meaning::TokenNotAccepted,
            403 => Meaning::Forbidden,
            400 if document.validations.iter().any(of_version) => Meaning::VersionNotSupported,
            400 => Meaning::BadRequest,
            404 => Meaning::NotCoderd,
            429 => Meaning::RateLimited,
            500..=599 => Meaning::ServerTrouble,
            _ => Meaning::Unexpected,
        };
        let details = document
            .validations
            .into_iter()
            .map(|validation| validation.detail);
        let texts = [document.message, document.detail]
            .into_iter()
            .chain(details);
        let texts: Vec<_> = texts.filter(|text| !text.is_empty()).collect();
        Self {
            status: status.to_string(),
            meaning,
            message: excerpt(&texts.join("; ")),
        }
    }

    /// Of a gRPC call, whose status is not OK.
    pub(super) fn of_status(status: &Status) -> Self {
        let meaning = match status.code {
            Code::Unauthenticated => Meaning::TokenNotAccepted,
            Code::PermissionDenied => Meaning::Forbidden,
            Code::ResourceExhausted => Meaning::RateLimited,
            Code::DeadlineExceeded => Meaning::TooLate,
            Code::InvalidArgument | Code::OutOfRange => Meaning::BadRequest,
            Code::Unavailable | Code::Internal | Code::Unknown => Meaning::ServerTrouble,
            _ => Meaning::Unexpected,
        };
        Self {
            status: format!("gRPC {:?}", status.code),
            meaning,
            message: excerpt(&status.text),
        }
    }

    fn outcome(&self) -> DialOutcome {
        match self.meaning {
            Meaning::TokenNotAccepted | Meaning::Forbidden => DialOutcome::Unauthorized,
            Meaning::VersionNotSupported => DialOutcome::Version,
            Meaning::TooLate => DialOutcome::Timeout,
            _ => DialOutcome::Http,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.status)?;
        match self.meaning {
            Meaning::TokenNotAccepted => {
                f.write_str("the token is not accepted yet (a workspace build may be unfinished)")
            }
            Meaning::Forbidden => {
                f.write_str("this agent is not allowed in (its workspace build may be outdated)")
            }
            Meaning::VersionNotSupported => {
                write!(
                    f,
                    "API version {API_VERSION} was asked for and is not supported"
                )
            }
            Meaning::BadRequest => f.write_str("the request is not accepted"),
            Meaning::NotCoderd => f.write_str(
                "no such endpoint: not a coderd, or one too old for agents of this kind",
            ),
            Meaning::RateLimited => f.write_str("too many requests"),
            Meaning::ServerTrouble => {
                f.write_str("the control plane or a proxy before it is in trouble")
            }
            Meaning::TooLate => f.write_str("the control plane has no answer in time"),
            Meaning::Unexpected => f.write_str("not the answer that was asked for"),
        }?;
        if self.message.is_empty() {
            Ok(())
        } else {
            write!(f, "; it says: {}", self.message)
        }
    }
}

/// A text from the peer made fit for a log line: one line, of bounded length.
pub(super) fn excerpt(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> (String, DialOutcome) {
        let refusal = Refusal::new(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        (refusal.to_string(), refusal.outcome())
    }

    #[test]
    fn each_status_is_told_with_its_meaning() {
        let unknown = r#"{"message":"Workspace agent not authorized."}"#;
        let version = r#"{"message":"Unknown or unsupported API version",
            "validations":[{"field":"version","detail":"server is at 2.6, behind requested minor version 2.7"}]}"#;
        let cases = [
            (
                401,
                unknown,
                "token is not accepted yet",
                DialOutcome::Unauthorized,
            ),
            (403, "", "not allowed in", DialOutcome::Unauthorized),
            (
                400,
                version,
                "API version 2.7 was asked for",
                DialOutcome::Version,
            ),
            (400, unknown, "request is not accepted", DialOutcome::Http),
            (
                404,
                "<html>",
                "not a coderd, or one too old",
                DialOutcome::Http,
            ),
            (429, "{", "too many requests", DialOutcome::Http),
            (500, "", "in trouble", DialOutcome::Http),
            (503, "", "in trouble", DialOutcome::Http),
            (200, "", "not the answer", DialOutcome::Http),
        ];
        for (status, body, part, outcome) in cases {
            let (text, found) = refusal(status, body);
            assert!(text.contains(part), "{status}: {text}");
            assert_eq!(found, outcome, "{status}");
            assert!(!text.contains('<'), "{text}");
        }
        let (text, _) = refusal(400, version);
        assert!(text.ends_with("; it says: Unknown or unsupported API version; server is at 2.6, behind requested minor version 2.7"), "{text}");
    }

    #[test]
    fn each_code_of_a_first_call_is_told_with_its_meaning() {
        for (code, part, outcome) in [
            (
                Code::Unauthenticated,
                "gRPC Unauthenticated: the token is not accepted yet",
                DialOutcome::Unauthorized,
            ),
            (
                Code::PermissionDenied,
                "not allowed in",
                DialOutcome::Unauthorized,
            ),
            (
                Code::ResourceExhausted,
                "too many requests",
                DialOutcome::Http,
            ),
            (
                Code::DeadlineExceeded,
                "no answer in time",
                DialOutcome::Timeout,
            ),
            (Code::Unavailable, "in trouble", DialOutcome::Http),
            (Code::Internal, "in trouble", DialOutcome::Http),
            (
                Code::InvalidArgument,
                "request is not accepted",
                DialOutcome::Http,
            ),
            (Code::DataLoss, "not the answer", DialOutcome::Http),
        ] {
            let text = "why\n".to_owned();
            let refusal = Refusal::of_status(&Status { code, text });
            let said = refusal.to_string();
            assert!(said.contains(part), "{said}");
            assert!(said.ends_with("; it says: why "), "{said}");
            assert_eq!(refusal.outcome(), outcome, "{code:?}");
        }
    }

    #[test]
    fn a_text_from_the_peer_stays_one_short_line() {
        let text = excerpt(&"ä\n".repeat(MAX_TEXT));
        assert_eq!(text.chars().count(), MAX_TEXT + 1);
        assert!(text.starts_with("ä ä ") && text.ends_with('…'));
        assert_eq!(excerpt("short"), "short");
    }
}
