//! Where a page is.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::str::FromStr;

use url::{Host, Url};

/// The path that is asked for where none is given, as by Prometheus.
const PATH: &str = "/metrics";

/// Longest path of a socket in bytes: `sun_path` has 108, one of them ends the string (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// Where a page is, as a user writes it: `http://HOST[:PORT][/PATH][?QUERY]`, the same with `https://`, or
/// `unix:/SOCKET[:/PATH[?QUERY]]`. Without a path it is `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At a web address; no credentials, no fragment.
    Web(Url),
    /// Behind a Unix socket.
    Unix {
        /// Absolute, at most 107 bytes.
        socket: PathBuf,
        /// Path and query of the request.
        path: String,
    },
}

/// Why a text is no location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct LocationError(pub &'static str);

const FORM: LocationError =
    LocationError("http://HOST[:PORT][/PATH], https://HOST[:PORT][/PATH] or unix:/SOCKET[:/PATH]");

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(FORM);
        }
        match text.strip_prefix("unix:") {
            Some(rest) => unix(rest),
            None => web(text),
        }
    }
}

fn unix(text: &str) -> Result<Location, LocationError> {
    // Paths with a colon before a slash are rarer than requests for another page.
    let (socket, path) = match text.rsplit_once(":/") {
        Some((socket, path)) => (socket, format!("/{path}")),
        None => (text, PATH.to_owned()),
    };
    if !socket.starts_with('/') || socket.ends_with('/') {
        return Err(LocationError("an absolute path of a socket behind unix:"));
    }
    if socket.len() > MAX_SOCKET_PATH {
        return Err(LocationError("a path of a socket of at most 107 bytes"));
    }
    let asked: http::Uri = path.parse().map_err(|_| FORM)?;
    if asked.path_and_query().is_none_or(|asked| *asked != *path) {
        return Err(LocationError("a path and a query without a fragment"));
    }
    Ok(Location::Unix {
        socket: PathBuf::from(socket),
        path,
    })
}

fn web(text: &str) -> Result<Location, LocationError> {
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    let known = ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    // The parser would skip further slashes.
    if !known || rest.starts_with('/') {
        return Err(FORM);
    }
    let mut url = Url::parse(text).map_err(|_| FORM)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(LocationError("a URL without credentials"));
    }
    if url.fragment().is_some() {
        return Err(LocationError("a URL without a fragment"));
    }
    if matches!(url.host(), None | Some(Host::Domain(""))) {
        return Err(FORM);
    }
    if !rest.contains('/') {
        url.set_path(PATH);
    }
    Ok(Location::Web(url))
}

impl Location {
    /// Path and query of the request.
    pub(super) fn request_path(&self) -> &str {
        match self {
            Self::Web(url) => &url[url::Position::BeforePath..url::Position::AfterQuery],
            Self::Unix { path, .. } => path,
        }
    }

    /// The name of the host for the request, with its port if it is not the usual one.
    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Web(url) => &url[url::Position::BeforeHost..url::Position::AfterPort],
            Self::Unix { .. } => "localhost",
        }
    }
}

impl Display for Location {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => url.fmt(f),
            Self::Unix { socket, path } => write!(f, "unix:{}:{path}", socket.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        let location: Location = text.parse().unwrap();
        assert_eq!(location.to_string().parse(), Ok(location.clone()), "{text}");
        format!(
            "{location} {} {}",
            location.authority(),
            location.request_path()
        )
    }

    #[test]
    fn a_location_without_a_path_is_that_of_its_metrics() {
        for (text, expected) in [
            ("http://h", "http://h/metrics h /metrics"),
            ("http://h:9100", "http://h:9100/metrics h:9100 /metrics"),
            ("HTTPS://h:443/", "https://h/ h /"),
            (
                "http://[::1]:80/x?y=1&z",
                "http://[::1]/x?y=1&z [::1] /x?y=1&z",
            ),
            ("http://h?x=/", "http://h/?x=/ h /?x=/"),
            (
                "unix:/a/b.sock",
                "unix:/a/b.sock:/metrics localhost /metrics",
            ),
            ("unix:/a/b.sock:/", "unix:/a/b.sock:/ localhost /"),
            ("unix:/a:/b:/c?d", "unix:/a:/b:/c?d localhost /c?d"),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_location_says_what_is_expected() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, expected) in [
            ("", "http://HOST"),
            ("h:9100", "http://HOST"),
            ("ftp://h", "http://HOST"),
            ("http:/h", "http://HOST"),
            ("http:///h", "http://HOST"),
            ("http://", "http://HOST"),
            ("http://h h", "http://HOST"),
            ("http://h\\x", "http://HOST"),
            ("http://u@h", "without credentials"),
            ("http://:p@h", "without credentials"),
            ("http://h/#x", "without a fragment"),
            ("unix:", "an absolute path"),
            ("unix:a.sock", "an absolute path"),
            ("unix:/", "an absolute path"),
            ("unix:/a:/x#y", "a path and a query"),
            (long.as_str(), "at most 107 bytes"),
        ] {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
