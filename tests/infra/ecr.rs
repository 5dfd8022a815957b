//! Repositories as the step `images` wants them, and tags that go one at a time.
use std::collections::BTreeMap;

use aws_sdk_ecr::types::ImageTagMutability;
use deployctl::{
    ids::{EnvironmentName, ImageDigest, RepositoryName},
    steps::live::{live_images, live_tag},
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{emulator::with_aws, fixture};

#[test]
fn tags_are_immutable_and_live_ones_can_be_retired() {
    with_aws("ecr::tags_are_immutable_and_live_ones_can_be_retired", || async {
        let aws = fixture::aws().await;
        let name = RepositoryName::parse("deployctl-sandbox/parser").unwrap();
        let made = aws.ensure_repository(&name, &BTreeMap::new()).await.unwrap();
        assert!(made.immutable_tags && made.scans_on_push, "{made:?}");
        let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
        let ecr = aws_sdk_ecr::Client::new(&config.into_builder().region(aws_config::Region::new("us-east-1")).build());
        let by_hand = ecr.put_image_tag_mutability().repository_name(name.as_str()).image_tag_mutability(ImageTagMutability::Mutable);
        by_hand.send().await.unwrap();
        assert!(!aws.find_repository(&name).await.unwrap().unwrap().immutable_tags);
        aws.ensure_repository(&name, &BTreeMap::new()).await.unwrap();
        assert!(aws.find_repository(&name).await.unwrap().unwrap().immutable_tags, "what was changed by hand is put right");

        // More than ECR tells in one answer.
        let environment = EnvironmentName::parse("sandbox").unwrap();
        let mut digests = Vec::new();
        for number in 0..120 {
            let manifest = json!({ "schemaVersion": 2, "annotations": { "number": number } }).to_string();
            let digest = ImageDigest::parse(format!("sha256:{}", hex::encode(Sha256::digest(&manifest)))).unwrap();
            for tag in [format!("src-{number}"), live_tag(&environment, &digest)] {
                ecr.put_image().repository_name(name.as_str()).image_manifest(&manifest).image_tag(tag).send().await.unwrap();
            }
            digests.push(digest);
        }
        assert_eq!(aws.tagged_images(&name).await.unwrap().len(), 120);
        let live = live_images(&aws, &environment, &name).await.unwrap();
        assert_eq!(live.len(), 120);
        let other = EnvironmentName::parse("other").unwrap();
        assert!(live_images(&aws, &other, &name).await.unwrap().is_empty(), "another environment has none");

        let tag = live_tag(&environment, &digests[7]);
        for _ in 0..2 {
            aws.remove_tag(&name, &tag).await.unwrap();
            assert_eq!(aws.image_by_digest(&name, &digests[7]).await.unwrap().unwrap().tags, ["src-7"], "the image stays");
        }
        assert_eq!(live_images(&aws, &environment, &name).await.unwrap().len(), 119);
        aws.remove_tag(&name, "src-8").await.unwrap();
        let last = live_images(&aws, &environment, &name).await.unwrap();
        assert!(!last.iter().any(|(_, image)| image.digest == digests[8]), "a live tag that is an image's last is never offered");
    });
}
