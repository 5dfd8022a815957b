//! From the written plan file to the immutable plan.
pub mod environment;
pub mod file;
