//! What the methods of the agent service do, whatever transport a call came over (coder/coder coderd/agentapi).

mod failure;
mod lifecycle;
mod logs;
mod semver;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt as _;
use prost::Message;

use super::agents::{Agent, Role};
use super::aggregate::{Aggregator, Reporter};
use super::boundary_log::BoundaryLog;
use super::rpc::Handler;
use crate::metrics::control::{ControlMetrics, RpcMethod, RpcOutcome};
use crate::pb::agent::UpdateStatsResponse;
use crate::wire::drpc::RemoteError;
pub(super) use failure::{Failure, FailureKind};

/// What comes before a method's name in its path.
pub(super) const PREFIX: &str = "/coder.agent.v2.Agent/";

/// Bytes of an unknown method's name that are repeated to the caller.
const MAX_NAME: usize = 256;

/// The agent service.
#[derive(Debug)]
pub(super) struct Service {
    /// The answer to every report: when to send the next.
    stats_answer: Bytes,
    boundary_log: Option<BoundaryLog>,
    aggregator: Option<Aggregator>,
    /// How long statistics of agents are shown after the last; `None` when they are not collected.
    statistics: Option<Duration>,
    metrics: ControlMetrics,
}

impl Service {
    pub(super) fn new(
        refresh_interval: Duration,
        boundary_log: Option<BoundaryLog>,
        aggregator: Option<Aggregator>,
        statistics: Option<Duration>,
        metrics: ControlMetrics,
    ) -> Self {
        let stats_answer = UpdateStatsResponse {
            // Far below the range of a protobuf duration: settings allow 30 days.
            report_interval: refresh_interval.try_into().ok(),
        };
        Self {
            stats_answer: stats_answer.encode_to_vec().into(),
            boundary_log,
            aggregator,
            statistics,
            metrics,
        }
    }

    /// The method of that path.
    ///
    /// # Errors
    /// When there is none, which is counted.
    pub(super) fn method(&self, path: &[u8]) -> Result<RpcMethod, Failure> {
        let name = path.strip_prefix(PREFIX.as_bytes());
        let known = RpcMethod::ALL.iter().find(|method| {
            **method != RpcMethod::Unknown && name == Some(method.label().as_bytes())
        });
        known.copied().ok_or_else(|| {
            self.metrics
                .called(RpcMethod::Unknown, RpcOutcome::Unimplemented);
            let shown = path.get(..MAX_NAME).unwrap_or(path);
            let name = String::from_utf8_lossy(shown);
            Failure {
                kind: FailureKind::UnknownMethod,
                text: format!("protocol error: unknown rpc: {name:?}"),
            }
        })
    }

    async fn answer(
        &self,
        caller: &Caller,
        method: RpcMethod,
        request: Bytes,
    ) -> Result<Bytes, Failure> {
        let agent = &caller.agent;
        match method {
            RpcMethod::GetManifest => accept(request).map(|_empty| agent.manifest.clone()),
            RpcMethod::GetServiceBanner
            | RpcMethod::GetAnnouncementBanners
            | RpcMethod::BatchUpdateAppHealths
            | RpcMethod::BatchUpdateMetadata
            | RpcMethod::GetResourcesMonitoringConfiguration
            | RpcMethod::PushResourcesMonitoringUsage => accept(request),
            RpcMethod::UpdateStats => self.update_stats(caller, request),
            RpcMethod::UpdateLifecycle => lifecycle::update_lifecycle(agent, request),
            RpcMethod::UpdateStartup => lifecycle::update_startup(caller, request),
            RpcMethod::ScriptCompleted => lifecycle::script_completed(request),
            RpcMethod::BatchCreateLogs => logs::batch_create_logs(agent, request),
            RpcMethod::ReportConnection => lifecycle::report_connection(request),
            RpcMethod::ReportBoundaryLogs => self.report_boundary_logs(agent, request).await,
            RpcMethod::CreateSubAgent
            | RpcMethod::DeleteSubAgent
            | RpcMethod::ListSubAgents
            | RpcMethod::UpdateAppStatus
            | RpcMethod::PushContextState
            | RpcMethod::Unknown => Err(Failure {
                kind: FailureKind::Unimplemented,
                text: "Unimplemented".to_owned(),
            }),
        }
    }
}

/// The agent service for the calls of one session.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) service: Arc<Service>,
    pub(super) agent: Arc<Agent>,
    pub(super) role: Role,
}

impl Caller {
    /// The program that calls, to the aggregator.
    fn reporter(&self) -> Reporter {
        Reporter::new(self.agent.place, self.role.name())
    }

    /// Begins a call; what it was is counted when it is over.
    pub(super) fn begin(&self, method: RpcMethod) -> Call<'_> {
        Call {
            caller: self,
            method,
            outcome: RpcOutcome::Cancelled,
        }
    }
}

impl Handler for Caller {
    type Method = RpcMethod;

    fn method(&self, path: &[u8]) -> Result<RpcMethod, RemoteError> {
        Ok(self.service.method(path)?)
    }

    fn call(
        &self,
        method: RpcMethod,
        request: Bytes,
    ) -> impl Future<Output = Result<Bytes, RemoteError>> + Send {
        // Begun here, not when it is polled: it is counted even if it never is.
        self.begin(method).answer(request).err_into()
    }
}

/// A call under way. Counted when it goes: as cancelled unless an answer was found.
#[derive(Debug)]
pub(super) struct Call<'a> {
    caller: &'a Caller,
    method: RpcMethod,
    outcome: RpcOutcome,
}

impl Call<'_> {
    /// The answer to the request.
    pub(super) async fn answer(mut self, request: Bytes) -> Result<Bytes, Failure> {
        let Self { caller, method, .. } = self;
        let answer = caller.service.answer(caller, method, request).await;
        self.outcome = match &answer {
            Ok(_) => RpcOutcome::Ok,
            Err(Failure { kind, .. }) => kind.outcome(),
        };
        answer
    }

    /// Ends a call whose request is none.
    pub(super) fn reject(mut self) {
        self.outcome = RpcOutcome::Error;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let metrics = &self.caller.service.metrics;
        metrics.called(self.method, self.outcome);
    }
}

/// A request that says what cannot be.
fn invalid(text: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Invalid,
        text: text.into(),
    }
}

/// Reads a request; texts that are not UTF-8 do not decode, as in the reference.
fn decode<M: Message + Default>(request: Bytes) -> Result<M, Failure> {
    M::decode(request).map_err(|error| invalid(format!("proto: {error}")))
}

/// Answers a request of which only the form matters here, with an empty message.
fn accept(request: Bytes) -> Result<Bytes, Failure> {
    decode::<()>(request)?;
    Ok(Bytes::new())
}
