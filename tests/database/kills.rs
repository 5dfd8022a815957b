//! Migrators killed at each statement, and run again: what is there is always what some whole number of files makes, except for the one file
//! that runs outside a transaction, and that one is gone on with.
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use deployctl::database::migrate::{MigrateError, Patience};
use tokio_postgres::Client;

use crate::{
    lines, migrate,
    server::{Server, connect, folder, write},
};

/// Ends the session at the Nth event: before and after each command that changes the schema, and at each statement that writes rows.
const KILLER: &str = "
    CREATE SCHEMA killer;
    CREATE SEQUENCE killer.events;
    CREATE TABLE killer.plan (at bigint);
    INSERT INTO killer.plan VALUES (0);
    CREATE FUNCTION killer.count() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        -- Now and then nextval takes a transaction id, and DROP INDEX CONCURRENTLY, with which a second run begins, must come before any.
        IF (SELECT at FROM killer.plan) = 0 THEN RETURN; END IF;
        IF nextval('killer.events') = (SELECT at FROM killer.plan) THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
            PERFORM pg_sleep(10);
        END IF;
    END $$;
    CREATE FUNCTION killer.on_command() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM killer.count(); END';
    CREATE FUNCTION killer.on_rows() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM killer.count(); RETURN NULL; END';
    CREATE TABLE data (id int, text text);
    CREATE TRIGGER killer BEFORE INSERT OR UPDATE OR DELETE ON data EXECUTE FUNCTION killer.on_rows();";
/// The history table and its writes too; event triggers last, or they would count what sets them up.
const ARMED: &str = "
    CREATE TRIGGER killer BEFORE INSERT OR UPDATE ON flyway_schema_history EXECUTE FUNCTION killer.on_rows();
    CREATE TRIGGER killer_after AFTER INSERT OR UPDATE ON flyway_schema_history EXECUTE FUNCTION killer.on_rows();
    CREATE EVENT TRIGGER killer_start ON ddl_command_start EXECUTE FUNCTION killer.on_command();
    CREATE EVENT TRIGGER killer_end ON ddl_command_end EXECUTE FUNCTION killer.on_command();";

/// What there is: tables with their columns, views, indexes with whether they can be used, rows, history.
async fn schema(client: &Client) -> Vec<String> {
    let mut all = Vec::new();
    for query in [
        "SELECT c.relname || '.' || a.attname || ' ' || a.atttypid::regtype || ' ' || a.attnotnull
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY 1",
        "SELECT indexrelid::regclass || ' ' || indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT id || ' ' || coalesce(text, '') FROM data ORDER BY 1",
        "SELECT installed_rank || ' ' || script || ' ' || coalesce(checksum, 0) || ' ' || success FROM flyway_schema_history ORDER BY installed_rank",
    ] {
        all.extend(lines(client, query).await);
    }
    all
}

/// A small generator of its own: a failing seed can be tried again alone.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Files of a few statements each, one of them outside a transaction.
fn files(seed: u64) -> Vec<(String, String)> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9).wrapping_add(1));
    let (mut files, mut tables, mut made) = (Vec::new(), 0_u64, 0_u64);
    let count = 3 + random.below(2);
    let concurrent = 1 + random.below(count - 1);
    for version in 0..count {
        let mut statements = Vec::new();
        if version == concurrent {
            for _ in 0..=random.below(2) {
                made += 1;
                statements.push(format!("CREATE INDEX CONCURRENTLY i{made} ON data (id, (id + {made}))"));
            }
            statements.push("COMMENT ON TABLE data IS 'outside'".to_owned());
            files.push((format!("V{}__outside.sql.conf", version + 1), "executeInTransaction=false".to_owned()));
            files.push((format!("V{}__outside.sql", version + 1), statements.join(";\n")));
            continue;
        }
        for _ in 0..2 + random.below(3) {
            made += 1;
            statements.push(match random.below(6) {
                _ if tables == 0 => {
                    tables += 1;
                    format!("CREATE TABLE t{tables} (id int PRIMARY KEY)")
                }
                0 => {
                    tables += 1;
                    format!("CREATE TABLE t{tables} (id int, a text NOT NULL DEFAULT 'x')")
                }
                1 => format!("ALTER TABLE t{} ADD COLUMN c{made} int", 1 + random.below(tables)),
                2 => format!("INSERT INTO data SELECT {made}, 'row'"),
                3 => format!("UPDATE data SET text = 'u{made}' WHERE id % 2 = 0"),
                4 => format!(
                    "-- deployctl:allow require-concurrent-index-creation because nobody uses a test's table\nCREATE INDEX i{made} ON t{} (id)",
                    1 + random.below(tables)
                ),
                _ => format!("CREATE VIEW v{made} AS SELECT id FROM t{}", 1 + random.below(tables)),
            });
        }
        files.push((format!("V{}__inside.sql", version + 1), statements.join(";\n")));
    }
    files.push(("R__view.sql".to_owned(), "CREATE OR REPLACE VIEW all_data AS SELECT id FROM data".to_owned()));
    files
}

