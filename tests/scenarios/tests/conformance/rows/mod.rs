//! The rows. Each is one sentence about every backend, and gets the same kind of answer from all.

pub mod content;
pub mod faults;
