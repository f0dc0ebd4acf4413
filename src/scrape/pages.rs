//! Which request is answered with which page. Every answer is made whole, and once per request; at once, but for the body of
//! a post.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::health::Verdict;
use super::scripts::scripts;
use super::serve::{Reply, at_once};
use super::view::View;
use crate::metrics::exposition::{self, Format};

/// An answer; its length is known.
pub(super) type Page = Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
pub(super) const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

const LANDING: &str = include_str!("landing.html");

/// Answers on the scrape address. As on the Go agent, every path that is not known serves the metrics.
pub(super) fn scrape(view: &Arc<View>, request: Request<Incoming>) -> Reply<Full<Bytes>> {
    at_once(scraped(view, &request))
}

fn scraped<B>(view: &View, request: &Request<B>) -> Page {
    if let Some(refusal) = refuse_writes(request) {
        return refusal;
    }
    match request.uri().path() {
        "/" => page(StatusCode::OK, HTML, LANDING),
        "/-/healthy" => healthy(&view.health().healthy(Instant::now())),
        "/-/ready" => ready(&view.health().ready()),
        "/status" => status(view),
        _ => metrics(view, request.headers()),
    }
}

/// Answers on the API socket.
pub(super) fn api(view: &Arc<View>, request: Request<Incoming>) -> Reply<Full<Bytes>> {
    if request.uri().path() == "/v1/scripts" {
        let view = Arc::clone(view);
        return Box::pin(async move { scripts(view.scripts(), request).await });
    }
    at_once(asked(view, &request))
}

fn asked<B>(view: &View, request: &Request<B>) -> Page {
    if let Some(refusal) = refuse_writes(request) {
        return refusal;
    }
    match request.uri().path() {
        "/v1/status" => status(view),
        "/metrics" => metrics(view, request.headers()),
        _ => page(
            StatusCode::NOT_FOUND,
            JSON,
            r#"{"error":"there are /v1/status, /v1/scripts and /metrics"}"#,
        ),
    }
}

/// The answer to a request that would change something.
pub(super) fn refuse_writes<B>(request: &Request<B>) -> Option<Page> {
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return None;
    }
    let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n");
    let allowed = HeaderValue::from_static("GET, HEAD");
    refusal.headers_mut().insert(header::ALLOW, allowed);
    Some(refusal)
}

fn metrics(view: &View, asked: &HeaderMap) -> Page {
    let format = Format::accepted(texts(asked, header::ACCEPT));
    exposition(view.metrics(format), format, asked)
}

fn exposition(made: Result<Vec<u8>, prometheus::Error>, format: Format, asked: &HeaderMap) -> Page {
    let plain = match made {
        Ok(plain) => plain,
        Err(error) => return failure(&error),
    };
    let content_type = HeaderValue::from_static(format.content_type());
    let mut answer = if exposition::accepts_gzip(texts(asked, header::ACCEPT_ENCODING)) {
        match exposition::gzip(&plain) {
            Ok(packed) => {
                let mut answer = page(StatusCode::OK, content_type, packed);
                let gzip = HeaderValue::from_static("gzip");
                answer.headers_mut().insert(header::CONTENT_ENCODING, gzip);
                answer
            }
            Err(error) => return failure(&error),
        }
    } else {
        page(StatusCode::OK, content_type, plain)
    };
    let vary = HeaderValue::from_static("accept, accept-encoding");
    answer.headers_mut().insert(header::VARY, vary);
    answer
}

fn status(view: &View) -> Page {
    json(StatusCode::OK, &view.status(Instant::now()))
}

fn healthy(verdict: &Verdict) -> Page {
    let answer = json!({"healthy": verdict.good, "reason": verdict.reason});
    json(code(verdict), &answer)
}

fn ready(verdict: &Verdict) -> Page {
    let answer = json!({"ready": verdict.good, "reason": verdict.reason});
    json(code(verdict), &answer)
}

fn code(verdict: &Verdict) -> StatusCode {
    if verdict.good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

pub(super) fn json(status: StatusCode, answer: &impl Serialize) -> Page {
    match serde_json::to_vec(answer) {
        Ok(mut text) => {
            text.push(b'\n');
            page(status, JSON, text)
        }
        Err(error) => failure(&error),
    }
}

fn failure(error: &dyn std::error::Error) -> Page {
    tracing::error!(%error, "a page could not be made");
    page(
        StatusCode::INTERNAL_SERVER_ERROR,
        PLAIN,
        format!("{error}\n"),
    )
}

/// A page that is there as a whole.
pub(super) fn page(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    page
}

/// The values of a header that are text.
pub(super) fn texts(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values.filter_map(|value| value.to_str().ok())
}
