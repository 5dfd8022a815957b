//! deployctl's own calls on real instances: a snapshot put into a database's place, cut off at every step; which snapshots may go.
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Mutex,
    time::{Duration, Instant},
};

use aws_sdk_rds::types::Tag;
use deployctl::{
    aws::{Aws, rds::Started},
    database::{
        in_place::{InPlace, Look, Repeat},
        retention::{Rules, Verdict},
    },
    failure::FailureKind,
    ids::{AccountId, DbInstanceId, EnvironmentName, KmsKeyId, Region, SnapshotId},
    plan::environment::SnapshotRetention,
};

use crate::rds_support::{DR, HOME, Sandbox, code};

const DR_KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/dr";

fn aws(sandbox: &Sandbox, region: &str) -> Aws {
    Aws::reaching(&sandbox.endpoint(), &Region::parse(region).unwrap(), &AccountId::parse("111122223333").unwrap())
}

fn asked(snapshot: &str) -> InPlace {
    InPlace {
        instance: DbInstanceId::parse("prod").unwrap(),
        snapshot: SnapshotId::parse(snapshot).unwrap(),
        dr_key: KmsKeyId::parse(DR_KEY).unwrap(),
        deadline: Duration::from_secs(60),
        repeat: Repeat::No,
    }
}

/// An instance that has nothing from AWS' defaults.
async fn prod(sandbox: &Sandbox) {
    let home = sandbox.client(HOME);
    let group = home.create_db_subnet_group().db_subnet_group_name("private").db_subnet_group_description("private subnets");
    group.subnet_ids("subnet-a").subnet_ids("subnet-b").send().await.unwrap();
    let parameters = home.create_db_parameter_group().db_parameter_group_name("own").db_parameter_group_family("postgres15");
    parameters.description("own").send().await.unwrap();
    sandbox
        .creation(&home, "prod")
        .storage_encrypted(true)
        .db_parameter_group_name("own")
        .db_subnet_group_name("private")
        .vpc_security_group_ids("sg-1")
        .vpc_security_group_ids("sg-2")
        .multi_az(true)
        .deletion_protection(true)
        .copy_tags_to_snapshot(true)
        .auto_minor_version_upgrade(false)
        .max_allocated_storage(100)
        .storage_type("gp3")
        .preferred_backup_window("02:00-03:00")
        .preferred_maintenance_window("mon:04:30-mon:05:30")
        .tags(Tag::builder().key("team").value("orders").build())
        .send()
        .await
        .unwrap();
    sandbox.available(&home, "prod").await;
    let replicate = sandbox.client(DR).start_db_instance_automated_backups_replication();
    replicate.source_db_instance_arn("arn:aws:rds:us-east-1:111122223333:db:prod").kms_key_id(DR_KEY).send().await.unwrap();
}

/// Ends when something is told that was not told before: what a kill at that moment is to AWS.
struct Cut<'a> {
    told: &'a Mutex<BTreeSet<String>>,
    at: tokio::sync::Notify,
}

