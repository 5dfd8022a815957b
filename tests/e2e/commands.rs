//! The other commands, on what has been applied.
use aws_sdk_rds::config::{BehaviorVersion, Region};

use super::target::Target;

/// Each command as a person would type it.
pub fn work(target: &Target) {
    assert!(target.deployctl(&["status"]).expect(0).out.contains("succeeded"));
    assert!(target.deployctl(&["history"]).expect(0).out.contains("succeeded"));
    assert!(target.deployctl(&["render"]).expect(0).out.contains("kind: Deployment"));
    assert!(target.deployctl(&["db", "status"]).expect(0).out.contains("nothing is pending"));
    let doctor = target.deployctl(&["doctor"]).expect(0);
    assert!(doctor.out.contains("actions of the deployer policy") && !doctor.out.contains("error "), "{}", doctor.out);
    let smoke = target.deployctl(&["smoke"]).expect(0);
    for hop in ["upload", "parser", "postgres", "kafka", "sqs", "removed"] {
        assert!(smoke.err.contains(&format!("checked {hop}: ")), "no hop {hop}:\n{}", smoke.err);
    }
    let saved = tempfile::tempdir().unwrap();
    let file = saved.path().join("plan.json");
    let file = file.to_str().unwrap();
    target.deployctl(&["plan", "-o", file]).expect(0);
    target.deployctl(&["apply", file]).expect(0);
    snapshots_are_in_both_regions(target);
    let refused = target.deployctl(&["destroy", "--confirm", "sandbox"]).expect(18);
    assert!(refused.err.contains("aws_db_instance"), "{}", refused.err);
}

/// One before the only migrations that ran, and none for the applies that had nothing to migrate.
fn snapshots_are_in_both_regions(target: &Target) {
    for region in ["us-east-1", "eu-west-1"] {
        let config = aws_sdk_rds::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .endpoint_url(target.variable("AWS_ENDPOINT_URL"))
            .credentials_provider(target.person())
            .build();
        let client = aws_sdk_rds::Client::from_conf(config);
        let found = block_on(client.describe_db_snapshots().snapshot_type("manual").send()).unwrap();
        let ids: Vec<&str> = found.db_snapshots().iter().filter_map(|snapshot| snapshot.db_snapshot_identifier()).collect();
        assert!(matches!(ids[..], [id] if id.starts_with("deployctl-sandbox-parser-v0-")), "{region}: {ids:?}");
        assert!(!found.db_snapshots()[0].tag_list().is_empty(), "{region}: the snapshot has no tags");
    }
}

/// For a test's own questions, one at a time.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
