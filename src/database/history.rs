//! Flyway's history table: made as Flyway 13 makes it, read, and compared with the files.
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, GenericClient};

use super::migration::{Migration, Sort, Version};

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
    /// The file's name.
    pub script: String,
    /// None for baselines.
    pub checksum: Option<i32>,
    /// `SQL`, `BASELINE`, …
    pub kind: String,
    /// False for a migration that failed outside a transaction.
    pub success: bool,
}

/// What the files and the table say together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The newest version that was applied.
    pub version: Option<Version>,
    /// Files that will run, in this order.
    pub pending: Vec<Migration>,
    /// Why nothing may run: changed, missing, failed or late files.
    pub problems: Vec<String>,
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

/// Adds a row for a migration.
pub async fn write(client: &impl GenericClient, migration: &Migration, millis: i32, success: Success) -> Result<(), tokio_postgres::Error> {
    let version = match &migration.sort {
        Sort::Versioned(version) => Some(version.to_string()),
        Sort::Repeatable => None,
    };
    let insert = format!(
        "INSERT INTO {TABLE} (installed_rank, version, description, type, script, checksum, installed_by, execution_time, success)
         SELECT coalesce(max(installed_rank), 0) + 1, $1::varchar, $2::varchar, 'SQL', $3::varchar, $4::integer, current_user, $5::integer, $6::boolean FROM {TABLE}"
    );
    let success = success == Success::Yes;
    client.execute(&insert, &[&version, &migration.description, &migration.script, &migration.checksum, &millis, &success]).await?;
    Ok(())
}

/// Whether a migration went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// It did.
    Yes,
    /// It failed outside a transaction, and what it did may be there in part.
    No,
}

/// Compares files and table. Pure.
pub fn compare(files: &[Migration], history: &[Entry]) -> Status {
    let mut status = Status::default();
    let baseline = history.iter().filter(|entry| entry.kind == "BASELINE").filter_map(|entry| entry.version.clone()).max();
    let applied: Vec<&Entry> = history.iter().filter(|entry| entry.kind == "SQL").collect();
    status.version = history.iter().filter(|entry| entry.success).filter_map(|entry| entry.version.clone()).max();
    for entry in applied.iter().filter(|entry| !entry.success) {
        status.problems.push(format!(
            "{} failed outside a transaction and may be there in part: undo what it did by hand, then `DELETE FROM {TABLE} WHERE installed_rank = {}`",
            entry.script, entry.rank
        ));
    }
    for file in files {
        match &file.sort {
            Sort::Versioned(version) => match applied.iter().find(|entry| entry.version.as_ref() == Some(version)) {
                Some(entry) if entry.success && entry.checksum != Some(file.checksum) => {
                    status
                        .problems
                        .push(format!("{} was changed after it was applied: put it back and write a new migration", file.script));
                }
                Some(_) => {}
                None if baseline.as_ref().is_some_and(|baseline| version <= baseline) => {}
                None if status.version.as_ref().is_some_and(|newest| version < newest) => {
                    status.problems.push(format!("{} comes late: a newer version is already applied; give it a newer number", file.script));
                }
                None => status.pending.push(file.clone()),
            },
            Sort::Repeatable => {
                let last =
                    applied.iter().rev().find(|entry| entry.version.is_none() && entry.description == file.description && entry.success);
                if last.is_none_or(|entry| entry.checksum != Some(file.checksum)) {
                    status.pending.push(file.clone());
                }
            }
        }
    }
    for entry in applied.iter().filter(|entry| entry.success) {
        let known = match &entry.version {
            Some(version) => files.iter().any(|file| file.sort == Sort::Versioned(version.clone())),
            None => files.iter().any(|file| file.sort == Sort::Repeatable && file.description == entry.description),
        };
        if !known {
            status.problems.push(format!("{} is applied, but its file is missing", entry.script));
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::migration::{Transaction, checksum};

    fn file(script: &str, sql: &str) -> Migration {
        let (prefix, rest) = script.trim_end_matches(".sql").split_once("__").unwrap();
        let sort = if prefix == "R" { Sort::Repeatable } else { Sort::Versioned(Version::parse(&prefix[1..]).unwrap()) };
        Migration {
            sort,
            description: rest.into(),
            script: script.into(),
            checksum: checksum(sql),
            transaction: Transaction::Wrapped,
            sql: sql.into(),
        }
    }

    fn entry(rank: i32, file: &Migration, success: bool) -> Entry {
        let version = match &file.sort {
            Sort::Versioned(version) => Some(version.clone()),
            Sort::Repeatable => None,
        };
        Entry {
            rank,
            version,
            description: file.description.clone(),
            script: file.script.clone(),
            checksum: Some(file.checksum),
            kind: "SQL".into(),
            success,
        }
    }

    #[test]
    fn what_is_new_is_pending_and_everything_else_that_differs_is_a_problem() {
        let (one, two, view) = (file("V1__a.sql", "a"), file("V2__b.sql", "b"), file("R__v.sql", "v"));
        let files = [one.clone(), two.clone(), view.clone()];
        assert_eq!(compare(&files, &[]).pending.len(), 3);
        let done = [entry(1, &one, true), entry(2, &two, true), entry(3, &view, true)];
        let status = compare(&files, &done);
        assert_eq!((status.pending.len(), status.problems.len()), (0, 0));
        assert_eq!(status.version, Version::parse("2"));
        let changed_view = file("R__v.sql", "v2");
        assert_eq!(compare(&[one.clone(), two.clone(), changed_view.clone()], &done).pending, [changed_view]);
        assert!(compare(&[file("V1__a.sql", "x"), two.clone(), view.clone()], &done).problems[0].contains("changed after"));
        assert!(compare(&[two.clone(), view.clone()], &done).problems[0].contains("missing"));
        assert!(compare(&files, &[entry(1, &one, false)]).problems[0].contains("in part"));
        let late = [one.clone(), file("V1.5__late.sql", "l"), two, view];
        assert!(compare(&late, &done).problems[0].contains("late"));
    }
}
