//! Migrations against a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests: a panic is the failure, and a skipped test says why"
)]
mod audit;
mod dry_run;
mod flyway;
mod indexes;
#[path = "../installed/mod.rs"]
mod installed;
mod kills;
mod runbook;
mod server;
mod turns;

use std::path::Path;

use deployctl::database::{
    compare::Status,
    migrate::{self, MigrateError, Patience, Report},
    migration::Migrations,
};
use server::{Server, folder, write};
use tokio_postgres::Client;

/// Runs a folder's migrations as deployctl's agent does.
async fn migrate(client: &mut Client, folder: &Path, patience: Patience) -> Result<Report, MigrateError> {
    migrate::migrate(client, &Migrations::read(folder)?, patience).await
}

/// What is applied and pending.
async fn status(client: &Client, folder: &Path) -> Result<Status, MigrateError> {
    migrate::status(client, &Migrations::read(folder)?).await
}

/// The rows of a query that gives texts.
async fn lines(client: &Client, query: &str) -> Vec<String> {
    client.query(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}")).iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn what_is_pending_runs_once_in_order_and_is_recorded_as_flyway_records_it() {
    let server = Server::start();
    let mut client = server.connect().await;
    let files = folder(&[
        ("V1__one.sql", "CREATE TABLE one (id int);"),
        ("V2__two.sql", "ALTER TABLE one ADD name text;"),
        ("R__view.sql", "CREATE OR REPLACE VIEW v AS SELECT id FROM one;"),
    ]);
    assert_eq!(status(&client, files.path()).await.unwrap().pending.len(), 3);
    let report = migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    assert_eq!(report.ran.iter().map(|(script, _)| script.as_str()).collect::<Vec<_>>(), ["V1__one.sql", "V2__two.sql", "R__view.sql"]);
    assert!(migrate(&mut client, files.path(), Patience::default()).await.unwrap().ran.is_empty());
    let rows = client
        .query("SELECT installed_rank, version, description, type, installed_by, success FROM flyway_schema_history ORDER BY 1", &[])
        .await
        .unwrap();
    let row = |i: usize| {
        (
            rows[i].get::<_, i32>(0),
            rows[i].get::<_, Option<String>>(1),
            rows[i].get::<_, String>(2),
            rows[i].get::<_, String>(3),
            rows[i].get::<_, bool>(5),
        )
    };
    assert_eq!(row(0), (1, Some("1".into()), "one".into(), "SQL".into(), true));
    assert_eq!(row(2), (3, None, "view".into(), "SQL".into(), true));
    write(files.path(), &[("R__view.sql", "CREATE OR REPLACE VIEW v AS SELECT id, name FROM one;")]);
    assert_eq!(migrate(&mut client, files.path(), Patience::default()).await.unwrap().ran.len(), 1, "a changed repeatable file runs again");
}

#[tokio::test]
async fn a_failing_file_leaves_the_schema_as_it_was() {
    let server = Server::start();
    let mut client = server.connect().await;
    let files = folder(&[("V1__good.sql", "CREATE TABLE good (id int);"), ("V2__bad.sql", "CREATE TABLE half (id int); SELECT 1/0;")]);
    let error = migrate(&mut client, files.path(), Patience::default()).await.unwrap_err();
    assert!(
        matches!(&error, MigrateError::RolledBack { script, .. } if script == "V2__bad.sql")
            && error.to_string().contains("division by zero"),
        "{error}"
    );
    assert_eq!(client.query("SELECT to_regclass('half')::text", &[]).await.unwrap()[0].get::<_, Option<String>>(0), None);
    write(files.path(), &[("V2__bad.sql", "CREATE TABLE whole (id int);")]);
    assert_eq!(migrate(&mut client, files.path(), Patience::default()).await.unwrap().ran.len(), 1);
    write(files.path(), &[("V1__good.sql", "CREATE TABLE other (id int);")]);
    assert!(
        matches!(migrate(&mut client, files.path(), Patience::default()).await, Err(MigrateError::Problems(_))),
        "a changed file stops everything"
    );
}

#[tokio::test]
async fn eight_migrators_at_once_run_every_file_once_even_with_a_concurrent_index() {
    let server = Server::start();
    let files = folder(&[
        ("V1__t.sql", "CREATE TABLE t (id int);"),
        ("V2__index.sql", "CREATE INDEX CONCURRENTLY t_id ON t (id);"),
        ("V2__index.sql.conf", "executeInTransaction=false"),
        ("V3__slow.sql", "SELECT pg_sleep(0.3); CREATE TABLE u (id int);"),
    ]);
    let mut migrators = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut client, path) = (server.connect().await, files.path().to_owned());
        migrators.spawn(async move { migrate(&mut client, &path, Patience::default()).await.map(|report| report.ran.len()) });
    }
    let ran: Vec<usize> = migrators.join_all().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(ran.iter().sum::<usize>(), 3, "{ran:?}");
}

#[tokio::test]
async fn what_is_dangerous_is_not_run_until_it_is_allowed_with_a_reason() {
    let server = Server::start();
    let mut client = server.connect().await;
    let files = folder(&[("V1__t.sql", "CREATE TABLE t (id int); INSERT INTO t VALUES (1);")]);
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    write(files.path(), &[("V2__harmless.sql", "CREATE TABLE u (id int);"), ("V3__drop.sql", "-- bye\nDROP TABLE t;")]);
    let refused = migrate(&mut client, files.path(), Patience::default()).await;
    let Err(MigrateError::Findings(findings)) = refused else { panic!("{refused:?}") };
    assert_eq!((findings.len(), findings[0].script.as_str(), findings[0].line), (1, "V3__drop.sql", 2));
    assert_eq!(lines(&client, "SELECT count(*)::text FROM pg_class WHERE relname = 'u'").await, ["0"], "nothing at all was run");
    write(
        files.path(),
        &[("V3__drop.sql", "-- deployctl:allow ban-drop-table because nothing has read it since release 7\nDROP TABLE t;")],
    );
    assert_eq!(migrate(&mut client, files.path(), Patience::default()).await.unwrap().ran.len(), 2);
}
