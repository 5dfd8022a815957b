//! Migrations, from inside the cluster: what is pending, and running it. The files come in a mounted ConfigMap.
use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::database::DatabaseArgs;
use crate::{
    database::{
        history::Status,
        migrate::{self, MigrateError, Patience},
    },
    failure::{Failure, LeftBehind},
};

/// `deployctl agent migrate` and `deployctl agent schema`; `--credentials-secret` is the migrator's.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The folder with V1__….sql and R__….sql
    #[arg(long)]
    migrations: PathBuf,
    /// Seconds to wait for another migrator
    #[arg(long, default_value_t = 300)]
    wait_seconds: u64,
    /// Seconds to wait for a table's lock, with everybody else queued behind
    #[arg(long, default_value_t = 5)]
    lock_seconds: u64,
}

/// Runs what is pending.
pub async fn run(args: &MigrateArgs) -> Result<Value, Failure> {
    let mut client = args.database.connect().await?;
    let patience = Patience { other: Duration::from_secs(args.wait_seconds), table_lock: Duration::from_secs(args.lock_seconds) };
    let report = migrate::migrate(&mut client, &args.migrations, patience).await.map_err(failed)?;
    Ok(json!({ "version": report.version, "ran": report.ran }))
}

/// Says what is applied and what is pending, without the SQL. Writes nothing.
pub async fn schema(args: &MigrateArgs) -> Result<Value, Failure> {
    let client = args.database.connect().await?;
    let Status { version, pending, problems } = migrate::status(&client, &args.migrations).await.map_err(failed)?;
    let pending: Vec<&str> = pending.iter().map(|migration| migration.script.as_str()).collect();
    Ok(json!({ "version": version, "pending": pending, "problems": problems }))
}

fn failed(error: MigrateError) -> Failure {
    let left_behind = match &error {
        MigrateError::InPart { script, .. } => LeftBehind::Partial(vec![format!("what {script} did before it failed")]),
        MigrateError::Database(_) => LeftBehind::Unknown("the connection broke; the history table says what was applied".to_owned()),
        _ => LeftBehind::Nothing,
    };
    let next = match &error {
        MigrateError::Locked(_) => "wait for the other migration, then run the same command again",
        MigrateError::Problems(_) => "mend the migration files as said, then run the same command again",
        _ => {
            "mend the migration as a new build, then run the same command again; the snapshot taken before it is listed by `deployctl db status`"
        }
    };
    Failure::step(error.to_string()).left(left_behind).next(next)
}
