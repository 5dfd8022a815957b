//! deployctl-sandbox: parses, runs, exits.
mod cli;
mod layout;
mod process;

use clap::Parser as _;

fn main() {
    let _cli = cli::Cli::parse();
}
