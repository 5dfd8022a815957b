//! The only spawners of processes: terraform and whatever else is somebody else's program.
pub mod cargo;
pub mod container;
pub mod helm;
pub mod process;
pub mod process_record;
pub mod sandbox;
pub mod terraform;
pub mod watchdog;
