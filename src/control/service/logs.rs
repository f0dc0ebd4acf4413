//! Log lines of scripts, and the entries that boundary reports (coder/coder coderd/agentapi/logs.go,
//! boundary_logs.go).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{Failure, FailureKind, Service, decode, invalid};
use crate::control::agents::Agent;
use crate::pb::agent::{BatchCreateLogsRequest, BatchCreateLogsResponse};
use crate::wire::boundary::{Fault, Summary};

/// Bytes of a log source's id; all zero stands for the built-in external source.
const SOURCE_ID: usize = 16;

pub(super) fn batch_create_logs(agent: &Agent, request: Bytes) -> Result<Bytes, Failure> {
    let request = decode::<BatchCreateLogsRequest>(request)?;
    if request.log_source_id.len() != SOURCE_ID {
        let length = request.log_source_id.len();
        return Err(invalid(format!(
            "log source id of {length} bytes, expected {SOURCE_ID}"
        )));
    }
    let bytes = request.logs.iter().map(|log| log.output.len() as u64).sum();
    let answer = BatchCreateLogsResponse {
        log_limit_exceeded: !agent.take_log_lines(bytes),
    };
    Ok(answer.encode_to_vec().into())
}

impl Service {
    /// Checks the request without decoding it, and has it written where entries are written.
    pub(super) async fn report_boundary_logs(
        &self,
        agent: &Arc<Agent>,
        request: Bytes,
    ) -> Result<Bytes, Failure> {
        let summary = Summary::read(&request).map_err(|malformed| match malformed.what {
            Fault::Utf8(_) => invalid(format!("string field contains invalid UTF-8: {malformed}")),
            _ => invalid(format!("proto: cannot parse the request: {malformed}")),
        })?;
        let logs = summary.logs;
        if let Some(boundary_log) = &self.boundary_log
            && logs > 0
        {
            let written = boundary_log.write(agent, summary, request).await;
            written.map_err(|error| {
                self.metrics.not_written();
                Failure {
                    kind: FailureKind::Failed,
                    text: error.to_string(),
                }
            })?;
        }
        self.metrics.acknowledged(logs);
        Ok(Bytes::new())
    }
}
