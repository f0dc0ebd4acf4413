//! What several tests need.

pub mod coderd;
pub mod control;
