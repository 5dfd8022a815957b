//! The other commands, on what has been applied.
use std::collections::BTreeMap;

use super::target::{Ended, Target};

/// What each command said, and what a saved plan is good for.
pub fn work(target: &Target, said: &BTreeMap<String, Ended>, plan: &str) {
    let told = [("status", "succeeded"), ("history", "succeeded"), ("render", "kind: Deployment"), ("db status", "nothing is pending")];
    for (command, words) in told {
        assert!(said[command].out.contains(words), "{command}: {}", said[command].out);
    }
    let doctor = &said["doctor"].out;
    assert!(doctor.contains("actions of the deployer policy") && !doctor.contains("error "), "{doctor}");
    for hop in ["upload", "parser", "postgres", "kafka", "sqs", "removed"] {
        assert!(said["smoke"].err.contains(&format!("checked {hop}: ")), "no hop {hop}:\n{}", said["smoke"].err);
    }
    target.deployctl(&["apply", plan]).expect(0);
    snapshots_are_in_both_regions(target);
    let refused = target.deployctl(&["destroy", "--confirm", "sandbox"]).expect(18);
    assert!(refused.err.contains("aws_db_instance"), "{}", refused.err);
}

/// One before the only migrations that ran, and none for the applies that had nothing to migrate.
fn snapshots_are_in_both_regions(target: &Target) {
    for region in ["us-east-1", "eu-west-1"] {
        let client = aws_sdk_rds::Client::new(&target.sdk(region));
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
