//! Flyway and deployctl take turns on one database: each goes on from what the other wrote, and refuses what the other would refuse.
use std::path::{Path, PathBuf};

use deployctl::database::migrate::{MigrateError, Patience, migrate, status};
use tokio_postgres::Client;

use crate::{
    flyway::flyway,
    server::{Server, folder, write},
};

/// Names and contents that Flyway reads in a way of its own, and that the parser's migrations do not have.
const MORE: [(&str, &str); 8] = [
    ("V2.1__byte_order_mark.sql", "\u{feff}CREATE TABLE größe (id int);\nCOMMENT ON TABLE größe IS '…';"),
    ("V02_2__line_ends.sql", "-- Windows\r\nCREATE TABLE ends (\r\n\r\n  id int\r\n);\n-- old Macintosh\rCREATE TABLE old (id int);\r"),
    ("V3__no_transaction.sql", "CREATE INDEX CONCURRENTLY ends_id ON ends (id);"),
    ("V3__no_transaction.sql.conf", "executeInTransaction=false"),
    ("V4.0___more__underscores_.sql", "-- a comment only\n"),
    ("V5__no content.sql", ""),
    ("V10__after_5.sql", "CREATE TABLE ten (id int);"),
    ("R__view_of_ends.sql", "CREATE OR REPLACE VIEW v AS SELECT id FROM ends;\n"),
];
/// How many of them are migrations, and how many the parser has.
const SCRIPTS: usize = MORE.len() - 1;
const PARSER_SCRIPTS: usize = 2;

fn parser_migrations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services/parser/migrations")
}

/// The parser's migrations and more.
fn all_migrations() -> tempfile::TempDir {
    let files = folder(&MORE);
    for entry in std::fs::read_dir(parser_migrations()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), files.path().join(entry.file_name())).unwrap();
    }
    files
}

/// A server with the role that the parser's migrations grant to, and a connection to it.
async fn server() -> (Server, Client) {
    let server = Server::start_on_loopback();
    let client = server.connect().await;
    client.batch_execute("CREATE ROLE parser_run").await.unwrap();
    (server, client)
}

async fn run(client: &mut Client, files: &Path) -> Vec<String> {
    let report = migrate(client, files, Patience::default()).await.unwrap_or_else(|error| panic!("{error}"));
    report.ran.into_iter().map(|(script, _)| script).collect()
}

/// Flyway finds that many files, each applied as it is now.
async fn assert_flyway_agrees(server: &Server, files: &Path, scripts: usize) {
    let info = flyway("validate", server, files).await.unwrap_or_else(|refused| panic!("{refused}"));
    assert!(info.len() == scripts && info.iter().all(|line| line.starts_with("SUCCESS ")), "{info:?}");
}

async fn assert_deployctl_agrees(client: &mut Client, files: &Path) {
    let found = status(client, files).await.unwrap();
    assert_eq!((found.pending.len(), found.problems.as_slice()), (0, &[][..]));
    assert!(run(client, files).await.is_empty());
}

#[tokio::test]
async fn flyway_accepts_what_deployctl_migrated() {
    let (server, mut client) = server().await;
    let before = flyway("validate", &server, &parser_migrations()).await.unwrap_err();
    assert!(before.contains("not applied to database: 1"), "{before}");
    assert_eq!(run(&mut client, &parser_migrations()).await, ["V1__files_rows_and_outbox.sql", "V2__grants.sql"]);
    assert_flyway_agrees(&server, &parser_migrations(), PARSER_SCRIPTS).await;
    let files = all_migrations();
    assert_eq!(run(&mut client, files.path()).await.len(), SCRIPTS);
    assert_flyway_agrees(&server, files.path(), PARSER_SCRIPTS + SCRIPTS).await;
    assert_eq!(flyway("migrate", &server, files.path()).await.unwrap(), ["0"]);
}

#[tokio::test]
async fn deployctl_goes_on_where_flyway_ended_and_flyway_after_it() {
    let (server, mut client) = server().await;
    let files = all_migrations();
    assert_eq!(flyway("migrate", &server, files.path()).await.unwrap(), [(PARSER_SCRIPTS + SCRIPTS).to_string()]);
    assert_deployctl_agrees(&mut client, files.path()).await;

    write(files.path(), &[("V11__by_deployctl.sql", "CREATE TABLE eleven (id int);")]);
    assert_eq!(run(&mut client, files.path()).await, ["V11__by_deployctl.sql"]);
    assert_flyway_agrees(&server, files.path(), PARSER_SCRIPTS + SCRIPTS + 1).await;

    write(files.path(), &[("V12__by_flyway.sql", "CREATE TABLE twelve (id int);")]);
    assert_eq!(flyway("migrate", &server, files.path()).await.unwrap(), ["1"]);
    assert_deployctl_agrees(&mut client, files.path()).await;
}

#[tokio::test]
async fn both_refuse_a_file_that_was_changed_after_the_other_applied_it() {
    let changed = [("V2__grants.sql", "GRANT SELECT ON files TO parser_run;")];

    let (one, mut client) = server().await;
    let by_deployctl = all_migrations();
    run(&mut client, by_deployctl.path()).await;
    write(by_deployctl.path(), &changed);
    for command in ["validate", "migrate"] {
        let refused = flyway(command, &one, by_deployctl.path()).await.unwrap_err();
        assert!(refused.contains("Migration checksum mismatch for migration version 2"), "{refused}");
    }

    let (other, mut client) = server().await;
    let by_flyway = all_migrations();
    flyway("migrate", &other, by_flyway.path()).await.unwrap();
    write(by_flyway.path(), &changed);
    let refused = migrate(&mut client, by_flyway.path(), Patience::default()).await;
    let Err(MigrateError::Problems(problems)) = refused else { panic!("{refused:?}") };
    assert!(problems.len() == 1 && problems[0].contains("V2__grants.sql was changed"), "{problems:?}");
}

/// The table's columns, constraints and indexes, and its rows without times.
const HISTORY: &[&str] = &[
    "SELECT concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid))
     FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
     WHERE attrelid = 'flyway_schema_history'::regclass AND attnum > 0 ORDER BY attnum",
    "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'flyway_schema_history'::regclass ORDER BY 1",
    "SELECT indexdef FROM pg_indexes WHERE tablename = 'flyway_schema_history' ORDER BY 1",
    "SELECT concat_ws(' | ', installed_rank, version, description, type, script, checksum, installed_by, success)
     FROM flyway_schema_history ORDER BY installed_rank",
];

#[tokio::test]
async fn the_history_is_the_same_whoever_wrote_it() {
    let files = all_migrations();
    let (_one, mut by_deployctl) = server().await;
    run(&mut by_deployctl, files.path()).await;
    let (other, by_flyway) = server().await;
    flyway("migrate", &other, files.path()).await.unwrap();
    for query in HISTORY {
        let (ours, theirs) = (lines(&by_deployctl, query).await, lines(&by_flyway, query).await);
        assert!(!theirs.is_empty(), "{query}");
        assert_eq!(ours, theirs);
    }
}

async fn lines(client: &Client, query: &str) -> Vec<String> {
    client.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}
