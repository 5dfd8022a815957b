//! Histories and folders against each other, without a database.
use super::*;
use crate::database::scripts::Scripts;

fn folder(files: &[(&str, &str)]) -> Migrations {
    Migrations::of(&Scripts(files.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect())).unwrap()
}

fn entry(rank: i32, file: &Migration, kind: &str, success: bool) -> Entry {
    Entry {
        rank,
        version: file.sort.version().cloned(),
        description: file.description.clone(),
        script: file.script.clone(),
        checksum: Some(file.checksum),
        kind: kind.into(),
        success,
    }
}

const THREE: [(&str, &str); 3] = [("V1__a.sql", "a"), ("V2__b.sql", "b"), ("R__v.sql", "v")];

#[test]
fn what_is_new_is_pending_and_everything_else_that_differs_is_a_problem() {
    let files = folder(&THREE);
    assert_eq!(compare(&files, &[]).pending.len(), 3);
    let done: Vec<Entry> = files.files.iter().zip(1..).map(|(file, rank)| entry(rank, file, "SQL", true)).collect();
    let status = compare(&files, &done);
    assert_eq!((status.pending.len(), status.problems.len()), (0, 0));
    assert_eq!(status.version, Version::parse("2"));
    let changed = |name: &str, sql: &str| {
        let mut all = THREE.to_vec();
        all.retain(|file| file.0 != name);
        all.push((name, sql));
        compare(&folder(&all), &done)
    };
    assert_eq!(changed("R__v.sql", "v2").pending.len(), 1);
    assert!(changed("V1__a.sql", "x").problems[0].contains("changed after"));
    assert!(compare(&folder(&THREE[1..]), &done).problems[0].contains("missing"));
    assert!(changed("V1.5__late.sql", "l").problems[0].contains("late"));
    let failed = [entry(1, &files.files[0], "SQL", false)];
    let status = compare(&files, &failed);
    assert!(status.problems[0].contains("in part") && status.problems[0].contains("installed_rank = 1"), "{:?}", status.problems);
}

#[test]
fn what_was_undone_or_deleted_is_pending_again() {
    let files = folder(&[("V1__a.sql", "a"), ("V2__b.sql", "b"), ("U2__b.sql", "c"), ("R__v.sql", "v")]);
    for kind in ["DELETE", "UNDO_SQL"] {
        let mut history: Vec<Entry> = files.files.iter().zip(1..).map(|(file, rank)| entry(rank, file, "SQL", true)).collect();
        assert_eq!(compare(&files, &history).undo.as_deref(), Some("U2__b.sql"));
        history.push(entry(4, &files.files[1], kind, true));
        let status = compare(&files, &history);
        assert_eq!((status.pending.len(), status.problems.len(), status.version.clone()), (1, 0, Version::parse("1")), "{kind}");
        assert_eq!((status.undo, newest(&history).map(|entry| entry.rank)), (None, Some(1)));
        history.push(entry(5, &files.files[1], "SQL", true));
        assert_eq!((compare(&files, &history).pending.len(), newest(&history).map(|entry| entry.rank)), (0, Some(5)));
    }
}

#[test]
fn a_baseline_stands_for_everything_up_to_it() {
    let files = folder(&[("V1__a.sql", "a"), ("V2__b.sql", "b"), ("V3__c.sql", "c")]);
    let mut baseline = entry(1, &files.files[1], "BASELINE", true);
    baseline.checksum = None;
    let status = compare(&files, &[baseline]);
    assert_eq!(status.pending.iter().map(|file| file.script.as_str()).collect::<Vec<_>>(), ["V3__c.sql"]);
    assert_eq!((status.version, status.problems.len()), (Version::parse("2"), 0));
}

#[test]
fn what_cannot_be_run_as_it_stands_is_named_with_its_line() {
    for (sql, said) in [
        ("SELECT 1;\nSELECT '${schema}'", "V1__a.sql:2: Flyway puts a value"),
        ("CREATE TABLE t (a int);\nCOMMIT;\nSELECT 1", "V1__a.sql:2: COMMIT"),
        ("BEGIN; SELECT 1; END", "V1__a.sql:1: BEGIN"),
        ("COPY t FROM STDIN", "V1__a.sql:1: COPY FROM STDIN"),
        ("SELECT 1;\nVACUUM t", "V1__a.sql:2: VACUUM t: PostgreSQL runs it outside"),
    ] {
        let problems = compare(&folder(&[("V1__a.sql", sql)]), &[]).problems;
        assert!(problems.first().is_some_and(|problem| problem.starts_with(said)), "{sql}: {problems:?}");
    }
    for fine in ["SELECT '$x'", "SELECT 1 -- ${ open", "SAVEPOINT a; ROLLBACK TO SAVEPOINT a", "DO $$ BEGIN END $$"] {
        assert_eq!(compare(&folder(&[("V1__a.sql", fine)]), &[]).problems, Vec::<String>::new(), "{fine}");
    }
    let kept = folder(&[("V1__a.sql", "SELECT '${x}'"), ("V1__a.sql.conf", "placeholderReplacement=false")]);
    assert_eq!(compare(&kept, &[]).problems, Vec::<String>::new());
    // What is applied is applied: whoever ran it had the values.
    let old = folder(&[("V1__a.sql", "SELECT '${x}'")]);
    assert_eq!(compare(&old, &[entry(1, &old.files[0], "SQL", true)]).problems, Vec::<String>::new());
}
