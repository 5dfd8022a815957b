//! Runs steps: order, journal, lease, events, cancellation.
pub mod event;
