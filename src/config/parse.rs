//! The value parsers: pure, text in, checked value or what was expected and what came.

use std::net::Ipv6Addr;
use std::time::Duration;

use bytesize::ByteSize;
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing_subscriber::filter::{LevelFilter, Targets};
use url::{Host, Url};

use super::fault::{Wrong, quoted};
pub(super) use crate::uuid::parse as uuid;

/// Longest duration: no deadline is further away, so adding one to a clock never overflows.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Largest size, far beyond what a sidecar may hold: more is a typing error.
pub(super) const MAX_SIZE: u64 = 1 << 40;

/// Longest role: it is part of the query of every dial.
const MAX_ROLE_BYTES: usize = 64;

/// Most extra headers: with the handshake's own they stay below the 100 that common servers accept.
const MAX_HEADERS: usize = 64;

/// Level of the targets that a list of directives does not name: errors of other parts must not
/// vanish because one part is being looked at.
const DEFAULT_LEVEL: LevelFilter = LevelFilter::INFO;

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let found = choices.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        Wrong::value(words.join(" or "), text)
    })
}

pub(super) fn switch(text: &str) -> Result<bool, Wrong> {
    choice(
        text,
        &[("true", true), ("false", false), ("1", true), ("0", false)],
    )
}

/// The agent URL. A value that may hold credentials is not repeated.
pub(super) fn agent_url(text: &str) -> Result<Url, Wrong> {
    let expected = "an http:// or https:// URL with a host, without credentials, query or fragment";
    if text.contains('@') {
        return Err(Wrong::new(expected, "one with a @ (not shown)"));
    }
    if text.contains(['?', '#']) {
        return Err(Wrong::new(expected, "one with a ? or # (not shown)"));
    }
    let wrong = || Wrong::value(expected, text);
    // The parser is lenient where a typing error is likelier: it drops white space, adds slashes
    // and skips them.
    let host_starts = ["http://", "https://"].iter().any(|scheme| {
        let (start, rest) = text
            .as_bytes()
            .split_at_checked(scheme.len())
            .unwrap_or_default();
        start.eq_ignore_ascii_case(scheme.as_bytes()) && !rest.starts_with(b"/")
    });
    if !host_starts || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(wrong());
    }
    let url = Url::parse(text).map_err(|_| wrong())?;
    match url.host() {
        Some(Host::Domain("")) | None => Err(wrong()),
        Some(_) => Ok(url),
    }
}

/// Whether a name is 1 to `max` of the characters A-Z a-z 0-9 . _ -.
pub(super) fn is_plain(name: &str, max: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=max).contains(&name.len()) && name.bytes().all(allowed)
}

pub(super) fn role(text: &str) -> Result<String, Wrong> {
    if is_plain(text, MAX_ROLE_BYTES) {
        Ok(text.to_owned())
    } else {
        let expected = format!("1 to {MAX_ROLE_BYTES} of the characters A-Z a-z 0-9 . _ -");
        Err(Wrong::value(expected, text))
    }
}

/// Extra headers, `NAME=VALUE` each. Values are secrets, and so may be anything that is not of
/// that form: only valid names are repeated.
pub(super) fn headers(texts: &[String]) -> Result<HeaderMap, Wrong> {
    let form = "NAME=VALUE with a valid header name and a value of visible ASCII";
    if texts.len() > MAX_HEADERS {
        let got = format!("{}", texts.len());
        return Err(Wrong::new(format!("at most {MAX_HEADERS} headers"), got));
    }
    let mut headers = HeaderMap::new();
    for (index, text) in texts.iter().enumerate() {
        let wrong = |what: &str| Wrong::new(form, format!("{what} in header {}", index + 1));
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("no ="))?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong("an invalid name"))?;
        if is_reserved(&name) {
            let expected = "a header that the connection does not set itself";
            return Err(Wrong::new(expected, name.as_str()));
        }
        let mut value: HeaderValue = value.parse().map_err(|_| wrong("an invalid value"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Headers of the WebSocket handshake, of gRPC, of message framing and of the token: a second one would
/// break the dial or send another token. And those of a connection, which HTTP/2 forbids (RFC 9113, section 8.2.2).
fn is_reserved(name: &HeaderName) -> bool {
    let reserved = [
        "host",
        "connection",
        "upgrade",
        "coder-session-token",
        "content-length",
        "transfer-encoding",
        "keep-alive",
        "proxy-connection",
        "te",
        "weir-role",
    ];
    let reserved_prefixes = ["sec-websocket-", "grpc-"];
    reserved.contains(&name.as_str())
        || reserved_prefixes
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix))
}

pub(super) fn mode(text: &str) -> Result<u32, Wrong> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if octal && mode <= 0o777 => Ok(mode),
        _ => Err(Wrong::value("octal permissions, 0000 to 0777", text)),
    }
}

pub(super) fn count(text: &str, max: usize) -> Result<usize, Wrong> {
    match text.parse() {
        Ok(count) if (1..=max).contains(&count) => Ok(count),
        _ => Err(Wrong::value(format!("a number from 1 to {max}"), text)),
    }
}

/// A size such as `16MiB`, `16MB` or a number of bytes.
pub(super) fn size(text: &str, min: u64, max: u64) -> Result<u64, Wrong> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(bytes)) if (min..=max).contains(&bytes) => Ok(bytes),
        _ => {
            let (min, max) = (exact_size(min), exact_size(max));
            let expected = format!("a size from {min} to {max}, such as 16MiB");
            Err(Wrong::value(expected, text))
        }
    }
}

/// A size as text that parses to the same number of bytes.
pub(super) fn exact_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
    {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// A duration that may be zero.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        _ => Err(Wrong::value(
            "a duration from 0s to 30days, such as 5s",
            text,
        )),
    }
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, Wrong> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= MAX_DURATION => Ok(duration),
        _ => Err(Wrong::value(
            "a duration of more than 0 and at most 30days, such as 100ms",
            text,
        )),
    }
}

/// `HOST:PORT` in form; an absent host becomes every IPv4 interface.
pub(super) fn host_port(text: &str) -> Result<String, Wrong> {
    let wrong = || Wrong::value("HOST:PORT, unix:PATH or nothing", text);
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let valid = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
    };
    match (valid, host) {
        (true, "") => Ok(format!("0.0.0.0:{port}")),
        (true, _) => Ok(text.to_owned()),
        (false, _) => Err(wrong()),
    }
}

/// A level, or several `TARGET=LEVEL` and at most one bare level.
pub(super) fn log_filter(text: &str) -> Result<Targets, Wrong> {
    let expected =
        "error, warn, info, debug, trace or off, or several TARGET=LEVEL separated by commas";
    let mut filter = Targets::new().with_default(DEFAULT_LEVEL);
    for directive in text.split(',').map(str::trim) {
        let wrong = || Wrong::new(expected, quoted(directive));
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, directive),
        };
        let level = log_level(level).ok_or_else(wrong)?;
        filter = match target {
            Some("") => return Err(wrong()),
            Some(target) => filter.with_target(target, level),
            None => filter.with_default(level),
        };
    }
    Ok(filter)
}

/// The library's own parser also takes digits and the empty string.
fn log_level(word: &str) -> Option<LevelFilter> {
    word.bytes()
        .all(|byte| byte.is_ascii_alphabetic())
        .then(|| word.parse().ok())
        .flatten()
        .filter(|_| !word.is_empty())
}
