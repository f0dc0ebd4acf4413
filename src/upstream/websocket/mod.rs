//! The transport of coderd: dRPC calls on the streams of a yamux session, over one WebSocket.

mod handshake;
mod session;
mod unary;

use url::Url;

use super::dial::{connect, is_secure};
use super::error::{DialError, excerpt};
use super::http1::Io;
use super::settings::Settings;
use super::tls::Protocol;
use super::transport::Known;
use handshake::{Credentials, Reply, rpc_url, upgrade};

pub(super) use session::{Driver, Session};
pub(super) use unary::call;

/// As many as the reference follows (net/http).
const MAX_REDIRECTS: usize = 10;

/// Opens the agent WebSocket, and a yamux session on it. Unbounded in time.
pub(super) async fn dial(
    settings: &Settings,
    known: &Known,
) -> Result<(Session, Driver<Io>), DialError> {
    let mut url = rpc_url(&settings.url, &settings.role);
    for _ in 0..=MAX_REDIRECTS {
        let io = connect(settings, &url, &known.tls, Protocol::Http1).await?;
        let credentials = may_know(&settings.url, &url).then_some(Credentials {
            token: &known.token,
            headers: &settings.headers,
        });
        match upgrade(io, &url, credentials).await? {
            Reply::Open(ws) => return Ok(Session::new(*ws)),
            Reply::Redirect(to) => url = redirected(&url, &to)?,
        }
    }
    Err(DialError::Redirects(MAX_REDIRECTS))
}

/// Whether token and headers may be shown at `url`: to the host they are for, and not in the clear when
/// they were meant to be encrypted.
fn may_know(base: &Url, url: &Url) -> bool {
    base.host() == url.host() && (is_secure(url) || !is_secure(base))
}

fn redirected(from: &Url, to: &str) -> Result<Url, DialError> {
    from.join(to)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https" | "ws" | "wss") && url.has_host())
        .ok_or_else(|| DialError::Redirect(excerpt(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_replaced_and_the_query_sorted() {
        let url = |base: &str, role: &str| rpc_url(&Url::parse(base).unwrap(), role).to_string();
        let path = "/api/v2/workspaceagents/me/rpc";
        assert_eq!(
            url("https://example.com/some/path?x=1#y", "weir"),
            format!("https://example.com{path}?role=weir&version=2.7")
        );
        assert_eq!(
            url("http://h:3000", ""),
            format!("http://h:3000{path}?version=2.7")
        );
        assert_eq!(
            url("http://h", "a b&c"),
            format!("http://h{path}?role=a+b%26c&version=2.7")
        );
    }

    #[test]
    fn the_token_goes_to_its_own_host_only_and_never_from_https_to_http() {
        let knows =
            |base: &str, url: &str| may_know(&Url::parse(base).unwrap(), &Url::parse(url).unwrap());
        assert!(knows("http://a", "http://a:8080/x"));
        assert!(knows("http://a", "https://a/x"));
        assert!(knows("https://a", "wss://a/x"));
        assert!(!knows("https://a", "http://a/x"));
        assert!(!knows("https://a", "https://b/x"));
        assert!(!knows("https://a", "https://a.b/x"));
    }

    #[test]
    fn redirects_lead_to_web_addresses_only() {
        let from = Url::parse("https://a/x").unwrap();
        assert_eq!(redirected(&from, "/y").unwrap().as_str(), "https://a/y");
        assert_eq!(
            redirected(&from, "wss://b:1/y").unwrap().as_str(),
            "wss://b:1/y"
        );
        for to in ["ftp://a/", "data:text/plain,x", "https://", "http://[::"] {
            assert!(redirected(&from, to).is_err(), "{to}");
        }
    }
}
