//! deployctl-sandbox: parses, runs, exits.
mod layout;
fn main() {}
