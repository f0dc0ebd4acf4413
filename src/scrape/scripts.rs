//! `POST /v1/scripts`: takes in the end of a script.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use tokio::time::timeout;

use super::pages::{Page, json};
use crate::script::books::Entry;
use crate::script::{Desk, Report};

/// Longest body, in bytes: far more than a report with the longest name takes.
const MAX_BODY: usize = 16 * 1024;
/// How long a body may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Answers when the report is counted: 201 when it was now, 200 when it had been before. The body is read whatever its
/// `Content-Type` says, because `curl -d` calls it a form.
pub(super) async fn scripts(desk: &Desk, request: Request<Incoming>) -> Page {
    if request.method() != Method::POST {
        let mut refusal = fault(StatusCode::METHOD_NOT_ALLOWED, "expected POST");
        refusal
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("POST"));
        return refusal;
    }
    let body = match body(request.into_body()).await {
        Ok(body) => body,
        Err(refusal) => {
            desk.refuse();
            return refusal;
        }
    };
    match Report::from_json(&body) {
        Ok(report) => match desk.enter(&report) {
            Entry::Counted { .. } => json(StatusCode::CREATED, &json!({"result": "counted"})),
            Entry::Repeated => json(StatusCode::OK, &json!({"result": "repeated"})),
        },
        Err(error) => {
            desk.refuse();
            fault(StatusCode::BAD_REQUEST, &error.to_string())
        }
    }
}

async fn body(body: Incoming) -> Result<Bytes, Page> {
    let too_large = || {
        let expected = format!("expected at most {MAX_BODY} bytes");
        Err(fault(StatusCode::PAYLOAD_TOO_LARGE, &expected))
    };
    // Of one that is told to be too large nothing is waited for.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return too_large();
    }
    match timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
        Ok(Err(error)) => {
            let expected = format!("expected a body to its end: {error}");
            Err(fault(StatusCode::BAD_REQUEST, &expected))
        }
        Err(_late) => {
            let expected = format!("expected the body within {BODY_WITHIN:?}");
            Err(fault(StatusCode::REQUEST_TIMEOUT, &expected))
        }
    }
}

fn fault(status: StatusCode, error: &str) -> Page {
    json(status, &json!({ "error": error }))
}
