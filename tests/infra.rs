//! AWS calls, terraform and their steps, for real: against ministack on loopback and the real terraform.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

#[path = "cluster/api_server.rs"]
mod api_server;
#[path = "infra/charts.rs"]
mod charts;
#[path = "infra/drills.rs"]
mod drills;
#[path = "infra/ecr.rs"]
mod ecr;
#[path = "infra/emulator.rs"]
mod emulator;
#[path = "infra/fixture.rs"]
mod fixture;
#[path = "infra/front.rs"]
mod front;
#[path = "infra/identity.rs"]
mod identity;
#[path = "installed/mod.rs"]
mod installed;
#[path = "infra/objects.rs"]
mod objects;
#[path = "infra/stack.rs"]
mod stack;
#[path = "infra/state_backend.rs"]
mod state_backend;
#[path = "infra/terraform.rs"]
mod terraform;
#[path = "infra/terraform_killed.rs"]
mod terraform_killed;
#[path = "infra/terraform_lock.rs"]
mod terraform_lock;
