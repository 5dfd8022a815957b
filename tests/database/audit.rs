//! A database that was harmed on purpose: each harm is found, and nothing is found where there is none.
use std::time::Duration;

use deployctl::database::{
    audit::{Depth, Record, differences, record},
    examine::examine,
    hold::hold,
    watermark::{lost, watermark},
};
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
    let examined = examine(&mut client, Depth::Full).await.unwrap();
    assert!(examined.wrong.is_empty() && examined.skipped.is_empty(), "{examined:?}");
    assert_eq!(examined.checked.last().unwrap(), "3 indexes against their tables");
    let quick = examine(&mut client, Depth::Quick).await.unwrap();
    assert!(quick.wrong.is_empty() && quick.skipped[0].contains("--verify full"), "what was not looked at is not claimed: {quick:?}");
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
        (
            "a sequence behind",
            "SELECT setval('shop.orders_id_seq', 300)",
            "sequence shop.orders_id_seq is: 300, in steps of 1; it was: 500, in steps of 1",
        ),
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
    let examined = examine(&mut client, Depth::Full).await.unwrap();
    assert_eq!(examined.wrong.len(), 2, "{examined:?}");
    assert!(examined.wrong[0].contains("sequence shop.orders_id_seq is at 300, and shop.orders.id has 500 already"), "{examined:?}");
    assert!(examined.wrong[1].starts_with("index shop.orders_mark does not fit its table: "), "{examined:?}");
    client.batch_execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.orders_who'::regclass").await.unwrap();
    assert!(examine(&mut client, Depth::Quick).await.unwrap().wrong[0].contains("index shop.orders_who is not valid"));
}

#[tokio::test]
async fn an_index_whose_pages_are_damaged_is_found() {
    let server = Server::start();
    let mut client = server.connect().await;
    before(&mut client).await;
    client.batch_execute("DROP EXTENSION amcheck").await.unwrap();
    let path: String = client.query_one("SELECT pg_relation_filepath('shop.orders_who')", &[]).await.unwrap().get(0);
    drop(client);
    let server = server.restarted(|data| {
        let mut pages = std::fs::read(data.join(&path)).unwrap();
        // In the first leaf two entries change places: the order of their line pointers, behind the page's head, is that of the index.
        let (leaf, head, pointer) = (8192, 24, 4);
        for byte in 0..pointer {
            pages.swap(leaf + head + 4 * pointer + byte, leaf + head + 60 * pointer + byte);
        }
        std::fs::write(data.join(&path), pages).unwrap();
    });
    let mut client = server.connect().await;
    let examined = examine(&mut client, Depth::Full).await.unwrap();
    assert!(examined.wrong.iter().any(|wrong| wrong.starts_with("index shop.orders_who does not fit its table: ")), "{examined:?}");
    let left: i64 = client.query_one("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'", &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "what was needed for looking is gone again");
}