/// Kills a migrator at every event that the files of this seed have; gives how many there were.
async fn kill_at_each(server: &Server, seed: u64) -> usize {
    let files = files(seed);
    let all: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let (whole, template) = (folder(&all), format!("template_{seed}"));
    let admin = server.connect().await;
    admin.batch_execute(&format!("CREATE DATABASE {template}")).await.unwrap();
    {
        let mut client = server.connect_as("postgres", &template).await;
        client.batch_execute(KILLER).await.unwrap();
        // The history table, with nothing in it.
        migrate(&mut client, folder(&[]).path(), Patience::default()).await.unwrap();
        client.batch_execute(ARMED).await.unwrap();
    }
    let fresh = async |name: &str| {
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
        server.connect_as("postgres", name).await
    };
    // What every whole number of files makes.
    let mut stages = BTreeSet::new();
    {
        let mut client = fresh(&format!("stages_{seed}")).await;
        stages.insert(schema(&client).await);
        let growing = folder(&[]);
        let scripts = all.iter().filter(|(name, _)| name.ends_with(".sql"));
        for (name, text) in scripts {
            let conf = format!("{name}.conf");
            write(growing.path(), &[(name, text)]);
            if let Some((_, text)) = all.iter().find(|(other, _)| *other == conf) {
                write(growing.path(), &[(&conf, text)]);
            }
            migrate(&mut client, growing.path(), Patience::default()).await.unwrap();
            stages.insert(schema(&client).await);
        }
    }
    let last = stages.iter().max_by_key(|stage| stage.len()).cloned().unwrap();
    for at in 1..10_000_usize {
        let name = format!("killed_{seed}_{at}");
        let mut client = fresh(&name).await;
        client.batch_execute(&format!("UPDATE killer.plan SET at = {at}")).await.unwrap();
        let killed = migrate(&mut client, whole.path(), Patience::default()).await;
        let mut client = server.connect_as("postgres", &name).await;
        let found = schema(&client).await;
        client.batch_execute("UPDATE killer.plan SET at = 0").await.unwrap();
        let Err(killed) = killed else {
            assert_eq!(found, last, "seed {seed}, not killed");
            return at - 1;
        };
        let begun = found.iter().any(|line| line.contains("__outside.sql ") && line.ends_with(" false"));
        assert!(begun || stages.contains(&found), "seed {seed}, killed at {at} ({killed}): neither before nor after\n{}", found.join("\n"));
        match &killed {
            // Only what is told to be rolled back is.
            MigrateError::RolledBack { script, .. } => {
                assert!(
                    !found.iter().any(|line| line.contains(script.as_str())),
                    "seed {seed}, killed at {at}: {killed}\n{}",
                    found.join("\n")
                );
            }
            MigrateError::InPart { .. } => assert!(begun, "seed {seed}, killed at {at}: {killed}"),
            MigrateError::Commit { .. } | MigrateError::Database(_) => {}
            other => panic!("seed {seed}, killed at {at}: {other:?}"),
        }
        migrate(&mut client, whole.path(), Patience::default())
            .await
            .unwrap_or_else(|error| panic!("seed {seed}, again after {at}: {error}"));
        assert_eq!(schema(&client).await, last, "seed {seed}, killed at {at} and run again");
        drop(client);
        admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    }
    panic!("seed {seed}: more events than anybody writes");
}

