//! Tests of the program and the library from outside, in one binary.

mod cli;
mod logging;
