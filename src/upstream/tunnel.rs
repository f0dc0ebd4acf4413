//! The way through an HTTP proxy.

use bytes::Bytes;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request};
use http_body_util::Empty;
use percent_encoding::percent_decode_str;
use url::{Position, Url};

use super::error::DialError;
use super::http1::{Answer, Io, exchange};

/// Has the proxy at the other end of `io` lead on to the host of `url`.
pub(super) async fn tunnel(io: Io, proxy: &Url, url: &Url) -> Result<Io, DialError> {
    let target = format!(
        "{}:{}",
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or_default()
    );
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(&target)
        .header(HOST, &target);
    if !proxy.username().is_empty() {
        let mut login = HeaderValue::from_str(&basic(proxy.username(), proxy.password()))
            .map_err(|_| DialError::Upgrade("the proxy's login does not fit a header"))?;
        login.set_sensitive(true);
        request = request.header(PROXY_AUTHORIZATION, login);
    }
    let request: Request<Empty<Bytes>> = request
        .body(Empty::new())
        .map_err(|_| DialError::Upgrade("the address does not fit an HTTP request"))?;
    match exchange(io, request).await? {
        // A server speaks first in no protocol that follows here.
        Answer::Switched { io, read, .. } if read.is_empty() => Ok(io),
        Answer::Switched { .. } => Err(DialError::Upgrade("the proxy sent data of its own")),
        Answer::Plain { head, .. } => Err(DialError::Proxy {
            proxy: proxy[Position::BeforeHost..Position::AfterPort].to_owned(),
            status: head.status,
        }),
    }
}

/// `Basic` credentials (RFC 7617) of the parts of a URL, which hold them percent-encoded.
fn basic(username: &str, password: Option<&str>) -> String {
    let mut login: Vec<u8> = percent_decode_str(username).collect();
    login.push(b':');
    login.extend(percent_decode_str(password.unwrap_or_default()));
    format!("Basic {}", base64(&login))
}

/// The standard alphabet with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() {
                letter as char
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_decoded_and_encoded() {
        assert_eq!(basic("user", Some("pass")), "Basic dXNlcjpwYXNz");
        assert_eq!(basic("u%40x", Some("p%zz%2")), "Basic dUB4OnAlenolMg==");
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
