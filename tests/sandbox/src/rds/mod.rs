//! Amazon RDS for PostgreSQL, version 2014-10-31 of its API, in front of real PostgreSQL servers.
//!
//! A request changes a record under a short lock and answers; the work behind it (copying, starting, replaying) runs in a task of its
//! own and moves the record's status on as AWS' statuses move. Every record is on disk before it is in memory, so `resume` can take up
//! the work of a daemon that died.
mod actions;
mod addresses;
mod archive;
mod backups;
mod catalog;
mod certificates;
mod create;
mod delete;
mod describe;
mod emulator;
mod fault;
mod groups;
mod ids;
mod instances;
mod launch;
mod model;
mod modify;
mod parameters;
mod platform;
mod postgres;
mod power;
mod processes;
mod query;
mod records;
mod restore;
mod service;
mod snapshots;
mod tags;
mod xml;

pub use addresses::{Addresses, Interface};
pub use emulator::Emulator;
pub use ids::Region;
pub use model::Subnet;
pub use platform::Platform;
pub use processes::{Processes, Server};
pub use service::Rds;
