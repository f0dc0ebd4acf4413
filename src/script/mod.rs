//! x
pub mod books;
mod completed;
mod desk;
mod file;
pub mod queue;
pub mod report;
pub use desk::Desk;
pub use report::{Report, Stage, Status};
