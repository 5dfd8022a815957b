//! A database that was harmed on purpose: each harm is found, and nothing is found where there is none.
use deployctl::database::audit::{Depth, Record, differences, examine, record};
use tokio_postgres::Client;

use crate::server::Server;

const SCHEMA: &str = "
    CREATE EXTENSION amcheck;
    CREATE ROLE audit_run LOGIN;
    CREATE SCHEMA shop;
    CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, who text NOT NULL, cents int CHECK (cents > 0), at timestamptz);
    CREATE UNIQUE INDEX orders_who ON shop.orders (who, id);
    CREATE FUNCTION shop.mark(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
    CREATE INDEX orders_mark ON shop.orders (shop.mark(who));
    CREATE TABLE shop.lines (order_id bigint REFERENCES shop.orders, what text);
    GRANT SELECT, INSERT ON shop.orders TO audit_run;
    INSERT INTO shop.orders (who, cents, at) SELECT 'Who ' || n, n, '2026-11-29'::timestamptz + n * interval '1 s' FROM generate_series(1, 500) n;
    INSERT INTO shop.lines SELECT n, E'first\\nsecond\\ttab \\\\ ' || n FROM generate_series(1, 300) n;";

async fn before(client: &mut Client) -> Record {
    client.batch_execute(SCHEMA).await.unwrap();
    record(client, Depth::Full).await.unwrap()
}

#[tokio::test]
async fn a_whole_database_differs_in_nothing() {
    let server = Server::start();
    let mut client = server.connect().await;
    let expected = before(&mut client).await;
    let tables = expected.tables.as_ref().unwrap();
    assert_eq!((tables["shop.orders"].rows, tables["shop.lines"].rows), (500, 300));
    // Another session's settings change texts, and not what is in the tables.
    client.batch_execute("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET search_path = shop").await.unwrap();
    client.batch_execute("VACUUM FULL shop.orders").await.unwrap();
    let found = record(&mut client, Depth::Full).await.unwrap();
    assert_eq!(differences(&expected, &found), Vec::<String>::new());
    let kept: Record = serde_json::from_str(&serde_json::to_string(&expected).unwrap()).unwrap();
    assert_eq!(kept, expected, "a record survives being written down");
    let examined = examine(&mut client).await.unwrap();
    assert!(examined.wrong.is_empty() && examined.skipped.is_empty(), "{examined:?}");
    assert_eq!(examined.checked, ["1 sequences that number a column", "3 indexes against their tables"]);
}

#[tokio::test]
async fn every_harm_is_found() {
    let server = Server::start();
    let mut client = server.connect().await;
    let mut expected = before(&mut client).await;
    let harms = [
        ("a lost row", "DELETE FROM shop.lines WHERE order_id = 7", "table shop.lines is: 299 rows"),
        ("a changed value", "UPDATE shop.orders SET cents = cents + 1 WHERE id = 42", "table shop.orders is: 500 rows"),
        (
            "two values exchanged",
            "UPDATE shop.lines SET order_id = 301 - order_id WHERE order_id IN (1, 300)",
            "table shop.lines is: 299 rows, sha256",
        ),
        ("an invalid index", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.orders_who'::regclass", "(not valid)"),
        ("a missing index", "DROP INDEX shop.orders_who", "index shop.orders_who is missing"),
        ("a sequence behind", "SELECT setval('shop.orders_id_seq', 300)", "sequence shop.orders_id_seq is: 300; it was: 500"),
        ("a lost grant", "REVOKE INSERT ON shop.orders FROM audit_run", "grants of shop.orders is"),
        ("a lost role's right", "ALTER ROLE audit_run NOLOGIN", "role audit_run is"),
        (
            "a lost constraint",
            "ALTER TABLE shop.orders DROP CONSTRAINT orders_cents_check",
            "constraint shop.orders.orders_cents_check is missing",
        ),
        ("a lost extension", "DROP EXTENSION amcheck", "extension amcheck is missing"),
        ("a table too many", "CREATE TABLE shop.more (id int)", "table shop.more was not there before"),
    ];
    for (harm, statement, said) in harms {
        client.batch_execute(&format!("BEGIN; {statement}")).await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
        let found = record(&mut client, Depth::Full).await.unwrap();
        let differs = differences(&expected, &found);
        assert!(differs.iter().any(|line| line.contains(said)), "{harm}: {differs:?}");
        // The next one is looked for alone.
        expected = found;
    }
}

#[tokio::test]
async fn what_is_wrong_by_itself_is_found_without_a_record() {
    let server = Server::start();
    let mut client = server.connect().await;
    before(&mut client).await;
    client.batch_execute("SELECT setval('shop.orders_id_seq', 300)").await.unwrap();
    // The index holds what the function said before: rows that are there are not found by it.
    client
        .batch_execute("CREATE OR REPLACE FUNCTION shop.mark(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)'")
        .await
        .unwrap();
    // A session keeps a function's text with the index that uses it.
    let mut client = server.connect().await;
    let examined = examine(&mut client).await.unwrap();
    assert_eq!(examined.wrong.len(), 2, "{examined:?}");
    assert!(examined.wrong[0].contains("sequence shop.orders_id_seq is at 300, and shop.orders.id has 500 already"), "{examined:?}");
    assert!(examined.wrong[1].starts_with("index shop.orders_mark does not fit its table: "), "{examined:?}");
    client.batch_execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.orders_who'::regclass").await.unwrap();
    assert!(examine(&mut client).await.unwrap().wrong[0].contains("index shop.orders_who is not valid"));
    client.batch_execute("DROP EXTENSION amcheck").await.unwrap();
    assert!(examine(&mut client).await.unwrap().skipped[0].contains("amcheck is not installed"), "what was not looked at is not claimed");
}
