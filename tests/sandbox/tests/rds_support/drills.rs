//! What a drill deletes: instances that carry its tag under its own environment's name, and nothing else.
use std::time::{Duration, Instant};

use aws_sdk_rds::types::Tag;
use deployctl::{
    aws::{Aws, recovery::DRILL},
    failure::FailureKind,
    ids::{AccountId, DbInstanceId, Region},
};

use crate::rds_support::{DR, Sandbox};

fn id(text: &str) -> DbInstanceId {
    DbInstanceId::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_drill_has_made_is_deleted() {
    let sandbox = Sandbox::start(90).await;
    let dr = sandbox.client(DR);
    let tag = || Tag::builder().key(DRILL.0).value(DRILL.1).build();
    let other = Tag::builder().key(DRILL.0).value("keep").build();
    // The second was made by hand, the third belongs to an environment whose name begins with this one's, the fourth says something else.
    let instances = [("prod-drill-1", Some(tag())), ("prod-drill-2", None), ("prod-drill2-1", Some(tag())), ("prod-drill-3", Some(other))];
    for (name, tag) in instances.clone() {
        sandbox
            .creation(&dr, name)
            .storage_encrypted(true)
            .deletion_protection(true)
            .set_tags(tag.map(|tag| vec![tag]))
            .send()
            .await
            .unwrap();
    }
    let aws = Aws::reaching(&sandbox.endpoint(), &Region::parse(DR).unwrap(), &AccountId::parse("111122223333").unwrap());
    assert_eq!(aws.drilled(&id("prod-drill")).await.unwrap(), [id("prod-drill-1")]);
    for name in ["prod-drill-2", "prod-drill-3"] {
        let refused = aws.delete_drilled(&id(name)).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Policy, "{refused:?}");
    }
    // It is being made still: whoever was killed right after asking for it leaves it so.
    let end = Instant::now() + Duration::from_secs(60);
    while !aws.delete_drilled(&id("prod-drill-1")).await.unwrap() {
        assert!(Instant::now() < end, "it is not gone");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(aws.delete_drilled(&id("prod-drill-1")).await.unwrap(), "gone is gone");
    let left = dr.describe_db_instances().send().await.unwrap();
    let mut left: Vec<&str> = left.db_instances().iter().filter_map(|instance| instance.db_instance_identifier()).collect();
    left.sort_unstable();
    let left_alone = ["prod-drill-2", "prod-drill-3", "prod-drill2-1"];
    assert_eq!(left, left_alone);
    for name in left_alone {
        sandbox.available(&dr, name).await;
    }
    assert!(dr.describe_db_snapshots().send().await.unwrap().db_snapshots().is_empty(), "no final snapshot of what is thrown away");
    sandbox.stop().await;
}
