//! The messages of `proto/`, as generated Rust types.
//!
//! The sidecar's own path never decodes what it forwards; these types are for the receiving side
//! and for tests. `tests/generated.rs` writes the included files and proves that they are current.

pub use coder::agent::v2 as agent;
pub use coder::boundarylogproxy::codec::v1 as boundary;

// Generated code refers to other packages by relative paths, so the modules nest as the packages do.
// The files are included, not declared as modules, so that rustfmt leaves them as generated.
mod coder {
    pub(super) mod agent {
        /// `coder.agent.v2`: the workspace agent's service at the control plane.
        #[allow(
            missing_docs,
            reason = "generated: the sources explain what is not plain"
        )]
        pub mod v2 {
            include!("coder.agent.v2.rs");
        }
    }
    pub(super) mod boundarylogproxy {
        pub(in super::super) mod codec {
            /// `coder.boundarylogproxy.codec.v1`: the payload of a tag 2 frame on the audit socket.
            #[allow(
                missing_docs,
                reason = "generated: the sources explain what is not plain"
            )]
            pub mod v1 {
                include!("coder.boundarylogproxy.codec.v1.rs");
            }
        }
    }
}
