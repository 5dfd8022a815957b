//! A dry run writes nothing, whatever the files say: no statement is executed, and the role that looks has nothing that it may write to.
use deployctl::database::{
    dry_run::{DryRunError, look},
    history,
    migrate::Patience,
    migration::Migrations,
};
use tokio_postgres::Client;

use crate::{
    lines, migrate,
    server::{Server, folder, write},
};

/// What a malicious file would try. Each is refused to the reader too, should anything ever execute it.
const MALICIOUS: &[&str] = &[
    "INSERT INTO orders VALUES (2)",
    "UPDATE orders SET id = 3 WHERE id = 1",
    "TRUNCATE orders",
    "DROP TABLE orders",
    "CREATE TABLE mine (id int)",
    "CREATE TEMP TABLE mine (id int)",
    "CREATE SCHEMA mine",
    "ALTER TABLE orders ADD COLUMN x int",
    "SELECT nextval('numbers')",
    "SELECT setval('numbers', 99)",
    "DELETE FROM flyway_schema_history WHERE true",
    "GRANT ALL ON orders TO reader",
    "ALTER ROLE reader SUPERUSER",
    "CREATE ROLE mine LOGIN",
    "SET ROLE migrator; INSERT INTO orders VALUES (2)",
    "SET SESSION AUTHORIZATION postgres; INSERT INTO orders VALUES (2)",
    "SET default_transaction_read_only = off; INSERT INTO orders VALUES (2)",
    "SET TRANSACTION READ WRITE; INSERT INTO orders VALUES (2)",
    "BEGIN READ WRITE; INSERT INTO orders VALUES (2); COMMIT",
    "DO $$ BEGIN EXECUTE 'SET default_transaction_read_only = off'; INSERT INTO orders VALUES (2); END $$",
    "COPY orders FROM PROGRAM 'echo 7'",
    "COPY (SELECT 1) TO '/tmp/deployctl-dry-run'",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "WITH gone AS (DELETE FROM orders RETURNING 1) SELECT * FROM gone",
    "SELECT * FROM orders FOR UPDATE",
    "COMMENT ON TABLE orders IS 'x'",
    "REINDEX TABLE orders",
    "CREATE INDEX CONCURRENTLY mine ON orders (id)",
    "LOCK TABLE orders",
];

/// Everything that a statement could have changed, as far as a test can tell: catalogs, rows, sequences, roles, large objects.
async fn everything(client: &Client) -> Vec<String> {
    let mut all = Vec::new();
    for query in [
        "SELECT relname || ' ' || relkind::text || ' ' || coalesce(relacl::text, '') FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT attrelid::regclass || '.' || attname FROM pg_attribute WHERE attrelid = 'orders'::regclass ORDER BY 1",
        "SELECT id::text FROM orders ORDER BY 1",
        "SELECT last_value::text || is_called FROM numbers",
        "SELECT rolname || rolsuper || coalesce(rolconfig::text, '') FROM pg_roles ORDER BY 1",
        "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT oid::text FROM pg_largeobject_metadata",
        "SELECT coalesce(description, '') FROM pg_description WHERE objoid = 'orders'::regclass",
        "SELECT installed_rank || script || success FROM flyway_schema_history ORDER BY 1",
    ] {
        all.extend(lines(client, query).await);
    }
    all
}

/// A database with a table of the migrator's, and the reader as `bootstrap-database` makes it.
async fn server() -> (Server, Client, tempfile::TempDir) {
    let server = Server::start();
    let client = server.connect().await;
    client
        .batch_execute(
            "CREATE ROLE migrator LOGIN; CREATE ROLE reader LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC;
             REVOKE ALL ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO migrator, reader;
             GRANT USAGE, CREATE ON SCHEMA public TO migrator; GRANT USAGE ON SCHEMA public TO reader;
             ALTER ROLE reader SET default_transaction_read_only = on;",
        )
        .await
        .unwrap();
    let mut migrator = server.connect_as("migrator", "postgres").await;
    let files = folder(&[("V1__orders.sql", "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1); CREATE SEQUENCE numbers;")]);
    migrate(&mut migrator, files.path(), Patience::default()).await.unwrap();
    migrator.batch_execute(&format!("GRANT SELECT ON {} TO reader", history::TABLE)).await.unwrap();
    (server, client, files)
}

