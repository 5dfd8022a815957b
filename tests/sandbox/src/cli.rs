//! The command line of deployctl-sandbox: types only.
use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::layout::Site;

/// A whole AWS-shaped deployment target on this machine. Needs root on Linux.
#[derive(Debug, Parser)]
#[command(name = "deployctl-sandbox", version, propagate_version = true)]
pub struct Cli {
    /// Which sandbox; two can run at once.
    #[arg(long, global = true, default_value = "demo", value_parser = name)]
    pub name: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with a sandbox.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Brings the sandbox up, or repairs it; what is missing on the machine is installed first.
    Up,
    /// Removes the sandbox: processes, mounts, cgroups, interfaces, namespace, files.
    Down,
    /// Shows every part with its state.
    Status {
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Prints the variables that aws, kubectl, terraform and deployctl need, as shell `export` lines.
    Env,
    /// Runs a command inside the sandbox's network; `exec psql` opens the database.
    Exec(ExecArgs),
    /// Prints the log of a part (`status` lists them).
    Logs(LogsArgs),
    /// Takes a region away as an outage does, or gives it back.
    #[command(subcommand)]
    Region(RegionCommand),
    /// Installs what a sandbox needs on this machine and brings nothing up.
    Install,
    /// Prints Kafka's API key and secret as JSON, for `deployctl secret set kafka`.
    KafkaCredentials,
    /// Prints a token for the cluster's API server, made as EKS does: a pre-signed request to STS.
    EksToken(EksTokenArgs),
    /// Runs the sandbox's daemon inside its namespace; `up` does this.
    #[command(hide = true)]
    Run,
    /// Runs one of the stand-ins for controllers that cannot be had here; the daemon does this.
    #[command(hide = true)]
    StandIn {
        /// Which one.
        #[arg(value_enum)]
        which: StandIn,
        /// Of which cluster.
        #[arg(long, value_enum)]
        site: Site,
    },
    /// Boots both regions' clusters without the EKS API, or asks for a part of it; for the sandbox's own development and tests.
    #[command(hide = true)]
    DevCluster,
}

/// How `status` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What has a stand-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StandIn {
    /// For the AWS Load Balancer Controller.
    Alb,
    /// For External Secrets.
    ExternalSecrets,
    /// For the EKS Pod Identity agent.
    PodIdentityAgent,
}

/// What can be done with a region.
#[derive(Debug, Subcommand)]
pub enum RegionCommand {
    /// Calls to it hang and fail, its database servers stop, its cluster freezes; waits until that is so.
    Down {
        /// As in us-east-1.
        region: String,
    },
    /// Everything of it goes on with what it had; waits until its database servers run again.
    Up {
        /// As in us-east-1.
        region: String,
    },
    /// The home region's cluster answers as the one of this region too, as long as that has none of its own.
    Lend {
        /// As in eu-west-1.
        region: String,
    },
    /// It does so no longer.
    TakeBack {
        /// As in eu-west-1.
        region: String,
    },
    /// Says which regions are up.
    Status,
}

/// Arguments of `exec`.
#[derive(Args, Debug)]
pub struct ExecArgs {
    /// The database that psql opens [default: the first of a region that is up].
    #[arg(long)]
    pub database: Option<String>,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `logs`.
#[derive(Args, Debug)]
pub struct LogsArgs {
    /// Whose log.
    pub part: String,
    /// Go on printing what is added.
    #[arg(short, long)]
    pub follow: bool,
}

/// Arguments of `eks-token`.
#[derive(Args, Debug)]
pub struct EksTokenArgs {
    /// The cluster that the token is for.
    #[arg(long)]
    pub cluster_name: String,
    /// The cluster's region.
    #[arg(long, default_value = crate::layout::REGION)]
    pub region: String,
}

/// Names become parts of interface, namespace and cgroup names.
fn name(text: &str) -> Result<String, String> {
    let fine = !text.is_empty()
        && text.len() <= 20
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.starts_with('-');
    if fine { Ok(text.to_owned()) } else { Err("1 to 20 lower-case letters, digits and hyphens".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        assert!(name("../x").is_err());
        assert!(name("").is_err());
        assert!(name("ci-2").is_ok());
    }
}
