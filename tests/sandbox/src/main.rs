//! deployctl-sandbox: parses, runs, exits.
mod cgroup;
mod claim;
mod cli;
mod install;
mod kubernetes;
mod layout;
mod mounts;
mod network;
mod process;
mod report;
mod tool;

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    if let cli::Command::Install = cli.command {
        let got = install::install(&std::env::current_dir()?, &claim::cache_folder()?).await?;
        report::line(format_args!("{got:?}"));
    }
    Ok(())
}
