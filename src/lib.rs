//! deployctl, in reading order.
pub mod aws;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod engine;
pub mod failure;
pub mod ids;
pub mod plan;
pub mod steps;
pub mod tools;
