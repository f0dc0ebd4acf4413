//! Byte formats, without I/O, clocks, metrics or logging.

pub mod boundary;
pub mod drpc;
pub mod exposition;
pub mod ws;
pub mod yamux;
