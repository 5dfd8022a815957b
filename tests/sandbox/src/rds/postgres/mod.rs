//! Real PostgreSQL clusters: their folders, how they are started, recovered, copied, and spoken to.
pub mod catalog;
pub mod configuration;
pub mod copy;
pub mod place;
pub mod recovery;
pub mod roles;
pub mod session;
