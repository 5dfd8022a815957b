//! What can be typed. Types only; what is done about it is in commands/.
mod db;
mod dr;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::{
    db::{DbCommand, MigrateArgs, PruneArgs, RestoreArgs, SnapshotArgs, UndoArgs},
    dr::{DrCommand, DrDrillArgs, DrLimits, DrRestoreArgs, ObjectCommand, ObjectRestoreArgs},
};
use crate::{
    agent::AgentCommand,
    ids::{EnvironmentName, RunId, SecretName, ServiceName, StepId},
    plan::selection::Selection,
    ui::Output,
};

/// Take two services from source code to a verified deployment on AWS, and back from a lost region
#[derive(Debug, Parser)]
#[command(name = "deployctl", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

fn duration(text: &str) -> Result<jiff::SignedDuration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    if parsed.is_negative() { Err("it is negative".to_owned()) } else { Ok(parsed) }
}

/// Flags that every command understands.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// Environment to work on: a file in plans/environments
    #[arg(short, long, global = true, env = "DEPLOYCTL_ENVIRONMENT", value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// Folder that holds plans/ [default: the nearest one above here]
    #[arg(long, global = true, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// Tell more: logs of deployctl and its libraries (RUST_LOG refines it)
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Tell failures only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Form of the data on standard output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    /// Write every event to FILE as well, one JSON object a line
    #[arg(long, global = true, value_name = "FILE")]
    pub json_into: Option<PathBuf>,
    /// Use no colours (as NO_COLOR does)
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Answer yes to the question whether the plan shall be applied
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Wait so long for whoever is changing the environment, as in 30s or 10m [default: fail at once]
    #[arg(long, global = true, default_value = "0s", hide_default_value = true, value_name = "TIME", value_parser = duration)]
    pub lock_timeout: jiff::SignedDuration,
    /// Steps that run side by side
    #[arg(long, global = true, default_value = "4", value_name = "N")]
    pub parallel: NonZeroUsize,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the file of a new environment: asks, or takes flags; overwrites nothing
    Init(InitArgs),
    /// Show everything that apply would do, and change nothing
    Plan(PlanArgs),
    /// Do what the plan shows; after a crash or a failure the same command goes on
    Apply(ApplyArgs),
    /// Show where the last run stands, step by step
    Status(StatusArgs),
    /// List the runs of an environment
    History(HistoryArgs),
    /// Render the manifests of a step, or of all steps, as YAML
    Render(RenderArgs),
    /// Build or push the images of services
    #[command(subcommand)]
    Image(ImageCommand),
    /// Pin or render the charts of the plan file
    #[command(subcommand)]
    Chart(ChartCommand),
    /// Work on the database: snapshots, migrations, restores
    #[command(subcommand)]
    Db(DbCommand),
    /// Bring the database back in the DR region, or show what that would give
    #[command(subcommand)]
    Dr(DrCommand),
    /// Set secrets; values never appear in arguments, logs or state
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Check that everything is there that an apply needs
    Doctor,
    /// Send a marked file through everything that is deployed and report every hop
    Smoke,
    /// Take everything away that apply has made, in reverse order
    Destroy(DestroyArgs),
    /// Show who is changing an environment, or end the lease of one who has died
    #[command(subcommand)]
    Lock(LockCommand),
    /// Run a whole deployment target on this machine (deployctl-sandbox)
    Sandbox(SandboxArgs),
    /// Print the JSON schema of a plan file, an environment file or the stream of events
    Schema(SchemaArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
    /// Print the version
    Version,
    /// Work inside the cluster, as a Job
    #[command(subcommand, hide = true)]
    Agent(Box<AgentCommand>),
}

/// Which part of the plan file.
#[derive(Clone, Debug, Args)]
pub struct SelectionArgs {
    /// Run only these steps
    #[arg(long, value_name = "STEP", value_delimiter = ',', conflicts_with = "from")]
    pub only: Vec<StepId>,
    /// Run this step and everything that needs it
    #[arg(long, value_name = "STEP")]
    pub from: Option<StepId>,
    /// Leave these steps out
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    pub skip: Vec<StepId>,
    /// Why only a part is run; recorded in plan, journal and report
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

impl From<SelectionArgs> for Selection {
    fn from(args: SelectionArgs) -> Self {
        Self { only: args.only, from: args.from, skip: args.skip, reason: args.reason }
    }
}

/// Arguments of `init`. The environment's name is -e's.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// AWS account
    #[arg(long, value_name = "ID")]
    pub account_id: Option<String>,
    /// Where it lives
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Where it is restored when that region is lost
    #[arg(long, value_name = "REGION")]
    pub dr_region: Option<String>,
    /// Addresses of the VPC, /16 to /20 [default: 10.50.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub cidr: Option<String>,
    /// Kafka's bootstrap servers
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// Role of the people who may look into the cluster
    #[arg(long, value_name = "ROLE_ARN")]
    pub engineers: Option<String>,
    /// Network that may reach the cluster's endpoint; without one it is private. May be given more than once
    #[arg(long = "public-access-cidr", value_name = "CIDR")]
    pub public_access_cidrs: Vec<String>,
    /// As staging, or as production [default: small]
    #[arg(long, value_enum)]
    pub size: Option<Size>,
    /// GitHub repository whose jobs will deploy, as OWNER/NAME; for the command to type next
    #[arg(long, value_name = "OWNER/NAME")]
    pub github: Option<String>,
}

