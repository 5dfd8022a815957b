//! Faults of the cloud: the library's own clients against real programs, through proxies that fail on purpose. `make test` proves the lines of the
//! table that are quick, `make soak` (DEPLOYCTL_SOAK) all of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests: a panic is the failure, and a skipped test says why"
)]
mod api_server;
mod aws;
mod command;
mod database;
#[path = "../infra/emulator.rs"]
mod emulator;
#[path = "../infra/fixture.rs"]
mod fixture;
mod http_proxy;
#[path = "../installed/mod.rs"]
mod installed;
mod kafka;
mod postgres;
mod proof;
#[path = "../cluster/api_server.rs"]
mod real_api_server;
mod registry;
mod repeated;
#[path = "../infra/stack.rs"]
mod stack;
mod table;
mod tcp_proxy;
mod terraform;
