//! What both services do the same way: configuration, health, metrics, traces and draining.
pub mod drain;
pub mod operations;
pub mod settings;
pub mod telemetry;
