//! `deployctl agent …`: what must be done inside the cluster, because database and broker are private. Runs as a Job, under its own role.
pub mod account;
pub mod audit;
pub mod bootstrap_database;
pub mod database;
pub mod drill_exporter;
pub mod migrate;
pub mod prometheus;
pub mod ready;
pub mod smoke;
pub mod topics;
pub mod trial;

use std::io::Write;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::failure::Failure;

/// The agent's commands. What they print is JSON, one object a line; the last is `{"result": …}`.
#[derive(Subcommand, Clone, Debug)]
pub enum AgentCommand {
    /// Make the database roles and their passwords
    BootstrapDatabase(bootstrap_database::BootstrapArgs),
    /// Run pending migrations
    Migrate(migrate::MigrateArgs),
    /// Say which migrations are pending
    Schema(migrate::MigrateArgs),
    /// Say what would run, as a role that can write nothing
    DryRun(migrate::MigrateArgs),
    /// Take back the newest migration
    Undo(migrate::UndoArgs),
    /// Compare or make Kafka topics
    Topics(topics::TopicsArgs),
    /// Send a marked file through the system and follow it
    Smoke(smoke::SmokeArgs),
    /// Upload a marked file, read it back and remove it
    Upload(smoke::upload::UploadArgs),
    /// Look inside a database: what it holds, what is wrong with it, up to when it has what was committed
    Audit(audit::AuditArgs),
    /// Say up to when a database has what was committed
    Watermark(audit::AuditArgs),
    /// Lock every table against writes, say what they hold, and keep the locks until this is ended
    HoldWrites(audit::HoldArgs),
    /// Read and write in a database as a service does, and take it back
    Trial(trial::TrialArgs),
    /// Say that the agent can run here, and as whom
    Ready(ready::ReadyArgs),
    /// Look for targets, rules and a firing alert in Prometheus
    Prometheus(prometheus::PrometheusArgs),
    /// Tell Prometheus how old the last good drill is, for as long as the pod lives
    DrillExporter(drill_exporter::DrillExporterArgs),
}

/// Runs a command and prints its result, or its failure in the same form.
pub async fn run(command: &AgentCommand) -> Result<(), Failure> {
    let done = match command {
        AgentCommand::BootstrapDatabase(args) => bootstrap_database::run(args).await,
        AgentCommand::Migrate(args) => migrate::run(args).await,
        AgentCommand::Schema(args) => migrate::schema(args).await,
        AgentCommand::DryRun(args) => migrate::dry_run(args).await,
        AgentCommand::Undo(args) => migrate::undo(args).await,
        AgentCommand::Topics(args) => topics::run(args).await,
        AgentCommand::Smoke(args) => smoke::run(args).await,
        AgentCommand::Upload(args) => smoke::upload::run(args).await,
        AgentCommand::Audit(args) => audit::run(args).await,
        AgentCommand::Watermark(args) => audit::watermark(args).await,
        AgentCommand::HoldWrites(args) => audit::hold_writes(args).await,
        AgentCommand::Trial(args) => trial::run(args).await,
        AgentCommand::Ready(args) => ready::run(args).await,
        AgentCommand::Prometheus(args) => prometheus::run(args).await,
        AgentCommand::DrillExporter(args) => drill_exporter::run(args).await,
    };
    match done {
        Ok(result) => say(&json!({ "result": result })),
        Err(failure) => {
            say(&json!({
                "failed": failure.chain(), "kind": failure.kind, "evidence": failure.evidence, "left_behind": failure.left_behind, "next": failure.next,
            }))?;
            Err(failure)
        }
    }
}

/// One line for whoever follows the Job's log.
fn say(line: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|e| Failure::step("the agent's output cannot be written").because(e))
}

/// A check that has passed, with its time.
fn checked(what: &str, since: std::time::Instant) -> Result<(), Failure> {
    let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    say(&json!({ "checked": what, "millis": millis }))
}
