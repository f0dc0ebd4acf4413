//! Byte formats, without I/O, clocks, metrics or logging.

pub mod boundary;
pub mod drpc;
pub mod grpc;
pub mod ws;
pub mod yamux;
