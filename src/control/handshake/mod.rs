//! Whether a request to the agent endpoint becomes a session: token, then version, then WebSocket, in coderd's order
//! and with its answers (coder/coder coderd/httpmw/workspaceagent.go, coderd/workspaceagentsrpc.go).

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{
    CONNECTION, COOKIE, HOST, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use serde::Serialize;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use url::form_urlencoded;

use super::agents::{Agent, Agents, Role, Seat};
use crate::config::control::AgentToken;
use crate::metrics::control::{ControlMetrics, DialRefusal};

/// The agent endpoint.
pub(super) const PATH: &str = "/api/v2/workspaceagents/me/rpc";

/// The API versions that are spoken: this major, up to this minor.
pub(super) const API_VERSION: (u32, u32) = (2, 13);

/// What a client that names no version speaks.
const DEFAULT_VERSION: &str = "2.0";

const TOKEN_NAME: &str = "coder_session_token";
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("coder-session-token");

/// A request that becomes a session.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) agent: Arc<Agent>,
    pub(super) role: Role,
    pub(super) version: (u32, u32),
    /// The answer to the client's key.
    pub(super) accept: HeaderValue,
}

/// An answer other than a session.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: DialRefusal,
    pub(super) body: ErrorBody,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// The JSON of coderd's errors.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct ErrorBody {
    pub(super) message: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) validations: Vec<Validation>,
}

/// A field of a request that is wrong.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Validation {
    field: &'static str,
    detail: String,
}

impl ErrorBody {
    pub(super) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            detail: None,
            validations: Vec::new(),
        }
    }
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        reason: DialRefusal,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            reason,
            body: ErrorBody::new(message),
            headers: Vec::new(),
        }
    }

    fn detail(mut self, detail: &'static str) -> Self {
        self.body.detail = Some(detail);
        self
    }

    fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }
}

/// Judges a request to [`PATH`].
pub(super) fn admit(request: &Parts, agents: &Agents) -> Result<Admitted, Refusal> {
    let agent = authenticate(request, agents)?;
    let version = query(request, "version").unwrap_or_default();
    let version = negotiate(if version.is_empty() {
        DEFAULT_VERSION
    } else {
        &version
    })?;
    let accept = check_upgrade(request)?;
    Ok(Admitted {
        agent,
        role: Role::named(&query(request, "role").unwrap_or_default()),
        version,
        accept,
    })
}

fn authenticate(request: &Parts, agents: &Agents) -> Result<Arc<Agent>, Refusal> {
    let token = read_token(token(request).as_deref())?;
    find(&token, agents).cloned()
}

fn unauthorized(reason: DialRefusal, message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, reason, message)
}

/// Reads the token that was shown, if one was.
pub(super) fn read_token(shown: Option<&str>) -> Result<AgentToken, Refusal> {
    let shown = shown.filter(|token| !token.is_empty()).ok_or_else(|| {
        let message = format!("Cookie \"{TOKEN_NAME}\" must be provided.");
        unauthorized(DialRefusal::NoToken, message)
    })?;
    AgentToken::parse(shown).ok_or_else(|| {
        unauthorized(
            DialRefusal::MalformedToken,
            "Workspace agent token invalid.",
        )
        .detail("An agent token is a UUID: 8, 4, 4, 4 and 12 hex digits with hyphens between.")
    })
}

/// The agent with that token.
pub(super) fn find<'a>(token: &AgentToken, agents: &'a Agents) -> Result<&'a Arc<Agent>, Refusal> {
    agents.find(token).ok_or_else(|| {
        unauthorized(DialRefusal::UnknownToken, "Workspace agent not authorized.")
            .detail("No agent of this control plane has this token.")
    })
}

/// Gives an agent's session its seat.
pub(super) fn seat(
    agent: &Arc<Agent>,
    role: Role,
    metrics: &ControlMetrics,
) -> Result<Seat, Refusal> {
    agent.enter(role, metrics).ok_or_else(|| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            DialRefusal::TooMany,
            "The agent has too many connections.",
        )
    })
}

