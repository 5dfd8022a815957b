//! The region is lost, for real: its calls hang, its database stops. What is asked of it afterwards fails the test; the data comes back elsewhere.
use std::{
    path::Path,
    time::{Duration, Instant},
};

use aws_sdk_rds::config::{BehaviorVersion, Region};
use serde_json::Value;

use super::{
    commands::block_on,
    machines,
    target::{Ended, Target, project, text},
};

const LOST: &str = "us-east-1";
const DR: &str = "eu-west-1";
const PATIENCE: Duration = Duration::from_secs(90);

/// Everything, on a target whose database is there and replicated.
pub fn brings_the_database_back(target: &Target) {
    nothing_is_restored_into_nowhere(target);
    a_lost_machine_is_declared_dead(target);
    let again = target.deployctl(&["dr", "prepare", "--yes"]).expect(0);
    assert!(again.out.contains("Nothing had to be changed"), "{}", again.out);
    let written = write_marks(target);
    let newest = wait_until_replicated(target, &written);
    a_drill_leaves_nothing_behind(target);
    let lost = an_upload_is_deleted(target);

    assert!(target.sandbox(&["region", "down", LOST]).status.success());
    assert!(text(&target.sandbox(&["region", "status"])).contains("us-east-1  down"));
    let lost_at = jiff::Timestamp::now();
    it_is_known_what_a_restore_would_do(target);
    its_copy_comes_back(target, &lost);
    let database = killed_and_gone_on_with(target, lost_at);
    it_holds_what_was_written(target, &database);
    the_page_works(target, "dr-restore.md");
    two_at_once(target, &newest);
    a_taken_name_is_left_alone(target, &newest);
    nobody_asked_the_lost_region(target, lost_at);
    assert!(target.sandbox(&["region", "up", LOST]).status.success());
    let home = psql(target, "deployctl-sandbox", "SELECT count(*) FROM marks");
    assert_eq!(home, "1000", "the old instance was left alone");
    the_page_works(target, "drill.md");
    forget(target);
}

/// The first `dr prepare` ends with its machine, and terraform in the middle of its work.
fn a_lost_machine_is_declared_dead(target: &Target) {
    machines::lose_a_runner(target, &["dr", "prepare"], "ec2:CreateSubnet");
    let refused = target.deployctl(&["dr", "prepare", "--yes", "--lock-timeout", "40s"]).expect(14);
    let says = ["lost-runner", "deployctl lock -e sandbox release --dr", "deployctl dr -e sandbox prepare"];
    assert!(says.iter().all(|words| refused.err.contains(words)), "{}", refused.err);
    let status = target.deployctl(&["lock", "status", "--dr"]).expect(0);
    assert!(status.out.contains("recovery-network") && status.out.contains("lock release --dr"), "{}", status.out);
    let declared = target.deployctl(&["lock", "release", "--dr", "--yes"]).expect(0);
    assert!(declared.out.contains("next: deployctl dr prepare"), "{}", declared.out);
    let prepared = target.deployctl(&["dr", "prepare", "--yes"]).expect(0);
    assert!(prepared.err.contains("taken over from"), "{}", prepared.err);
}

fn nothing_is_restored_into_nowhere(target: &Target) {
    let status = target.deployctl(&["dr", "status"]).expect(12);
    assert!(
        status.out.contains("subnet group deployctl-sandbox") && status.out.contains("deployctl dr -e sandbox prepare"),
        "{}",
        status.out
    );
    let refused = target.deployctl(&["dr", "restore", "--to", DR, "--yes"]).expect(12);
    assert!(refused.err.contains("missing: subnet group") && refused.err.contains("deployctl dr -e sandbox prepare"), "{}", refused.err);
    let elsewhere = target.deployctl(&["dr", "restore", "--to", LOST, "--yes"]).expect(10);
    assert!(elsewhere.err.contains("is restored in eu-west-1"), "{}", elsewhere.err);
}

