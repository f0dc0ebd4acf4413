//! Tests of the program and the library from outside, in one binary.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test that meets something unexpected has failed, and nothing imports this binary"
)]

#[macro_use]
mod support;

mod aggregator;
mod cli;
mod control;
mod drpc;
mod exec;
mod exposition;
mod logging;
mod prometheus;
mod run;
mod scrape;
mod stats;
mod upstream;
