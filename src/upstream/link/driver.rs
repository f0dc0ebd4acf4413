//! The states of a connection, and the one function that moves it from one to the next.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::super::error::DialError;
use super::super::settings::{Settings, TokenSource};
use super::super::tls::Tls;
use super::super::transport::{self, Known, Session};
use super::Shared;
use super::outage::Outage;
use crate::backoff::Backoff;
use crate::logging::ErrorChain;
use crate::metrics::DialOutcome;

/// How long a dial may take, from the name to the upgrade, or to the answer of the first call.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// A connection that lasted so long was a good one, whatever came of its calls.
const GOOD_AFTER: Duration = Duration::from_secs(30);

/// Sessions in being at once: the one in use, and lost ones whose last calls are under way or which are
/// being closed. Each of those ends within the limits of a call and a close.
const MAX_SESSIONS: usize = 8;

/// Dials, and owns the tasks of the sessions: they end with it.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    settings: watch::Receiver<Arc<Settings>>,
    /// What dials with the present settings use again.
    known: Option<Known>,
    sessions: JoinSet<()>,
    /// Told the last session, to tell it from those before it.
    last_id: u64,
    random: fastrand::Rng,
    outage: Outage,
}

/// Where the connection stands. Moved by [`Driver::step`] alone.
#[derive(Debug)]
enum State {
    Dialling { backoff: Backoff },
    Connected { since: Instant, backoff: Backoff },
    Waiting { until: Instant, backoff: Backoff },
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, settings: watch::Receiver<Arc<Settings>>) -> Self {
        Self {
            shared,
            settings,
            known: None,
            sessions: JoinSet::new(),
            last_id: 0,
            random: fastrand::Rng::new(),
            outage: Outage::default(),
        }
    }

    /// Keeps the connection up until `stop` is cancelled, then closes it in order; the close is bounded.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut state = State::Dialling {
            backoff: self.first_backoff(),
        };
        while let Some(next) = stop.run_until_cancelled(self.step(state, &stop)).await {
            state = next;
        }
        self.shared.retire(|_| true, None);
        while self.sessions.join_next().await.is_some() {}
    }

    /// Dials once and closes again, to see whether the control plane would take this agent.
    ///
    /// # Errors
    /// What stood in the way, on one line with its meaning.
    pub async fn probe(mut self) -> Result<(), String> {
        let settings = Arc::clone(&self.settings.borrow_and_update());
        let dialled = timeout(DIAL_LIMIT, self.dial(&settings)).await;
        let (session, driver) = dialled
            .unwrap_or(Err(DialError::Timeout(DIAL_LIMIT)))
            .map_err(|error| ErrorChain(&error).to_string())?;
        // The answer is known; whether the goodbye is heard changes nothing.
        drop(session);
        let stop = CancellationToken::new();
        stop.cancel();
        driver.close(&stop).await;
        Ok(())
    }

    fn first_backoff(&self) -> Backoff {
        Backoff::new(self.settings.borrow().schedule)
    }

    /// One move of the connection's life.
    async fn step(&mut self, state: State, stop: &CancellationToken) -> State {
        match state {
            State::Dialling { backoff } => {
                self.make_room().await;
                if self.settings.has_changed().unwrap_or_default() {
                    self.known = None;
                }
                let settings = Arc::clone(&self.settings.borrow_and_update());
                let mut changes = self.settings.clone();
                let dialled = tokio::select! {
                    dialled = timeout(DIAL_LIMIT, self.dial(&settings)) => {
                        dialled.unwrap_or(Err(DialError::Timeout(DIAL_LIMIT)))
                    }
                    // Whatever this dial came to, it would be with the wrong settings.
                    _ = changes.changed() => {
                        self.known = None;
                        return State::Dialling { backoff: self.first_backoff() };
                    }
                };
                match dialled {
                    Ok((session, driver)) => {
                        self.shared.metrics.dialled(DialOutcome::Connected);
                        self.outage.connected(&settings);
                        self.start(session, driver, stop);
                        State::Connected {
                            since: Instant::now(),
                            backoff,
                        }
                    }
                    Err(error) => {
                        self.note_failure(&error);
                        self.wait(backoff)
                    }
                }
            }
            State::Connected { since, backoff } => {
                let mut connected = self.shared.connected.subscribe();
                tokio::select! {
                    _ = connected.wait_for(|connected| !connected) => {}
                    _ = self.settings.changed() => {
                        self.known = None;
                        return State::Connected { since, backoff };
                    }
                }
                let lasted = since.elapsed() >= GOOD_AFTER;
                if lasted {
                    self.outage.is_over();
                }
                let answered = match &*self.shared.current() {
                    Ok(_) => false,
                    Err(lost) => {
                        if let Some(reason) = &lost.reason {
                            self.outage.failed(None, reason);
                        }
                        if lost.turned_away {
                            self.known = None;
                        }
                        lost.answered
                    }
                };
                self.wait(if lasted || answered {
                    self.first_backoff()
                } else {
                    backoff
                })
            }
            State::Waiting { until, backoff } => tokio::select! {
                () = sleep_until(until) => State::Dialling { backoff },
                _ = self.settings.changed() => {
                    self.known = None;
                    State::Dialling { backoff: self.first_backoff() }
                }
            },
        }
    }

    fn wait(&mut self, mut backoff: Backoff) -> State {
        let until = Instant::now() + backoff.next_wait(&mut self.random);
        State::Waiting { until, backoff }
    }

    /// Waits until one more session may be.
    async fn make_room(&mut self) {
        while self.sessions.try_join_next().is_some() {}
        while self.sessions.len() >= MAX_SESSIONS {
            self.sessions.join_next().await;
        }
    }

    async fn dial(
        &mut self,
        settings: &Settings,
    ) -> Result<(Session, transport::Driver), DialError> {
        let known = match &mut self.known {
            Some(known) => known,
            none => none.insert(Known {
                token: read_token(Arc::clone(&settings.token))
                    .await
                    .map_err(DialError::Token)?,
                tls: Tls::new(settings.roots.clone()),
                pace: Arc::default(),
            }),
        };
        transport::dial(settings, known).await
    }

    /// Counts and tells a failed dial, and forgets what may have caused it.
    fn note_failure(&mut self, error: &DialError) {
        let outcome = error.outcome();
        if let Some(outcome) = outcome {
            self.shared.metrics.dialled(outcome);
        }
        // The token file may be behind, or the certificates have been replaced.
        if matches!(outcome, Some(DialOutcome::Unauthorized | DialOutcome::Tls)) {
            self.known = None;
        }
        self.outage.failed(outcome, &ErrorChain(error));
    }

    /// Runs a session in a task of its own, and offers it to calls until it takes no more.
    fn start(&mut self, session: Session, mut driver: transport::Driver, stop: &CancellationToken) {
        self.last_id += 1;
        let id = self.last_id;
        let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
        shared.publish(id, session);
        self.sessions.spawn(async move {
            let ended = driver.serve(&stop).await;
            tracing::debug!(id, "session ended: {ended}");
            let reason = (!ended.is_routine()).then(|| ended.to_string());
            shared.retire_session(id, reason);
            if ended.leaves_it_open() {
                driver.close(&stop).await;
            }
        });
    }
}

/// Reads the token where blocking is allowed.
async fn read_token(source: TokenSource) -> io::Result<HeaderValue> {
    let token = tokio::task::spawn_blocking(move || source())
        .await
        .map_err(io::Error::other)??;
    let mut token = HeaderValue::from_str(&token)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not fit a header"))?;
    token.set_sensitive(true);
    Ok(token)
}
