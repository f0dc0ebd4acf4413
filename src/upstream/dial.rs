//! From settings to a connection: name, TCP, proxy, TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use url::Url;

use super::error::DialError;
use super::http1::Io;
use super::settings::Settings;
use super::tls::{Protocol, Tls};
use super::tunnel::tunnel;

/// Addresses of one name that are tried. More would not be reached within the time of a dial.
const MAX_ADDRESSES: usize = 16;

/// How long one address is tried alone before the next is tried beside it (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// Bytes that may wait in the kernel without having been sent. An answer to a ping queues behind them: on
/// a slow link a full socket buffer would hold it longer than the 10 s that a peer waits.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 128 << 10;

/// Whether what is sent to `url` is encrypted.
pub(super) fn is_secure(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "wss")
}

/// A connection for `protocol` to the host of `url`, encrypted if its scheme says so.
pub(super) async fn connect(
    settings: &Settings,
    url: &Url,
    tls: &Tls,
    protocol: Protocol,
) -> Result<Io, DialError> {
    let io = match settings.proxy.for_url(url) {
        None => open(url).await?,
        Some(proxy) => {
            let io = encrypted(open(proxy).await?, proxy, tls, Protocol::Http1).await?;
            tunnel(io, proxy, url).await?
        }
    };
    encrypted(io, url, tls, protocol).await
}

pub(super) async fn encrypted(
    io: Io,
    url: &Url,
    tls: &Tls,
    protocol: Protocol,
) -> Result<Io, DialError> {
    match url.host_str() {
        Some(host) if is_secure(url) => tls.connect(host, io, protocol).await,
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
