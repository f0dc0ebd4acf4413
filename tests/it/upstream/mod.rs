//! The link to the control plane, against the real Go libraries.

mod calls;
mod dials;
mod grpc;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;
use weir::backoff::Schedule;
use weir::metrics::{DialOutcome, Metrics};
use weir::upstream::{Outcome, ProxySettings, RootFiles, Rpc, Settings, Transport, Upstream};

use crate::support::coderd::{Coderd, TOKEN};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// Settings that dial a server at once, and again soon.
fn settings(coderd: &Coderd) -> Settings {
    settings_for(&coderd.url, coderd.transport)
}

fn settings_for(url: &Url, transport: Transport) -> Settings {
    Settings {
        url: url.clone(),
        transport,
        token: Arc::new(|| Ok(TOKEN.to_owned())),
        headers: HeaderMap::from_iter([(
            "x-extra".parse().unwrap(),
            HeaderValue::from_static("given"),
        )]),
        role: "weir".to_owned(),
        schedule: Schedule::new(Duration::from_millis(10), Duration::from_millis(100)).unwrap(),
        proxy: ProxySettings::default(),
        roots: RootFiles::default(),
    }
}

/// A token source that counts how often it is asked.
fn counted(settings: &mut Settings, token: &'static str) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    settings.token = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(token.to_owned())
    });
    asked
}

/// A link that is kept up.
struct Link {
    upstream: weir::upstream::Link,
    metrics: Metrics,
    stop: CancellationToken,
    driver: JoinSet<()>,
}

impl Link {
    fn start(settings: Settings) -> Self {
        let metrics = Metrics::new().unwrap();
        let (upstream, driver) = weir::upstream::Link::new(settings, metrics.upstream.clone());
        let stop = CancellationToken::new();
        let driver = JoinSet::from_iter([driver.run(stop.clone())]);
        Self {
            upstream,
            metrics,
            stop,
            driver,
        }
    }

    async fn connected(&self) {
        self.becomes(true).await;
    }

    async fn becomes(&self, expected: bool) {
        let mut connected = self.upstream.connected();
        let change = connected.wait_for(|connected| *connected == expected);
        tokio::time::timeout(PATIENCE, change)
            .await
            .expect("connected in time")
            .unwrap();
    }

    fn is_connected(&self) -> bool {
        *self.upstream.connected().borrow()
    }

    async fn call(&self, body: &[Bytes]) -> Outcome {
        let call = self.upstream.call(Rpc::REPORT_BOUNDARY_LOGS, body);
        tokio::time::timeout(2 * PATIENCE, call)
            .await
            .expect("a call ends within its limit")
    }

    /// Connects if need be and expects the call to be accepted.
    async fn accepted(&self, body: &[Bytes]) {
        self.connected().await;
        let outcome = self.call(body).await;
        assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    }

    fn dials(&self, outcome: DialOutcome) -> u64 {
        let families = self
            .metrics
            .collectors()
            .into_iter()
            .flat_map(|every| every.collect());
        families
            .filter(|family| family.name() == "weir_upstream_dials_total")
            .flat_map(|family| family.get_metric().to_vec())
            .filter(|metric| metric.get_label()[0].value() == outcome.label())
            .map(|metric| metric.get_counter().get_value() as u64)
            .sum()
    }

    /// Waits until a dial has come to that.
    async fn dialled(&self, outcome: DialOutcome) {
        let seen = async {
            while self.dials(outcome) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen)
            .await
            .expect("the dial is counted");
    }

    /// Stops in order.
    async fn stop(mut self) {
        self.stop.cancel();
        let stopped = tokio::time::timeout(PATIENCE, self.driver.join_next()).await;
        stopped.expect("the stop is bounded").unwrap().unwrap();
    }
}

/// An encoded `ReportBoundaryLogsRequest` of one session, with a log for each sequence number and URLs
/// of `url_length` bytes.
fn request(session: &str, sequences: std::ops::Range<u32>, url_length: usize) -> Bytes {
    let field = |out: &mut Vec<u8>, number: u8, payload: &[u8]| {
        out.push(number << 3 | 2);
        prost::encoding::encode_varint(payload.len() as u64, out);
        out.extend_from_slice(payload);
    };
    let mut request = Vec::new();
    for sequence in sequences {
        let mut http = Vec::new();
        field(&mut http, 1, b"GET");
        field(&mut http, 2, "u".repeat(url_length).as_bytes());
        let mut log = vec![0x08, 0x01];
        field(&mut log, 3, &http);
        log.push(4 << 3);
        prost::encoding::encode_varint(u64::from(sequence), &mut log);
        field(&mut request, 1, &log);
    }
    field(&mut request, 2, session.as_bytes());
    request.into()
}
