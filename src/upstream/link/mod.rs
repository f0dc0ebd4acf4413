//! The life of the connection: dialled, used, lost, waited for, dialled again; whatever protocol it speaks.

mod driver;
mod outage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::settings::Settings;
use super::transport::Session;
use super::{Outcome, Rpc, Upstream};
use crate::metrics::UpstreamMetrics;
pub use driver::Driver;

/// The control plane, over the transport of its [`Settings`]. Clones share the one connection.
///
/// Calls go through while the [`Driver`] of the same [`Link::new`] runs; without a connection they return
/// [`Outcome::Retry`] at once.
#[derive(Clone, Debug)]
pub struct Link {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The session for new calls, or why there is none. Held for moments only, and never across an await.
    current: Mutex<Result<Current, Lost>>,
    /// Whether there is one. Changed only under the lock of `current`.
    connected: watch::Sender<bool>,
    /// What to dial with. Told anew also when token and certificates are to be read again.
    settings: watch::Sender<Arc<Settings>>,
    metrics: UpstreamMetrics,
}

/// The session in use.
#[derive(Debug)]
struct Current {
    /// What tells it from the sessions before it.
    id: u64,
    session: Session,
    /// It answered a call, whatever the answer.
    answered: bool,
}

/// What is known of the session that was in use last.
#[derive(Debug, Default)]
struct Lost {
    /// Why it was given up; `None` when that was asked for here, or is routine.
    reason: Option<String>,
    answered: bool,
    /// It did not take the token, or no longer.
    turned_away: bool,
}

impl Link {
    /// A connection that is not dialled yet, and the driver that does.
    pub fn new(settings: Settings, metrics: UpstreamMetrics) -> (Self, Driver) {
        let (settings, changes) = watch::channel(Arc::new(settings));
        let shared = Arc::new(Shared {
            current: Mutex::new(Err(Lost::default())),
            connected: watch::Sender::new(false),
            settings,
            metrics,
        });
        let driver = Driver::new(Arc::clone(&shared), changes);
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

impl Upstream for Link {
    async fn call(&self, rpc: Rpc, body: &[Bytes]) -> Outcome {
        let (id, session) = match &*self.shared.current() {
            Ok(current) => (current.id, current.session.clone()),
            Err(_) => return Outcome::Retry("not connected".to_owned()),
        };
        let outcome = session.call(rpc, body).await;
        match &outcome {
            Outcome::Retry(reason) | Outcome::Ambiguous(reason) => {
                let reason = format!("{}: {reason}", rpc.path());
                self.shared.retire_session(id, Some(reason));
            }
            Outcome::Accepted(_) | Outcome::Rejected(_) | Outcome::Refused(_) => {
                self.shared.note_answer(id);
            }
        }
        outcome
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.shared.connected.subscribe()
    }
}

impl Shared {
    /// A panic while the lock was held left nothing half done: it guards one assignment.
    fn current(&self) -> MutexGuard<'_, Result<Current, Lost>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers `session` to calls.
    fn publish(&self, id: u64, session: Session) {
        let mut current = self.current();
        *current = Ok(Current {
            id,
            session,
            answered: false,
        });
        self.metrics.set_connected(true);
        self.connected.send_replace(true);
    }

    fn note_answer(&self, id: u64) {
        if let Ok(current) = &mut *self.current()
            && current.id == id
        {
            current.answered = true;
        }
    }

    /// Takes the session with that id from new calls, unless it is no longer in use.
    fn retire_session(&self, id: u64, reason: Option<String>) {
        self.retire(|in_use| in_use.id == id, reason);
    }

    fn retire(&self, which: impl FnOnce(&Current) -> bool, reason: Option<String>) {
        let mut current = self.current();
        if let Ok(in_use) = &*current
            && which(in_use)
        {
            *current = Err(Lost {
                reason,
                answered: in_use.answered,
                turned_away: in_use.session.was_turned_away(),
            });
            self.metrics.set_connected(false);
            self.connected.send_replace(false);
        }
    }
}
