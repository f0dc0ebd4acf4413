//! The way to the control plane: one trait for every transport.
//!
//! A transport makes one attempt and says what was seen; it never repeats a call by itself. What follows
//! from an [`Outcome`] is decided in [`crate::forward::retry`] alone.

mod dial;
mod direct;
mod error;
mod grpc;
mod http1;
mod link;
mod proxy;
mod settings;
mod tls;
mod transport;
mod tunnel;
mod vigil;
mod websocket;

use std::future::Future;

use bytes::Bytes;
use tokio::sync::watch;

pub(crate) use direct::Direct;
pub(crate) use http1::Io;
pub use link::{Driver, Link};
pub use proxy::{ProxyFault, ProxySettings};
pub use settings::{RootFiles, Settings, TokenSource};
pub use transport::Transport;

use crate::metrics::AttemptOutcome;

/// A method of the service `coder.agent.v2.Agent`, by its full name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rpc(&'static str);

impl Rpc {
    /// Boundary audit logs; since API version 2.7.
    pub const REPORT_BOUNDARY_LOGS: Self = Self("/coder.agent.v2.Agent/ReportBoundaryLogs");

    /// The end of a script; since API version 2.3.
    pub const SCRIPT_COMPLETED: Self = Self("/coder.agent.v2.Agent/ScriptCompleted");

    /// Statistics of the agent and samples of metrics; without any, how often to report them; since API version 2.0.
    pub const UPDATE_STATS: Self = Self("/coder.agent.v2.Agent/UpdateStats");

    /// The name as it stands in an Invoke packet or a gRPC path.
    pub fn path(self) -> &'static str {
        self.0
    }
}

/// What one attempt of a call came to. The text says what was seen, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The control plane answered with a message.
    Accepted(Bytes),
    /// The control plane does not have this method: no repetition can help.
    Rejected(String),
    /// The control plane answered with an error: this request may be at fault, the link works.
    Refused(String),
    /// No byte of the request was written: it certainly was not seen.
    Retry(String),
    /// Bytes were written and no usable answer came: it may have been handled, or not.
    Ambiguous(String),
}

impl Outcome {
    /// The label under which an attempt is counted.
    pub fn label(&self) -> AttemptOutcome {
        match self {
            Self::Accepted(_) => AttemptOutcome::Accepted,
            Self::Rejected(_) => AttemptOutcome::Rejected,
            Self::Refused(_) => AttemptOutcome::Refused,
            Self::Retry(_) => AttemptOutcome::Retry,
            Self::Ambiguous(_) => AttemptOutcome::Ambiguous,
        }
    }
}

/// One connection to a control plane that is dialled again whenever it is lost.
pub trait Upstream {
    /// Makes one attempt of a unary call whose request is the concatenation of `body`.
    ///
    /// Returns within the transport's call deadline. After [`Outcome::Retry`] and [`Outcome::Ambiguous`]
    /// the link that was used counts as lost: [`Upstream::connected`] reads false before this returns and
    /// stays so until a new dial succeeded, so that a caller which waits for it cannot spin.
    /// Dropping the future abandons the call.
    fn call(&self, rpc: Rpc, body: &[Bytes]) -> impl Future<Output = Outcome> + Send;

    /// Whether a call made now would be written at once.
    fn connected(&self) -> watch::Receiver<bool>;
}
