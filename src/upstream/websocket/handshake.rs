//! The upgrade of one HTTP/1.1 connection to the agent WebSocket.

use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE, USER_AGENT,
};
use http::{HeaderMap, Request, response};
use http_body_util::Empty;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::Role;
use url::{Position, Url};

use super::super::error::{DialError, Refusal};
use super::super::http1::{Answer, Io, exchange};
use super::super::settings::{AGENT, API_VERSION, TOKEN};
use crate::wire::ws;

/// The agent endpoint; takes the place of whatever path the URL has (codersdk/agentsdk/agentsdk.go).
const PATH: &str = "/api/v2/workspaceagents/me/rpc";

/// What the server makes of the request.
pub(super) enum Reply {
    Open(Box<WebSocketStream<Io>>),
    /// Go there instead.
    Redirect(String),
}

/// The address to dial: the endpoint at that host, with role and version in the order of the reference.
pub(super) fn rpc_url(base: &Url, role: &str) -> Url {
    let mut url = base.clone();
    url.set_path(PATH);
    url.set_fragment(None);
    url.set_query(None);
    if !role.is_empty() {
        url.query_pairs_mut().append_pair("role", role);
    }
    url.query_pairs_mut().append_pair("version", API_VERSION);
    url
}

/// What may be told only to the host that the settings name.
pub(super) struct Credentials<'a> {
    pub(super) token: &'a HeaderValue,
    pub(super) headers: &'a HeaderMap,
}

/// Asks for the upgrade over `io`, which leads to the host of `url`.
pub(super) async fn upgrade(
    io: Io,
    url: &Url,
    credentials: Option<Credentials<'_>>,
) -> Result<Reply, DialError> {
    let key = generate_key();
    match exchange(io, request(url, &key, credentials)?).await? {
        Answer::Switched { head, io, read } => {
            check(&head, &key)?;
            let config = Some(ws::config());
            let ws =
                WebSocketStream::from_partially_read(io, read.to_vec(), Role::Client, config).await;
            Ok(Reply::Open(Box::new(ws)))
        }
        Answer::Plain { head, body } => match head.headers.get(LOCATION) {
            Some(to) if head.status.is_redirection() => Ok(Reply::Redirect(
                String::from_utf8_lossy(to.as_bytes()).into_owned(),
            )),
            _ => Err(DialError::Refused(Refusal::new(head.status, &body))),
        },
    }
}

fn request(
    url: &Url,
    key: &str,
    credentials: Option<Credentials<'_>>,
) -> Result<Request<Empty<Bytes>>, DialError> {
    let unfit = |_| DialError::Upgrade("the address does not fit an HTTP request");
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, AGENT);
    if let Some(Credentials {
        token,
        headers: extra,
    }) = credentials
    {
        headers.extend(extra.clone());
        headers.insert(TOKEN, token.clone());
    }
    let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]);
    headers.insert(HOST, host.map_err(|error| unfit(error.into()))?);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    let key = HeaderValue::from_str(key);
    headers.insert(SEC_WEBSOCKET_KEY, key.map_err(|error| unfit(error.into()))?);
    let mut request = Request::builder()
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .body(Empty::new())
        .map_err(unfit)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Whether the 101 says what RFC 6455 section 4.1 wants of it.
fn check(head: &response::Parts, key: &str) -> Result<(), DialError> {
    let names = |name: &HeaderName, token: &str| {
        head.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    let accepted = head
        .headers
        .get(SEC_WEBSOCKET_ACCEPT)
        .map(HeaderValue::as_bytes);
    let fault = if !names(&UPGRADE, "websocket") {
        "status 101 without Upgrade: websocket"
    } else if !names(&CONNECTION, "upgrade") {
        "status 101 without Connection: Upgrade"
    } else if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        "Sec-WebSocket-Accept does not answer the key that was sent"
    } else if head.headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        "an extension was chosen though none was offered"
    } else if head.headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        "a subprotocol was chosen though none was offered"
    } else {
        return Ok(());
    };
    Err(DialError::Upgrade(fault))
}
