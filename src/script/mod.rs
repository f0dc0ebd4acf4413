//! Scripts: run as the workspace agent runs them, and what is counted and told of each run.
//!
//! A run ends as a [`Report`]. `weir exec` and others post it to the API socket of the sidecar, whose [`Desk`] enters it
//! in the [`books`]: on disk first, so that no kill of the sidecar loses a count, and once, however often it is posted.
//! When nobody answers there, `weir exec` leaves the report in a [`queue`] beside the socket, from which the sidecar takes it.

pub mod books;
mod completed;
mod desk;
mod file;
#[cfg(test)]
mod place;
mod post;
pub mod queue;
pub mod report;
pub mod run;

pub use desk::Desk;
pub use post::{PostError, post};
pub use report::{Report, Stage, Status};
