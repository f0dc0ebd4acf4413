//! The stages, wired together.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use futures_util::future::join;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::part::Part;
use super::{balance, settings};
use crate::buffer::Buffer;
use crate::buffer::ledger::Ledger;
use crate::buffer::spooler::{Spool, SpoolStart};
use crate::cli::{Exit, Ready};
use crate::collect;
use crate::config::{Config, Faults};
use crate::forward::Forwarder;
use crate::ingest::{Claim, Ingest, Listener, Senders};
use crate::metrics::Metrics;
use crate::report::Reporter;
use crate::scrape::health::Phase;
use crate::scrape::{Endpoint, Sources, View};
use crate::script::Desk;
use crate::shutdown::{self, Request, Signals, Stop};
use crate::systemd;
use crate::upstream::{Link, Upstream};

/// How long the link may take to close in order after the drain. Nothing depends on it any more.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How long the last report may take, with the totals that count: nothing changes them any more.
const LAST_REPORT_WITHIN: Duration = Duration::from_secs(1);

/// How often the data path shows that it makes progress. Rare, because each beat wakes an idle process some three
/// times: the runtime brings a long sleep to its end in steps.
const BEAT: Duration = Duration::from_secs(10);

/// Who tells the sidecar what to do.
pub(crate) enum Orders<'a> {
    /// The operator. The configuration is resolved anew on SIGHUP.
    Signals(Signals, &'a dyn Fn() -> Result<Config, Faults>),
    /// Another part of this process, which stops it by cancelling this.
    Token(CancellationToken),
}

impl Orders<'_> {
    /// Returns at the deadline of a stop.
    async fn obey(self, stop: &Stop, config: &Config, ledger: &Ledger, upstream: &Link) {
        let timeout = config.drain_timeout;
        match self {
            Self::Signals(signals, reread) => {
                let mut in_use = config.upstream.clone();
                let on_request = |request| match request {
                    Request::Balance => balance::log_balance(&ledger.snapshot()),
                    Request::Reload => settings::reload(&mut in_use, reread, upstream),
                };
                signals.serve(stop, timeout, on_request).await;
            }
            Self::Token(token) => {
                token.cancelled().await;
                shutdown::drain(stop, timeout, std::future::pending()).await;
            }
        }
    }
}

/// The stages that have something to share.
pub(crate) struct Sidecar {
    buffer: Arc<Buffer>,
    metrics: Metrics,
    senders: Arc<Senders>,
    scripts: Arc<Desk>,
    view: Arc<View>,
    spool: Option<SpoolStart>,
}

impl Sidecar {
    pub(crate) fn new(config: &Config, metrics: Metrics) -> anyhow::Result<Self> {
        let limits = settings::limits(config);
        let (when_full, ledger) = (config.buffer.when_full, Ledger::new());
        let (buffer, spool) = match config.spool.clone() {
            None => (Buffer::new(limits, when_full, ledger), None),
            Some(spool) => {
                let (buffer, spool) = Buffer::with_spool(limits, when_full, ledger, spool);
                (buffer, Some(spool))
            }
        };
        let senders = Senders::new();
        let scripts = Arc::new(Desk::open(&config.api_socket, metrics.scripts.clone()));
        let sources = Sources {
            scripts: Arc::clone(&scripts),
            buffer: Arc::clone(&buffer),
            limits,
            metrics: metrics.clone(),
            senders: {
                let senders = Arc::clone(&senders);
                Box::new(move || {
                    let now = Instant::now();
                    senders
                        .snapshot()
                        .into_iter()
                        .map(|sender| settings::status_of(sender, now))
                        .collect()
                })
            },
            upstream_url: config.upstream.url.to_string(),
        };
        let view = Arc::new(View::new(sources, Instant::now())?);
        Ok(Self {
            buffer,
            metrics,
            senders,
            scripts,
            view,
            spool,
        })
    }

