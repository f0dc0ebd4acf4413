//! Byte formats, without I/O, clocks, metrics or logging.

pub mod boundary;
pub mod drpc;
mod field;
pub mod stats;
pub mod ws;
pub mod yamux;
