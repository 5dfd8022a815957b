//! One file a command: arguments to library calls to what is shown.
pub mod doctor;
mod permissions;
pub mod secret;
