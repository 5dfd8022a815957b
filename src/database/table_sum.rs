//! Every row of a table in one number: counted and hashed in order while the server streams them.
use std::{collections::BTreeMap, fmt};

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_postgres::Transaction;

use super::readable::Table;

/// A table's rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSum {
    /// How many there are.
    pub rows: u64,
    /// SHA-256 over all of them, in the primary key's order, or sorted as texts where there is none.
    pub sha256: String,
}

impl fmt::Display for TableSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, sha256 {}", self.rows, self.sha256.get(..16).unwrap_or(&self.sha256))
    }
}

/// These tables, one after another.
pub(super) async fn of(transaction: &Transaction<'_>, tables: &[Table]) -> Result<BTreeMap<String, TableSum>, tokio_postgres::Error> {
    let mut sums = BTreeMap::new();
    for table in tables {
        sums.insert(table.name.clone(), sum(transaction, table).await?);
    }
    Ok(sums)
}

/// Rows come as text, in which a line's end inside a value is written as `\n`: each line is a row.
async fn sum(transaction: &Transaction<'_>, Table { name, key }: &Table) -> Result<TableSum, tokio_postgres::Error> {
    let order = key.as_deref().unwrap_or("t::text COLLATE \"C\"");
    let stream = transaction.copy_out(&format!("COPY (SELECT t.* FROM ONLY {name} t ORDER BY {order}) TO STDOUT")).await?;
    let mut stream = std::pin::pin!(stream);
    let (mut rows, mut hash) = (0u64, Sha256::new());
    while let Some(bytes) = stream.try_next().await? {
        rows += u64::try_from(bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or_default();
        hash.update(&bytes);
    }
    Ok(TableSum { rows, sha256: hex::encode(hash.finalize()) })
}