/// A thousand rows; the moment after they were committed.
fn write_marks(target: &Target) -> jiff::Timestamp {
    let sql = "CREATE TABLE marks (id int PRIMARY KEY); INSERT INTO marks SELECT generate_series(1, 1000); SELECT count(*) FROM marks";
    assert_eq!(psql(target, "deployctl-sandbox", sql).lines().last(), Some("1000"));
    jiff::Timestamp::now()
}

fn an_upload_is_deleted(target: &Target) -> String {
    let (bucket, key) = ("deployctl-sandbox-uploads-111122223333", "uploads/deleted.csv");
    block_on(async {
        let home = target.s3(LOST);
        home.put_object().bucket(bucket).key(key).body(b"a,b\n1,2\n".to_vec().into()).send().await.unwrap();
        home.delete_object().bucket(bucket).key(key).send().await.unwrap();
    });
    key.to_owned()
}

/// From the replica, by asking the DR region alone.
fn its_copy_comes_back(target: &Target, key: &str) {
    let brought = target.deployctl(&["dr", "object", "restore", "--to", DR, "--yes", key]).expect(0);
    assert!(brought.out.contains("brought back: s3://deployctl-sandbox-uploads-111122223333-eu-west-1/"), "{}", brought.out);
    let found = target.s3(DR).get_object().bucket("deployctl-sandbox-uploads-111122223333-eu-west-1").key(key);
    let body = block_on(async { found.send().await.unwrap().body.collect().await.unwrap().to_vec() });
    assert_eq!(body, b"a,b\n1,2\n");
}

