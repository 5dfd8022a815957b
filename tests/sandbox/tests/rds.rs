//! RDS from the outside: the AWS SDK as client, real PostgreSQL servers on loopback addresses, TLS checked in full. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#[path = "rds_support/drills.rs"]
mod drills;
#[path = "rds_support/exchange.rs"]
mod exchange;
#[path = "rds_support/mod.rs"]
mod rds_support;

use std::time::{Duration, Instant};

use aws_sdk_rds::{error::ProvideErrorMetadata as _, primitives::DateTime, types::Tag};
use rds_support::{DR, HOME, Sandbox, code};

#[tokio::test(flavor = "multi_thread")]
async fn data_survives_snapshot_copy_and_restore_in_the_other_region() {
    let sandbox = Sandbox::start(10).await;
    let (home, dr) = (sandbox.client(HOME), sandbox.client(DR));
    let started = Instant::now();
    sandbox.create(&home, "orders", true).await;
    eprintln!("create to available: {:?}", started.elapsed());
    let about = sandbox.instance(&home, "orders").await;
    assert!(about.master_user_secret().unwrap().secret_arn().unwrap().contains("rds!db-"));
    assert_eq!(about.endpoint().unwrap().address(), Some("orders.sandbox.us-east-1.rds.amazonaws.com"));

    let client = sandbox.connect(HOME, "orders").await;
    client.batch_execute("CREATE TABLE paid (id int primary key); INSERT INTO paid SELECT generate_series(1, 5000)").await.unwrap();
    // The master user is no superuser, and yet may create RDS' extensions.
    let superuser: bool = client.query_one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", &[]).await.unwrap().get(0);
    assert!(!superuser);
    client.batch_execute("CREATE EXTENSION pgcrypto; CREATE EXTENSION pg_stat_statements; CREATE EXTENSION amcheck").await.unwrap();
    client.batch_execute("SELECT bt_index_check('paid_pkey')").await.unwrap();
    assert!(client.batch_execute("ALTER SYSTEM SET fsync = off").await.is_err());
    client.batch_execute("CREATE ROLE parser_run LOGIN PASSWORD 'parser-run-1'").await.unwrap();
    sandbox.refused_without_tls("orders").await;

    let started = Instant::now();
    home.create_db_snapshot().db_instance_identifier("orders").db_snapshot_identifier("before").send().await.unwrap();
    let again = home.create_db_snapshot().db_instance_identifier("orders").db_snapshot_identifier("before").send().await;
    assert_eq!(code(again), "DBSnapshotAlreadyExists");
    sandbox.snapshot_available(&home, "before").await;
    eprintln!("snapshot to available: {:?}", started.elapsed());
    client.batch_execute("INSERT INTO paid SELECT generate_series(5001, 6000)").await.unwrap();

    let arn = "arn:aws:rds:us-east-1:111122223333:snapshot:before";
    let copy = || dr.copy_db_snapshot().source_db_snapshot_identifier(arn).target_db_snapshot_identifier("before-copy");
    let refused = copy().send().await.unwrap_err();
    assert_eq!(refused.code(), Some("InvalidParameterCombination"));
    assert_eq!(refused.message(), Some("Must specify new KMS key for cross region encrypted snapshot copy"));
    assert_eq!(code(copy().kms_key_id("arn:aws:kms:us-east-1:111122223333:key/home").send().await), "KMSKeyNotAccessibleFault");
    copy().kms_key_id("arn:aws:kms:eu-west-1:111122223333:key/dr").send().await.unwrap();
    sandbox.snapshot_available(&dr, "before-copy").await;

    // From here on the first region does not exist.
    sandbox.lose(HOME).await;
    assert_eq!(code(home.describe_db_instances().send().await), "ServiceUnavailable");
    let started = Instant::now();
    dr.restore_db_instance_from_db_snapshot()
        .db_instance_identifier("orders")
        .db_snapshot_identifier("before-copy")
        .manage_master_user_password(true)
        .send()
        .await
        .unwrap();
    sandbox.available(&dr, "orders").await;
    eprintln!("restore to available: {:?}", started.elapsed());
    let restored = sandbox.connect(DR, "orders").await;
    let row = restored.query_one("SELECT count(*), sum(id) FROM paid", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (5000, 12_502_500));
    restored.batch_execute("INSERT INTO paid VALUES (9999)").await.unwrap();
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_between_two_inserts_and_a_replica_of_a_lost_region_can_be_restored() {
    let sandbox = Sandbox::start(60).await;
    let (home, dr) = (sandbox.client(HOME), sandbox.client(DR));
    sandbox.create(&home, "events", true).await;
    let arn = "arn:aws:rds:us-east-1:111122223333:db:events";
    let replicate = || dr.start_db_instance_automated_backups_replication().source_db_instance_arn(arn);
    assert_eq!(code(replicate().send().await), "InvalidParameterCombination");
    let replica = replicate().kms_key_id("arn:aws:kms:eu-west-1:111122223333:key/dr").send().await.unwrap();
    let replica = replica.db_instance_automated_backup().unwrap().db_instance_automated_backups_arn().unwrap().to_owned();

    let client = sandbox.connect(HOME, "events").await;
    client.batch_execute("CREATE TABLE seen (id int); INSERT INTO seen VALUES (1)").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let between = DateTime::from(std::time::SystemTime::now());
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.batch_execute("INSERT INTO seen VALUES (2)").await.unwrap();
    let second = DateTime::from(std::time::SystemTime::now());

    let too_late = home
        .restore_db_instance_to_point_in_time()
        .source_db_instance_identifier("events")
        .target_db_instance_identifier("later")
        .restore_time(DateTime::from_secs(second.secs() + 3600));
    assert_eq!(code(too_late.send().await), "InvalidParameterValue");
    let started = Instant::now();
    sandbox.restorable_until(&home, "events", second).await;
    eprintln!("restorable after: {:?}", started.elapsed());
    let started = Instant::now();
    home.restore_db_instance_to_point_in_time()
        .source_db_instance_identifier("events")
        .target_db_instance_identifier("between")
        .restore_time(between)
        .send()
        .await
        .unwrap();
    sandbox.available(&home, "between").await;
    eprintln!("point in time to available: {:?}", started.elapsed());
    sandbox.set_password(&home, "between").await;
    assert_eq!(sandbox.count(HOME, "between", "seen").await, 1);

    sandbox.replicated_until(&dr, &replica, second).await;
    sandbox.lose(HOME).await;
    dr.restore_db_instance_to_point_in_time()
        .source_db_instance_automated_backups_arn(&replica)
        .target_db_instance_identifier("rescued")
        .use_latest_restorable_time(true)
        .manage_master_user_password(true)
        .send()
        .await
        .unwrap();
    sandbox.available(&dr, "rescued").await;
    assert_eq!(sandbox.count(DR, "rescued", "seen").await, 2);

    // The region comes back with what it had.
    sandbox.find(HOME);
    sandbox.count_within(HOME, "events", "seen", 2).await;
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rename_protection_final_snapshot_and_crash_keep_the_data() {
    let sandbox = Sandbox::start(110).await;
    let home = sandbox.client(HOME);
    sandbox.create(&home, "first", false).await;
    let taken = sandbox.creation(&home, "first").send().await;
    assert_eq!(code(taken), "DBInstanceAlreadyExists");
    let client = sandbox.connect(HOME, "first").await;
    client.batch_execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)").await.unwrap();
    drop(client);

    // kill -9 of the server: supervision starts it again and PostgreSQL recovers what was committed.
    let before = sandbox.kill("first").await;
    sandbox.count_within(HOME, "first", "kept", 1).await;
    assert_ne!(before, sandbox.pid("first").await);

    let renamed = home.modify_db_instance().db_instance_identifier("first").new_db_instance_identifier("second").apply_immediately(true);
    renamed.deletion_protection(true).send().await.unwrap();
    sandbox.available(&home, "second").await;
    assert_eq!(code(home.describe_db_instances().db_instance_identifier("first").send().await), "DBInstanceNotFound");
    assert_eq!(sandbox.count(HOME, "second", "kept").await, 1);

    let delete = || home.delete_db_instance().db_instance_identifier("second");
    assert_eq!(code(delete().skip_final_snapshot(true).send().await), "InvalidParameterCombination");
    home.modify_db_instance().db_instance_identifier("second").deletion_protection(false).apply_immediately(true).send().await.unwrap();
    assert_eq!(code(delete().send().await), "InvalidParameterCombination");

    home.stop_db_instance().db_instance_identifier("second").send().await.unwrap();
    assert_eq!(code(home.reboot_db_instance().db_instance_identifier("second").send().await), "InvalidDBInstanceState");
    sandbox.status(&home, "second", "stopped").await;
    home.start_db_instance().db_instance_identifier("second").send().await.unwrap();
    sandbox.available(&home, "second").await;

    // The daemon's successor finds everything as it was.
    let sandbox = sandbox.restart().await;
    let home = sandbox.client(HOME);
    sandbox.count_within(HOME, "second", "kept", 1).await;
    let delete = || home.delete_db_instance().db_instance_identifier("second");
    delete().final_db_snapshot_identifier("last").send().await.unwrap();
    sandbox.gone(&home, "second").await;
    sandbox.snapshot_available(&home, "last").await;
    home.restore_db_instance_from_db_snapshot().db_instance_identifier("third").db_snapshot_identifier("last").send().await.unwrap();
    sandbox.available(&home, "third").await;
    sandbox.set_password(&home, "third").await;
    assert_eq!(sandbox.count(HOME, "third", "kept").await, 1);
    sandbox.no_password_on_disk();
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_tags_and_catalogue_answer_as_the_sdk_expects() {
    let sandbox = Sandbox::start(160).await;
    let home = sandbox.client(HOME);
    let group = || home.create_db_subnet_group().db_subnet_group_name("private").db_subnet_group_description("private subnets");
    assert_eq!(code(group().subnet_ids("subnet-a").send().await), "DBSubnetGroupDoesNotCoverEnoughAZs");
    let made = group().subnet_ids("subnet-a").subnet_ids("subnet-b").send().await.unwrap();
    assert_eq!(made.db_subnet_group().unwrap().subnets().len(), 2);

    let parameters = home.create_db_parameter_group().db_parameter_group_name("own").db_parameter_group_family("postgres15");
    parameters.description("own").send().await.unwrap();
    let parameter = |name: &str, value: &str| {
        aws_sdk_rds::types::Parameter::builder()
            .parameter_name(name)
            .parameter_value(value)
            .apply_method(aws_sdk_rds::types::ApplyMethod::Immediate)
            .build()
    };
    let change =
        |name: &str, value: &str| home.modify_db_parameter_group().db_parameter_group_name("own").parameters(parameter(name, value));
    assert_eq!(code(change("no_such_setting", "1").send().await), "InvalidParameterValue");
    assert_eq!(code(change("max_connections", "50").send().await), "InvalidParameterCombination");
    let creation = sandbox.creation(&home, "tuned").db_parameter_group_name("own").db_subnet_group_name("private");
    creation.tags(Tag::builder().key("environment").value("test").build()).send().await.unwrap();
    sandbox.available(&home, "tuned").await;
    change("log_min_duration_statement", "250").send().await.unwrap();
    let client = sandbox.connect(HOME, "tuned").await;
    let shown: String = client.query_one("SHOW log_min_duration_statement", &[]).await.unwrap().get(0);
    assert_eq!(shown, "250ms");

    let arn = "arn:aws:rds:us-east-1:111122223333:db:tuned";
    home.add_tags_to_resource().resource_name(arn).tags(Tag::builder().key("run").value("1").build()).send().await.unwrap();
    let tags = home.list_tags_for_resource().resource_name(arn).send().await.unwrap();
    assert_eq!(tags.tag_list().len(), 2);
    assert_eq!(code(home.delete_db_subnet_group().db_subnet_group_name("private").send().await), "InvalidDBSubnetGroupStateFault");
    assert_eq!(code(home.delete_db_parameter_group().db_parameter_group_name("own").send().await), "InvalidDBParameterGroupState");

    let versions = home.describe_db_engine_versions().engine("postgres").send().await.unwrap();
    assert_eq!(versions.db_engine_versions()[0].engine_version(), Some("15.18"));
    let parameters: Vec<_> = home.describe_db_parameters().db_parameter_group_name("own").into_paginator().items().send().collect().await;
    assert!(parameters.len() > 200, "{}", parameters.len());
    assert!(!home.describe_account_attributes().send().await.unwrap().account_quotas().is_empty());
    assert!(!home.describe_events().source_identifier("tuned").send().await.unwrap().events().is_empty());
    assert!(home.describe_pending_maintenance_actions().send().await.unwrap().pending_maintenance_actions().is_empty());
    sandbox.stop().await;
}
