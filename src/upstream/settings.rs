//! What a dial needs to know.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::proxy::ProxySettings;
use super::transport::Transport;
use crate::backoff::Schedule;

/// The lowest version that has ReportBoundaryLogs: a server refuses any that is newer than itself, and
/// takes fields of later versions all the same (coder/coder tailnet/proto/version.go).
pub(super) const API_VERSION: &str = "2.7";

/// Carries the token; the Bearer form is not understood by older servers (coderd/httpmw/apikey.go).
pub(super) const TOKEN: HeaderName = HeaderName::from_static("coder-session-token");

/// What this program calls itself.
pub(super) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));

/// Where the agent token comes from. Called before the first dial, after each dial whose token was not
/// accepted, and after a reload; on a thread that may block.
pub type TokenSource = Arc<dyn Fn() -> io::Result<String> + Send + Sync>;

/// What a dial needs to know.
#[derive(Clone)]
pub struct Settings {
    /// Scheme `http` or `https`, and host; path and query are replaced.
    pub url: Url,
    /// What is spoken there.
    pub transport: Transport,
    /// The agent token.
    pub token: TokenSource,
    /// Sent with the upgrade request, or with each gRPC call, beside the headers of the protocol, which win. None
    /// of those that concern a connection alone (RFC 9110, section 7.6.1): HTTP/2 forbids them.
    pub headers: HeaderMap,
    /// The role to announce; empty announces none, which coderd takes for the agent itself.
    pub role: String,
    /// How long to wait between dials.
    pub schedule: Schedule,
    /// Which proxy to go through.
    pub proxy: ProxySettings,
    /// Which certificate authorities to trust.
    pub roots: RootFiles,
}

/// Certificate authorities in place of the platform's own, as `SSL_CERT_FILE` and `SSL_CERT_DIR` name
/// them. With neither, those of the platform are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootFiles {
    /// A file of PEM certificates.
    pub file: Option<PathBuf>,
    /// A directory of such files.
    pub dir: Option<PathBuf>,
}

impl RootFiles {
    /// Those that these variables name; an empty one names none.
    pub fn from_vars(variable: impl Fn(&str) -> Option<String>) -> Self {
        let path = |name| {
            variable(name)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        Self {
            file: path("SSL_CERT_FILE"),
            dir: path("SSL_CERT_DIR"),
        }
    }
}

/// Names the headers but never their values, nor the token.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url.as_str())
            .field("transport", &self.transport)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("role", &self.role)
            .field("schedule", &self.schedule)
            .field("proxy", &self.proxy)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}
