//! Byte formats, without I/O, clocks, metrics or logging.

pub mod boundary;
