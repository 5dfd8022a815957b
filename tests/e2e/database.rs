//! The database commands as somebody types them at night: those of plans/runbooks/migration-failed.md, each on it, in its order.
use std::{path::Path, time::Duration};

use super::{
    copy::Copy,
    target::{Ended, Target, text},
};

const PAGE: &str = include_str!("../../plans/runbooks/migration-failed.md");

/// What `psql` says as the master user.
fn psql(target: &Target, query: &str) -> String {
    // By its name: after a restore there are two.
    text(&target.sandbox(&["exec", "--database", "deployctl-sandbox", "psql", "-Atc", query])).trim().to_owned()
}

fn tables(target: &Target, name: &str) -> String {
    psql(target, &format!("SELECT count(*) FROM pg_tables WHERE tablename = '{name}'"))
}

/// Commands of the page on a copy of the project; each is crossed off.
struct Night<'a> {
    target: &'a Target,
    copy: Copy,
    left: Vec<String>,
}

impl Night<'_> {
    fn migration(&self, name: &str, sql: &str) {
        std::fs::write(self.copy.path("services/parser/migrations").join(name), sql).unwrap();
    }

    fn take_out(&self, name: &str) {
        std::fs::remove_file(self.copy.path("services/parser/migrations").join(name)).unwrap();
    }

    /// The page's command that begins so, its placeholders filled in.
    fn typed(&mut self, beginning: &str, values: &[(&str, &str)]) -> Vec<String> {
        let command = PAGE.lines().find(|line| line.starts_with(beginning)).unwrap_or_else(|| panic!("`{beginning}` is not on the page"));
        self.left.retain(|left| left != command);
        let command = values.iter().fold(command.replace(" -e ENV", ""), |command, (name, value)| command.replace(name, value));
        command.replace("ENV", "sandbox").split(' ').skip(1).map(str::to_owned).collect()
    }

    fn run(&mut self, beginning: &str, values: &[(&str, &str)], more: &[&str]) -> Ended {
        let typed = self.typed(beginning, values);
        let project = self.copy.path("");
        let args: Vec<&str> =
            typed.iter().map(String::as_str).chain(["--project", project.to_str().unwrap()]).chain(more.iter().copied()).collect();
        self.target.deployctl(&args)
    }
}

fn night(target: &Target) -> Night<'_> {
    let left = PAGE.split("```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect();
    Night { target, copy: Copy::new(), left }
}

/// What changes nothing, short enough for every day.
pub fn is_looked_at(target: &Target) {
    let mut night = night(target);
    night.migration("V90__notes.sql", "CREATE TABLE notes (id int);\n");
    night.migration("V91__gone.sql", "SELECT 1;\nDROP TABLE outbox;\n");
    let dry = night.run("deployctl db migrate --dry-run", &[], &[]).expect(18);
    for said in ["pending V90__notes.sql", "looked as parser_read, which can write nothing", "parsed 3 statements and ran none"] {
        assert!(dry.out.contains(said), "no `{said}` in\n{}", dry.out);
    }
    for said in ["V91__gone.sql:2: DROP TABLE outbox", "ban-drop-table", "deployctl:allow ban-drop-table because"] {
        assert!(dry.err.contains(said), "no `{said}` in\n{}", dry.err);
    }
    let listed = night.run("deployctl db list", &[], &[]).expect(0);
    for region in ["us-east-1", "eu-west-1"] {
        let line = listed.out.lines().find(|line| line.contains(region)).unwrap_or_default();
        assert!(line.contains("keep    the newest that can be restored"), "{}", listed.out);
    }
}

/// The whole page.
pub fn is_brought_back(target: &Target) {
    is_looked_at(target);
    let mut night = night(target);
    night.migration("V90__notes.sql", "CREATE TABLE notes (id int);\n");
    night.migration("U90__notes.sql", "DROP TABLE notes;\n");
    night.migration("V91__gone.sql", "DROP TABLE outbox;\n");
    night.run("deployctl db migrate -e", &[], &["--yes"]).expect(18);
    assert_eq!((tables(target, "notes"), tables(target, "outbox")), ("0".to_owned(), "1".to_owned()));
    night.take_out("V91__gone.sql");
    assert!(night.run("deployctl db status", &[], &[]).expect(0).out.contains("pending V90__notes.sql"));
    night.run("deployctl db migrate --dry-run", &[], &[]).expect(0);
    night.run("deployctl db migrate -e", &[], &["--yes"]).expect(0);
    assert_eq!(tables(target, "notes"), "1");
    let undone = night.run("deployctl db undo", &[("VERSION", "90")], &["--yes"]).expect(0);
    assert!(undone.out.contains("U90__notes.sql ran"), "{}", undone.out);
    assert_eq!(tables(target, "notes"), "0");
    let twice = night.run("deployctl db undo", &[("VERSION", "90")], &["--yes"]).expect(0);
    assert!(twice.out.contains("nothing to take back"), "{}", twice.out);
    night.take_out("V90__notes.sql");
    night.take_out("U90__notes.sql");

    // Damaged data, and the snapshot from before.
    let taken = target.deployctl(&["db", "snapshot"]).expect(0);
    let snapshot = taken.out.split(' ').next().unwrap().to_owned();
    let rows = psql(target, "SELECT count(*) FROM pg_roles");
    night.migration("V91__damage.sql", "CREATE TABLE damage (id int);\n");
    night.run("deployctl db migrate -e", &[], &["--yes"]).expect(0);
    night.take_out("V91__damage.sql");
    assert!(night.run("deployctl db list", &[], &[]).expect(0).out.contains(&snapshot));
    let restore = night.typed("deployctl db restore", &[("SNAPSHOT", &snapshot)]);
    let restore: Vec<&str> = restore.iter().map(String::as_str).collect();
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut killed = target.deployctl_started(&restore, said.path());
    let end = std::time::Instant::now() + Duration::from_secs(120);
    while !std::fs::read_to_string(said.path()).unwrap().contains("renaming") {
        assert!(
            std::time::Instant::now() < end && killed.try_wait().unwrap().is_none(),
            "{}",
            std::fs::read_to_string(said.path()).unwrap()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let restored = target.deployctl_set(&[&restore[..], &["--lock-timeout", "60s"]].concat(), &[] as &[(&str, &Path)]).expect(0);
    for said in [
        "is restored from",
        "before",
        "aws_db_instance.database is db-",
        "aws_db_instance_automated_backups_replication.database[\"replica\"] is arn:",
    ] {
        assert!(restored.out.contains(said), "{said}: {}", restored.out);
    }
    night.run("deployctl apply", &[], &["--yes"]).expect(0);
    assert_eq!((tables(target, "damage"), psql(target, "SELECT count(*) FROM pg_roles")), ("0".to_owned(), rows));
    target.deployctl(&["plan", "--detailed-exitcode"]).expect(0);
    target.deployctl(&["smoke"]).expect(0);

    let pruned = target.deployctl(&["db", "prune", "--keep", "1", "--days", "0", "--yes"]).expect(0);
    assert!(pruned.out.contains("delete") && pruned.out.contains("snapshots deleted"), "{}", pruned.out);
    let left = target.deployctl(&["db", "list"]).expect(0);
    assert_eq!(left.out.lines().filter(|line| line.contains("available")).count(), 2, "one in each region:\n{}", left.out);
    assert_eq!(night.left, [""; 0], "no test types these commands of the page");
}