#[tokio::test]
async fn malicious_files_change_nothing() {
    let (server, client, files) = server().await;
    let before = everything(&client).await;
    for (at, sql) in MALICIOUS.iter().chain(&["SELECT lo_create(0)", "SELECT pg_sleep(600)", "VACUUM orders"]).enumerate() {
        write(
            files.path(),
            &[(&format!("V{}__malicious.sql", at + 2), sql), (&format!("V{}__malicious.sql.conf", at + 2), "executeInTransaction=false")],
        );
    }
    let reader = server.connect_as("reader", "postgres").await;
    let looked = look(&reader, &Migrations::read(files.path()).unwrap()).await.unwrap();
    assert_eq!((looked.status.pending.len(), looked.role.as_str()), (MALICIOUS.len() + 3, "reader"));
    assert_eq!(looked.refused, [""; 0]);
    assert_eq!(everything(&client).await, before);

    // Nor could any of it write if it were executed: the role is the second wall. (Large objects are refused in read-only transactions from
    // PostgreSQL 16 on only, so for those there is the first wall alone.)
    for sql in MALICIOUS {
        let reader = server.connect_as("reader", "postgres").await;
        let ran = reader.batch_execute(sql).await;
        assert!(ran.is_err(), "the reader could run {sql}");
    }
    assert_eq!(everything(&client).await, before);
}

#[tokio::test]
async fn what_cannot_be_parsed_is_named_with_its_line_and_a_role_that_can_write_is_refused() {
    let (server, client, files) = server().await;
    write(files.path(), &[("V2__typo.sql", "CREATE TABLE new (id int);\n\nCRAETE INDEX i ON new (id);\nSELECT * FROM new;")]);
    let migrations = Migrations::read(files.path()).unwrap();
    let reader = server.connect_as("reader", "postgres").await;
    let looked = look(&reader, &migrations).await.unwrap();
    assert_eq!((looked.refused.len(), looked.parsed), (1, 2));
    assert!(looked.refused[0].starts_with("V2__typo.sql:3: 42601"), "{:?}", looked.refused);

    let migrator = server.connect_as("migrator", "postgres").await;
    let refused = look(&migrator, &migrations).await;
    assert!(matches!(&refused, Err(DryRunError::MayWrite { may, .. }) if may.iter().any(|may| may.contains("orders"))), "{refused:?}");
    // Each way to write that the reader could be given by mistake.
    for (grant, revoke) in [
        ("GRANT INSERT ON orders TO reader", "REVOKE INSERT ON orders FROM reader"),
        ("GRANT UPDATE (id) ON orders TO reader", "REVOKE UPDATE (id) ON orders FROM reader"),
        ("GRANT USAGE ON SEQUENCE numbers TO reader", "REVOKE USAGE ON SEQUENCE numbers FROM reader"),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        ("GRANT TEMPORARY ON DATABASE postgres TO PUBLIC", "REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC"),
        ("GRANT migrator TO reader", "REVOKE migrator FROM reader"),
        ("GRANT pg_write_all_data TO reader", "REVOKE pg_write_all_data FROM reader"),
        ("GRANT pg_write_server_files TO reader", "REVOKE pg_write_server_files FROM reader"),
        ("ALTER ROLE reader CREATEROLE", "ALTER ROLE reader NOCREATEROLE"),
        ("SET ROLE migrator; CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; RESET ROLE", "DROP FUNCTION f"),
    ] {
        client.batch_execute(grant).await.unwrap();
        let looked = look(&server.connect_as("reader", "postgres").await, &migrations).await;
        assert!(matches!(looked, Err(DryRunError::MayWrite { .. })), "{grant}: {looked:?}");
        client.batch_execute(revoke).await.unwrap();
    }
    look(&server.connect_as("reader", "postgres").await, &migrations).await.unwrap();
}
