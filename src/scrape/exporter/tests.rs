//! The page over real sockets. Clients block, the exporter has its own thread.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::metrics::control::ControlMetrics;
use crate::scrape::tests::{Answer as Said, PATIENCE, exchange, request};

/// A line of every page.
const LINE: &[u8] = b"some_family{label=\"value of some length\"} 123456789\n";

/// Pages at a time.
const MAX_PAGES: usize = 4;

/// Pages of so many pieces.
struct Source {
    pieces: usize,
    /// Pieces that were asked for, of all pages.
    made: Arc<AtomicUsize>,
    /// Pages that are there.
    open: Arc<()>,
}

struct Pieces {
    left: usize,
    made: Arc<AtomicUsize>,
    _open: Arc<()>,
}

impl Pages for Source {
    type Page = Pieces;

    fn page(&self) -> Option<Pieces> {
        // The source holds one, and the bench another.
        if Arc::strong_count(&self.open) == MAX_PAGES + 2 {
            return None;
        }
        Some(Pieces {
            left: self.pieces,
            made: Arc::clone(&self.made),
            _open: Arc::clone(&self.open),
        })
    }
}

impl Stream for Pieces {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.left = left;
        self.made.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(LINE.repeat(200).into()))
    }
}

struct Bench {
    exporter: Exporter,
    metrics: ScrapeMetrics,
    made: Arc<AtomicUsize>,
    open: Arc<()>,
}

impl Bench {
    async fn start(pieces: usize) -> Self {
        let metrics = ControlMetrics::new().unwrap().scrapes;
        let (made, open) = (Arc::default(), Arc::new(()));
        let source = Source {
            pieces,
            made: Arc::clone(&made),
            open: Arc::clone(&open),
        };
        let exporter = Exporter::start("127.0.0.1:0", source, metrics.clone());
        let exporter = exporter.await.unwrap();
        Self {
            exporter,
            metrics,
            made,
            open,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.exporter.bound()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Said {
        exchange(self.connect(), &request(method, path, headers))
    }

    /// Begins a scrape, and takes no more of it than its first byte.
    fn begin(&self) -> TcpStream {
        let mut stream = self.connect();
        let asked = "GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n";
        stream.write_all(asked.as_bytes()).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "not seen: {what}");
            std::thread::yield_now();
        }
    }
}

#[tokio::test]
async fn every_path_serves_the_page_in_one_format() {
    let bench = Bench::start(100).await;
    let whole = LINE.repeat(200 * 100);
    for path in ["/metrics", "/", "/favicon.ico", "/metrics?name[]=x"] {
        let answer = bench.ask("GET", path, "Accept: application/openmetrics-text\r\n");
        assert_eq!(answer.status(), 200, "{path}");
        let content_type = answer.header("content-type");
        assert_eq!(
            content_type,
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        assert_eq!(answer.unchunked(), whole, "{path}");
    }
    let packed = bench.ask("GET", "/metrics", "Accept-Encoding: gzip\r\n");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    let packed = packed.unchunked();
    GzDecoder::new(&packed[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, whole);
    assert!(packed.len() < whole.len() / 10);
    bench.wait_for("five scrapes", |bench| bench.metrics.answers("200") == 5);
    assert_eq!(bench.metrics.errors("encoding"), 0);
}

#[tokio::test]
async fn a_browser_finds_its_way() {
    let bench = Bench::start(1).await;
    let landing = bench.ask("GET", "/", "Accept: text/html,*/*;q=0.8\r\n");
    assert_eq!(
        landing.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(landing.text().contains("<a href=\"/metrics\">"));
    let metrics = bench.ask("GET", "/metrics", "Accept: text/html,*/*;q=0.8\r\n");
    assert_eq!(metrics.unchunked(), LINE.repeat(200));
    assert_eq!(bench.ask("POST", "/metrics", "").status(), 405);
}

#[tokio::test]
async fn head_makes_no_page() {
    let bench = Bench::start(1).await;
    let answer = bench.ask("HEAD", "/metrics", "");
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(bench.made.load(Ordering::Relaxed), 0);
    assert_eq!(bench.metrics.answers("200"), 1);
}

#[tokio::test]
async fn no_more_is_made_than_is_taken_and_nothing_for_who_left() {
    // Ten gigabytes, were they made.
    let bench = Bench::start(1_000_000).await;
    let slow = bench.begin();
    assert_eq!(bench.metrics.in_flight(), 1);
    // Others are served meanwhile.
    for _ in 0..100 {
        assert_eq!(bench.ask("HEAD", "/metrics", "").status(), 200);
    }
    drop(slow);
    bench.wait_for("its page is gone", |bench| {
        Arc::strong_count(&bench.open) == 2
    });
    assert_eq!(bench.metrics.in_flight(), 0);
    assert_eq!(bench.metrics.errors("encoding"), 1);
    // What the kernel holds for a connection is some megabytes.
    let bytes = bench.made.load(Ordering::Relaxed) * 200 * LINE.len();
    assert!(bytes < 64 << 20, "{bytes} bytes were made");
}

#[tokio::test]
async fn scrapes_beyond_the_limit_are_told_to_come_again() {
    let bench = Bench::start(1_000_000).await;
    let slow: Vec<_> = (0..MAX_PAGES).map(|_| bench.begin()).collect();
    let refused = bench.ask("GET", "/metrics", "");
    assert_eq!(refused.status(), 503);
    assert!(refused.text().contains("try again later"));
    assert_eq!(bench.metrics.answers("503"), 1);
    drop(slow);
    bench.wait_for("all are gone", |bench| bench.metrics.in_flight() == 0);
    drop(bench.begin());
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_taken_in_drops_is_given_up() {
    let metrics = ControlMetrics::new().unwrap().scrapes;
    let source = Source {
        pieces: 1_000_000,
        made: Arc::default(),
        open: Arc::default(),
    };
    let shown = Arc::new(Shown {
        pages: source,
        metrics: metrics.clone(),
    });
    let offer = Offer {
        routes: route,
        own_user_only: false,
    };
    let address = Address::Tcp("127.0.0.1:0".to_owned());
    let (listener, bound) = Listener::bind(&address).await.unwrap();
    let stop = CancellationToken::new();
    let client = async {
        let stream = tokio::net::TcpStream::connect(bound.to_string()).await;
        let mut stream = stream.unwrap();
        let asked = b"GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n";
        stream.write_all(asked).await.unwrap();
        let started = tokio::time::Instant::now();
        let mut drops = tokio::time::interval(Duration::from_secs(1));
        // Its page goes while there is still much to read.
        while started.elapsed().is_zero() || metrics.in_flight() == 1 {
            drops.tick().await;
            stream.read_exact(&mut [0]).await.unwrap();
        }
        stop.cancel();
        started.elapsed().as_secs()
    };
    let ((), lasted) = tokio::join!(serve(&listener, &offer, &shown, &stop), client);
    assert!((118..=122).contains(&lasted), "{lasted} s");
    assert_eq!(metrics.errors("encoding"), 1);
}
