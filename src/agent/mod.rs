//! `deployctl agent …`: what must be done inside the cluster, because database and broker are private. Runs as a Job, under its own role.
pub mod bootstrap_database;
pub mod database;
pub mod migrate;
pub mod topics;
