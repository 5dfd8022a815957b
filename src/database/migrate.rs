//! Runs what is pending: one migrator at a time, each file and its history row in one transaction, never waiting long for a lock.
use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::{
    history::{self, Status, Success},
    migration::{self, Migration, MigrationError, Sort, Transaction, Version},
};

/// "deployct" in ASCII: the advisory lock that keeps two migrators apart.
const LOCK: i64 = 0x6465_706c_6f79_6374;

/// How patient a run is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For another migrator to end.
    pub other: Duration,
    /// For a table lock that a query holds. PostgreSQL queues everybody else behind a waiting DDL statement, so this is short.
    pub table_lock: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { other: Duration::from_secs(300), table_lock: Duration::from_secs(5) }
    }
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Files that ran, in order, with their milliseconds.
    pub ran: Vec<(String, u64)>,
    /// The schema's version now.
    pub version: Option<Version>,
}

/// Why the schema is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] MigrationError),
    /// Files and history contradict each other; nothing was run.
    #[error("nothing was run: {}", .0.join("; "))]
    Problems(Vec<String>),
    /// Another migrator works.
    #[error("another migrator has held the lock for {} s", .0.as_secs())]
    Locked(Duration),
    /// A file failed inside its transaction.
    #[error("{script} failed; it was rolled back, and the schema is as it was before it: {}", explain(.source))]
    RolledBack {
        /// The file.
        script: String,
        /// PostgreSQL's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A file failed outside a transaction.
    #[error("{script} failed outside a transaction, and what it did may be there in part: {}. Undo it by hand and delete its row from {}", explain(.source), history::TABLE)]
    InPart {
        /// The file.
        script: String,
        /// PostgreSQL's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The connection, the lock or the history table.
    #[error("the database: {}", explain(.0))]
    Database(#[from] tokio_postgres::Error),
}

fn explain(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return error.to_string() };
    let detail = [db.detail(), db.hint()].into_iter().flatten().map(|more| format!(" ({more})")).collect::<String>();
    format!("{} {}{detail}", db.code().code(), db.message())
}

/// What would run. Writes nothing.
pub async fn status(client: &Client, folder: &Path) -> Result<Status, MigrateError> {
    Ok(history::compare(&migration::read_folder(folder)?, &history::read(client).await?))
}

/// Runs what is pending and nothing else. Another migrator is waited for; afterwards there is usually nothing left to do.
pub async fn migrate(client: &mut Client, folder: &Path, patience: Patience) -> Result<Report, MigrateError> {
    let files = migration::read_folder(folder)?;
    lock(client, patience.other).await?;
    let ran = locked(client, &files, patience).await;
    // The lock goes with the connection too; this only lets the next migrator in sooner.
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    ran
}

/// Polls instead of waiting inside PostgreSQL: a session that waits holds a snapshot, and CREATE INDEX CONCURRENTLY waits for
/// every snapshot, which deadlocks the two.
async fn lock(client: &Client, patience: Duration) -> Result<(), MigrateError> {
    let started = Instant::now();
    while !client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?.get::<_, bool>(0) {
        if started.elapsed() > patience {
            return Err(MigrateError::Locked(patience));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn locked(client: &mut Client, files: &[Migration], patience: Patience) -> Result<Report, MigrateError> {
    client.batch_execute(&format!("SET lock_timeout = {}", patience.table_lock.as_millis())).await?;
    history::ensure(client).await?;
    let status = history::compare(files, &history::read(client).await?);
    if !status.problems.is_empty() {
        return Err(MigrateError::Problems(status.problems));
    }
    let mut report = Report { ran: Vec::new(), version: status.version };
    for migration in status.pending {
        let started = Instant::now();
        match migration.transaction {
            Transaction::Wrapped => wrapped(client, &migration, started).await?,
            Transaction::None => bare(client, &migration, started).await?,
        }
        if let Sort::Versioned(version) = &migration.sort {
            report.version = Some(version.clone());
        }
        report.ran.push((migration.script, u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)));
    }
    Ok(report)
}

async fn wrapped(client: &mut Client, migration: &Migration, started: Instant) -> Result<(), MigrateError> {
    let failed = |source| MigrateError::RolledBack { script: migration.script.clone(), source };
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.batch_execute(&migration.sql).await.map_err(failed)?;
    history::write(&transaction, migration, millis(started), Success::Yes).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

async fn bare(client: &Client, migration: &Migration, started: Instant) -> Result<(), MigrateError> {
    let ran = client.batch_execute(&migration.sql).await;
    let success = if ran.is_ok() { Success::Yes } else { Success::No };
    history::write(client, migration, millis(started), success).await?;
    ran.map_err(|source| MigrateError::InPart { script: migration.script.clone(), source })
}

fn millis(started: Instant) -> i32 {
    i32::try_from(started.elapsed().as_millis()).unwrap_or(i32::MAX)
}
