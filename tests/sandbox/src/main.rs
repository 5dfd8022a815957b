//! deployctl-sandbox: parses, runs, exits.
use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use deployctl_sandbox::{
    claim,
    cli::{Cli, Command, StandIn},
    daemon, dev_cluster, down, eks_token, environment, install, kafka, region, report, standins, status, up,
};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    // One TLS stack for the whole process, whichever library asks first; an earlier choice was the same one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    // The daemon has its own way to end; anything else is dropped at once, which puts back what it had changed on the machine.
    let is_daemon = matches!(cli.command, Command::Run);
    let outcome = tokio::select! {
        outcome = run(cli) => outcome,
        () = interrupted(), if !is_daemon => {
            report::line(format_args!("interrupted; the same command again goes on from here"));
            return ExitCode::from(130);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::line(format_args!("deployctl-sandbox: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        tokio::time::sleep(Duration::MAX).await;
    }
}

async fn run(cli: Cli) -> Result<()> {
    let name = cli.name.as_str();
    match &cli.command {
        Command::Up => up::up(name).await,
        Command::Down => down::down(name).await,
        Command::Status { output } => status::status(name, *output).await,
        Command::Env => environment::env(name),
        Command::Exec(args) => environment::exec(name, args).await,
        Command::Logs(args) => status::logs(name, args).await,
        Command::Region(command) => region::run(name, command).await,
        Command::Install => {
            up::need_root()?;
            install::install(&claim::project()?, &claim::cache_folder()?).await?;
            Ok(())
        }
        Command::KafkaCredentials => {
            let key = kafka::api_key(&claim::existing(name)?)?;
            Ok(report::data(&serde_json::to_string(&key).context("writing JSON")?)?)
        }
        Command::EksToken(args) => eks_token::print(name, args),
        Command::Run => daemon::run(claim::existing(name)?).await,
        Command::StandIn { which, site } => {
            let (layout, kubeconfig) = (claim::existing(name)?.of(*site), kubeconfig()?);
            match which {
                StandIn::Alb => standins::alb::run(layout, &kubeconfig).await,
                StandIn::ExternalSecrets => standins::external_secrets::run(layout, &kubeconfig).await,
                StandIn::PodIdentityAgent => standins::pod_identity_agent::run(&layout).await,
            }
        }
        Command::DevCluster => dev_cluster::start(&claim::existing(name)?),
    }
}

/// The daemon hands it to its stand-ins.
fn kubeconfig() -> Result<PathBuf> {
    std::env::var_os("SANDBOX_KUBECONFIG").map(PathBuf::from).context("SANDBOX_KUBECONFIG is not set: the daemon starts stand-ins")
}
