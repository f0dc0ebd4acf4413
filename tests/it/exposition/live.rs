//! Pages of real exporters, as they are served: Weir and both parsers of Prometheus read the same bytes.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::wire::exposition::Format;

use super::judge::Judge;
use super::sampled::{Reading, Sampled, ours};
use crate::scrape::{assert_exit, weir};
use crate::support::exporter::Exporter;
use crate::support::target::{Answer, Target};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[tokio::test]
async fn a_page_of_client_golang_is_read_as_it_is_meant() {
    let Some(exporter) = Exporter::of_client_golang() else {
        return;
    };
    for (accept, format) in [(TEXT, Format::Text), (OPENMETRICS, Format::OpenMetrics)] {
        // A gauge and a counter of one stem, as of every Go program.
        let not_of_expfmt = ["metadata for metric \"go_memstats_alloc_bytes\" after samples"];
        let reading = compare(&exporter.address, accept, format, &not_of_expfmt).await;
        assert!(reading.samples.len() > 80, "{}", reading.samples.len());
        let exemplars = reading.exemplars.len();
        assert_eq!(exemplars, if format == Format::OpenMetrics { 6 } else { 0 });
    }
    scraped_live(&exporter.address, "exporter_").await;
}

#[tokio::test]
async fn a_page_of_python_is_read_as_it_is_meant() {
    let Some(exporter) = Exporter::of_python() else {
        return;
    };
    // What has no type in the library's own model of metrics, expfmt refuses.
    let not_of_expfmt = ["unsupported metric type"];
    let reading = compare(
        &exporter.address,
        OPENMETRICS,
        Format::OpenMetrics,
        &not_of_expfmt,
    )
    .await;
    assert!(reading.samples.len() > 50 && reading.exemplars.len() > 3);
    assert_eq!(reading.families["python_build"].0, "info");
    assert_eq!(reading.families["python_flags"].0, "stateset");
    assert_eq!(reading.families["python_queue_bytes"].0, "gaugehistogram");
    compare(&exporter.address, TEXT, Format::Text, &[]).await;
    scraped_live(&exporter.address, "python_").await;
}

#[tokio::test]
async fn a_page_of_node_exporter_is_read_as_it_is_meant() {
    let Some(exporter) = Exporter::of_node().await else {
        return;
    };
    let reading = compare(&exporter.address, TEXT, Format::Text, &[]).await;
    assert!(reading.samples.len() > 200, "{}", reading.samples.len());
    scraped_live(&exporter.address, "node_").await;
}

/// Fetches a page and lets all read it: without a fault, to the same samples, exemplars, types and texts. expfmt may
/// refuse it in one of these words.
async fn compare(address: &str, accept: &str, format: Format, expfmt_says: &[&str]) -> Reading {
    let page = fetch(address, accept).await;
    let (reading, faults) = ours(&page, format);
    assert_eq!(faults, []);
    let Some(mut judge) = Judge::start() else {
        return reading;
    };
    let verdict = judge.read(&page, format);
    assert_eq!(verdict.textparse.fault, None);
    assert_eq!(verdict.textparse.samples, reading.samples);
    let exemplars = verdict.textparse.exemplars.iter().zip(&reading.exemplars);
    for (theirs, ours) in exemplars {
        assert_eq!((&theirs.0, theirs.1), (&ours.0, ours.1));
        // It cuts what is less than a millisecond off, where Weir rounds.
        let apart = theirs.2.zip(ours.2).map(|(theirs, ours)| ours - theirs);
        assert!(matches!(apart, None | Some(0 | 1)), "{theirs:?} {ours:?}");
        assert_eq!(theirs.2.is_some(), ours.2.is_some());
    }
    assert_eq!(verdict.textparse.exemplars.len(), reading.exemplars.len());
    let mut families = reading.families.clone();
    // Its word for what has no type, and it says nothing of a family without metadata.
    families.retain(|_, said| {
        said.0 = said.0.replace("untyped", "unknown");
        (&*said.0, &*said.1) != ("unknown", "")
    });
    assert_eq!(verdict.textparse.families, families);
    match verdict.expfmt.fault {
        None => {
            let mut samples = reading.samples.clone();
            samples.retain(|sample| format == Format::Text || !sample.name.ends_with("_created"));
            assert_eq!(verdict.expfmt.samples, samples);
        }
        Some(fault) => assert!(
            expfmt_says.iter().any(|word| fault.contains(word)),
            "{fault}"
        ),
    }
    printed(&page, accept, &reading).await;
    reading
}

/// `weir scrape` prints of the same bytes what was read.
async fn printed(page: &[u8], kind: &str, reading: &Reading) {
    let kind = if kind == TEXT { TEXT } else { OPENMETRICS };
    let target = Target::start(Answer::Page(kind, page.to_vec())).await;
    let output = weir(&[
        "scrape",
        &format!("http://{}", target.address),
        "--json",
        "--strict",
    ])
    .await;
    assert_exit(&output, 0);
    let families: Value = serde_json::from_slice(&output.stdout).unwrap();
    let samples = families.as_array().unwrap().iter();
    let samples = samples.flat_map(|family| family["samples"].as_array().unwrap());
    let mut samples: Vec<_> = samples.map(Sampled::of_json).collect();
    samples.sort();
    assert_eq!(samples, reading.samples);
}

/// `weir scrape` asks the exporter itself, and finds no fault.
async fn scraped_live(address: &str, prefix: &str) {
    let output = weir(&[
        "scrape",
        &format!("http://{address}/metrics"),
        "--strict",
        "--json",
    ])
    .await;
    assert_exit(&output, 0);
    assert_eq!(output.stderr, b"");
    let families: Value = serde_json::from_slice(&output.stdout).unwrap();
    let families = families.as_array().unwrap().iter();
    let names: BTreeSet<_> = families
        .map(|family| family["name"].as_str().unwrap())
        .collect();
    let expected = names.iter().filter(|name| name.starts_with(prefix));
    assert!(expected.count() > 5, "{names:?}");
}

async fn fetch(address: &str, accept: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap();
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap();
    assert!(head.contains(" 200 "), "{head}");
    let kind = accept.split(';').next().unwrap();
    assert!(head.contains(kind), "{head}");
    body
}
