//! Why a call is answered with an error, and what that is to each transport.

use crate::metrics::control::RpcOutcome;
use crate::wire::drpc::{RemoteError, UNIMPLEMENTED};

/// An answer that is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Failure {
    pub(in crate::control) kind: FailureKind,
    pub(in crate::control) text: String,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum FailureKind {
    /// The service has no such method.
    UnknownMethod,
    /// The method exists and is not offered.
    Unimplemented,
    /// The request does not decode, or says what cannot be.
    Invalid,
    /// What was asked for could not be done, through no fault of the request.
    Failed,
}

impl FailureKind {
    pub(super) fn outcome(self) -> RpcOutcome {
        match self {
            Self::UnknownMethod | Self::Unimplemented => RpcOutcome::Unimplemented,
            Self::Invalid | Self::Failed => RpcOutcome::Error,
        }
    }
}

/// The codes of the reference, which has one for stubs only.
impl From<Failure> for RemoteError {
    fn from(Failure { kind, text }: Failure) -> Self {
        let code = match kind {
            FailureKind::Unimplemented => UNIMPLEMENTED,
            FailureKind::UnknownMethod | FailureKind::Invalid | FailureKind::Failed => 0,
        };
        Self { code, text }
    }
}
