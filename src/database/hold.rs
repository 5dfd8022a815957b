//! Writes paused: every table is locked against them while a snapshot is taken, so that what is taken down meanwhile is what the snapshot holds.
//! Readers go on, writers wait. The locks go with the session, however that ends.
use std::time::Duration;

use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::{
    audit::{self, Depth, Record},
    readable::{self, OURS},
};

/// Locks that are held as long as this is.
pub struct Hold<'a> {
    catalogue: Record,
    transaction: Transaction<'a>,
}

/// Why writes could not be paused.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The server said something.
    #[error("the database answered with an error")]
    Database(#[from] tokio_postgres::Error),
    /// Writers of a table that cannot be locked would go on.
    #[error("{0} may not lock {1}: whoever writes to it would go on")]
    Refused(String, String),
}

/// Locks all tables at once. Whoever writes at this moment is waited for, but no longer than `patience`, for everybody else queues behind.
pub async fn hold(client: &mut Client, patience: Duration) -> Result<Hold<'_>, HoldError> {
    // Each statement sees what was committed before it: what was waited for is in the record. Nothing comes after it.
    let mut transaction = readable::begin(client, IsolationLevel::ReadCommitted).await?;
    let catalogue = audit::catalogue(&transaction).await?;
    readable::lend(&mut transaction).await?;
    let tables = format!(
        "SELECT c.oid::regclass::text, has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') AND has_schema_privilege(n.oid, 'USAGE'), current_user::text
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OURS} ORDER BY 1"
    );
    let tables = transaction.query(&tables, &[]).await?;
    if let Some(row) = tables.iter().find(|row| !row.get::<_, bool>(1)) {
        return Err(HoldError::Refused(row.get(2), row.get(0)));
    }
    let names: Vec<String> = tables.iter().map(|row| format!("ONLY {}", row.get::<_, String>(0))).collect();
    if !names.is_empty() {
        let locked = format!("SET LOCAL lock_timeout = {}; LOCK TABLE {} IN SHARE MODE", patience.as_millis(), names.join(", "));
        transaction.batch_execute(&locked).await?;
    }
    Ok(Hold { catalogue, transaction })
}

impl Hold<'_> {
    /// Takes down what the database holds.
    pub async fn record(&self) -> Result<Record, tokio_postgres::Error> {
        let mut record = self.catalogue.clone();
        audit::contents(&self.transaction, Depth::Full, &mut record).await?;
        Ok(record)
    }
    /// Whether the session is still there, and its locks with it. A server ends a transaction that is idle for too long: asked often, it is not.
    pub async fn is_held(&self) -> Result<(), tokio_postgres::Error> {
        self.transaction.batch_execute("SELECT 1").await
    }
    /// Lets the writers go on.
    pub async fn release(self) -> Result<(), tokio_postgres::Error> {
        self.transaction.rollback().await
    }
}
