//! plans/runbooks/migration-failed.md: each SQL block on it is executed where it is said to help, and each deployctl command is one that can be
//! typed (tests/e2e/database.rs types them). A block that no test runs fails.
use std::time::Duration;

use clap::Parser;
use deployctl::database::migrate::Patience;

use crate::{
    lines, migrate,
    server::{Server, folder, write},
    status,
};

const PAGE: &str = include_str!("../../plans/runbooks/migration-failed.md");

/// The page's blocks in one language; each is taken once it was run.
struct Blocks(Vec<String>);

impl Blocks {
    fn of(language: &str) -> Self {
        let fence = format!("```{language}\n");
        Self(PAGE.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().trim().to_owned()).collect())
    }
    /// The block with this text in it.
    fn take(&mut self, text: &str) -> String {
        let at =
            self.0.iter().position(|block| block.contains(text)).unwrap_or_else(|| panic!("no block with {text:?} is left on the page"));
        self.0.remove(at)
    }
}

#[tokio::test]
async fn each_statement_helps_where_the_page_says_so() {
    let mut page = Blocks::of("sql");
    let server = Server::start();
    let mut client = server.connect().await;
    let person = server.connect().await;
    let files = folder(&[("V1__t.sql", "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1);")]);
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();

    // Section 3: somebody holds the table.
    let holder = server.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE").await.unwrap();
    write(files.path(), &[("V2__column.sql", "ALTER TABLE t ADD COLUMN a int;")]);
    let (who, long, end) = (page.take("pg_blocking_pids"), page.take("xact_start < now()"), page.take("pg_terminate_backend(PID)"));
    let patience = Patience { table_lock: Duration::from_secs(15), ..Patience::default() };
    let (ran, ()) = tokio::join!(migrate(&mut client, files.path(), patience), async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let blocked = person.query_one(&who, &[]).await.unwrap();
        assert!(blocked.get::<_, String>("query").starts_with("ALTER TABLE t"));
        let pid: i32 = blocked.get("blocking_pid");
        let since = person.query(&long, &[]).await.unwrap();
        assert!(since.iter().any(|row| row.get::<_, i32>("pid") == pid), "the long transaction is not listed");
        assert!(person.query_one(&end.replace("PID", &pid.to_string()), &[]).await.unwrap().get::<_, bool>(0));
    });
    ran.unwrap();

    // Section 4: a unique index that fails, and goes on.
    write(files.path(), &[("V3__unique.sql", "CREATE UNIQUE INDEX CONCURRENTLY t_id ON t (id);")]);
    migrate(&mut client, files.path(), Patience::default()).await.unwrap_err();
    let begun = page.take("WHERE NOT success");
    assert_eq!(person.query_one(&begun, &[]).await.unwrap().get::<_, String>("script"), "V3__unique.sql");
    // Section 5 sees what it left too.
    let (invalid, making, drop) = (page.take("WHERE NOT indisvalid"), page.take("pg_stat_progress_create_index"), page.take("DROP INDEX"));
    assert_eq!(lines(&person, &invalid.replace("AS index", "::text AS index")).await, ["t_id"]);
    assert!(person.query(&making, &[]).await.unwrap().is_empty());
    person.batch_execute("DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t)").await.unwrap();
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();

    // Section 5: an index of somebody else's.
    person.batch_execute("INSERT INTO t VALUES (1, 2), (2, 2)").await.unwrap_err();
    person.batch_execute("INSERT INTO t VALUES (2, 2), (3, 2)").await.unwrap();
    person.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)").await.unwrap_err();
    write(files.path(), &[("V4__index.sql", "CREATE INDEX CONCURRENTLY t_a ON t (a);")]);
    let refused = migrate(&mut client, files.path(), Patience::default()).await.unwrap_err();
    assert!(refused.to_string().contains("INVALID"), "{refused}");
    person.batch_execute(&drop.replace("INDEX_NAME", "public.t_a")).await.unwrap();
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();

    // Section 4: what can't be gone on with.
    write(
        files.path(),
        &[("V5__rows.sql", "INSERT INTO t VALUES (9);\nSELECT 1 / 0;"), ("V5__rows.sql.conf", "executeInTransaction=false")],
    );
    migrate(&mut client, files.path(), Patience::default()).await.unwrap_err();
    let rank: i32 = person.query_one(&begun, &[]).await.unwrap().get("installed_rank");
    person.batch_execute(&format!("DELETE FROM t WHERE id = 9; {}", page.take("RANK").replace("RANK", &rank.to_string()))).await.unwrap();
    write(files.path(), &[("V5__rows.sql", "INSERT INTO t VALUES (9);")]);
    migrate(&mut client, files.path(), Patience::default()).await.unwrap();
    let found = status(&client, files.path()).await.unwrap();
    assert_eq!((found.pending.len(), found.problems.len()), (0, 0));
    assert_eq!(page.0, [""; 0], "no test runs these blocks of the page");
}

#[test]
fn each_command_can_be_typed() {
    let commands = Blocks::of("sh").0;
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let typed = command.replace("ENV", "sandbox").replace("VERSION", "2").replace("SNAPSHOT", "deployctl-sandbox-manual-1");
        deployctl::cli::Cli::try_parse_from(typed.split_whitespace()).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}
