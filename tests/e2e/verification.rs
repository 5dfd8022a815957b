//! What a report says of a restored database, held against what psql says: rows, the newest row that is lost, what is broken, what was restarted.
//! The sandbox has one machine: its cluster is lent to the DR region, as a stack that waits there would be.
use std::time::Instant;

use serde_json::Value;

use super::{
    commands::block_on,
    dr::{self, psql},
    target::{Target, text},
};

const DR: &str = "eu-west-1";
const SOURCE: &str = "deployctl-sandbox";

/// On a target where everything is deployed.
pub fn says_what_psql_says(target: &Target) {
    target.deployctl(&["dr", "prepare", "--yes"]).expect(0);
    let lent = target.sandbox(&["region", "lend", DR]);
    assert!(lent.status.success(), "{}", text(&lent));
    as_a_stack_there_would_be(target);
    make(target);
    let snapshot = taken_with_writes_paused(target);
    a_restore_of_it_is_held_against_it(target, &snapshot);
    what_is_broken_is_found(target);
    a_drill_measures_what_is_lost(target);
    assert!(target.sandbox(&["region", "take-back", DR]).status.success());
    nothing_is_claimed_where_nobody_can_look(target);
    its_record_goes_with_it(target, &snapshot);
}

/// Its parser reads that region's secrets, and may.
fn as_a_stack_there_would_be(target: &Target) {
    let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
        "Resource": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:deployctl/sandbox/*",
    }] });
    block_on(async {
        let iam = aws_sdk_iam::Client::new(&target.sdk("us-east-1"));
        let put = iam.put_role_policy().role_name("deployctl-sandbox-apps-parser").policy_name("there");
        put.policy_document(policy.to_string()).send().await.unwrap();
    });
    let store = r#"{"spec":{"provider":{"aws":{"region":"eu-west-1"}}}}"#;
    target.kubectl(&["-n", "apps", "patch", "secretstore", "parser", "--type", "merge", "-p", store]);
}

/// A table of the master user's, beside those of the parser's, which he may not read: the agent may.
fn make(target: &Target) {
    psql(
        target,
        SOURCE,
        "CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, cents int NOT NULL);
         CREATE INDEX ledger_cents ON ledger (cents);
         INSERT INTO ledger (cents) SELECT n FROM generate_series(1, 5000) n",
    );
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn lines<'a>(answer: &'a Value, key: &str) -> Vec<&'a str> {
    answer[key].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

fn has(lines: &[&str], said: &str) -> bool {
    lines.iter().any(|line| line.contains(said))
}

/// Somebody writes all the time; while the snapshot is taken he waits, and what was taken down is what the snapshot holds.
fn taken_with_writes_paused(target: &Target) -> String {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let out = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                psql(target, SOURCE, "INSERT INTO ledger (cents) VALUES (7)");
            }
        });
        let taken = target.deployctl(&["db", "snapshot", "--pause-writes", "2m", "--output", "json"]).expect(0);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
        taken
    });
    assert!(
        out.err.contains("writes are paused") && out.err.contains("is kept in s3://deployctl-sandbox-state-111122223333-eu-west-1"),
        "{}",
        out.err
    );
    // He has gone on since.
    psql(target, SOURCE, "INSERT INTO ledger (cents) VALUES (8)");
    json(&out.out).as_object().unwrap().keys().next().unwrap().clone()
}

fn a_restore_of_it_is_held_against_it(target: &Target, snapshot: &str) {
    let restored = ["dr", "restore", "--to", DR, "--snapshot", snapshot, "--yes", "--verify", "full", "--output", "json"];
    let restored = target.deployctl(&restored).expect(0);
    let answer = json(&restored.out);
    let database = answer["database"].as_str().unwrap();
    let (checked, unchecked) = (lines(&answer, "checked"), lines(&answer, "not_checked"));
    assert!(lines(&answer, "differs").is_empty() && lines(&answer, "wrong").is_empty(), "{answer:#}");
    // The report's numbers are those of psql.
    let tables = psql(
        target,
        database,
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND nspname !~ '^pg_|information_schema'",
    );
    assert!(has(&checked, &format!("held against it, row by row: {tables} tables with ")), "{answer:#}");
    let indexes = psql(
        target,
        database,
        "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_|information_schema'",
    );
    assert!(
        has(&checked, &format!("{indexes} indexes: whether they can be used")) && has(&checked, "indexes against their tables"),
        "{answer:#}"
    );
    let version =
        "BEGIN; GRANT parser_migrate TO CURRENT_USER; SELECT max(version::int) FROM flyway_schema_history WHERE success; ROLLBACK";
    let version = psql(target, database, version);
    assert!(has(&checked, &format!("schema: its newest migration is {version} ")), "{answer:#}");
    assert!(has(&unchecked, "a file through the whole system"), "{answer:#}");
    assert_eq!((answer["rpo"]["bound"].as_str(), answer["rpo"]["measured"].is_null()), (Some("at-most"), true), "a restore asks no source");
    // What read the old address reads the new one, and was named before.
    assert_eq!(lines(&answer, "readers"), ["Deployment apps/parser"]);
    let env = target.kubectl(&["-n", "apps", "get", "secret", "database-address", "-o", "jsonpath={.data.host}"]);
    assert_eq!(env, base64::Engine::encode(&base64::prelude::BASE64_STANDARD, answer["host"].as_str().unwrap()));
    let pods = target.kubectl(&[
        "-n",
        "apps",
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=parser",
        "-o",
        "jsonpath={.items[*].metadata.annotations.deployctl/started-for}",
    ]);
    assert_eq!(pods, format!("{}:{}", answer["host"].as_str().unwrap(), answer["port"]));
    // And it is done once.
    let again = ["dr", "restore", "--to", DR, "--snapshot", snapshot, "--yes"];
    let again = target.deployctl(&again).expect(0);
    assert!(again.out.contains("Nothing had to be changed"), "{}", again.out);
}

/// Replication has ended and nobody has noticed: what is written from then on is lost. The report says which is the newest, to the microsecond.
fn a_drill_measures_what_is_lost(target: &Target) {
    psql(target, SOURCE, "CREATE TABLE last_words (id int); INSERT INTO last_words VALUES (1)");
    wait_until_replicated(target);
    block_on(async {
        let source = format!("arn:aws:rds:us-east-1:111122223333:db:{SOURCE}");
        let client = aws_sdk_rds::Client::new(&target.sdk(DR));
        client.stop_db_instance_automated_backups_replication().source_db_instance_arn(source).send().await.unwrap();
    });
    psql(target, SOURCE, "INSERT INTO last_words VALUES (2)");
    let newest = "SELECT to_char(max(pg_xact_commit_timestamp(xmin)) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') FROM last_words";
    let newest: jiff::Timestamp = format!("{}Z", psql(target, SOURCE, newest)).parse().unwrap();
    let drilled = target.deployctl(&["dr", "drill", "--yes", "--output", "json"]).expect(0);
    let answer = json(&drilled.out);
    let rpo = &answer["rpo"];
    assert_eq!(rpo["bound"], "exact", "{answer:#}");
    let measured = &rpo["measured"];
    let time = |name: &str| measured[name].as_str().map(|text| text.parse::<jiff::Timestamp>().unwrap());
    assert_eq!(time("source_newest"), Some(newest), "{answer:#}");
    let holds: jiff::Timestamp = answer["holds_until"].as_str().unwrap().parse().unwrap();
    assert!(time("lost_newest") == Some(newest) && newest > holds && measured["lost_from"] == "public.last_words", "{answer:#}");
    let from = time("restored_newest").map_or(holds, |restored| restored.max(holds));
    let seconds = newest.duration_since(from).as_secs_f64();
    assert!((measured["seconds"].as_f64().unwrap() - seconds).abs() < 1e-6 && seconds > 0.0, "{answer:#}");
    assert!(rpo["seconds"].as_i64().unwrap() <= 1 + newest.duration_since(holds).as_secs(), "{answer:#}");
    assert!(has(&lines(&answer, "not_checked"), "a drill says its address to nobody"), "{answer:#}");
}

/// Broken at the source, copied, restored: found, with exit code 16, and the database is there all the same.
fn what_is_broken_is_found(target: &Target) {
    psql(target, SOURCE, "SELECT setval('ledger_id_seq', 1)");
    psql(target, SOURCE, "ALTER TABLE ledger ADD CONSTRAINT late CHECK (cents > 0) NOT VALID; CREATE TABLE after_all (id int)");
    wait_until_replicated(target);
    let drilled = target.deployctl(&["dr", "drill", "--yes", "--verify", "full", "--output", "json"]).expect(16);
    let answer = json(&drilled.out);
    assert!(has(&lines(&answer, "wrong"), "sequence public.ledger_id_seq is at 1, and public.ledger.id has "), "{answer:#}");
    assert!(answer["rpo"]["bound"] == "exact" && answer["rpo"]["seconds"] == 0, "nobody has written since: {answer:#}");
    assert!(drilled.err.contains("is restored, but sequence public.ledger_id_seq"), "{}", drilled.err);
    psql(target, SOURCE, "SELECT setval('ledger_id_seq', (SELECT max(id) FROM ledger))");
}

/// Until the DR region's newest point holds what was written before.
fn wait_until_replicated(target: &Target) {
    dr::wait_until_replicated(target, &jiff::Timestamp::now());
}

fn nothing_is_claimed_where_nobody_can_look(target: &Target) {
    let drilled = target.deployctl(&["dr", "drill", "--yes", "--output", "json"]).expect(0);
    let answer = json(&drilled.out);
    assert!(lines(&answer, "checked").is_empty(), "{answer:#}");
    assert!(has(&lines(&answer, "not_checked"), "no cluster deployctl-sandbox is prepared in eu-west-1"), "{answer:#}");
    assert_eq!(answer["rpo"]["bound"], "at-most");
    assert!(answer["rpo"]["not_exact"].as_str().unwrap().contains("nobody has looked"), "{answer:#}");
}

/// What was taken down of a snapshot is kept as long as the snapshot, and no longer.
fn its_record_goes_with_it(target: &Target, snapshot: &str) {
    let (bucket, record) = ("deployctl-sandbox-state-111122223333-eu-west-1", format!("deployctl/snapshots/{snapshot}.json"));
    let is_kept = || {
        let listed = block_on(target.s3(DR).list_objects_v2().bucket(bucket).prefix(&record).send()).unwrap();
        !listed.contents().is_empty()
    };
    assert!(is_kept());
    target.deployctl(&["db", "snapshot"]).expect(0);
    let pruned = target.deployctl(&["db", "prune", "--keep", "1", "--days", "0", "--yes"]).expect(0);
    for said in [format!("deleted {snapshot} in {DR}"), format!("deleted s3://{bucket}/{record}")] {
        assert!(pruned.err.contains(&said), "{said}: {}", pruned.err);
    }
    assert!(!is_kept());
}

/// A database of a gigabyte, restored from a snapshot that was taken with writes paused, every row held against it; each part's time is printed.
pub fn of_a_gigabyte(target: &Target) {
    target.deployctl(&["dr", "prepare", "--yes"]).expect(0);
    assert!(target.sandbox(&["region", "lend", DR]).status.success());
    as_a_stack_there_would_be(target);
    let began = Instant::now();
    psql(
        target,
        SOURCE,
        "CREATE TABLE bulk (id bigint PRIMARY KEY, who text NOT NULL, what text NOT NULL, at timestamptz NOT NULL DEFAULT now());
         INSERT INTO bulk SELECT n, md5(n::text), repeat(md5((n * 7)::text), 2), '2026-11-29'::timestamptz + n * interval '1 s' FROM generate_series(1, 5500000) n;
         CREATE INDEX bulk_who ON bulk (who)",
    );
    let bytes: u64 = psql(target, SOURCE, "SELECT pg_database_size(current_database())").parse().unwrap();
    assert!(bytes > 1 << 30, "{bytes} bytes");
    eprintln!("seeded {bytes} bytes in {:.1} s", began.elapsed().as_secs_f64());
    let taken = target.deployctl(&["db", "snapshot", "--pause-writes", "20m", "--output", "json"]).expect(0);
    let snapshot = json(&taken.out).as_object().unwrap().keys().next().unwrap().clone();
    eprintln!("snapshot with writes paused, its record, and its copy: {:.1} s", taken.seconds);
    let restore = ["dr", "restore", "--to", DR, "--snapshot", &snapshot, "--yes", "--verify", "full", "--output", "json"];
    let restored = target.deployctl(&restore).expect(0);
    let answer = json(&restored.out);
    for phase in answer["rto"]["phases"].as_array().unwrap() {
        let time = |name: &str| phase[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        eprintln!("{:8.1} s  {}", time("to").duration_since(time("from")).as_secs_f64(), phase["name"].as_str().unwrap());
    }
    eprintln!("RTO {:.1} s of {:.1} s that the command took", answer["rto"]["seconds"].as_f64().unwrap(), restored.seconds);
    assert!(lines(&answer, "differs").is_empty() && lines(&answer, "wrong").is_empty(), "{answer:#}");
    let rows = psql(target, answer["database"].as_str().unwrap(), "SELECT count(*), sum(id) FROM bulk");
    assert_eq!(rows, format!("5500000|{}", 5_500_000u64 * 5_500_001 / 2));
    assert!(target.sandbox(&["region", "take-back", DR]).status.success());
}
