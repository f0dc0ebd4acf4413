//! One page from one target, once.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Location;
use super::body::{Body, BodyFault, Encoding};
use crate::logging::ErrorChain;
use crate::upstream::{Direct, Io, RootFiles};
use crate::wire::exposition::Format;

/// How long connecting may take, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Bytes of the head of an answer, at most.
const MAX_HEAD: usize = 64 << 10;

/// Characters of a header that an error repeats, at most.
const SHOWN_CHARS: usize = 100;

/// What Prometheus itself asks for, but for protobuf.
const ACCEPT: HeaderValue = HeaderValue::from_static(
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
     application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
     text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
);

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));

/// A page as it was served.
#[derive(Clone, Debug)]
pub struct Page {
    /// Decompressed.
    pub bytes: Vec<u8>,
    /// As its head says.
    pub format: Format,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Nobody answered there in time.
    #[error("not connected within {CONNECT_WITHIN:?}")]
    ConnectLate,
    /// The answer did not end in time.
    #[error("no whole page within {0:?}")]
    Late(Duration),
    /// What answers does not speak HTTP, or broke off.
    #[error("expected an HTTP response: {0}")]
    Http(String),
    /// It answered something else than a page.
    #[error("expected 200, got {0}")]
    Status(StatusCode),
    /// It sends elsewhere; nobody is followed.
    #[error("expected 200, got {status} to {to:?}, which is not followed: name the page itself")]
    Redirect {
        /// The status of the answer.
        status: StatusCode,
        /// Where it points.
        to: String,
    },
    /// It is no exposition page.
    #[error("expected a page of text/plain or application/openmetrics-text, got {0:?}")]
    ContentType(String),
    /// It is packed otherwise than it was asked for.
    #[error("expected a page that is plain or packed with gzip, got {0:?}")]
    Encoding(String),
    /// It is too large.
    #[error("expected a page of at most {0} bytes after decompression, got more")]
    TooLarge(usize),
    /// It cannot be unpacked.
    #[error("expected a page packed with gzip: {0}")]
    Gzip(std::io::Error),
}

/// Fetches pages. It trusts the authorities that the link to the control plane trusts, and asks no proxy.
#[derive(Debug)]
pub struct Fetcher {
    direct: Direct,
    max_page: usize,
}

impl Fetcher {
    /// One that takes pages of at most so many bytes after decompression.
    pub fn new(roots: RootFiles, max_page: usize) -> Self {
        Self {
            direct: Direct::new(roots),
            max_page,
        }
    }

    /// Fetches a page, on a connection of its own.
    ///
    /// # Errors
    /// When there is no whole page within `limit`, or none that could be read.
    pub async fn fetch(&self, location: &Location, limit: Duration) -> Result<Page, FetchError> {
        timeout(limit, self.exchange(location, limit))
            .await
            .unwrap_or(Err(FetchError::Late(limit)))
    }

    async fn exchange(&self, location: &Location, limit: Duration) -> Result<Page, FetchError> {
        let io = timeout(CONNECT_WITHIN, self.connect(location))
            .await
            .map_err(|_elapsed| FetchError::ConnectLate)??;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| http(&error))?;
        let request = request(location, limit)?;
        let answer = async {
            let response = sender.send_request(request).await;
            let (head, body) = response.map_err(|error| http(&error))?.into_parts();
            if head.status.is_redirection() {
                let to = shown(head.headers.get(header::LOCATION));
                let status = head.status;
                return Err(FetchError::Redirect { status, to });
            }
            if head.status != StatusCode::OK {
                return Err(FetchError::Status(head.status));
            }
            let format = format(&head.headers)?;
            let bytes = self.read(body, encoding(&head.headers)?).await?;
            Ok(Page { bytes, format })
        };
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // A connection that has ended says why in the answer itself.
            _ended = connection => answer.await,
        }
    }

    async fn connect(&self, location: &Location) -> Result<Io, FetchError> {
        match location {
            Location::Web(url) => {
                let connected = self.direct.connect(url).await;
                connected.map_err(|error| FetchError::Connect(chain(&*error)))
            }
            Location::Unix { socket, .. } => {
                let connected = UnixStream::connect(socket).await;
                let stream = connected.map_err(|error| FetchError::Connect(error.to_string()))?;
                Ok(Box::new(stream))
            }
        }
    }

    async fn read(&self, mut body: Incoming, encoding: Encoding) -> Result<Vec<u8>, FetchError> {
        let fault = |fault| match fault {
            BodyFault::TooLarge => FetchError::TooLarge(self.max_page),
            BodyFault::Gzip(error) => FetchError::Gzip(error),
        };
        let mut page = Body::new(encoding, self.max_page);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| http(&error))?;
            if let Some(data) = frame.data_ref() {
                page.push(data).map_err(fault)?;
            }
        }
        page.finish().map_err(fault)
    }
}

fn request(location: &Location, limit: Duration) -> Result<Request<Empty<Bytes>>, FetchError> {
    Request::get(location.request_path())
        .header(header::HOST, location.authority())
        .header(header::ACCEPT, ACCEPT)
        .header(header::ACCEPT_ENCODING, "gzip")
        .header(header::USER_AGENT, USER_AGENT)
        // Exporters that gather for long want to know when it is too late.
        .header(
            "x-prometheus-scrape-timeout-seconds",
            limit.as_secs_f64().to_string(),
        )
        .body(Empty::new())
        .map_err(|error| FetchError::Http(error.to_string()))
}

/// The format of a page. One that does not say is taken to be of the text format, as all were once.
fn format(headers: &HeaderMap) -> Result<Format, FetchError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Format::Text);
    };
    let text = value.to_str().unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("text/plain") {
        Ok(Format::Text)
    } else if kind.eq_ignore_ascii_case("application/openmetrics-text") {
        Ok(Format::OpenMetrics)
    } else {
        Err(FetchError::ContentType(shown(Some(value))))
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, FetchError> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(Encoding::Plain);
    };
    match value.to_str().unwrap_or_default().trim() {
        name if name.is_empty() || name.eq_ignore_ascii_case("identity") => Ok(Encoding::Plain),
        name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
            Ok(Encoding::Gzip)
        }
        _ => Err(FetchError::Encoding(shown(Some(value)))),
    }
}

/// A header as an error repeats it.
fn shown(value: Option<&HeaderValue>) -> String {
    let bytes = value.map(HeaderValue::as_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(SHOWN_CHARS).collect()
}

fn http(error: &hyper::Error) -> FetchError {
    FetchError::Http(chain(error))
}

fn chain(error: &(dyn Error + 'static)) -> String {
    ErrorChain(error).to_string()
}
