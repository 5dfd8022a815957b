//! Runs steps: order, journal, lease, events, cancellation.
mod ahead;
pub mod apply;
pub mod cancel;
pub mod consider;
pub mod dag;
pub mod destroy;
mod dr_copy;
pub mod drills;
pub mod event;
#[cfg(test)]
pub mod fake;
pub mod history;
pub mod journal;
pub mod lease;
pub mod limits;
pub mod mirror;
mod questions;
pub mod records;
pub mod run_step;
pub mod status;
pub mod timeline;
pub mod workplace;