/// The token, from where coderd looks first (coder/coder coderd/httpmw/apikey.go).
fn token(request: &Parts) -> Option<String> {
    cookie(&request.headers)
        .map(str::to_owned)
        .or_else(|| query(request, TOKEN_NAME).map(Cow::into_owned))
        .filter(|token| !token.is_empty())
        .or_else(|| {
            let header = request.headers.get(TOKEN_HEADER)?.to_str().ok()?;
            Some(header.to_owned())
        })
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).into_iter();
    let (_, token) = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == TOKEN_NAME)?;
    Some(token.trim_matches('"')).filter(|token| !token.is_empty())
}

/// The first value of a field of the query.
fn query<'r>(request: &'r Parts, name: &str) -> Option<Cow<'r, str>> {
    let query = request.uri.query()?;
    let (_, value) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name)?;
    Some(value)
}

/// The version that was asked for, when it is spoken (coder/coder apiversion/apiversion.go).
fn negotiate(asked: &str) -> Result<(u32, u32), Refusal> {
    let (major, minor) = API_VERSION;
    let detail = match parse_version(asked) {
        None => format!("invalid version {asked:?}, expected MAJOR.MINOR"),
        Some(version) if version.0 > major => {
            format!("server is at version {major}.{minor}, behind requested major version {asked}")
        }
        Some(version) if version.0 < major => {
            format!("server is at version {major}.{minor}, version {asked} is no longer supported")
        }
        Some(version) if version.1 > minor => {
            format!("server is at version {major}.{minor}, behind requested minor version {asked}")
        }
        Some(version) => return Ok(version),
    };
    let mut refusal = Refusal::new(
        StatusCode::BAD_REQUEST,
        DialRefusal::Version,
        "Unknown or unsupported API version",
    );
    refusal.body.validations.push(Validation {
        field: "version",
        detail,
    });
    Err(refusal)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    Some((number(major)?, number(minor)?))
}

/// What the WebSocket library of coderd checks (coder/websocket accept.go), and the answer to the key.
fn check_upgrade(request: &Parts) -> Result<HeaderValue, Refusal> {
    let refuse =
        |status, message: &'static str| Refusal::new(status, DialRefusal::Upgrade, message);
    let headers = &request.headers;
    if request.method != Method::GET || request.version != Version::HTTP_11 {
        let message = "The endpoint takes WebSocket upgrades by GET in HTTP/1.1.";
        return Err(
            refuse(StatusCode::METHOD_NOT_ALLOWED, message).header(http::header::ALLOW, "GET")
        );
    }
    if !names(headers, &CONNECTION, "upgrade") || !names(headers, &UPGRADE, "websocket") {
        let message = "The endpoint takes WebSocket upgrades.";
        return Err(refuse(StatusCode::UPGRADE_REQUIRED, message)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket"));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let message = "Sec-WebSocket-Version must be 13.";
        return Err(refuse(StatusCode::BAD_REQUEST, message).header(SEC_WEBSOCKET_VERSION, "13"));
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|key| is_key(key.as_bytes()))
        .ok_or_else(|| {
            let message = "Sec-WebSocket-Key must be 16 bytes in base64.";
            refuse(StatusCode::BAD_REQUEST, message)
        })?;
    check_origin(headers)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| {
        let message = "Sec-WebSocket-Key has no answer.";
        refuse(StatusCode::BAD_REQUEST, message)
    })
}

/// 16 bytes in base64: 22 digits and two for padding.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==")
        .is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// Agents send no `Origin`; a browser does, and a page of another site must not use its cookies.
fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_ascii_lowercase);
    let origin = text(origin);
    let from = origin
        .as_deref()
        .and_then(|origin| origin.split_once("://"));
    let host = headers.get(HOST).and_then(text);
    match (from, host) {
        (Some((_, from)), Some(host)) if from == host => Ok(()),
        _ => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            DialRefusal::Origin,
            "The request comes from a page of another site.",
        )),
    }
}

/// Whether a list of tokens in a header names this one.
fn names(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}
