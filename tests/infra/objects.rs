//! `dr object restore` under the deployer's policy, on two buckets of which one replicates to the other: what was deleted comes back, what is there
//! stays.
use std::process::{Command, Output};

use aws_sdk_s3::{
    Client,
    types::{
        BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, DeleteMarkerReplication,
        DeleteMarkerReplicationStatus, Destination, ReplicationConfiguration, ReplicationRule, ReplicationRuleFilter,
        ReplicationRuleStatus, VersioningConfiguration,
    },
};
use deployctl::{
    aws::object_version::{Content, Copied},
    ids::{BucketName, Region},
};
use serde_json::Value;

use super::{emulator::with_aws, fixture, identity};

const HOME: &str = "deployctl-sandbox-uploads-111122223333";
const REPLICA: &str = "deployctl-sandbox-uploads-111122223333-eu-west-1";

async fn client(region: &'static str) -> Client {
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let config = config.into_builder().region(aws_config::Region::new(region)).build();
    Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build())
}

/// As terraform/data makes them.
async fn buckets() -> (Client, Client) {
    let (home, there) = (client("us-east-1").await, client("eu-west-1").await);
    home.create_bucket().bucket(HOME).send().await.unwrap();
    let place = CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::EuWest1).build();
    there.create_bucket().bucket(REPLICA).create_bucket_configuration(place).send().await.unwrap();
    for (client, bucket) in [(&home, HOME), (&there, REPLICA)] {
        let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        client.put_bucket_versioning().bucket(bucket).versioning_configuration(on).send().await.unwrap();
    }
    let rule = ReplicationRule::builder()
        .priority(0)
        .status(ReplicationRuleStatus::Enabled)
        .filter(ReplicationRuleFilter::builder().build())
        .delete_marker_replication(DeleteMarkerReplication::builder().status(DeleteMarkerReplicationStatus::Enabled).build())
        .destination(Destination::builder().bucket(format!("arn:aws:s3:::{REPLICA}")).build().unwrap())
        .build()
        .unwrap();
    let role = "arn:aws:iam::111122223333:role/deployctl-sandbox-replication";
    let replication = ReplicationConfiguration::builder().role(role).rules(rule).build().unwrap();
    home.put_bucket_replication().bucket(HOME).replication_configuration(replication).send().await.unwrap();
    (home, there)
}

async fn put(client: &Client, key: &str, text: &str) -> String {
    let body = text.as_bytes().to_vec().into();
    client.put_object().bucket(HOME).key(key).body(body).send().await.unwrap().version_id.unwrap()
}

async fn delete(client: &Client, key: &str) {
    client.delete_object().bucket(HOME).key(key).send().await.unwrap();
}

/// What a read without a version finds.
async fn text(client: &Client, bucket: &str, key: &str) -> Option<String> {
    let found = client.get_object().bucket(bucket).key(key).send().await.ok()?;
    Some(String::from_utf8(found.body.collect().await.unwrap().to_vec()).unwrap())
}

fn restore(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployctl"));
    command.args(["dr", "object", "restore", "--yes", "-e", "sandbox", "--project", env!("CARGO_MANIFEST_DIR")]).args(args);
    command.output().unwrap()
}

/// The command of plans/runbooks/replay.md with this word, as it stands there.
fn from_the_page(word: &str, stands_for: &str) -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/plans/runbooks/replay.md")).unwrap();
    let start = "deployctl dr object restore ";
    let command = page.lines().find(|line| line.starts_with(start) && line.contains(word)).unwrap();
    let words = command[start.len()..].trim_end_matches(" -e ENV").split(' ');
    words.map(|each| if each == word { stands_for.to_owned() } else { each.to_owned() }).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// What it did, by bucket and key.
