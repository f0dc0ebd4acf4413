//! What an agent says of itself: that it starts, where it stands, which scripts ran (coder/coder
//! coderd/agentapi/lifecycle.go, scripts.go).

use std::time::SystemTime;

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;

use super::{Caller, Failure, decode, invalid, semver};
use crate::control::agents::{Agent, Role};
use crate::pb::agent::lifecycle::State;
use crate::pb::agent::startup::Subsystem;
use crate::pb::agent::timing::{Stage, Status};
use crate::pb::agent::{
    ReportConnectionRequest, UpdateLifecycleRequest, UpdateStartupRequest,
    WorkspaceAgentScriptCompletedRequest,
};

/// The moment that Go calls zero: the start of the year 1.
const ZERO: (i64, i32) = (-62_135_596_800, 0);

pub(super) fn update_startup(caller: &Caller, request: Bytes) -> Result<Bytes, Failure> {
    let startup = decode::<UpdateStartupRequest>(request)?
        .startup
        .unwrap_or_default();
    if !semver::is_valid(&startup.version) {
        let version = &startup.version;
        return Err(invalid(format!("invalid agent semver version {version:?}")));
    }
    for number in &startup.subsystems {
        if !matches!(Subsystem::try_from(*number), Ok(known) if known != Subsystem::Unspecified) {
            return Err(invalid(format!("invalid agent subsystem {number}")));
        }
    }
    if caller.role == Role::Agent && caller.agent.set_build(&startup.version) {
        caller.service.rebuilt(caller);
    }
    Ok(startup.encode_to_vec().into())
}

pub(super) fn update_lifecycle(agent: &Agent, request: Bytes) -> Result<Bytes, Failure> {
    let mut lifecycle = decode::<UpdateLifecycleRequest>(request)?
        .lifecycle
        .unwrap_or_default();
    let state = match State::try_from(lifecycle.state) {
        Ok(State::Unspecified) | Err(_) => {
            let state = lifecycle.state;
            return Err(invalid(format!("unknown lifecycle state {state}")));
        }
        Ok(known) => known,
    };
    agent.set_lifecycle(state);
    lifecycle
        .changed_at
        .get_or_insert_with(|| SystemTime::now().into());
    Ok(lifecycle.encode_to_vec().into())
}

pub(super) fn script_completed(request: Bytes) -> Result<Bytes, Failure> {
    let timing = decode::<WorkspaceAgentScriptCompletedRequest>(request)?
        .timing
        .ok_or_else(|| invalid("script timing is required"))?;
    if timing.script_id.len() != 16 {
        let length = timing.script_id.len();
        return Err(invalid(format!("script id of {length} bytes, expected 16")));
    }
    let start = given(timing.start, "start")?;
    let end = given(timing.end, "end")?;
    if start > end {
        return Err(invalid("script start time cannot be after its end time"));
    }
    if Stage::try_from(timing.stage).is_err() {
        return Err(invalid(format!("unknown script stage {}", timing.stage)));
    }
    if Status::try_from(timing.status).is_err() {
        return Err(invalid(format!("unknown script status {}", timing.status)));
    }
    Ok(Bytes::new())
}

/// A moment that must be there and not be Go's zero, in an order that compares.
fn given(time: Option<Timestamp>, which: &str) -> Result<(i64, i32), Failure> {
    let time = time.map(|mut time| {
        time.normalize();
        (time.seconds, time.nanos)
    });
    time.filter(|time| *time != ZERO).ok_or_else(|| {
        invalid(format!(
            "script {which} time is required and cannot be zero"
        ))
    })
}

pub(super) fn report_connection(request: Bytes) -> Result<Bytes, Failure> {
    decode::<ReportConnectionRequest>(request)?;
    Ok(Bytes::new())
}
