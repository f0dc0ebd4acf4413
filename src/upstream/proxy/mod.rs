//! Which proxy a dial goes through: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, read as Go programs read
//! them (golang.org/x/net/http/httpproxy), so that one environment suits agent and sidecar.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// The proxies of an environment. The default is to use none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    https: Option<Url>,
    http: Option<Url>,
    except: Vec<Exception>,
}

/// A variable that does not name a usable proxy. Its value may hold a password and is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: expected http://host:port or https://host:port, {fault}")]
pub struct ProxyFault {
    variable: &'static str,
    fault: String,
}

impl ProxySettings {
    /// Reads the variables, in upper case or else in lower case. Empty counts as unset.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyFault> {
        let get = |upper: &str| {
            [upper.to_owned(), upper.to_ascii_lowercase()]
                .iter()
                .find_map(|name| var(name).filter(|value| !value.is_empty()))
        };
        let proxy = |variable| {
            get(variable)
                .map(|value| parse_proxy(variable, &value))
                .transpose()
        };
        Ok(Self {
            https: proxy("HTTPS_PROXY")?,
            http: proxy("HTTP_PROXY")?,
            except: get("NO_PROXY")
                .iter()
                .flat_map(|list| list.split(','))
                .filter_map(|entry| Exception::parse(entry.trim()))
                .collect(),
        })
    }

    /// The proxy for `url`, if one is to be used. This machine is never reached through one.
    pub(super) fn for_url(&self, url: &Url) -> Option<&Url> {
        let secure = matches!(url.scheme(), "https" | "wss");
        let proxy = if secure {
            self.https.as_ref()
        } else {
            self.http.as_ref()
        }?;
        let (host, port) = (url.host()?, url.port_or_known_default());
        let local = match host {
            Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        let excepted = local || self.except.iter().any(|except| except.covers(&host, port));
        (!excepted).then_some(proxy)
    }
}

/// Shows where the proxies are, without their credentials.
impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place =
            |url: &Url| format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        f.debug_struct("ProxySettings")
            .field("https", &self.https.as_ref().map(place))
            .field("http", &self.http.as_ref().map(place))
            .field("except", &self.except)
            .finish()
    }
}

fn parse_proxy(variable: &'static str, value: &str) -> Result<Url, ProxyFault> {
    let fault = |fault: String| ProxyFault { variable, fault };
    // A bare `host:port` means http, as everywhere.
    let whole = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let url = Url::parse(&whole).map_err(|error| fault(error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.host().is_some() => Ok(url),
        scheme => Err(fault(format!("got scheme {scheme:?}"))),
    }
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    Network {
        address: IpAddr,
        prefix: u8,
    },
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
    Address {
        ip: IpAddr,
        port: Option<u16>,
    },
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        if entry.is_empty() {
            return None;
        }
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((address, prefix)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let prefix = prefix.parse().ok().filter(|bits| *bits <= width(address))?;
            return Some(Self::Network { address, prefix });
        }
        let (host, port) = match entry.parse::<IpAddr>() {
            Ok(ip) => return Some(Self::Address { ip, port: None }),
            Err(_) => match entry.rsplit_once(':') {
                Some((host, port)) => (host, Some(port.parse().ok()?)),
                None => (entry, None),
            },
        };
        let unbracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if let Ok(ip) = unbracketed.unwrap_or(host).parse() {
            return Some(Self::Address { ip, port });
        }
        let suffix = host.strip_prefix('*').unwrap_or(host);
        let name = suffix
            .strip_prefix('.')
            .unwrap_or(suffix)
            .to_ascii_lowercase();
        // `.example.com` and `*.example.com` are the names below it, `example.com` is it and them.
        Some(Self::Domain {
            itself: name.len() == host.len(),
            name,
            port,
        })
    }

    fn covers(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        let address = match host {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(*ip)),
        };
        let port_fits = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        match self {
            Self::All => true,
            Self::Network {
                address: network,
                prefix,
            } => address.is_some_and(|ip| network_of(ip, *prefix) == network_of(*network, *prefix)),
            Self::Address { ip, port } => address == Some(*ip) && port_fits(port),
            Self::Domain { name, itself, port } => {
                let Host::Domain(host) = host else {
                    return false;
                };
                let host = host.to_ascii_lowercase();
                let below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.'));
                (below || (*itself && host == *name)) && port_fits(port)
            }
        }
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The leading `prefix` bits, with the family, so that addresses of different families never agree.
fn network_of(ip: IpAddr, prefix: u8) -> (bool, u128) {
    let bits = match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    (
        ip.is_ipv4(),
        bits.checked_shr(u32::from(width(ip) - prefix)).unwrap_or(0),
    )
}
