//! The state backend: made once, unchanged the second time, drift put right, and a lock that locks.
use deployctl::{
    engine::event::Outcome,
    steps::{
        Action,
        state_backend::{Input, Names, StateBackend},
    },
};
use serde_json::json;

use super::{emulator::with_aws, fixture};

#[test]
fn is_made_once_and_repaired() {
    with_aws("state_backend::is_made_once_and_repaired", || async {
        let cx = fixture::context("backend", &fixture::test_dir()).await;
        let input: Input = serde_json::from_value(json!({})).unwrap();

        let (plan, applied) = fixture::run::<StateBackend>(&cx, &input).await.unwrap();
        assert_eq!(
            plan.changes.iter().map(|c| (c.action, c.resource.as_str())).collect::<Vec<_>>(),
            [(Action::Create, "bucket"), (Action::Create, "bucket"), (Action::Create, "table")]
        );
        assert_eq!(applied.outcome, Outcome::Changed);
        assert_eq!(applied.outputs["bucket"], "deployctl-sandbox-state-111122223333-us-east-1");
        assert_eq!(applied.outputs["dr_bucket"], "deployctl-sandbox-state-111122223333-eu-west-1");

        let (plan, applied) = fixture::run::<StateBackend>(&cx, &input).await.unwrap();
        assert_eq!(plan.changes, []);
        assert_eq!(applied.outcome, Outcome::Unchanged);

        // Somebody turns versioning's companion off by hand.
        let names = Names::of(&cx.environment).unwrap();
        let days = deployctl::aws::bucket::BucketSetting::NoncurrentDays(3);
        cx.aws.put_bucket_setting(&names.bucket, days).await.unwrap();
        let (plan, _) = fixture::run::<StateBackend>(&cx, &input).await.unwrap();
        assert_eq!(plan.changes.len(), 1);
        assert_eq!(plan.changes[0].details, ["old versions kept: 3 days -> 90 days"]);
        assert_eq!(fixture::planned::<StateBackend>(&cx, &input).await.unwrap().changes, []);
    });
}
