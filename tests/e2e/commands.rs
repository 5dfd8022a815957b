//! The other commands, on what has been applied; and what none of them may leave behind: a secret's value.
use std::{collections::BTreeMap, path::Path};

use aws_sdk_s3::config::{BehaviorVersion, Region};
use base64::Engine as _;

use super::target::{Target, text};

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

/// Terraform's states, journals, logs of every pod and of the sandbox's requests, searched for the values that were set.
pub fn keep_no_secret(target: &Target, secrets: &[&str]) {
    let mut places: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for folder in [target.state(), &Path::new(target.variable("KUBECONFIG")).with_file_name("log")] {
        read(folder, &mut places);
    }
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(target.variable("AWS_ENDPOINT_URL"))
        .credentials_provider(target.person())
        .force_path_style(true)
        .build();
    let (client, bucket) = (aws_sdk_s3::Client::from_conf(config), "deployctl-sandbox-state-111122223333-us-east-1");
    let listed = block_on(client.list_objects_v2().bucket(bucket).send()).unwrap();
    assert!(listed.contents().len() >= 4, "a state for each stack");
    for key in listed.contents().iter().filter_map(|object| object.key()) {
        let read = async { client.get_object().bucket(bucket).key(key).send().await.unwrap().body.collect().await.unwrap() };
        places.insert(key.to_owned(), block_on(read).to_vec());
    }
    let pods = ["get", "pods", "-A", "-o", "yaml"];
    places.insert("kubectl get pods".into(), text(&target.command(Path::new("kubectl")).args(pods).output().unwrap()).into());
    assert!(places.len() > 20, "there is something to search: {:?}", places.keys());
    for secret in secrets {
        let base64 = base64::prelude::BASE64_STANDARD.encode(secret);
        for form in [secret, base64.trim_end_matches('=')] {
            let found: Vec<&String> =
                places.iter().filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains(form)).map(|(name, _)| name).collect();
            assert!(found.is_empty(), "a secret's value is in {found:?}");
        }
    }
}

fn read(folder: &Path, places: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, places);
        } else if path.is_file() {
            places.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
}

/// For a test's own questions, one at a time.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
