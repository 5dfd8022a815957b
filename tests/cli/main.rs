//! The command line from outside: one module a command, standard output, standard error and exit code in one snapshot.
#![allow(clippy::unwrap_used, reason = "a test may panic and say why")]
mod apply;
mod basics;
mod charts;
mod db;
mod dr;
mod environments;
mod history;
mod init;
mod plan;
mod policies;
mod project;
mod readme;
mod runbooks;
mod sandbox;
mod schema;
mod secret;
mod secrets_kept;
mod signals;
mod status;
