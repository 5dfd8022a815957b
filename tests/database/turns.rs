//! Flyway and deployctl take turns on one database: each goes on from what the other wrote, and refuses what the other would refuse.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use deployctl::database::{
    lock::Held,
    migrate::{MigrateError, Patience},
    migration::Migrations,
    undo::undo,
    version::Version,
};
use tokio_postgres::Client;

use crate::{
    flyway::flyway,
    lines, migrate,
    server::{Server, folder, write},
    status,
};

/// Names and contents that Flyway reads in a way of its own, and that the parser's migrations do not have.
const MORE: [(&str, &str); 12] = [
    ("V2.1__byte_order_mark.sql", "\u{feff}CREATE TABLE größe (id int);\nCOMMENT ON TABLE größe IS '…';"),
    ("V02_2__line_ends.sql", "-- Windows\r\nCREATE TABLE ends (\r\n\r\n  id int\r\n);\n-- old Macintosh\rCREATE TABLE old (id int);\r"),
    ("V3__no_transaction.sql", "CREATE INDEX CONCURRENTLY ends_id ON ends (id);"),
    ("V3__no_transaction.sql.conf", "executeInTransaction=false"),
    ("V4.0___more__underscores_.sql", "-- a comment only\n"),
    ("V5__no content.sql", ""),
    ("V6__two_that_refuse_transactions.sql", "CREATE INDEX CONCURRENTLY old_id ON old (id);\n-- and\nDROP INDEX CONCURRENTLY old_id;"),
    ("2026/q4/V7__in a folder.sql", "CREATE TABLE \"in a folder\" (id int);"),
    ("2026/V8__dollars.sql", "COMMENT ON TABLE ends IS 'not a ${placeholder}';"),
    ("2026/V8__dollars.sql.conf", "placeholderReplacement=false"),
    ("V10__after_5.sql", "CREATE TABLE ten (id int);"),
    ("R__view_of_ends.sql", "CREATE OR REPLACE VIEW v AS SELECT id FROM ends;\n"),
];
/// How many of them are migrations, and how many the parser has.
const SCRIPTS: usize = MORE.len() - 2;
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

#[tokio::test]
async fn what_one_undoes_the_other_runs_again() {
    let (server, mut client) = server().await;
    let files = folder(&[
        ("V1__one.sql", "CREATE TABLE one (id int);"),
        ("V2__two.sql", "CREATE TABLE two (id int);"),
        ("U2__two.sql", "DROP TABLE two;"),
        ("U1__one.sql", "DROP TABLE one;"),
    ]);
    assert_eq!(run(&mut client, files.path()).await.len(), 2);
    let migrations = Migrations::read(files.path()).unwrap();
    let version = |text: &str| Version::parse(text).unwrap();
    let not_newest = undo(&mut client, &migrations, &version("1"), Patience::default()).await;
    assert!(matches!(not_newest, Err(MigrateError::Problems(_))), "{not_newest:?}");
    let undone = undo(&mut client, &migrations, &version("2"), Patience::default()).await.unwrap();
    assert_eq!((undone.ran.as_deref(), undone.version), (Some("U2__two.sql"), Some(version("1"))));
    assert_eq!(lines(&client, TABLES).await, ["one"]);
    let again = undo(&mut client, &migrations, &version("2"), Patience::default()).await.unwrap();
    assert_eq!((again.ran, again.version), (None, Some(version("1"))), "twice is once");
    let pending = flyway("validate", &server, files.path()).await.unwrap_err();
    assert!(pending.contains("not applied to database: 2"), "{pending}");
    assert_eq!(flyway("migrate", &server, files.path()).await.unwrap(), ["1"]);
    assert_eq!(lines(&client, TABLES).await, ["one", "two"]);
    assert_deployctl_agrees(&mut client, files.path()).await;
    flyway("validate", &server, files.path()).await.unwrap_or_else(|refused| panic!("{refused}"));

    // An undo file that fails leaves everything as it was.
    write(files.path(), &[("U2__two.sql", "DROP TABLE two; SELECT 1 / 0;")]);
    let failed = undo(&mut client, &Migrations::read(files.path()).unwrap(), &version("2"), Patience::default()).await;
    assert!(matches!(failed, Err(MigrateError::RolledBack { .. })), "{failed:?}");
    assert_eq!(lines(&client, TABLES).await, ["one", "two"]);
    assert_deployctl_agrees(&mut client, files.path()).await;
}

