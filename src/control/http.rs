//! What is answered to HTTP requests other than a session.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Serialize;

use super::handshake::{API_VERSION, Admitted, ErrorBody, Refusal};

/// An answer, as HTTP/1.1 has it.
pub(super) type Page = Response<Bytes>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

const LANDING: &str = include_str!("landing.html");

/// The part of coderd's build information that there is here (coder/coder codersdk/deployment.go).
#[derive(Serialize)]
struct BuildInfo {
    external_url: &'static str,
    version: &'static str,
    dashboard_url: &'static str,
    telemetry: bool,
    workspace_proxy: bool,
    agent_api_version: String,
}

/// Answers a request to any path but the agents' own.
pub(super) fn page(request: &Parts) -> Page {
    if ![Method::GET, Method::HEAD].contains(&request.method) {
        let body = ErrorBody::new("Only GET and HEAD.");
        let mut refusal = json(StatusCode::METHOD_NOT_ALLOWED, &body);
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    match request.uri.path() {
        "/" => answer(StatusCode::OK, HTML, LANDING),
        "/healthz" => answer(StatusCode::OK, PLAIN, "OK"),
        "/api/v2/buildinfo" => json(StatusCode::OK, &build_info()),
        _ => json(StatusCode::NOT_FOUND, &ErrorBody::new("Route not found.")),
    }
}

fn build_info() -> BuildInfo {
    let (major, minor) = API_VERSION;
    BuildInfo {
        external_url: "",
        version: concat!("v", env!("CARGO_PKG_VERSION"), "+weir"),
        dashboard_url: "",
        telemetry: false,
        workspace_proxy: false,
        agent_api_version: format!("{major}.{minor}"),
    }
}

/// The answer that makes a connection a WebSocket.
pub(super) fn switching(admitted: &Admitted) -> Page {
    let mut page = Response::new(Bytes::new());
    *page.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = page.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, admitted.accept.clone());
    page
}

/// The answer to a call whose body is something else.
pub(super) fn unsupported() -> Page {
    let body = ErrorBody::new("The agent service takes application/grpc.");
    json(StatusCode::UNSUPPORTED_MEDIA_TYPE, &body)
}

/// The answer to a dial that becomes no session.
pub(super) fn refused(refusal: Refusal) -> Page {
    let mut page = json(refusal.status, &refusal.body);
    page.headers_mut().extend(refusal.headers);
    page
}

fn json(status: StatusCode, body: &impl Serialize) -> Page {
    // Only texts, numbers and lists: they can all be written.
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    text.push(b'\n');
    answer(status, JSON, text)
}

fn answer(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(body.into());
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // One request for each connection: agents need no more, and it is easily bounded. Without keep-alive hyper would
    // say so in the answer to an upgrade too, where it must not stand.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    page
}
