//! Flyway's history table: made as Flyway 13 makes it, read and written.
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, GenericClient};

use super::{
    migration::{Migration, Sort},
    version::Version,
};

/// The table, in the connection's first schema.
pub const TABLE: &str = "flyway_schema_history";

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Order of installation.
    pub rank: i32,
    /// None for repeatable migrations.
    pub version: Option<Version>,
    /// As in the file's name.
    pub description: String,
    /// The file's path in its folder.
    pub script: String,
    /// None for baselines.
    pub checksum: Option<i32>,
    /// `SQL`, `BASELINE`, `DELETE`, …
    pub kind: String,
    /// False for a migration that failed, or is under way, outside a transaction.
    pub success: bool,
}

/// Makes the table if it is not there, with Flyway's columns, names and index.
pub async fn ensure(client: &Client) -> Result<(), tokio_postgres::Error> {
    let statement = format!(
        "CREATE TABLE IF NOT EXISTS {TABLE} (
             installed_rank integer NOT NULL CONSTRAINT {TABLE}_pk PRIMARY KEY,
             version varchar(50),
             description varchar(200) NOT NULL,
             type varchar(20) NOT NULL,
             script varchar(1000) NOT NULL,
             checksum integer,
             installed_by varchar(100) NOT NULL,
             installed_on timestamp NOT NULL DEFAULT now(),
             execution_time integer NOT NULL,
             success boolean NOT NULL
         );
         CREATE INDEX IF NOT EXISTS {TABLE}_s_idx ON {TABLE} (success);"
    );
    client.batch_execute(&statement).await
}

/// Reads the table; a database without one has no history.
pub async fn read(client: &Client) -> Result<Vec<Entry>, tokio_postgres::Error> {
    if client.query_one("SELECT to_regclass($1)::text", &[&TABLE]).await?.get::<_, Option<String>>(0).is_none() {
        return Ok(Vec::new());
    }
    let query =
        format!("SELECT installed_rank, version, description, script, checksum, type, success FROM {TABLE} ORDER BY installed_rank");
    let rows = client.query(&query, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| Entry {
            rank: row.get(0),
            version: row.get::<_, Option<String>>(1).as_deref().and_then(Version::parse),
            description: row.get(2),
            script: row.get(3),
            checksum: row.get(4),
            kind: row.get(5),
            success: row.get(6),
        })
        .collect())
}

/// Whether a migration went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// It did.
    Yes,
    /// Not yet, or not at all: what it did outside of a transaction may be there in part.
    No,
}

/// Adds a row for a migration and gives its rank.
pub async fn write(
    client: &impl GenericClient,
    migration: &Migration,
    millis: i32,
    success: Success,
) -> Result<i32, tokio_postgres::Error> {
    // An undone version becomes pending again by the row that Flyway's `repair` writes; what the commercial editions write for an undo
    // would stop the free one.
    let kind = if matches!(migration.sort, Sort::Undo(_)) { "DELETE" } else { "SQL" };
    let version = migration.sort.version().map(ToString::to_string);
    let insert = format!(
        "INSERT INTO {TABLE} (installed_rank, version, description, type, script, checksum, installed_by, execution_time, success)
         SELECT coalesce(max(installed_rank), 0) + 1, $1::varchar, $2::varchar, $3::varchar, $4::varchar, $5::integer, current_user,
                $6::integer, $7::boolean FROM {TABLE} RETURNING installed_rank"
    );
    let success = success == Success::Yes;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&version, &migration.description, &kind, &migration.script, &migration.checksum, &millis, &success];
    Ok(client.query_one(&insert, &values).await?.get(0))
}

/// The row of a migration that failed or was killed is its row again.
pub async fn begin_again(client: &Client, rank: i32, migration: &Migration) -> Result<(), tokio_postgres::Error> {
    let update = format!(
        "UPDATE {TABLE} SET description = $2, script = $3, checksum = $4, installed_by = current_user, installed_on = now(), execution_time = 0
         WHERE installed_rank = $1"
    );
    client.execute(&update, &[&rank, &migration.description, &migration.script, &migration.checksum]).await.map(drop)
}

/// What was begun is done.
pub async fn finish(client: &Client, rank: i32, millis: i32) -> Result<(), tokio_postgres::Error> {
    let update = format!("UPDATE {TABLE} SET execution_time = $2, installed_on = now(), success = true WHERE installed_rank = $1");
    client.execute(&update, &[&rank, &millis]).await.map(drop)
}

/// How a person takes a row out.
pub fn delete_by_hand(rank: i32) -> String {
    format!("DELETE FROM {TABLE} WHERE installed_rank = {rank};")
}
