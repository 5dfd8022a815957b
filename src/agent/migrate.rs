//! Migrations, from inside the cluster: what is pending, running it, taking back the newest. The files come in a mounted ConfigMap.
use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::database::DatabaseArgs;
use crate::{
    database::{
        dry_run::{self, DryRunError},
        lint,
        migrate::{self, MigrateError, Patience},
        migration::{MigrationError, Migrations},
        resume,
        scripts::Scripts,
        undo,
        version::Version,
    },
    failure::{Failure, FailureKind, LeftBehind},
};

/// `deployctl agent migrate` and its like; `--credentials-secret` is the migrator's, or the reader's for `dry-run`.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The bundle with all files of the folder
    #[arg(long)]
    migrations: PathBuf,
    /// Seconds to wait for another migrator
    #[arg(long, default_value_t = 300)]
    wait_seconds: u64,
    /// Seconds to wait for a table's lock, with everybody else queued behind
    #[arg(long, default_value_t = 5)]
    lock_seconds: u64,
    /// Seconds that what runs CONCURRENTLY may wait for older transactions
    #[arg(long, default_value_t = 1200)]
    concurrent_seconds: u64,
}

/// `deployctl agent undo`.
#[derive(Args, Clone, Debug)]
pub struct UndoArgs {
    #[command(flatten)]
    migrate: MigrateArgs,
    /// The version to take back; it must be the newest
    #[arg(long)]
    version: Version,
}

impl MigrateArgs {
    fn files(&self) -> Result<Migrations, Failure> {
        let read = Scripts::from_bundle(&self.migrations).map_err(MigrationError::from);
        read.and_then(|scripts| Migrations::of(&scripts)).map_err(|error| failed(error.into()))
    }
    fn patience(&self) -> Patience {
        let seconds = Duration::from_secs;
        Patience { other: seconds(self.wait_seconds), table_lock: seconds(self.lock_seconds), concurrent: seconds(self.concurrent_seconds) }
    }
}

/// Runs what is pending.
pub async fn run(args: &MigrateArgs) -> Result<Value, Failure> {
    let files = args.files()?;
    let mut client = args.database.connect().await?;
    let report = migrate::migrate(&mut client, &files, args.patience()).await.map_err(failed)?;
    Ok(json!({ "version": report.version, "ran": report.ran, "repaired": report.repaired }))
}

/// Says what is applied and what is pending, without the SQL. Writes nothing.
pub async fn schema(args: &MigrateArgs) -> Result<Value, Failure> {
    let files = args.files()?;
    let client = args.database.connect().await?;
    let status = migrate::status(&client, &files).await.map_err(failed)?;
    let invalid = resume::invalid(&client).await.map_err(|error| failed(error.into()))?;
    Ok(described(&status, &invalid.iter().map(resume::Index::repair).collect::<Vec<_>>()))
}

fn described(status: &crate::database::compare::Status, repairs: &[String]) -> Value {
    let pending: Vec<&str> = status.pending.iter().map(|migration| migration.script.as_str()).collect();
    json!({
        "version": status.version, "pending": pending, "problems": status.problems, "findings": lint::lint(&status.pending),
        "begun": status.begun.keys().collect::<Vec<_>>(), "undo": status.undo, "repairs": repairs,
    })
}

/// Says what would run, under a role that can write nothing; PostgreSQL parses every pending statement and executes none.
pub async fn dry_run(args: &MigrateArgs) -> Result<Value, Failure> {
    let files = args.files()?;
    let client = args.database.connect().await?;
    let looked = dry_run::look(&client, &files).await.map_err(|error| match error {
        DryRunError::Migrate(error) => failed(error),
        DryRunError::MayWrite { .. } => Failure::new(FailureKind::Policy, error.to_string())
            .next("give `reader_secret` of the step's `migrations` a role that can only read; `bootstrap-database --reader` makes one"),
    })?;
    let mut result = described(&looked.status, &[]);
    result["refused"] = json!(looked.refused);
    result["parsed"] = json!(looked.parsed);
    result["role"] = json!(looked.role);
    Ok(result)
}

/// Takes back the newest migration.
pub async fn undo(args: &UndoArgs) -> Result<Value, Failure> {
    let files = args.migrate.files()?;
    let mut client = args.migrate.database.connect().await?;
    let undone = undo::undo(&mut client, &files, &args.version, args.migrate.patience()).await.map_err(failed)?;
    Ok(json!({ "ran": undone.ran, "version": undone.version }))
}

fn failed(error: MigrateError) -> Failure {
    let left_behind = match &error {
        MigrateError::InPart { script, .. } => LeftBehind::Partial(vec![format!("what {script} did before it failed")]),
        MigrateError::Commit { script, .. } => {
            LeftBehind::Unknown(format!("all of {script} or nothing of it; the history table says which"))
        }
        MigrateError::Database(_) => LeftBehind::Unknown("the connection broke; the history table says what was applied".to_owned()),
        _ => LeftBehind::Nothing,
    };
    let kind = if matches!(error, MigrateError::Findings(_)) { FailureKind::Policy } else { FailureKind::Step };
    let next = match &error {
        MigrateError::Locked(_) => "wait for the other migration, then run the same command again",
        MigrateError::Busy { .. } => "wait until nobody builds an index there, then run the same command again",
        MigrateError::Problems(_) | MigrateError::Folder(_) => "mend the migration files as said, then run the same command again",
        MigrateError::Findings(_) => "write them as proposed, or allow them with the reason; then run the same command again",
        MigrateError::Commit { .. } | MigrateError::Database(_) => {
            "run the same command again: it goes on from what the history table says"
        }
        MigrateError::InvalidIndex { .. } | MigrateError::IndexThere { .. } | MigrateError::InPart { .. } => {
            "do what is said above, then run the same command again; plans/runbooks/migration-failed.md"
        }
        MigrateError::RolledBack { .. } => {
            "mend the migration as a new build, then run the same command again; the snapshot taken before it is listed by `deployctl db list`"
        }
    };
    let mut failure = Failure::new(kind, error.to_string()).left(left_behind).next(next);
    if let MigrateError::Findings(findings) = &error {
        failure.evidence = findings.iter().map(ToString::to_string).collect();
    }
    failure
}
