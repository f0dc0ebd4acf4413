use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::super::{Fetcher, Held, Job, MAX_PAGE, Target, serve};
use super::{Deed, Server};
use crate::metrics::Metrics;
use crate::metrics::exposition::{Format, encode};
use crate::upstream::RootFiles;

const INTERVAL: Duration = Duration::from_secs(30);

/// A target that is scraped, and what is seen of it.
struct Scraped {
    held: Held,
    registry: Registry,
    pace: watch::Sender<Duration>,
    stop: CancellationToken,
    running: JoinSet<()>,
    _server: Server,
}

impl Scraped {
    async fn start(deeds: &[Deed]) -> Self {
        let server = Server::start(deeds).await;
        let metrics = Metrics::new().unwrap();
        let registry = Registry::new();
        for collector in metrics.collectors() {
            registry.register(collector).unwrap();
        }
        let target = Target {
            name: "t".to_owned(),
            location: server.location.clone(),
        };
        let (held, pace, stop) = (
            Held::default(),
            watch::Sender::new(INTERVAL),
            CancellationToken::new(),
        );
        let fetcher = Arc::new(Fetcher::new(RootFiles::default(), MAX_PAGE));
        let job = Job::new(target, fetcher, held.clone(), metrics.targets.target("t"));
        let mut running = JoinSet::new();
        running.spawn(serve(vec![job], pace.subscribe(), stop.clone()));
        Self {
            held,
            registry,
            pace,
            stop,
            running,
            _server: server,
        }
    }

    fn value(&self, family: &str) -> f64 {
        let page = encode(&self.registry.gather(), Format::Text).unwrap();
        let page = String::from_utf8(page).unwrap();
        let series = format!("\nweir_scrape_{family}{{target=\"t\"}} ");
        let (_, rest) = page.split_once(&series).expect("the series is there");
        rest.split('\n').next().unwrap().parse().unwrap()
    }

    /// The values that would be reported.
    fn fresh(&self) -> Vec<f64> {
        let fresh = self.held.fresh(Instant::now());
        fresh.iter().map(|sample| sample.value).collect()
    }
}

fn page(body: &str) -> Deed {
    Deed::page("", body)
}

/// The clock stands still while bytes are on their way, so that each scrape is over a moment after it began.
#[tokio::test(start_paused = true)]
async fn a_target_is_scraped_at_the_pace_and_forgotten_when_it_stays_away() {
    let down = Deed::Answer(b"HTTP/1.1 500 X\r\n\r\n".to_vec());
    let scraped = Scraped::start(&[
        page("# TYPE c counter\nc 5\n"),
        page("# TYPE c counter\nc 7\nbad line\nworse\n"),
        down.clone(),
        down,
        page("# TYPE c counter\nc 2\ng 1\n"),
    ])
    .await;
    let begun = Instant::now();
    let at = |seconds| sleep_until(begun + Duration::from_secs(seconds));
    assert_eq!((scraped.value("up"), scraped.fresh()), (0.0, vec![]));
    at(1).await;
    assert_eq!((scraped.value("up"), scraped.fresh()), (1.0, vec![5.0]));
    at(31).await;
    assert_eq!(scraped.fresh(), [7.0]);
    assert_eq!(
        (scraped.value("samples"), scraped.value("faults_total")),
        (1.0, 2.0)
    );
    // Down from 60 s on: what was seen before that stays for an interval.
    at(61).await;
    assert_eq!((scraped.value("up"), scraped.fresh()), (0.0, vec![7.0]));
    at(89).await;
    assert_eq!(scraped.fresh(), [7.0]);
    at(91).await;
    assert_eq!((scraped.value("up"), scraped.fresh()), (0.0, vec![]));
    // The counter has begun anew meanwhile.
    at(121).await;
    assert_eq!(
        (scraped.value("up"), scraped.fresh()),
        (1.0, vec![2.0, 1.0])
    );
    assert_eq!(scraped.value("counter_resets_total"), 1.0);
    scraped.stop.cancel();
    assert_eq!(scraped.running.join_all().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_pace_holds_at_once() {
    let scraped = Scraped::start(&[page("c 1\n"), page("c 2\n"), page("c 3\n")]).await;
    let begun = Instant::now();
    let at = |seconds| sleep_until(begun + Duration::from_secs(seconds));
    at(1).await;
    assert_eq!(scraped.fresh(), [1.0]);
    scraped.pace.send_replace(Duration::from_secs(5));
    at(6).await;
    assert_eq!(scraped.fresh(), [2.0]);
    // The last pace holds when nobody tells it any more.
    drop(scraped.pace);
    at(11).await;
    let fresh = scraped.held.fresh(Instant::now());
    assert_eq!(fresh[0].value, 3.0);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_or_is_too_large_is_down() {
    let line = |n| format!("c{{n=\"{n}\"}} 1\n");
    let large: String = (0..=super::super::MAX_SERIES).map(line).collect();
    let scraped = Scraped::start(&[Deed::Hang(Vec::new()), page(&large), page("c 1\n")]).await;
    let begun = Instant::now();
    let at = |seconds| sleep_until(begun + Duration::from_secs(seconds));
    at(29).await;
    assert_eq!(
        (scraped.value("up"), scraped.value("duration_seconds")),
        (0.0, 10.0)
    );
    at(31).await;
    assert_eq!((scraped.value("up"), scraped.fresh()), (0.0, vec![]));
    at(61).await;
    assert_eq!((scraped.value("up"), scraped.fresh()), (1.0, vec![1.0]));
}