/// Until the DR region's newest point holds them; the status says so by itself.
pub fn wait_until_replicated(target: &Target, written: &jiff::Timestamp) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let status: Value = serde_json::from_str(&target.deployctl(&["dr", "status", "--output", "json"]).expect(0).out).unwrap();
        let until: Option<jiff::Timestamp> = status["newest"]["until"].as_str().and_then(|text| text.parse().ok());
        if until.is_some_and(|until| until > *written) {
            assert_eq!((status["region"].as_str(), status["home"].as_str()), (Some(DR), Some(LOST)));
            return status;
        }
        assert!(Instant::now() < end, "not replicated: {status}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Killed in the middle, given again: one instance was asked for, and in the end there is none.
fn a_drill_leaves_nothing_behind(target: &Target) {
    let before = target.deployctl(&["dr", "status"]).expect(0);
    assert!(before.out.contains("how long that takes is not known") && before.out.contains("no drill has been good yet"), "{}", before.out);
    let begun = jiff::Timestamp::now();
    let said = tempfile::NamedTempFile::new().unwrap();
    kill_once_restoring(target, &["dr", "drill", "--yes"], begun, said.path());
    let metrics = tempfile::NamedTempFile::new().unwrap();
    let file = metrics.path().to_str().unwrap();
    let drill = ["dr", "drill", "--yes", "--lock-timeout", "60s", "--max-rto", "10m", "--max-rpo", "10m", "--metrics", file];
    let drilled = target.deployctl(&drill).expect(0);
    assert!(
        drilled.out.contains("for the time of the drill") && drilled.err.contains("deleting deployctl-sandbox-drill-"),
        "{}",
        drilled.out
    );
    assert_eq!(restores(target, begun), 1);
    let text = std::fs::read_to_string(metrics.path()).unwrap();
    assert!(text.contains("deployctl_drill_success{environment=\"sandbox\",region=\"eu-west-1\"} 1\n"), "{text}");
    assert_eq!(instances(target), Vec::<String>::new());
    what_a_dead_drill_left_is_taken_away(target);
    a_bad_drill_is_told_as_one(target);
}

fn instances(target: &Target) -> Vec<String> {
    let found = block_on(rds(target).describe_db_instances().send()).unwrap();
    found.db_instances().iter().filter_map(|instance| instance.db_instance_identifier().map(str::to_owned)).collect()
}

/// Nobody gives the drill again: `--clean` takes away what it made, and leaves somebody's instance of a name like a drill's.
fn what_a_dead_drill_left_is_taken_away(target: &Target) {
    let by_hand = "deployctl-sandbox-drill-by-hand";
    let creation = rds(target).create_db_instance().db_instance_identifier(by_hand).engine("postgres").db_instance_class("db.t4g.micro");
    block_on(creation.allocated_storage(20).master_username("somebody").manage_master_user_password(true).send()).unwrap();
    let begun = jiff::Timestamp::now();
    let said = tempfile::NamedTempFile::new().unwrap();
    kill_once_restoring(target, &["dr", "drill", "--yes"], begun, said.path());
    let status = target.deployctl(&["dr", "status"]).expect(0);
    assert!(status.out.contains("one that was killed has left deployctl-sandbox-drill-2"), "{}", status.out);
    let cleaned = target.deployctl(&["dr", "drill", "--clean", "--lock-timeout", "60s"]).expect(0);
    assert!(cleaned.out.contains("deleted db_instance deployctl-sandbox-drill-2"), "{}", cleaned.out);
    assert_eq!(instances(target), [by_hand]);
    let again = target.deployctl(&["dr", "drill", "--clean"]).expect(0);
    assert!(again.out.contains("no drill has left anything"), "{}", again.out);
    assert_eq!(restores(target, begun), 1, "nothing was restored by it");
    delete(target, by_hand);
}

/// It is kept as a result with its reason, beside the last good one, and is no second half of the one that was killed.
fn a_bad_drill_is_told_as_one(target: &Target) {
    let begun = jiff::Timestamp::now();
    let bad = target.deployctl(&["dr", "drill", "--yes", "--max-rpo", "0s"]).expect(16);
    assert!(!bad.out.contains("nobody was at work"), "{}", bad.out);
    assert_eq!(restores(target, begun), 1);
    assert_eq!(instances(target), Vec::<String>::new(), "a bad one is thrown away, too");
    let status: Value = serde_json::from_str(&target.deployctl(&["dr", "status", "--output", "json"]).expect(0).out).unwrap();
    let drills = status["drills"].as_array().unwrap();
    assert_eq!(drills.iter().map(|drill| &drill["good"]).collect::<Vec<_>>(), [&Value::Bool(false), &Value::Bool(true)], "{status}");
    assert!(drills[0]["why"].as_str().unwrap().contains("--max-rpo is 0 s") && status["drill"] == drills[1], "{status}");
}

fn kill_once_restoring(target: &Target, args: &[&str], since: jiff::Timestamp, said: &Path) {
    let mut running = target.deployctl_started(args, said);
    let end = Instant::now() + PATIENCE;
    while restores(target, since) == 0 {
        let told = || std::fs::read_to_string(said).unwrap();
        assert!(Instant::now() < end && running.try_wait().unwrap().is_none(), "no restore was asked for:\n{}", told());
        std::thread::sleep(Duration::from_millis(5));
    }
    running.kill().unwrap();
    running.wait().unwrap();
}

/// Every command of a runbook, as it stands there.
fn the_page_works(target: &Target, name: &str) {
    let page = std::fs::read_to_string(project().join("plans/runbooks").join(name)).unwrap();
    let commands: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("deployctl ")).collect();
    assert!(commands.len() > 1, "{name} has no commands");
    for command in commands {
        // The environment is given by the test itself.
        let words: Vec<&str> = command.split(' ').map(|word| if word == "REGION" { DR } else { word }).collect();
        let at = words.iter().position(|word| *word == "-e").unwrap();
        target.deployctl(&[&words[..at], &words[at + 2..]].concat()).expect(0);
    }
}

fn it_is_known_what_a_restore_would_do(target: &Target) {
    let status = target.deployctl(&["dr", "status"]).expect(0);
    for said in ["us-east-1 was not asked", "create db_instance deployctl-sandbox-2", "took ", "last good drill: "] {
        assert!(status.out.contains(said), "{said}:\n{}", status.out);
    }
}

