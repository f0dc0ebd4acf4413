//! From settings to an open WebSocket: name, TCP, proxy, TLS, upgrade, redirects.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::HeaderValue;
use tokio::net::{TcpStream, lookup_host};
use tokio_tungstenite::WebSocketStream;
use url::Url;

use super::error::DialError;
use super::handshake::{Credentials, Reply, rpc_url, upgrade};
use super::http1::Io;
use super::settings::Settings;
use super::tls::Tls;
use super::tunnel::tunnel;

/// As many as the reference follows (net/http).
const MAX_REDIRECTS: usize = 10;

/// Addresses of one name that are tried. More would not be reached within the time of a dial.
const MAX_ADDRESSES: usize = 16;

/// How long one address is tried alone before the next is tried beside it (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// Bytes that may wait in the kernel without having been sent. An answer to a ping queues behind them: on
/// a slow link a full socket buffer would hold it longer than the 10 s that a peer waits.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 128 << 10;

/// Opens the agent WebSocket. Unbounded in time.
pub(super) async fn dial(
    settings: &Settings,
    token: &HeaderValue,
    tls: &Tls,
) -> Result<WebSocketStream<Io>, DialError> {
    let mut url = rpc_url(&settings.url, &settings.role);
    for _ in 0..=MAX_REDIRECTS {
        let io = connect(settings, &url, tls).await?;
        let credentials = may_know(&settings.url, &url).then_some(Credentials {
            token,
            headers: &settings.headers,
        });
        match upgrade(io, &url, credentials).await? {
            Reply::Open(ws) => return Ok(*ws),
            Reply::Redirect(to) => url = redirected(&url, &to)?,
        }
    }
    Err(DialError::Redirects(MAX_REDIRECTS))
}

fn is_secure(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "wss")
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
        .ok_or_else(|| DialError::Redirect(super::error::excerpt(to)))
}

/// A connection to the host of `url`, encrypted if its scheme says so.
async fn connect(settings: &Settings, url: &Url, tls: &Tls) -> Result<Io, DialError> {
    let io = match settings.proxy.for_url(url) {
        None => open(url).await?,
        Some(proxy) => {
            let io = encrypted(open(proxy).await?, proxy, tls).await?;
            tunnel(io, proxy, url).await?
        }
    };
    encrypted(io, url, tls).await
}

pub(super) async fn encrypted(io: Io, url: &Url, tls: &Tls) -> Result<Io, DialError> {
    match url.host_str() {
        Some(host) if is_secure(url) => tls.connect(host, io).await,
        _ => Ok(io),
    }
}

/// A TCP connection to the host of `url` itself: its addresses in turn, each tried beside those before it
/// that have not failed.
pub(super) async fn open(url: &Url) -> Result<Io, DialError> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let resolve = |source| DialError::Resolve {
        host: host.to_owned(),
        source,
    };
    let mut addresses = alternate(lookup_host((bare, port)).await.map_err(resolve)?).into_iter();

    let mut attempts = FuturesUnordered::new();
    let mut failed = resolve(io::Error::other("the name has no address"));
    loop {
        let begun = addresses
            .next()
            .map(|address| attempts.push(connect_to(address)))
            .is_some();
        tokio::select! {
            Some(attempt) = attempts.next() => match attempt {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(error) => failed = error,
            },
            () = tokio::time::sleep(STAGGER), if begun => {}
            else => return Err(failed),
        }
    }
}

async fn connect_to(address: SocketAddr) -> Result<TcpStream, DialError> {
    let connected = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT)?;
        Ok(stream)
    };
    connected.await.map_err(|source| DialError::Connect {
        address: address.to_string(),
        source,
    })
}

/// The families in turn, beginning with that of the first address, which the resolver prefers.
fn alternate(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let first = addresses.first().map(SocketAddr::is_ipv4);
    let (same, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| Some(address.is_ipv4()) == first);
    let mut other = other.into_iter();
    let mut order: Vec<_> = same
        .into_iter()
        .flat_map(|one| [Some(one), other.next()])
        .flatten()
        .collect();
    order.extend(other);
    order.truncate(MAX_ADDRESSES);
    order
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

    #[test]
    fn families_take_turns_and_many_addresses_are_cut() {
        let parse = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter()
                .map(|address| address.parse().unwrap())
                .collect()
        };
        let order = alternate(
            parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]).into_iter(),
        );
        assert_eq!(
            order,
            parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"])
        );
        let only = parse(&["1.1.1.1:1", "[::1]:1", "[::2]:1"]);
        assert_eq!(alternate(only.clone().into_iter()), only);
        assert_eq!(
            alternate(vec![only[0]; 50].into_iter()).len(),
            MAX_ADDRESSES
        );
    }
}
