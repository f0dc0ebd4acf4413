use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::net::TcpListener;

use super::super::{FetchError, Fetcher, Location, Page};
use super::{Deed, Server};
use crate::upstream::RootFiles;
use crate::wire::exposition::Format;

const MAX_PAGE: usize = 100_000;

/// Far longer than anything takes that is not held up on purpose.
const PATIENCE: Duration = Duration::from_secs(20);

async fn fetch(location: &Location) -> Result<Page, FetchError> {
    Fetcher::new(RootFiles::default(), MAX_PAGE)
        .fetch(location, PATIENCE)
        .await
}

async fn answer(deed: Deed) -> Result<Page, FetchError> {
    fetch(&Server::start(&[deed]).await.location).await
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_page_is_asked_for_as_prometheus_does_and_taken_as_it_says() {
    let openmetrics =
        "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    for (headers, format) in [
        (openmetrics, Format::OpenMetrics),
        ("Content-Type: text/plain; version=0.0.4\r\n", Format::Text),
        (
            "content-type: TEXT/PLAIN\r\ncontent-encoding: identity\r\n",
            Format::Text,
        ),
        ("", Format::Text),
    ] {
        let server = Server::start(&[Deed::page(headers, "a 1\n")]).await;
        let page = fetch(&server.location).await.unwrap();
        assert_eq!((&*page.bytes, page.format), (b"a 1\n".as_slice(), format));
        let head = server.heads()[0].to_ascii_lowercase();
        assert!(head.starts_with("get /metrics http/1.1\r\n"), "{head}");
        for header in [
            "\r\nhost: 127.0.0.1:",
            "\r\naccept-encoding: gzip\r\n",
            "\r\nuser-agent: weir/",
            "\r\nx-prometheus-scrape-timeout-seconds: 20\r\n",
            "application/openmetrics-text;version=1.0.0",
            "text/plain;version=0.0.4",
        ] {
            assert!(head.contains(header), "{header}: {head}");
        }
    }
}

#[tokio::test]
async fn a_page_behind_a_unix_socket_is_asked_for_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_unix(Deed::page("", "a 1\n"), &directory.path().join("s"));
    assert_eq!(fetch(&server.location).await.unwrap().bytes, b"a 1\n");
    assert!(server.heads()[0].starts_with("GET /x?y=1 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_packed_page_is_unpacked_up_to_the_limit() {
    let packed = "Content-Encoding: gzip\r\n";
    let plain = vec![b'#'; MAX_PAGE];
    let page = answer(Deed::page(packed, gzip(&plain))).await.unwrap();
    assert_eq!(page.bytes, plain);
    let bomb = gzip(&vec![b'#'; 50 << 20]);
    assert!(bomb.len() < MAX_PAGE);
    let error = answer(Deed::page(packed, bomb)).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge(MAX_PAGE)), "{error}");
    let error = answer(Deed::page(packed, "a 1\n")).await.unwrap_err();
    assert!(matches!(error, FetchError::Gzip(_)), "{error}");
    let error = answer(Deed::page("Content-Encoding: br\r\n", ""))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected a page that is plain or packed with gzip, got \"br\""
    );
}

#[tokio::test]
async fn a_page_without_an_end_is_cut_at_the_limit() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let error = answer(Deed::Flood(head.clone(), vec![b'#'; 8_192]))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::TooLarge(MAX_PAGE)), "{error}");
    // A head without an end is no other matter.
    let error = answer(Deed::Flood(
        b"HTTP/1.1 200 OK\r\nX: ".to_vec(),
        vec![b'x'; 8_192],
    ))
    .await;
    assert!(matches!(error, Err(FetchError::Http(_))), "{error:?}");
}

#[tokio::test]
async fn what_is_no_page_says_what_it_is() {
    for (deed, expected) in [
        ("404 Not Found\r\n", "expected 200, got 404 Not Found"),
        ("500 X\r\n", "expected 200, got 500 Internal Server Error"),
        ("204 No Content\r\n", "expected 200, got 204 No Content"),
        (
            "302 Found\r\nLocation: http://10.0.0.1/secrets\r\n",
            "expected 200, got 302 Found to \"http://10.0.0.1/secrets\", which is not followed: name the page itself",
        ),
        (
            "200 OK\r\nContent-Type: text/html\r\n",
            "expected a page of text/plain or application/openmetrics-text, got \"text/html\"",
        ),
    ] {
        let answered = answer(Deed::Answer(
            format!("HTTP/1.1 {deed}Content-Length: 0\r\n\r\n").into(),
        ));
        assert_eq!(answered.await.unwrap_err().to_string(), expected);
    }
    for no_http in [
        b"".to_vec(),
        b"SSH-2.0-OpenSSH\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na 1\n".to_vec(),
    ] {
        let error = answer(Deed::Answer(no_http)).await.unwrap_err();
        assert!(
            error.to_string().starts_with("expected an HTTP response: "),
            "{error}"
        );
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_at_once() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for location in [
        format!("http://{address}"),
        format!("https://{address}"),
        "unix:/nonexistent/s".to_owned(),
    ] {
        let error = fetch(&location.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, FetchError::Connect(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_costs_the_time_that_it_has() {
    let begun = tokio::time::Instant::now();
    for start in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\na 1\n"] {
        let error = answer(Deed::Hang(start.into())).await.unwrap_err();
        assert_eq!(error.to_string(), "no whole page within 20s");
    }
    assert_eq!(begun.elapsed().as_secs(), 60);
}
