//! The command line from outside: one module a command, standard output, standard error and exit code in one snapshot.
mod apply;
mod basics;
mod history;
mod plan;
mod project;
mod sandbox;
mod schema;
mod secret;
mod status;