/// How large a new environment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// Two zones, one NAT gateway, no standby database.
    Small,
    /// Three zones, a NAT gateway in each, a standby database, copies of every object.
    Large,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Save the plan, for `deployctl apply FILE`
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Check files, references, order and bounds without any network
    #[arg(long, conflicts_with = "out")]
    pub offline: bool,
    /// Exit with 2 if there are changes
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Which part.
    #[command(flatten)]
    pub selection: SelectionArgs,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Saved plan to apply, exactly; no question is asked
    #[arg(value_name = "FILE", conflicts_with_all = ["only", "from", "skip", "reason"])]
    pub plan: Option<PathBuf>,
    /// Which part.
    #[command(flatten)]
    pub selection: SelectionArgs,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Run to show [default: the last one]
    #[arg(long, value_name = "ID")]
    pub run: Option<RunId>,
    /// Show what this machine knows, without asking the state bucket
    #[arg(long)]
    pub offline: bool,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Show at most so many, the newest first
    #[arg(long, value_name = "N", default_value = "20")]
    pub limit: usize,
    /// Show what this machine knows, without asking the state bucket
    #[arg(long)]
    pub offline: bool,
}

/// Arguments of `destroy`.
#[derive(Debug, Args)]
pub struct DestroyArgs {
    /// Environment's name, typed out: --yes is not enough for this
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
    /// Take data too, for good: buckets with every version of every object, snapshots and backups of the database in both regions, keys
    #[arg(long)]
    pub include_data: bool,
    /// The bucket's name, typed out: the second answer that --include-data asks for
    #[arg(long, value_name = "BUCKET", requires = "include_data")]
    pub confirm_data: Option<String>,
}

/// Commands of `lock`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum LockCommand {
    /// Show who holds the environment's lease, and since when nothing was heard of them
    Status(LockArgs),
    /// Declare the holder dead, after you have made sure; from another machine this cannot be proven
    Release(LockArgs),
}

/// Which lease.
#[derive(Clone, Copy, Debug, Args)]
pub struct LockArgs {
    /// The DR region's, which `dr prepare`, `dr restore` and `dr drill` hold; nothing is asked of the other region
    #[arg(long)]
    pub dr: bool,
}

/// Arguments of `sandbox`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct SandboxArgs {
    /// Passed on to deployctl-sandbox
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub args: Vec<std::ffi::OsString>,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Which file
    #[arg(value_enum)]
    pub of: SchemaOf,
}

/// Files and streams with a published schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SchemaOf {
    /// plans/deploy.yaml
    Plan,
    /// plans/environments/NAME.yaml
    Environment,
    /// A line of --json-into, after the first
    Event,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Step whose manifests are rendered [default: all]
    pub step: Option<StepId>,
}

/// Commands of `chart`.
#[derive(Debug, Subcommand)]
pub enum ChartCommand {
    /// Resolve the digest of each chart's version and write it into the plan file
    Pin(ChartPinArgs),
    /// Show what charts come to without asking any cluster: what steps would give is named in its place
    Render(ChartRenderArgs),
}

/// Arguments of `chart render`.
#[derive(Debug, Args)]
pub struct ChartRenderArgs {
    /// Steps whose charts are rendered [default: all of kind chart that are used]
    #[arg(value_name = "STEP")]
    pub steps: Vec<StepId>,
}

/// Arguments of `chart pin`.
#[derive(Debug, Args)]
pub struct ChartPinArgs {
    /// Steps whose charts are pinned [default: all of kind chart]
    #[arg(value_name = "STEP")]
    pub steps: Vec<StepId>,
    /// Print the digests and leave the plan file as it is
    #[arg(long)]
    pub print: bool,
    /// Write another digest in the place of one that is there
    #[arg(long)]
    pub replace: bool,
}

/// Commands of `image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build images and print their digests
    Build(ImageArgs),
    /// Build images and push what the registry lacks
    Push,
}

/// Arguments of `image build`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Services [default: all]
    pub services: Vec<ServiceName>,
}

/// Commands of `secret`.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret from standard input or a file
    Set(SecretSetArgs),
}

/// Arguments of `secret set`.
#[derive(Debug, Args)]
pub struct SecretSetArgs {
    /// Name in the environment, as in `kafka`
    pub name: SecretName,
    /// Read the value from FILE [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub from_file: Option<PathBuf>,
    /// Leave a secret that has a value as it is
    #[arg(long)]
    pub keep_existing: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
