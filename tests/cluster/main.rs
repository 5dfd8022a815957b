//! Apply, diff, prune and wait against a real API server (etcd and kube-apiserver on loopback, no node).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests: a panic is the failure, and a skipped test says why"
)]
mod api_server;
#[path = "../installed/mod.rs"]
mod installed;
mod objects;
mod templates;