impl Cut<'_> {
    fn hear(&self, mut line: String) {
        line.retain(|letter| !letter.is_ascii_digit());
        if self.told.lock().unwrap().insert(line) {
            self.at.notify_one();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_takes_the_databases_place_however_often_it_is_killed_on_the_way() {
    let sandbox = Sandbox::start(210).await;
    let (home, dr) = (aws(&sandbox, HOME), aws(&sandbox, DR));
    prod(&sandbox).await;
    let client = sandbox.connect(HOME, "prod").await;
    client.batch_execute("CREATE TABLE paid (id int); INSERT INTO paid SELECT generate_series(1, 100)").await.unwrap();
    sandbox.client(HOME).create_db_snapshot().db_instance_identifier("prod").db_snapshot_identifier("good").send().await.unwrap();
    sandbox.snapshot_available(&sandbox.client(HOME), "good").await;
    client.batch_execute("INSERT INTO paid SELECT generate_series(101, 150)").await.unwrap();
    drop(client);
    let before = home.db_settings(&DbInstanceId::parse("prod").unwrap()).await.unwrap().unwrap();

    let (asked, told, mut attempts) = (asked("good"), Mutex::new(BTreeSet::new()), 0);
    let started = Instant::now();
    let done = loop {
        attempts += 1;
        assert!(attempts < 40, "it does not come to an end: {told:?}");
        let look = asked.look(&home, jiff_now()).await.unwrap();
        let Look::ToDo(exchange) = look else { panic!("done without having been carried out") };
        let cut = Cut { told: &told, at: tokio::sync::Notify::new() };
        let tell = |line: String| cut.hear(line);
        tokio::select! {
            done = asked.carry_out(&home, &dr, *exchange, &tell) => break done.unwrap_or_else(|failure| panic!("{:?}", failure.chain())),
            () = cut.at.notified() => {}
        }
    };
    eprintln!("restored in place in {:?}, cut off {} times", started.elapsed(), attempts - 1);
    assert!(attempts > 5, "only {attempts} attempts: {told:?}");

    let all = sandbox.client(HOME).describe_db_instances().send().await.unwrap();
    let names: Vec<&str> = all.db_instances().iter().filter_map(|found| found.db_instance_identifier()).collect();
    assert_eq!(names.len(), 2, "nothing was made twice: {names:?}");
    assert_eq!((done.new.id.as_str(), done.new.resource != before.resource), ("prod", true));
    assert_eq!((done.old.resource.as_str(), done.old.id.as_str().starts_with("prod-before-")), (before.resource.as_str(), true));
    assert_eq!(done.new.kept, before.kept, "{:?}", before.kept.differences(&done.new.kept));
    assert!(before.kept.deletion_protection && before.kept.multi_az && before.kept.parameter_group == "own");
    assert_eq!(done.old.kept, before.kept, "the old one was renamed and nothing else");
    assert!(done.replicated && dr.replicated_backup_of(&done.new.resource).await.unwrap().is_some());
    assert_eq!(sandbox.count(HOME, "prod", "paid").await, 100);
    assert_eq!(sandbox.count(HOME, done.old.id.as_str(), "paid").await, 150, "what came after the snapshot is in the old one");
    let tags = home.db_settings(&asked.instance).await.unwrap().unwrap().tags;
    assert_eq!((tags.get("team").map(String::as_str), tags.contains_key("deployctl:in-place")), (Some("orders"), false));

    assert!(matches!(asked.look(&home, jiff_now()).await.unwrap(), Look::Done(_)), "the same command once more does nothing");
    let again = InPlace { repeat: Repeat::Yes, ..asked.clone() };
    assert!(matches!(again.look(&home, jiff_now()).await.unwrap(), Look::ToDo(_)));
    let missing = self::asked("missing").look(&home, jiff_now()).await.unwrap_err();
    assert!(missing.kind == FailureKind::Preflight && missing.message.contains("no snapshot missing"), "{missing}");
    sandbox.stop().await;
}

fn jiff_now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_restore_that_was_begun_is_named_and_the_database_stays() {
    let sandbox = Sandbox::start(150).await;
    let (home, dr) = (aws(&sandbox, HOME), aws(&sandbox, DR));
    let client = sandbox.client(HOME);
    sandbox.create(&client, "prod", false).await;
    for id in ["one", "other"] {
        client.create_db_snapshot().db_instance_identifier("prod").db_snapshot_identifier(id).send().await.unwrap();
        sandbox.snapshot_available(&client, id).await;
        sandbox.available(&client, "prod").await;
    }
    let Look::ToDo(exchange) = asked("one").look(&home, jiff_now()).await.unwrap() else { panic!("done") };
    let beside = exchange.beside.clone();
    let (told, asked_one) = (tokio::sync::Notify::new(), asked("one"));
    let tell = |line: String| {
        if line.ends_with("creating") {
            told.notify_one();
        }
    };
    tokio::select! {
        done = asked_one.carry_out(&home, &dr, *exchange, &tell) => panic!("{:?}", done.is_ok()),
        () = told.notified() => {}
    }
    let refused = asked("other").look(&home, jiff_now()).await.unwrap_err();
    assert!(refused.kind == FailureKind::Preflight && refused.next.iter().any(|next| next.ends_with("--snapshot one")), "{refused:?}");
    sandbox.available(&client, beside.as_str()).await;
    assert_eq!(sandbox.instance(&client, "prod").await.db_instance_status(), Some("available"));
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_started_when_the_instance_has_done_what_it_was_at() {
    let sandbox = Sandbox::start(130).await;
    let client = sandbox.client(HOME);
    sandbox.create(&client, "prod", false).await;
    let again = |id: &str| client.create_db_snapshot().db_instance_identifier("prod").db_snapshot_identifier(id).send();
    again("nightly").await.unwrap();
    assert_eq!(code(again("beside").await), "InvalidDBInstanceState", "it is busy");
    let (home, instance) = (aws(&sandbox, HOME), DbInstanceId::parse("prod").unwrap());
    let [nightly, ours] = ["nightly", "ours"].map(|id| SnapshotId::parse(id).unwrap());
    let tags = BTreeMap::new();
    assert!(matches!(home.start_db_snapshot(&instance, &nightly, &tags).await.unwrap(), Started::Begun(_)), "it is being made");
    let Started::Not(busy) = home.start_db_snapshot(&instance, &ours, &tags).await.unwrap() else { panic!("begun") };
    assert!(busy.chain().join(": ").contains("not in available state"), "{:?}", busy.chain());
    home.wait_until_db_instance_available(&instance, Duration::from_secs(60)).await.unwrap();
    assert!(matches!(home.start_db_snapshot(&instance, &ours, &tags).await.unwrap(), Started::Begun(_)));
    sandbox.snapshot_available(&client, "nightly").await;
    sandbox.snapshot_available(&client, "ours").await;
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_beyond_count_and_age_go_from_both_regions() {
    let sandbox = Sandbox::start(50).await;
    let (home, dr) = (aws(&sandbox, HOME), aws(&sandbox, DR));
    sandbox.create(&sandbox.client(HOME), "prod", true).await;
    let instance = DbInstanceId::parse("prod").unwrap();
    let tags = BTreeMap::from([("deployctl:environment".to_owned(), "staging".to_owned())]);
    for (id, tags) in [("a", &tags), ("b", &tags), ("theirs", &BTreeMap::new()), ("c", &tags)] {
        let id = SnapshotId::parse(id).unwrap();
        // The one before may still keep the instance busy.
        home.wait_until_db_instance_available(&instance, Duration::from_secs(60)).await.unwrap();
        assert!(matches!(home.start_db_snapshot(&instance, &id, tags).await.unwrap(), Started::Begun(_)));
        let taken = home.wait_until_db_snapshot_available(&id, Duration::from_secs(60), |_| {}).await.unwrap();
        dr.start_db_snapshot_copy(&taken.arn, &id, &KmsKeyId::parse(DR_KEY).unwrap(), tags).await.unwrap();
        dr.wait_until_db_snapshot_available(&id, Duration::from_secs(60), |_| {}).await.unwrap();
    }
    let environment = EnvironmentName::parse("staging").unwrap();
    let needed = BTreeMap::from([(SnapshotId::parse("a").unwrap(), "run 1 needs it".to_owned())]);
    let retention = SnapshotRetention { keep: NonZeroU32::MIN, days: 0 };
    let rules = Rules { environment: &environment, retention, needed: &needed, now: jiff_now() };
    for region in [&home, &dr] {
        let found = region.manual_snapshots(&instance).await.unwrap();
        assert_eq!(found.iter().map(|snapshot| snapshot.id.as_str()).collect::<Vec<_>>(), ["c", "theirs", "b", "a"]);
        for (snapshot, verdict) in rules.judge(&found) {
            if matches!(verdict, Verdict::Delete(_)) {
                region.delete_db_snapshot(&snapshot.id).await.unwrap();
                region.delete_db_snapshot(&snapshot.id).await.unwrap();
            }
        }
        let left = region.manual_snapshots(&instance).await.unwrap();
        assert_eq!(left.iter().map(|snapshot| snapshot.id.as_str()).collect::<Vec<_>>(), ["c", "theirs", "a"]);
    }
    sandbox.stop().await;
}