/// As the master user of RDS: no superuser, may make roles and grant them, owns nothing of what others made.
const MASTER: &str = "
    CREATE ROLE admin LOGIN CREATEROLE; CREATE ROLE owner_of_all LOGIN;
    GRANT CREATE ON DATABASE postgres TO owner_of_all;
    SET ROLE owner_of_all;
    CREATE SCHEMA theirs;
    CREATE TABLE theirs.things (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
    INSERT INTO theirs.things (what) SELECT 'thing ' || n FROM generate_series(1, 200) n;
    CREATE TABLE theirs.hidden (id int PRIMARY KEY);
    ALTER TABLE theirs.hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    RESET ROLE;
    CREATE TABLE public.of_the_server (id int);";

#[tokio::test]
async fn who_owns_nothing_reads_what_he_may_grant_himself_and_says_what_not() {
    let server = Server::start();
    let superuser = server.connect().await;
    superuser.batch_execute(MASTER).await.unwrap();
    let mut admin = server.connect_as("admin", "postgres").await;
    let found = record(&mut admin, Depth::Full).await.unwrap();
    assert_eq!(found.tables.as_ref().unwrap()["theirs.things"].rows, 200);
    assert_eq!(found.unread["theirs.hidden"], "a policy hides rows of it from admin");
    assert_eq!(found.unread["public.of_the_server"], "admin may not read it", "a superuser's table");
    let examined = examine(&mut admin, Depth::Full).await.unwrap();
    assert!(examined.wrong.is_empty(), "{examined:?}");
    assert!(examined.checked.contains(&"1 sequences that number a column: whether they are ahead of it".to_owned()), "{examined:?}");
    assert!(
        examined.skipped.iter().any(|line| line.contains("amcheck is not installed in this database and cannot be: permission denied")),
        "what was not looked at is not claimed: {examined:?}"
    );
    let member: i64 = superuser
        .query_one("SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = 'admin'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(member, 0, "what was lent for looking was taken back");
    // A table that one of the two could not read is not held against anything.
    superuser.batch_execute("INSERT INTO theirs.hidden VALUES (1); INSERT INTO of_the_server VALUES (1)").await.unwrap();
    let again = record(&mut admin, Depth::Full).await.unwrap();
    assert_eq!(differences(&found, &again), Vec::<String>::new());
}

#[tokio::test]
async fn numbers_that_a_crash_left_out_are_no_harm() {
    let server = Server::start();
    let mut client = server.connect().await;
    let expected = before(&mut client).await;
    client.batch_execute("SELECT nextval('shop.orders_id_seq')").await.unwrap();
    let found = record(&mut client, Depth::Full).await.unwrap();
    assert_eq!(differences(&expected, &found), Vec::<String>::new());
    assert_eq!(differences(&found, &expected).len(), 1, "and one that stands further back is");
}

#[tokio::test]
async fn nobody_writes_while_writes_are_held_and_everybody_reads() {
    let server = Server::start();
    let (mut client, writer) = (server.connect().await, server.connect().await);
    before(&mut client).await;
    let held = hold(&mut client, Duration::from_secs(5)).await.unwrap();
    let taken_down = held.record().await.unwrap();
    let blocked = writer.batch_execute("SET lock_timeout = '200ms'; INSERT INTO shop.lines VALUES (1, 'late')").await.unwrap_err();
    assert_eq!(blocked.code(), Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE));
    writer.batch_execute("SELECT count(*) FROM shop.lines").await.unwrap();
    held.is_held().await.unwrap();
    held.release().await.unwrap();
    let mut later = server.connect().await;
    assert_eq!(differences(&taken_down, &record(&mut later, Depth::Full).await.unwrap()), Vec::<String>::new());
    writer.batch_execute("INSERT INTO shop.lines VALUES (1, 'now')").await.unwrap();
    assert_eq!(differences(&taken_down, &record(&mut later, Depth::Full).await.unwrap()).len(), 1);
    // Whoever is writing is not waited for for ever.
    writer.batch_execute("BEGIN; INSERT INTO shop.lines VALUES (2, 'open')").await.unwrap();
    let refused = hold(&mut client, Duration::from_millis(200)).await.err().unwrap();
    assert!(format!("{refused:?}").contains("lock timeout"), "{refused:?}");
}

#[tokio::test]
async fn the_newest_commit_of_each_table_is_known_where_the_server_keeps_it() {
    let server = Server::start_with(&["track_commit_timestamp=on"]);
    let mut client = server.connect().await;
    before(&mut client).await;
    let first = watermark(&mut client, None).await.unwrap();
    let (at, table) = first.newest().unwrap();
    assert!(first.unknown.is_empty() && table == "shop.orders" && first.tables.len() == 2, "{first:?}");
    client.batch_execute("INSERT INTO shop.lines VALUES (1, 'one more')").await.unwrap();
    let second = watermark(&mut client, Some(Duration::from_secs(30))).await.unwrap();
    let (newest, table) = second.newest().unwrap();
    assert!(newest > at && table == "shop.lines" && second.tables["shop.orders"] == first.tables["shop.orders"], "{second:?}");
    // What came back is as it was before the last row: that row is lost, and nothing else.
    let gone = lost(&second, &first, at).unwrap();
    assert_eq!(gone.newest, Some((newest, "shop.lines".to_owned())));
    assert_eq!(gone.micros, newest.as_microsecond() - at.as_microsecond());
    let late = watermark(&mut client, Some(Duration::ZERO)).await.unwrap();
    assert!(lost(&late, &first, at).is_err() || late.unknown.is_empty(), "what there was no time for is unknown: {late:?}");
    let other = Server::start();
    let forgetful = watermark(&mut other.connect().await, None).await.unwrap();
    assert!(forgetful.unknown["every table"].contains("track_commit_timestamp") && forgetful.newest().is_none());
}
