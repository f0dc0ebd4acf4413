//! The sessions on one connection: one for each token and role that its calls have shown.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;

use crate::config::control::AgentToken;
use crate::control::agents::{Role, Seat};
use crate::control::connection::Shared;
use crate::control::handshake::{self, Refusal, TOKEN_HEADER};
use crate::control::service::Caller;
use crate::control::session::{Ended, MAX_STREAMS};
use crate::wire::grpc;

/// Sessions on one connection: a proxy may bring the calls of many agents on one. As many as calls at a time, so that
/// what gives way to another is not in use.
const MAX_SEATS: usize = MAX_STREAMS;

/// A session.
#[derive(Debug)]
pub(super) struct Seated {
    token: AgentToken,
    seat: Seat,
    pub(super) caller: Caller,
}

/// The sessions, the one that was called last at the end.
#[derive(Debug, Default)]
pub(super) struct Seats(Vec<Arc<Seated>>);

impl Seats {
    /// The session that a call belongs to; it begins with its first. A token that was seen before is not looked for
    /// among all agents again.
    pub(super) fn admit(
        &mut self,
        headers: &HeaderMap,
        peer: SocketAddr,
        shared: &Shared,
    ) -> Result<Arc<Seated>, Refusal> {
        let token = headers
            .get(TOKEN_HEADER)
            .and_then(|token| token.to_str().ok());
        let token = handshake::read_token(token)?;
        let role = headers
            .get(grpc::ROLE)
            .map_or(&b""[..], |role| role.as_bytes());
        let role = String::from_utf8_lossy(role);
        let is_it =
            |seated: &Arc<Seated>| seated.token.is(&token) && seated.caller.role.is_named(&role);
        if let Some(place) = self.0.iter().position(is_it) {
            let seated = self.0.remove(place);
            self.0.push(Arc::clone(&seated));
            return Ok(seated);
        }
        let agent = handshake::find(&token, &shared.agents)?;
        let seat = handshake::seat(agent, Role::named(&role), &shared.metrics)?;
        let caller = Caller {
            service: Arc::clone(&shared.service),
            agent: Arc::clone(agent),
            role: seat.role.clone(),
        };
        if self.0.len() == MAX_SEATS {
            shared.ended(peer, &self.0.remove(0).seat, &Ended::Displaced);
        }
        shared.began(peer, &seat, &"gRPC");
        let seated = Arc::new(Seated {
            token,
            seat,
            caller,
        });
        self.0.push(Arc::clone(&seated));
        Ok(seated)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends all sessions.
    pub(super) fn end(&mut self, peer: SocketAddr, shared: &Shared, ended: &Ended) {
        for seated in self.0.drain(..) {
            shared.ended(peer, &seated.seat, ended);
        }
    }
}
