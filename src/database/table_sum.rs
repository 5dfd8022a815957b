//! Every row of a table in one number: counted and hashed in order while the server streams them.
use std::{collections::BTreeMap, fmt};

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_postgres::Transaction;

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

/// All tables of all schemas; the parts of a partitioned one each for itself.
pub(super) async fn all(transaction: &Transaction<'_>) -> Result<BTreeMap<String, TableSum>, tokio_postgres::Error> {
    let tables = "SELECT c.oid::regclass::text,
            (SELECT string_agg('t.' || quote_ident(a.attname), ', ' ORDER BY k.at)
               FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, at), pg_attribute a
              WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND a.attnum = k.attnum)
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";
    let mut sums = BTreeMap::new();
    for row in transaction.query(tables, &[]).await? {
        let (table, key): (String, Option<String>) = (row.get(0), row.get(1));
        sums.insert(table.clone(), sum(transaction, &table, key.as_deref()).await?);
    }
    Ok(sums)
}

/// Rows come as text, in which a line's end inside a value is written as `\n`: each line is a row.
async fn sum(transaction: &Transaction<'_>, table: &str, key: Option<&str>) -> Result<TableSum, tokio_postgres::Error> {
    let order = key.unwrap_or("t::text COLLATE \"C\"");
    let stream = transaction.copy_out(&format!("COPY (SELECT t.* FROM {table} t ORDER BY {order}) TO STDOUT")).await?;
    let mut stream = std::pin::pin!(stream);
    let (mut rows, mut hash) = (0u64, Sha256::new());
    while let Some(bytes) = stream.try_next().await? {
        rows += u64::try_from(bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or_default();
        hash.update(&bytes);
    }
    Ok(TableSum { rows, sha256: hex::encode(hash.finalize()) })
}
