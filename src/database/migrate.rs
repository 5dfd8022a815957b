//! Runs what is pending: one migrator at a time, each file and its history row in one transaction, never waiting long for a lock.
//! What PostgreSQL runs outside of transactions only is begun with a row that says so, and gone on with from there.
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::{
    compare::{self, Status},
    history::{self, Success},
    lint::{self, Finding},
    lock::Held,
    migration::{Migration, MigrationError, Migrations, Sort, Transaction},
    resume::{self, Again, Index},
    statement::Statement,
    version::Version,
};

/// How patient a run is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For another migrator to end.
    pub other: Duration,
    /// For a table lock that a query holds. PostgreSQL queues everybody else behind a waiting DDL statement, so this is short.
    pub table_lock: Duration,
    /// For what runs CONCURRENTLY: it waits for every transaction that is older, and nobody waits for it.
    pub concurrent: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { other: Duration::from_secs(300), table_lock: Duration::from_secs(5), concurrent: Duration::from_secs(1200) }
    }
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Files that ran, in order, with their milliseconds.
    pub ran: Vec<(String, u64)>,
    /// The schema's version now.
    pub version: Option<Version>,
    /// What was repaired on the way.
    pub repaired: Vec<String>,
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
    /// Dangerous statements; nothing was run.
    #[error("nothing was run: {} in the pending migrations could stop or lose something", lint::counted(.0))]
    Findings(Vec<Finding>),
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
    /// The answer to a commit did not come.
    #[error("the connection broke while {script} was committed: all of it is there, or nothing of it")]
    Commit {
        /// The file.
        script: String,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A file failed outside a transaction.
    #[error("{script}:{line} failed outside a transaction ({statement}): {}. {}", explain(.source), state.join(". "))]
    InPart {
        /// The file.
        script: String,
        /// The statement's line.
        line: usize,
        /// Its beginning.
        statement: String,
        /// What is there now, and what to do about it.
        state: Vec<String>,
        /// PostgreSQL's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// An index that the file makes is there, unfinished, and no run of this file has left it.
    #[error("{script}:{line}: the index {} is there already and INVALID: somebody's CREATE INDEX CONCURRENTLY did not end. If nobody is \
             making it now, run `{}`", index.name, index.repair())]
    InvalidIndex {
        /// The file.
        script: String,
        /// The statement's line.
        line: usize,
        /// The index.
        index: Index,
    },
    /// The file makes an index that is there.
    #[error(
        "{script}:{line}: the index {index} is there already, and nothing says that this file made it. If it is the same, write \
             CREATE INDEX CONCURRENTLY IF NOT EXISTS; if not, another name"
    )]
    IndexThere {
        /// The file.
        script: String,
        /// The statement's line.
        line: usize,
        /// The index.
        index: String,
    },
    /// Somebody builds an index on the table, or VACUUM works there.
    #[error("{script}:{line}: somebody else has worked on the index {index} or its table for {} s", waited.as_secs())]
    Busy {
        /// The file.
        script: String,
        /// The statement's line.
        line: usize,
        /// The index.
        index: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The connection, the lock or the history table.
    #[error("the database: {}", explain(.0))]
    Database(#[from] tokio_postgres::Error),
}

/// PostgreSQL's own words.
pub fn explain(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return error.to_string() };
    let detail = [db.detail(), db.hint()].into_iter().flatten().map(|more| format!(" ({more})")).collect::<String>();
    format!("{} {}{detail}", db.code().code(), db.message())
}

/// What would run. Writes nothing: the session's transactions are read-only from here on.
pub async fn status(client: &Client, migrations: &Migrations) -> Result<Status, MigrateError> {
    client.batch_execute("SET default_transaction_read_only = on").await?;
    Ok(compare::compare(migrations, &history::read(client).await?))
}

/// Runs what is pending and nothing else. Another migrator is waited for; afterwards there is usually nothing left to do.
pub async fn migrate(client: &mut Client, migrations: &Migrations, patience: Patience) -> Result<Report, MigrateError> {
    prepare(client, patience).await?;
    let held = Held::acquire(client, patience.other).await?;
    let ran = locked(client, migrations, patience).await;
    let released = held.release(client).await;
    // Why it failed matters more; the lock goes with the session too.
    let ran = ran?;
    released?;
    Ok(ran)
}