    /// The books of this sidecar.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        self.buffer.ledger()
    }

    /// Runs the stages until told to stop, and stops them in order. `ready` is called once every listener is bound.
    ///
    /// # Errors
    /// When a stage cannot start, or ends by itself.
    pub(crate) async fn serve(
        mut self,
        listener: Listener,
        config: &Config,
        orders: Orders<'_>,
        ready: impl FnOnce(&Ready) -> io::Result<()>,
    ) -> anyhow::Result<Exit> {
        let claim = listener
            .claim()
            .context("cannot keep an eye on the socket")?;
        let settings = settings::upstream(config)?;
        let (upstream, driver) = Link::new(settings, self.metrics.upstream.clone());
        let endpoint = Endpoint {
            scrape: config.prometheus.clone().map(settings::address),
            api: Some(config.api_socket.clone()),
        };
        let (jobs, held) = settings::targets(config, &self.metrics.targets);
        let reporter = Reporter::new(
            upstream.clone(),
            settings::report(config, &self.view, &held),
            self.metrics.report.clone(),
            fastrand::Rng::new(),
        );
        let pace = reporter.pace();
        let (scripts, to, schedule) = (
            Arc::clone(&self.scripts),
            upstream.clone(),
            config.upstream.schedule,
        );
        let endpoint = endpoint
            .start_beside(Arc::clone(&self.view), |stop| {
                let collected = collect::serve(jobs, pace, stop.clone());
                join(collected, scripts.serve(to, schedule, stop)).map(|_both_ended| ())
            })
            .await?;
        ready(&Ready::new(
            Some(config.socket.path.as_path()),
            endpoint.bound(),
            endpoint.api().as_deref(),
        ))
        .context("cannot write the ready line to stdout")?;
        self.view.enter(Phase::Accepting);
        systemd::ready();

        let spool = self.spool.take().map(SpoolStart::start).transpose();
        let mut spool = spool.context("cannot start the thread of the spool")?;
        let (stop, taken_over) = (Stop::default(), CancellationToken::new());
        let (forward_stop, link_stop) = (CancellationToken::new(), CancellationToken::new());
        let report_stop = CancellationToken::new();
        let mut ingest = Part::start(
            "audit socket",
            Ingest::new(listener).run(
                Arc::clone(&self.buffer),
                self.metrics.ingest.clone(),
                Arc::clone(&self.senders),
                stop.drain.clone(),
            ),
        );
        let forwarder = Forwarder::new(
            Arc::clone(&self.buffer),
            upstream.clone(),
            settings::forward(config),
            self.metrics.forward.clone(),
        );
        let mut forward = Part::start("forwarder", {
            let stop = forward_stop.clone();
            async move { forwarder.run(&stop).await }
        });
        let mut link = Part::start("link", driver.run(link_stop.clone()));
        // Nobody watches it: should it fail, that is counted as a panic, and the logs go on.
        let mut report = Part::start("reporter", {
            let (stop, taken_over) = (report_stop.clone(), taken_over.clone());
            // The series are those of the instance that took over then, which has begun at 0.
            async move { taken_over.run_until_cancelled(reporter.run(&stop)).await }
        });

        let obeyed = orders.obey(&stop, config, self.ledger(), &upstream);
        // Ends when all is delivered after a stop, when the deadline of the stop has passed, or when a part fails.
        let served = tokio::select! {
            biased;
            drained = self.drained(&mut ingest, &upstream) => drained,
            () = obeyed => Ok(()),
            ended = forward.ended() => ended.and(Err(anyhow::anyhow!("the forwarder ended by itself"))),
            () = failed(&mut spool) => Err(anyhow::anyhow!("the spool ended by itself")),
            ended = link.ended() => ended.and(Err(anyhow::anyhow!("the link ended by itself"))),
            () = leave(&taken_over, &stop, config.drain_timeout) => Ok(()),
            never = self.show_life(&stop.drain, claim.as_ref(), &taken_over) => match never {},
        };

        // From here on nothing waits: what comes, or comes back, is counted as lost, or goes to the spool.
        self.buffer.close();
        stop.drain.cancel();
        forward_stop.cancel();
        let stopped = async {
            forward.ended().await?;
            ingest.ended().await?;
            anyhow::Ok(())
        };
        let served = served.and(stopped.await);
        if let Some(spool) = spool {
            spool.finish().await;
        }
        report_stop.cancel();
        if timeout(LAST_REPORT_WITHIN, report.ended()).await.is_err() {
            tracing::debug!("the control plane did not answer the last report");
        }
        drop(report);
        link_stop.cancel();
        if timeout(CLOSE_WITHIN, link.ended()).await.is_err() {
            tracing::debug!("the control plane did not answer the close");
        }
        self.view.enter(Phase::Stopped);
        endpoint.stop();
        let exit = balance::conclude(&self.ledger().snapshot());
        served.map(|()| exit)
    }

    /// Waits until the audit socket was stopped and read to its end, all of it is delivered, and the control plane knows of
    /// every script. Without a link the last is for the next start.
    async fn drained(
        &self,
        ingest: &mut Part<io::Result<()>>,
        upstream: &impl Upstream,
    ) -> anyhow::Result<()> {
        ingest
            .ended()
            .await?
            .transpose()
            .context("the audit socket failed")?;
        self.buffer.idle().await;
        let (mut pending, mut connected) = (self.scripts.pending(), upstream.connected());
        tokio::select! {
            _ = pending.wait_for(|runs| *runs == 0) => {}
            _ = connected.wait_for(|connected| !connected) => {}
        }
        Ok(())
    }

    /// Shows, for as long as it is polled, that this thread gets its turns, and when it begins to drain; looks at each
    /// turn whether the path of the socket is still its own.
    async fn show_life(
        &self,
        drain: &CancellationToken,
        claim: Option<&Claim>,
        taken_over: &CancellationToken,
    ) -> Infallible {
        let period = systemd::watchdog_period().map_or(BEAT, |period| period.min(BEAT));
        let mut beats = interval(period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = false;
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    self.view.beat(Instant::now());
                    systemd::progressing();
                    if claim.is_some_and(Claim::is_lost) {
                        taken_over.cancel();
                    }
                }
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    self.view.enter(Phase::Draining);
                    systemd::stopping();
                }
            }
        }
    }
}

/// Returns when there is a spool and its thread has ended by itself.
async fn failed(spool: &mut Option<Spool>) {
    match spool {
        Some(spool) => spool.ended().await,
        None => std::future::pending().await,
    }
}

/// Stops once another instance has taken the path over. Returns at the deadline of the stop.
async fn leave(taken_over: &CancellationToken, stop: &Stop, drain_timeout: Duration) {
    taken_over.cancelled().await;
    tracing::info!("another instance has taken the audit socket over: leaving the rest to it");
    shutdown::drain(stop, drain_timeout, std::future::pending()).await;
}