fn restores(target: &Target, since: jiff::Timestamp) -> usize {
    let asked = |request: &&Value| {
        request["action"].as_str().is_some_and(|action| action.starts_with("rds:RestoreDBInstance"))
            && request["status"] == 200
            && time(request) >= since
    };
    target.requests().iter().filter(asked).count()
}

fn time(request: &Value) -> jiff::Timestamp {
    request["time"].as_str().unwrap().parse().unwrap()
}

/// kill -9 once RDS is at work; the same command goes on with the same instance, and asks for no second one.
fn killed_and_gone_on_with(target: &Target, since: jiff::Timestamp) -> String {
    let said = tempfile::NamedTempFile::new().unwrap();
    let restore = ["dr", "restore", "--to", DR, "--latest", "--yes", "--max-rpo", "0s"];
    kill_once_restoring(target, &restore, since, said.path());
    // A dead holder's lease ends by itself.
    let again = target.deployctl(&[&restore[..], &["--lock-timeout", "60s", "--output", "json"]].concat()).expect(16);
    assert!(again.err.contains("--max-rpo is 0 s") && again.err.contains("is restored, but"), "{}", again.err);
    assert_eq!(restores(target, since), 1, "one instance was asked for, once");
    let answer: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(answer["rpo"]["bound"], "at-most");
    let phases: Vec<&str> = answer["rto"]["phases"].as_array().unwrap().iter().filter_map(|phase| phase["name"].as_str()).collect();
    assert!(phases.contains(&"nobody was at work") && phases.contains(&"deciding"), "{phases:?}");
    let report = again.err.lines().find_map(|line| line.strip_prefix("report: ")).unwrap().split(" and ").nth(1).unwrap().to_owned();
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(html.contains("<svg") && html.contains(answer["database"].as_str().unwrap()), "{html}");
    // Done is done: nothing is restored twice.
    let unchanged = target.deployctl(&["dr", "restore", "--to", DR, "--latest", "--yes"]).expect(0);
    assert!(
        unchanged.out.contains("Nothing had to be changed") && unchanged.out.contains("it had been restored before"),
        "{}",
        unchanged.out
    );
    assert_eq!(restores(target, since), 1);
    answer["database"].as_str().unwrap().to_owned()
}

fn it_holds_what_was_written(target: &Target, database: &str) {
    assert_eq!(psql(target, database, "SELECT count(*), sum(id) FROM marks"), "1000|500500");
    let about = block_on(async {
        let answer = rds(target).describe_db_instances().db_instance_identifier(database).send().await.unwrap();
        answer.db_instances()[0].clone()
    });
    assert!(about.multi_az() == Some(true) && about.deletion_protection() == Some(true) && about.publicly_accessible() == Some(false));
    assert_eq!(about.db_parameter_groups()[0].db_parameter_group_name(), Some("deployctl-sandbox-postgres15"));
    assert_eq!(about.db_subnet_group().unwrap().db_subnet_group_name(), Some("deployctl-sandbox"));
    let secret = block_on(async {
        let client = aws_sdk_secretsmanager::Client::from_conf(
            aws_sdk_secretsmanager::Config::builder()
                .behavior_version(aws_sdk_secretsmanager::config::BehaviorVersion::latest())
                .region(aws_sdk_secretsmanager::config::Region::new(DR))
                .endpoint_url(target.variable("AWS_ENDPOINT_URL"))
                .credentials_provider(target.person())
                .build(),
        );
        client.get_secret_value().secret_id("deployctl/sandbox/database").send().await.unwrap()
    });
    assert!(secret.secret_string().unwrap().contains(&format!("\"host\":\"{database}.")), "the secret of the region says the new address");
}