#[tokio::test]
async fn killed_at_each_statement_and_run_again() {
    let server = Server::start();
    let seeds = if std::env::var_os("DEPLOYCTL_SOAK").is_some() { 40 } else { 1 };
    let (started, mut kills) = (Instant::now(), 0);
    for seed in 0..seeds {
        kills += kill_at_each(&server, seed).await;
    }
    eprintln!("{seeds} generated folders, {kills} sessions killed and run again, {} s", started.elapsed().as_secs());
    assert!(kills > 20 * usize::try_from(seeds).unwrap(), "only {kills} kills");
}

/// A migrator as a process of its own.
struct Migrator(Child);

impl Migrator {
    fn start(server: &Server, files: &Path) -> Self {
        let (socket, port) = server.place();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "kills::a_migrator_of_its_own", "--ignored"]).env("SOCKET", socket).env("PORT", port.to_string());
        Self(command.env("FILES", files).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Not a test: what [`Migrator`] starts.
#[tokio::test]
#[ignore = "a helper process of the next tests"]
async fn a_migrator_of_its_own() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let mut client = connect(Path::new(&variable("SOCKET")), variable("PORT").parse().unwrap(), "postgres", "postgres").await;
    migrate(&mut client, Path::new(&variable("FILES")), Patience::default()).await.unwrap();
}

async fn until(client: &Client, what: &str, query: &str) {
    let started = Instant::now();
    while lines(client, query).await.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what} within 20 s");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test]
async fn a_killed_process_is_noticed_and_rolled_back_and_the_next_one_goes_on() {
    let server = Server::start();
    let mut client = server.connect().await;
    let files = folder(&[("V1__a.sql", "CREATE TABLE a (id int);\nSELECT pg_sleep(60);"), ("V2__b.sql", "CREATE TABLE b (id int);")]);
    let migrator = Migrator::start(&server, files.path());
    until(
        &client,
        "the migration begins",
        "SELECT 'x' FROM pg_stat_activity WHERE query LIKE 'CREATE TABLE a%' AND wait_event = 'PgSleep'",
    )
    .await;
    migrator.kill();
    write(files.path(), &[("V1__a.sql", "CREATE TABLE a (id int);")]);
    let started = Instant::now();
    let report = migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    assert_eq!(report.ran.len(), 2);
    assert!(started.elapsed() < Duration::from_secs(10), "the dead one's session went on for {:?}", started.elapsed());
}

#[tokio::test]
async fn a_process_killed_while_an_index_is_built_leaves_it_invalid_and_the_next_one_builds_it() {
    let server = Server::start();
    let mut client = server.connect().await;
    let files = folder(&[("V1__t.sql", "CREATE TABLE t (id int);")]);
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    let old = server.connect().await;
    old.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    write(files.path(), &[("V2__index.sql", "CREATE INDEX CONCURRENTLY t_id ON t (id);")]);
    let migrator = Migrator::start(&server, files.path());
    until(&client, "the index is begun", "SELECT 'x' FROM pg_index WHERE indexrelid = to_regclass('t_id') AND NOT indisvalid").await;
    migrator.kill();
    until(&client, "the dead one's session ends", "SELECT 'x' WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND pid <> pg_backend_pid())").await;
    old.batch_execute("COMMIT").await.unwrap();
    let row = "SELECT version || success FROM flyway_schema_history ORDER BY installed_rank";
    assert_eq!(lines(&client, row).await, ["1true", "2false"]);
    let report = migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    assert!(report.repaired.iter().any(|line| line.contains("DROP INDEX CONCURRENTLY public.t_id")), "{:?}", report.repaired);
    assert_eq!(lines(&client, "SELECT indisvalid::text FROM pg_index WHERE indexrelid = 't_id'::regclass").await, ["true"]);
    assert_eq!(lines(&client, row).await, ["1true", "2true"]);
}
