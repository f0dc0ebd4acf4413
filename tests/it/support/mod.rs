//! What several tests need.

pub mod coderd;