const TABLES: &str =
    "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'flyway_schema_history' ORDER BY 1";

#[tokio::test]
async fn a_baseline_of_flyways_is_where_deployctl_begins() {
    let (server, mut client) = server().await;
    client.batch_execute("CREATE TABLE one (id int); CREATE TABLE two (id int)").await.unwrap();
    let files = folder(&[
        ("V1__one.sql", "CREATE TABLE one (id int);"),
        ("V2__two.sql", "CREATE TABLE two (id int);"),
        ("V3__three.sql", "CREATE TABLE three (id int);"),
    ]);
    flyway("baseline-2", &server, files.path()).await.unwrap();
    assert_eq!(run(&mut client, files.path()).await, ["V3__three.sql"]);
    flyway("validate", &server, files.path()).await.unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(flyway("migrate", &server, files.path()).await.unwrap(), ["0"]);
    assert_deployctl_agrees(&mut client, files.path()).await;
}

#[tokio::test]
async fn a_late_file_is_refused_by_both_and_accepted_once_flyway_ran_it_out_of_order() {
    let (server, mut client) = server().await;
    let files = folder(&[("V1__one.sql", "CREATE TABLE one (id int);"), ("V3__three.sql", "CREATE TABLE three (id int);")]);
    run(&mut client, files.path()).await;
    write(files.path(), &[("V2__late.sql", "CREATE TABLE late (id int);")]);
    let refused = migrate(&mut client, files.path(), Patience::default()).await;
    assert!(matches!(&refused, Err(MigrateError::Problems(problems)) if problems[0].contains("V2__late.sql comes late")), "{refused:?}");
    assert!(flyway("migrate", &server, files.path()).await.is_err());
    assert_eq!(flyway("out-of-order", &server, files.path()).await.unwrap(), ["1"]);
    assert_deployctl_agrees(&mut client, files.path()).await;
    write(files.path(), &[("V4__four.sql", "CREATE TABLE four (id int);")]);
    assert_eq!(run(&mut client, files.path()).await, ["V4__four.sql"]);
}

#[tokio::test]
async fn what_flyway_would_put_values_into_neither_runs() {
    let (server, mut client) = server().await;
    let files = folder(&[("V1__a.sql", "CREATE TABLE a (id int);\nCOMMENT ON TABLE a IS '${owner}';")]);
    let refused = migrate(&mut client, files.path(), Patience::default()).await;
    assert!(
        matches!(&refused, Err(MigrateError::Problems(problems)) if problems[0].starts_with("V1__a.sql:2: Flyway puts a value")),
        "{refused:?}"
    );
    let theirs = flyway("migrate", &server, files.path()).await.unwrap_err();
    assert!(theirs.contains("No value provided for placeholder: ${owner}"), "{theirs}");
    assert_eq!(lines(&client, TABLES).await, [""; 0]);
}

#[tokio::test]
async fn flyway_and_deployctl_keep_each_other_out() {
    let (server, mut client) = server().await;
    let files = folder(&[("V1__a.sql", "CREATE TABLE a (id int);")]);
    let other = server.connect().await;
    let held = Held::acquire(&other, Duration::ZERO).await.unwrap();
    let refused = flyway("impatient", &server, files.path()).await.unwrap_err();
    assert!(refused.contains("advisory lock"), "{refused}");
    held.release(&other).await.unwrap();
    assert_eq!(flyway("impatient", &server, files.path()).await.unwrap(), ["1"]);

    // Flyway holds it while it works, and deployctl waits for it.
    write(files.path(), &[("V2__slow.sql", "SELECT pg_sleep(4);")]);
    let (theirs, ours) = tokio::join!(flyway("migrate", &server, files.path()), async {
        while lines(&client, "SELECT 'x' FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(4)%' AND pid <> pg_backend_pid()")
            .await
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        run(&mut client, files.path()).await
    });
    assert_eq!((theirs.unwrap().as_slice(), ours.len()), (&["1".to_owned()][..], 0));
}
