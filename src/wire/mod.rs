//! Byte formats, without I/O, clocks, metrics or logging.

pub mod boundary;
pub mod drpc;
pub mod exposition;
mod field;
pub mod grpc;
#[cfg(test)]
#[path = "../../tests/it/support/mutate.rs"]
mod mutate;
pub mod stats;
pub mod ws;
pub mod yamux;
