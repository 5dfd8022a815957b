//! deployctl, in reading order.
pub mod agent;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod database;
pub mod engine;
pub mod failure;
pub mod ids;
pub mod image;
pub mod manifests;
pub mod plan;
pub mod redact;
pub mod steps;
pub mod tools;
pub mod ui;