/// A moment before the newest: whoever comes second is told who is at work, and the first one is not disturbed.
fn two_at_once(target: &Target, newest: &Value) {
    let at = earlier(newest, 1);
    let begun = jiff::Timestamp::now();
    let said = tempfile::NamedTempFile::new().unwrap();
    let restore = ["dr", "restore", "--to", DR, "--at", &at, "--yes"];
    let mut first = target.deployctl_started(&restore, said.path());
    let end = Instant::now() + PATIENCE;
    while restores(target, begun) == 0 {
        assert!(Instant::now() < end, "{}", std::fs::read_to_string(said.path()).unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
    // Another machine: a state folder of its own.
    let machine = tempfile::tempdir().unwrap();
    let second: Ended = target.deployctl_set(&restore, &[("XDG_STATE_HOME", machine.path())]).expect(14);
    assert!(second.err.contains("is being changed by"), "{}", second.err);
    assert!(first.wait().unwrap().success(), "{}", std::fs::read_to_string(said.path()).unwrap());
    assert_eq!(restores(target, begun), 1);
}

fn earlier(newest: &Value, seconds: i64) -> String {
    let until: jiff::Timestamp = newest["newest"]["until"].as_str().unwrap().parse().unwrap();
    (until - jiff::SignedDuration::from_secs(seconds)).to_string()
}

/// Somebody has made an instance of the name that the restore would take.
fn a_taken_name_is_left_alone(target: &Target, newest: &Value) {
    let at: jiff::Timestamp = earlier(newest, 2).parse().unwrap();
    let name = format!("deployctl-sandbox-{}", at.strftime("%Y%m%d%H%M%S"));
    block_on(async {
        let client = rds(target);
        let creation = client.create_db_instance().db_instance_identifier(&name).engine("postgres").db_instance_class("db.t4g.micro");
        let creation = creation.allocated_storage(20).master_username("somebody").manage_master_user_password(true);
        creation.send().await.unwrap();
    });
    let refused = target.deployctl(&["dr", "restore", "--to", DR, "--at", &at.to_string(), "--yes"]).expect(18);
    assert!(refused.err.contains(&name) && refused.err.contains("nothing is ever overwritten"), "{}", refused.err);
}

/// Pods are frozen and servers stopped: whatever is signed for the region now was sent by deployctl.
fn nobody_asked_the_lost_region(target: &Target, since: jiff::Timestamp) {
    let asked: Vec<Value> = target.requests().into_iter().filter(|request| request["region"] == LOST && time(request) >= since).collect();
    assert!(asked.is_empty(), "asked of the lost region: {asked:#?}");
    assert!(target.requests().iter().any(|request| request["region"] == DR && time(request) >= since));
}

pub fn psql(target: &Target, database: &str, sql: &str) -> String {
    let output = target.sandbox(&["exec", "--database", database, "psql", "-qAtc", sql]);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Restored databases are servers that nobody needs any more; the rest of the test does without their load.
fn forget(target: &Target) {
    instances(target).iter().for_each(|id| delete(target, id));
    psql(target, "deployctl-sandbox", "DROP TABLE marks");
}

/// By hand, as soon as RDS takes it.
fn delete(target: &Target, id: &str) {
    block_on(async {
        let client = rds(target);
        let end = Instant::now() + PATIENCE;
        loop {
            let unprotected = client.modify_db_instance().db_instance_identifier(id).deletion_protection(false).apply_immediately(true);
            let deleted = client.delete_db_instance().db_instance_identifier(id).skip_final_snapshot(true);
            if unprotected.send().await.is_ok() && deleted.send().await.is_ok() {
                return;
            }
            assert!(Instant::now() < end, "{id} cannot be deleted");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
}

fn rds(target: &Target) -> aws_sdk_rds::Client {
    let config = aws_sdk_rds::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(DR))
        .endpoint_url(target.variable("AWS_ENDPOINT_URL"))
        .credentials_provider(target.person())
        .build();
    aws_sdk_rds::Client::from_conf(config)
}