/// A session that waits for a lock shortly, and whose server notices within seconds that its client was killed: what that one ran in a
/// transaction is rolled back then, and the next migrator need not wait for it.
pub(super) async fn prepare(client: &Client, patience: Patience) -> Result<(), tokio_postgres::Error> {
    let millis = patience.table_lock.as_millis();
    let settings =
        format!("SET default_transaction_read_only = off; SET lock_timeout = {millis}; SET client_connection_check_interval = '2s'");
    client.batch_execute(&settings).await
}

async fn locked(client: &mut Client, migrations: &Migrations, patience: Patience) -> Result<Report, MigrateError> {
    history::ensure(client).await?;
    let status = compare::compare(migrations, &history::read(client).await?);
    if !status.problems.is_empty() {
        return Err(MigrateError::Problems(status.problems));
    }
    let findings = lint::lint(&status.pending);
    if !findings.is_empty() {
        return Err(MigrateError::Findings(findings));
    }
    let mut report = Report { ran: Vec::new(), version: status.version, repaired: Vec::new() };
    for migration in status.pending {
        let started = Instant::now();
        match migration.transaction {
            Transaction::Wrapped => wrapped(client, &migration, started).await?,
            Transaction::None => {
                let rank = status.begun.get(&migration.script).copied();
                one_by_one(client, &migration, rank, patience, &mut report.repaired).await?;
            }
        }
        if let Sort::Versioned(version) = &migration.sort {
            report.version = Some(version.clone());
        }
        report.ran.push((migration.script, u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)));
    }
    Ok(report)
}

/// The file and its row commit together.
pub(super) async fn wrapped(client: &mut Client, migration: &Migration, started: Instant) -> Result<(), MigrateError> {
    let script = || migration.script.clone();
    let failed = |source| MigrateError::RolledBack { script: script(), source };
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.batch_execute(&migration.sql).await.map_err(failed)?;
    history::write(&transaction, migration, millis(started), Success::Yes).await.map_err(failed)?;
    transaction.commit().await.map_err(|source| {
        // PostgreSQL's own refusal, as of a deferred constraint, is a rollback; a session that was ended (57P..) may have committed.
        let refused = source.code().is_some_and(|code| !code.code().starts_with("57P"));
        if refused { failed(source) } else { MigrateError::Commit { script: script(), source } }
    })
}

/// Each statement by itself. The row comes first and says that it was begun: a killed run is gone on with by it.
async fn one_by_one(
    client: &Client,
    migration: &Migration,
    begun: Option<i32>,
    patience: Patience,
    repaired: &mut Vec<String>,
) -> Result<(), MigrateError> {
    let statements = migration.statements();
    let started = Instant::now();
    let rank = match begun {
        Some(rank) => {
            history::begin_again(client, rank, migration).await?;
            rank
        }
        None => {
            refuse_what_is_there(client, migration, &statements).await?;
            history::write(client, migration, 0, Success::No).await?
        }
    };
    for (done, statement) in statements.iter().enumerate() {
        let step = Step { client, migration, statement, patience };
        if begun.is_some() && step.is_done(repaired).await? {
            continue;
        }
        let source = match step.run().await {
            Ok(()) => continue,
            Err(source) => source,
        };
        let state = what_is_there(client, &statements, done, rank, migration).await;
        let (script, line, statement) = (migration.script.clone(), statement.line, statement.head());
        return Err(MigrateError::InPart { script, line, statement, state, source });
    }
    Ok(history::finish(client, rank, millis(started)).await?)
}

