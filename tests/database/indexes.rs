//! CREATE INDEX CONCURRENTLY: outside of transactions, killed and failed, and what is left of it.
use std::time::Duration;

use deployctl::database::migrate::{MigrateError, Patience};

use crate::{
    lines, migrate,
    server::{Server, folder, write},
    status,
};

const VALID: &str = "SELECT indexrelid::regclass || ' ' || indisvalid FROM pg_index WHERE indrelid = 't'::regclass ORDER BY 1";

#[tokio::test]
async fn a_unique_index_that_fails_is_made_anew_once_the_data_are_mended() {
    let server = Server::start();
    let mut client = server.connect().await;
    let files = folder(&[
        ("V1__t.sql", "CREATE TABLE t (id int, a int); INSERT INTO t VALUES (1, 1), (1, 2);"),
        ("V2__index.sql", "CREATE INDEX CONCURRENTLY t_a ON t (a);\nCREATE UNIQUE INDEX CONCURRENTLY t_id ON t (id);"),
    ]);
    let failed = migrate(&mut client, files.path(), Patience::default()).await.unwrap_err();
    let told = failed.to_string();
    assert!(matches!(&failed, MigrateError::InPart { line: 2, .. }), "{failed:?}");
    for said in [
        "V2__index.sql:2",
        "(Key (id)=(1) is duplicated.)",
        "line 1: CREATE INDEX CONCURRENTLY t_a",
        "`DROP INDEX CONCURRENTLY public.t_id;`",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    assert_eq!(lines(&client, VALID).await, ["t_a true", "t_id false"]);
    let found = status(&client, files.path()).await.unwrap();
    assert_eq!((found.problems.len(), found.begun.keys().map(String::as_str).collect::<Vec<_>>()), (0, vec!["V2__index.sql"]));

    server.connect().await.batch_execute("DELETE FROM t WHERE a = 2").await.unwrap();
    let report = migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    assert_eq!(report.ran.len(), 1);
    assert!(report.repaired.iter().any(|line| line.contains("DROP INDEX CONCURRENTLY public.t_id")), "{:?}", report.repaired);
    assert_eq!(lines(&client, VALID).await, ["t_a true", "t_id true"]);
    assert_eq!(lines(&client, "SELECT version || success FROM flyway_schema_history ORDER BY installed_rank").await, ["1true", "2true"]);
}

#[tokio::test]
async fn an_unfinished_index_of_somebody_elses_is_named_and_left_alone() {
    let server = Server::start();
    let mut client = server.connect().await;
    let files = folder(&[("V1__t.sql", "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1);")]);
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    client.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY t_id ON t (id)").await.unwrap_err();
    // PostgreSQL itself passes over it: the name is taken.
    write(files.path(), &[("V2__index.sql", "\nCREATE INDEX CONCURRENTLY IF NOT EXISTS t_id ON t (id);")]);
    let refused = migrate(&mut client, files.path(), Patience::default()).await.unwrap_err();
    assert!(matches!(refused, MigrateError::InvalidIndex { line: 2, .. }), "{refused:?}");
    assert!(refused.to_string().contains("`DROP INDEX CONCURRENTLY public.t_id;`"), "{refused}");
    assert_eq!(lines(&client, VALID).await, ["t_id false"]);
    assert_eq!(lines(&client, "SELECT version FROM flyway_schema_history").await, ["1"], "nothing was begun");

    client.batch_execute("DROP INDEX CONCURRENTLY public.t_id").await.unwrap();
    client.batch_execute("CREATE INDEX t_id ON t (id)").await.unwrap();
    write(files.path(), &[("V2__index.sql", "CREATE INDEX CONCURRENTLY t_id ON t (id);")]);
    let refused = migrate(&mut client, files.path(), Patience::default()).await.unwrap_err();
    assert!(matches!(refused, MigrateError::IndexThere { .. }), "{refused:?}");
    write(files.path(), &[("V2__index.sql", "CREATE INDEX CONCURRENTLY IF NOT EXISTS t_id ON t (id);")]);
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();
}

#[tokio::test]
async fn what_must_not_run_twice_is_not_gone_on_with_and_says_how_to_repair_it() {
    let server = Server::start();
    let mut client = server.connect().await;
    let files = folder(&[
        ("V1__t.sql", "CREATE TABLE t (id int);"),
        ("V2__batches.sql", "INSERT INTO t VALUES (1);\nSELECT 1 / 0;\nINSERT INTO t VALUES (2);"),
        ("V2__batches.sql.conf", "executeInTransaction=false"),
    ]);
    let failed = migrate(&mut client, files.path(), Patience::default()).await.unwrap_err().to_string();
    let repair = "DELETE FROM flyway_schema_history WHERE installed_rank = 2;";
    for said in ["V2__batches.sql:2", "division by zero", "still there: line 1: INSERT INTO t VALUES (1)", repair] {
        assert!(failed.contains(said), "{said}: {failed}");
    }
    let refused = migrate(&mut client, files.path(), Patience::default()).await;
    let Err(MigrateError::Problems(problems)) = refused else { panic!("{refused:?}") };
    assert!(problems[0].contains(repair), "{problems:?}");
    // As it says.
    client.batch_execute(&format!("DELETE FROM t; {repair}")).await.unwrap();
    write(files.path(), &[("V2__batches.sql", "INSERT INTO t VALUES (1);\nINSERT INTO t VALUES (2);")]);
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    assert_eq!(lines(&client, "SELECT id::text FROM t ORDER BY 1").await, ["1", "2"]);
}

#[tokio::test]
async fn a_concurrent_index_waits_for_old_transactions_and_a_table_lock_does_not() {
    let server = Server::start();
    let mut client = server.connect().await;
    let files = folder(&[("V1__t.sql", "CREATE TABLE t (id int);")]);
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    let reader = server.connect().await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t").await.unwrap();
    let patience = Patience { table_lock: Duration::from_millis(300), ..Patience::default() };
    write(files.path(), &[("V2__column.sql", "ALTER TABLE t ADD COLUMN a int;")]);
    let refused = migrate(&mut client, files.path(), patience).await.unwrap_err();
    assert!(refused.to_string().contains("lock timeout"), "{refused}");
    write(files.path(), &[("V2__column.sql", "CREATE INDEX CONCURRENTLY t_id ON t (id);")]);
    let started = std::time::Instant::now();
    let (ran, ()) = tokio::join!(migrate(&mut client, files.path(), patience), async {
        // Three times as long as a table lock is waited for.
        tokio::time::sleep(patience.table_lock * 3).await;
        reader.batch_execute("COMMIT").await.unwrap();
    });
    ran.unwrap();
    assert!(started.elapsed() >= patience.table_lock * 3, "it did not wait for the old transaction");
    assert_eq!(lines(&client, VALID).await, ["t_id true"]);
}
