//! `weir status`: asks a running sidecar over its API socket and prints the answer.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{StatusDocument, render_table};

/// A healthy sidecar answers within milliseconds; one that takes longer than this is stuck or overwhelmed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Several times what [`super::MAX_SENDERS`] senders need.
const MAX_DOCUMENT: usize = 4 * 1024 * 1024;
/// How often a watched status is asked for.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Cursor to the upper left, then erase all that follows (ECMA-48).
const REDRAW: &str = "\x1b[H\x1b[J";

/// How a status is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The document as it was answered, on one line, instead of a table.
    pub json: bool,
    /// Again every second, until the sidecar answers no more or nobody reads.
    pub watch: bool,
    /// The output is a terminal: a watched table is redrawn in place.
    pub terminal: bool,
}

/// An answer of a sidecar.
#[derive(Clone, Debug)]
pub struct Answer {
    /// As it was sent.
    pub json: String,
    /// As it was understood.
    pub document: StatusDocument,
}

/// Why a status could not be printed.
#[derive(Debug, Error)]
pub enum StatusError {
    /// There is no answer.
    #[error("no status from {}: {problem}", path.display())]
    Fetch {
        /// The API socket that was tried.
        path: PathBuf,
        /// What went wrong.
        problem: FetchError,
    },
    /// The output cannot be written.
    #[error("cannot write the status: {0}")]
    Output(io::Error),
}

/// Why a sidecar gave no answer.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Nothing listens on the socket.
    #[error("no sidecar answers there ({0}); is `weir run` running with this --api-socket?")]
    Connect(io::Error),
    /// It did not answer in time.
    #[error("connected, but not answered within {} s", ANSWER_WITHIN.as_secs())]
    Late,
    /// It does not speak HTTP, or broke off.
    #[error("expected an HTTP response: {0}")]
    Http(hyper::Error),
    /// It answered something else.
    #[error("expected 200, got {0}; is this the API socket of a sidecar?")]
    Status(StatusCode),
    /// It broke off, or answered too much.
    #[error("expected at most {MAX_DOCUMENT} bytes to the end: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// It answered something else than a status document.
    #[error("expected a status document: {0}")]
    Document(serde_json::Error),
}

/// Prints the status of the sidecar behind this API socket. A reader that goes away ends it without an error.
///
/// # Errors
/// When there is no answer, or the output fails.
pub async fn print(
    api_socket: &Path,
    form: Form,
    output: &mut impl Write,
) -> Result<(), StatusError> {
    let mut ticks = interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = fetch(api_socket)
            .await
            .map_err(|problem| StatusError::Fetch {
                path: api_socket.to_owned(),
                problem,
            })?;
        match print_once(&answer, form, output) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(StatusError::Output(error)),
            Ok(()) if form.watch => {}
            Ok(()) => return Ok(()),
        }
    }
}

/// Asks for the status once.
///
/// # Errors
/// When there is no answer within 5 s, or not a status document.
pub async fn fetch(api_socket: &Path) -> Result<Answer, FetchError> {
    let body = timeout(ANSWER_WITHIN, get(api_socket))
        .await
        .map_err(|_elapsed| FetchError::Late)??;
    let document = serde_json::from_slice(&body).map_err(FetchError::Document)?;
    let json = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { json, document })
}

async fn get(api_socket: &Path) -> Result<Bytes, FetchError> {
    let stream = UnixStream::connect(api_socket)
        .await
        .map_err(FetchError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Http)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = http::Uri::from_static("/v1/status");
    request
        .headers_mut()
        .insert(header::HOST, http::HeaderValue::from_static("localhost"));
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(FetchError::Http)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT)
            .collect()
            .await;
        Ok(body.map_err(FetchError::Body)?.to_bytes())
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        body = &mut exchange => body,
        // A connection that has ended says why in the exchange itself.
        _ended = connection => exchange.await,
    }
}

fn print_once(answer: &Answer, form: Form, output: &mut impl Write) -> io::Result<()> {
    if form.json {
        writeln!(output, "{}", answer.json.trim_end())?;
    } else {
        let before = match form {
            Form {
                watch: true,
                terminal: true,
                ..
            } => REDRAW,
            _ => "",
        };
        let after = match form {
            Form {
                watch: true,
                terminal: false,
                ..
            } => "\n",
            _ => "",
        };
        let table = render_table(&answer.document, unix_now());
        write!(output, "{before}{table}{after}")?;
    }
    output.flush()
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