/// Before anything is begun, so that an index which is found later is this file's own. An unfinished one would also make IF NOT EXISTS pass
/// over it.
async fn refuse_what_is_there(client: &Client, migration: &Migration, statements: &[Statement]) -> Result<(), MigrateError> {
    for statement in statements {
        let Again::Index { name, table } = resume::again(statement) else { continue };
        let (script, line) = (migration.script.clone(), statement.line);
        let tolerated = statement.tokens.iter().any(|token| token.is("if"));
        match resume::find(client, &name, &table).await? {
            Some(index) if !index.valid => return Err(MigrateError::InvalidIndex { script, line, index }),
            Some(index) if !tolerated => return Err(MigrateError::IndexThere { script, line, index: index.name }),
            _ => {}
        }
    }
    Ok(())
}

/// One statement outside of transactions.
struct Step<'a> {
    client: &'a Client,
    migration: &'a Migration,
    statement: &'a Statement,
    patience: Patience,
}

impl Step<'_> {
    async fn run(&self) -> Result<(), tokio_postgres::Error> {
        let concurrent = self.statement.tokens.iter().any(|token| token.is("concurrently"));
        let limit = if concurrent { self.patience.concurrent } else { self.patience.table_lock };
        self.client.batch_execute(&format!("SET lock_timeout = {}", limit.as_millis())).await?;
        let ran = self.client.batch_execute(&self.statement.text).await;
        if ran.is_ok() {
            self.client.batch_execute(&format!("SET lock_timeout = {}", self.patience.table_lock.as_millis())).await?;
        }
        ran
    }

    /// Whether an earlier, killed or failed run of this file has done it. An index that it left unfinished is taken away, to be made anew:
    /// no query uses it, and nobody else makes one while the migrators' lock is held.
    async fn is_done(&self, repaired: &mut Vec<String>) -> Result<bool, MigrateError> {
        match resume::again(self.statement) {
            Again::DropIndex { name } => Ok(!resume::exists(self.client, &name).await?),
            Again::Harmless | Again::Never => Ok(false),
            Again::Index { name, table } => {
                let since = Instant::now();
                loop {
                    match resume::find(self.client, &name, &table).await? {
                        None => return Ok(false),
                        Some(index) if index.valid => {
                            repaired
                                .push(format!("{}: the index {} of an earlier run is there and valid", self.migration.script, index.name));
                            return Ok(true);
                        }
                        Some(index) if !index.table_busy => {
                            let repair = index.repair();
                            self.client.batch_execute(repair.trim_end_matches(';')).await?;
                            repaired.push(format!("{} of an earlier run: {repair}", self.migration.script));
                            return Ok(false);
                        }
                        // Somebody by hand, or VACUUM.
                        Some(_) if since.elapsed() < self.patience.other => tokio::time::sleep(Duration::from_millis(500)).await,
                        Some(index) => {
                            return Err(MigrateError::Busy {
                                script: self.migration.script.clone(),
                                line: self.statement.line,
                                index: index.name,
                                waited: self.patience.other,
                            });
                        }
                    }
                }
            }
        }
    }
}

/// After a failure outside a transaction: what of the file is there, and how to go on.
async fn what_is_there(client: &Client, statements: &[Statement], done: usize, rank: i32, migration: &Migration) -> Vec<String> {
    let mut state = Vec::new();
    if done > 0 {
        let heads: Vec<String> =
            statements[..done].iter().map(|statement| format!("line {}: {}", statement.line, statement.head())).collect();
        state.push(format!("Done before it, and still there: {}", heads.join("; ")));
    }
    if let Ok(invalid) = resume::invalid(client).await {
        state.extend(invalid.iter().map(|index| format!("The index {} is INVALID; what takes it away: `{}`", index.name, index.repair())));
    }
    state.push(match resume::obstacle(migration) {
        None => {
            "Mend what it complains of, in the data or in the file, and run the same command again: it takes away what is unfinished and \
                 goes on from there"
                .to_owned()
        }
        Some(why) => format!(
            "It cannot be gone on with ({why}): take back what is done, mend the file, then `{}` and run the same command again",
            history::delete_by_hand(rank)
        ),
    });
    state
}

pub(super) fn millis(started: Instant) -> i32 {
    i32::try_from(started.elapsed().as_millis()).unwrap_or(i32::MAX)
}