fn did(args: &[&str], code: i32) -> Vec<(String, String, String)> {
    let output = restore(&[args, &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    told.as_array().unwrap().iter().map(|told| (text(&told["bucket"]), text(&told["key"]), text(&told["did"]))).collect()
}

#[test]
fn what_was_deleted_comes_back_and_what_is_there_stays() {
    const NAME: &str = "objects::what_was_deleted_comes_back_and_what_is_there_stays";
    with_aws(NAME, || async {
        if !identity::is_person() {
            return identity::as_person(NAME, "nothing").await;
        }
        let (home, there) = buckets().await;
        let keys = ["uploads/once", "uploads/twice", "uploads/a b+c.csv", "uploads/lost"];
        let mut versions = Vec::new();
        for key in keys {
            versions.push(put(&home, key, key).await);
            delete(&home, key).await;
        }
        delete(&home, "uploads/twice").await;
        // Not hidden but gone, with every version and marker: only the replica has it.
        for version in fixture::aws().await.object_versions(&BucketName::parse(HOME).unwrap(), "uploads/lost").await.unwrap() {
            home.delete_object().bucket(HOME).key("uploads/lost").version_id(version.id.as_str()).send().await.unwrap();
        }
        put(&home, "uploads/rewritten", "old").await;
        delete(&home, "uploads/rewritten").await;
        put(&home, "uploads/rewritten", "new").await;

        let all = ["uploads/once", "uploads/twice", "uploads/a b+c.csv", "uploads/lost", "uploads/rewritten", "uploads/never"];
        let shown = restore(&all);
        assert_eq!(shown.status.code(), Some(15), "{}", said(&shown));
        for words in ["uploads/never: NOT FOUND", "2 delete markers go", "uploads/rewritten: is there since", "is copied from s3://"] {
            assert!(said(&shown).contains(words), "{words}: {}", said(&shown));
        }
        for key in keys {
            assert_eq!(text(&home, HOME, key).await.as_deref(), Some(key), "{key}");
            assert_eq!(text(&there, REPLICA, key).await.as_deref(), Some(key), "{key} of the replica");
        }
        let head = home.head_object().bucket(HOME).key("uploads/once").send().await.unwrap();
        assert_eq!(
            head.version_id(),
            Some(versions[0].as_str()),
            "the version that was deleted, not a copy that the parser would read again"
        );
        assert_eq!(text(&home, HOME, "uploads/rewritten").await.as_deref(), Some("new"));

        let page = from_the_page("KEY", "uploads/once");
        assert_eq!(did(&page.iter().map(String::as_str).collect::<Vec<_>>(), 0)[0].2, "was-there");
        let again = did(&all[..5], 0);
        assert!(again.iter().all(|(_, _, did)| did == "was-there"), "{again:?}");
    });
}

#[test]
fn only_what_the_accident_took_comes_back_from_below_a_prefix() {
    const NAME: &str = "objects::only_what_the_accident_took_comes_back_from_below_a_prefix";
    with_aws(NAME, || async {
        if !identity::is_person() {
            return identity::as_person(NAME, "nothing").await;
        }
        let (home, there) = buckets().await;
        // More than S3 tells in one answer.
        for number in 0..960 {
            let key = format!("uploads/many/{number:03}");
            put(&home, &key, "x").await;
            if number % 50 == 0 {
                delete(&home, &key).await;
            }
        }
        put(&home, "uploads/manyfold", "x").await;
        delete(&home, "uploads/manyfold").await;
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let accident = jiff::Timestamp::now().to_string();
        for number in 901..940 {
            delete(&home, &format!("uploads/many/{number:03}")).await;
        }
        let command = from_the_page("TIME", &accident);
        let done = did(&command.iter().map(String::as_str).collect::<Vec<_>>(), 0);
        let removed = |bucket: &str| done.iter().filter(|(b, _, did)| b == bucket && did == "marker-removed").count();
        assert_eq!((removed(HOME), removed(REPLICA), done.len()), (39, 39, 78), "{:?}", &done[..3]);
        assert_eq!(text(&home, HOME, "uploads/many/000").await, None, "deleted before the accident");
        assert_eq!(text(&home, HOME, "uploads/many/939").await.as_deref(), Some("x"));

        // The other region is lost: the copies come back by themselves.
        let alone = did(&["--to", "eu-west-1", "uploads/manyfold"], 0);
        assert_eq!(alone, [(REPLICA.to_owned(), "uploads/manyfold".to_owned(), "marker-removed".to_owned())]);
        assert_eq!(text(&there, REPLICA, "uploads/manyfold").await.as_deref(), Some("x"));
        assert_eq!(text(&home, HOME, "uploads/manyfold").await, None, "nothing was done in the other region");
    });
}

/// Somebody writes between the look and the copy.
#[test]
fn a_copy_never_overwrites() {
    with_aws("objects::a_copy_never_overwrites", || async {
        let (home, _) = buckets().await;
        let aws = fixture::aws().await;
        let [at_home, replica] = [HOME, REPLICA].map(|name| BucketName::parse(name).unwrap());
        put(&home, "uploads/a", "old").await;
        let seen = aws.in_region(&Region::parse("eu-west-1").unwrap()).object_versions(&replica, "uploads/a").await.unwrap();
        assert_eq!((seen.len(), &seen[0].content), (1, &Content::Bytes("STANDARD".into())));
        put(&home, "uploads/a", "new").await;
        assert_eq!(aws.copy_version(&replica, "uploads/a", &seen[0].id, &at_home).await.unwrap(), Copied::KeyTaken);
        assert_eq!(text(&home, HOME, "uploads/a").await.as_deref(), Some("new"));
        delete(&home, "uploads/a").await;
        assert!(matches!(aws.copy_version(&replica, "uploads/a", &seen[0].id, &at_home).await.unwrap(), Copied::Done(Some(_))));
        assert_eq!(text(&home, HOME, "uploads/a").await.as_deref(), Some("old"), "a delete marker is no object");
    });
}
