//! The front door, the emulator and EKS together, on loopback: a real ministack, started by the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may end by a panic, and says why it skips")]
mod aws;
mod bootstrap;
mod certificates;
mod durability;
mod eks;
mod iam;
#[path = "../../../installed/mod.rs"]
mod installed;
mod load_balancers;
mod pod_identity;
mod policies;
mod regions;
mod registry;
#[path = "../../../replay/mod.rs"]
mod replay;
mod stack;
mod web_identity;
