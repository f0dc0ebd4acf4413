//! The life of the connection: dialled, used, lost, waited for, dialled again.

mod outage;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use super::dial::dial;
use super::error::DialError;
use super::http1::Io;
use super::session::Session;
use super::settings::{Settings, TokenSource};
use super::tls::Tls;
use super::{Outcome, Rpc, Upstream, unary};
use crate::backoff::Backoff;
use crate::logging::ErrorChain;
use crate::metrics::{DialOutcome, UpstreamMetrics};
use outage::Outage;

/// How long a dial may take, from the name to the upgrade.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// A connection that lasted so long was a good one, whatever came of its calls.
const GOOD_AFTER: Duration = Duration::from_secs(30);

/// Sessions in being at once: the one in use, and lost ones whose last calls are under way or which are
/// being closed. Each of those ends within the limits of a call and a close.
const MAX_SESSIONS: usize = 8;

/// The control plane over WebSocket, yamux and dRPC. Clones share the one connection.
///
/// Calls go through while the [`Driver`] of the same [`WebSocketUpstream::new`] runs; without a connection
/// they return [`Outcome::Retry`] at once.
#[derive(Clone, Debug)]
pub struct WebSocketUpstream {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The session for new calls, or why there is none. Held for moments only, and never across an await.
    current: Mutex<Result<Session, Lost>>,
    /// Whether there is one. Changed only under the lock of `current`.
    connected: watch::Sender<bool>,
    /// What to dial with. Told anew also when token and certificates are to be read again.
    settings: watch::Sender<Arc<Settings>>,
    metrics: UpstreamMetrics,
}

/// What is known of the session that was in use last.
#[derive(Debug, Default)]
struct Lost {
    /// Why it was given up; `None` when that was asked for here.
    reason: Option<String>,
    /// It answered a call, whatever the answer.
    answered: bool,
}

impl WebSocketUpstream {
    /// A connection that is not dialled yet, and the driver that does.
    pub fn new(settings: Settings, metrics: UpstreamMetrics) -> (Self, Driver) {
        let (settings, changes) = watch::channel(Arc::new(settings));
        let shared = Arc::new(Shared {
            current: Mutex::new(Err(Lost::default())),
            connected: watch::Sender::new(false),
            settings,
            metrics,
        });
        let driver = Driver {
            shared: Arc::clone(&shared),
            settings: changes,
            known: None,
            sessions: JoinSet::new(),
            last_id: 0,
            random: fastrand::Rng::new(),
            outage: Outage::default(),
        };
        (Self { shared }, driver)
    }

    /// Has token and certificates read again before the next dial, and ends a wait for it. The present
    /// connection stays.
    pub fn reload(&self) {
        self.shared.settings.send_modify(|_| {});
    }

    /// Gives up the present connection and dials with `settings` from now on.
    pub fn redial(&self, settings: Settings) {
        self.shared.settings.send_replace(Arc::new(settings));
        self.shared.retire(|_| true, None);
    }
}

impl Upstream for WebSocketUpstream {
    async fn call(&self, rpc: Rpc, body: &[Bytes]) -> Outcome {
        let session = match &*self.shared.current() {
            Ok(session) => session.clone(),
            Err(_) => return Outcome::Retry("not connected".to_owned()),
        };
        let outcome = unary::call(&session, rpc, body).await;
        if let Outcome::Retry(reason) | Outcome::Ambiguous(reason) = &outcome {
            self.shared
                .retire_session(session.id(), format!("{}: {reason}", rpc.path()));
        }
        outcome
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.shared.connected.subscribe()
    }
}

impl Shared {
    /// A panic while the lock was held left nothing half done: it guards one assignment.
    fn current(&self) -> MutexGuard<'_, Result<Session, Lost>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers `session` to calls.
    fn publish(&self, session: Session) {
        let mut current = self.current();
        *current = Ok(session);
        self.metrics.set_connected(true);
        self.connected.send_replace(true);
    }

    /// Takes the session with that id from new calls, unless it is no longer in use.
    fn retire_session(&self, id: u64, reason: String) {
        self.retire(|in_use| in_use.id() == id, Some(reason));
    }

    fn retire(&self, which: impl FnOnce(&Session) -> bool, reason: Option<String>) {
        let mut current = self.current();
        if let Ok(in_use) = &*current
            && which(in_use)
        {
            *current = Err(Lost {
                reason,
                answered: in_use.has_answered(),
            });
            self.metrics.set_connected(false);
            self.connected.send_replace(false);
        }
    }
}

/// Dials, and owns the tasks of the sessions: they end with it.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    settings: watch::Receiver<Arc<Settings>>,
    /// What was read from outside for the present settings.
    known: Option<Known>,
    sessions: JoinSet<()>,
    /// Told the last session, to tell it from those before it.
    last_id: u64,
    random: fastrand::Rng,
    outage: Outage,
}

/// Token and certificates, until one of them proves wrong.
#[derive(Debug)]
struct Known {
    /// Marked as sensitive: it shows in no debug output.
    token: HeaderValue,
    tls: Tls,
}

/// Where the connection stands. Moved by [`Driver::step`] alone.
#[derive(Debug)]
enum State {
    Dialling { backoff: Backoff },
    Connected { since: Instant, backoff: Backoff },
    Waiting { until: Instant, backoff: Backoff },
}

impl Driver {
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
        let mut ws = dialled
            .unwrap_or(Err(DialError::Timeout(DIAL_LIMIT)))
            .map_err(|error| ErrorChain(&error).to_string())?;
        // The answer is known; whether the goodbye is heard changes nothing.
        timeout(DIAL_LIMIT, ws.close(None))
            .await
            .map_or(Ok(()), |_closed| Ok(()))
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
                    Ok(ws) => {
                        self.shared.metrics.dialled(DialOutcome::Connected);
                        self.outage.connected(&settings);
                        self.start(ws, stop);
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

    async fn dial(&mut self, settings: &Settings) -> Result<WebSocketStream<Io>, DialError> {
        let known = match &mut self.known {
            Some(known) => known,
            none => none.insert(Known {
                token: read_token(Arc::clone(&settings.token))
                    .await
                    .map_err(DialError::Token)?,
                tls: Tls::new(settings.roots.clone()),
            }),
        };
        dial(settings, &known.token, &known.tls).await
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

    /// Runs a session in a task of its own, and offers it to calls until it ends.
    fn start(&mut self, ws: WebSocketStream<Io>, stop: &CancellationToken) {
        self.last_id += 1;
        let id = self.last_id;
        let (session, driver) = Session::new(ws, id);
        let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
        shared.publish(session);
        self.sessions.spawn(async move {
            let ended = driver.run(stop).await;
            tracing::debug!(id, "session ended: {ended}");
            shared.retire_session(id, ended.to_string());
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
