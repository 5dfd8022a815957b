//! Repositories as the step `images` wants them, and tags that go one at a time.
use std::collections::BTreeMap;

use aws_sdk_ecr::types::ImageTagMutability;
use deployctl::{
    cluster::ApplySet,
    ids::{EnvironmentName, ImageDigest, RepositoryName},
    manifests::Object,
    steps::{
        Action,
        live::{live_images, live_tag, retire},
        release::Release,
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{api_server::ApiServer, emulator::with_aws, fixture};

async fn client() -> aws_sdk_ecr::Client {
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    aws_sdk_ecr::Client::new(&config.into_builder().region(aws_config::Region::new("us-east-1")).build())
}

/// An image of its own under its build tag and, live in the sandbox, its live tag.
async fn pushed(ecr: &aws_sdk_ecr::Client, repository: &RepositoryName, number: usize) -> ImageDigest {
    let manifest = json!({ "schemaVersion": 2, "annotations": { "number": number } }).to_string();
    let digest = ImageDigest::parse(format!("sha256:{}", hex::encode(Sha256::digest(&manifest)))).unwrap();
    for tag in [format!("src-{number}"), live_tag(&EnvironmentName::parse("sandbox").unwrap(), &digest)] {
        ecr.put_image().repository_name(repository.as_str()).image_manifest(&manifest).image_tag(tag).send().await.unwrap();
    }
    digest
}

#[test]
fn tags_are_immutable_and_live_ones_can_be_retired() {
    with_aws("ecr::tags_are_immutable_and_live_ones_can_be_retired", || async {
        let aws = fixture::aws().await;
        let name = RepositoryName::parse("deployctl-sandbox/parser").unwrap();
        let made = aws.ensure_repository(&name, &BTreeMap::new()).await.unwrap();
        assert!(made.immutable_tags && made.scans_on_push, "{made:?}");
        let ecr = client().await;
        let by_hand = ecr.put_image_tag_mutability().repository_name(name.as_str()).image_tag_mutability(ImageTagMutability::Mutable);
        by_hand.send().await.unwrap();
        assert!(!aws.find_repository(&name).await.unwrap().unwrap().immutable_tags);
        aws.ensure_repository(&name, &BTreeMap::new()).await.unwrap();
        assert!(aws.find_repository(&name).await.unwrap().unwrap().immutable_tags, "what was changed by hand is put right");

        // More than ECR tells in one answer.
        let environment = EnvironmentName::parse("sandbox").unwrap();
        let mut digests = Vec::new();
        for number in 0..120 {
            digests.push(pushed(&ecr, &name, number).await);
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

fn object(value: Value) -> Object {
    Object::new(value, "test.yaml".into(), 1).unwrap()
}

/// The parser's pods with an image.
fn pods(labels: &Value, image: &str) -> Value {
    json!({ "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "parser", "image": image }] } })
}

/// Four releases of the parser: two that are done with, the one that runs, and the one that is rolled out now.
#[test]
fn what_nothing_needs_is_retired_by_the_step_that_rolls_out() {
    with_aws("ecr::what_nothing_needs_is_retired_by_the_step_that_rolls_out", || async {
        let Some(server) = ApiServer::start() else { return };
        let cluster = server.cluster_as("test-token").await;
        let cx = fixture::context("parser", &fixture::test_dir()).await;
        let (name, ecr) = (RepositoryName::parse("deployctl-sandbox/parser").unwrap(), client().await);
        cx.aws.ensure_repository(&name, &BTreeMap::new()).await.unwrap();
        let mut images = Vec::new();
        for number in 0..4 {
            images.push(pushed(&ecr, &name, number).await);
        }
        let image = |digest: &ImageDigest| format!("{}/{name}@{digest}", cx.aws.registry_host());
        let labels = json!({ "app": "parser" });
        let namespace = object(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "apps" } }));
        let mut former = vec![namespace];
        for (revision, replicas, digest) in [(1, 0, &images[0]), (2, 0, &images[1]), (3, 2, &images[2])] {
            former.push(object(json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": format!("parser-{revision}"),
                "namespace": "apps", "annotations": { "deployment.kubernetes.io/revision": revision.to_string() }, "ownerReferences": [
                    { "apiVersion": "apps/v1", "kind": "Deployment", "name": "parser", "uid": "7b0c2d3e-0000-4000-8000-000000000001" }] },
                "spec": { "replicas": replicas, "selector": { "matchLabels": labels }, "template": pods(&labels, &image(digest)) } })));
        }
        cluster.apply(&former, |_| {}).await.unwrap();
        let wanted = object(json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "parser", "namespace": "apps" },
            "spec": { "selector": { "matchLabels": labels }, "template": pods(&labels, &image(&images[3])) } }));
        let set = ApplySet::new("parser", "apps");
        let release = Release::observe(&cx, &cluster, &set, vec![wanted.clone()], BTreeMap::new()).await.unwrap();
        let environment = &cx.environment.name;
        let shown: Vec<&str> = release.changes.iter().filter(|c| c.action == Action::Update).map(|c| c.name.as_str()).collect();
        let expected = [&images[0], &images[1]].map(|digest| format!("{name}:{}", live_tag(environment, digest)));
        assert_eq!(shown.len(), 2, "{:?}", release.changes);
        assert!(expected.iter().all(|tag| shown.contains(&tag.as_str())), "{shown:?}");
        retire(&cx, &release.retired).await.unwrap();
        let live = live_images(&cx.aws, environment, &name).await.unwrap();
        let live: Vec<&ImageDigest> = live.iter().map(|(_, image)| &image.digest).collect();
        assert!(live.len() == 2 && live.contains(&&images[2]) && live.contains(&&images[3]), "what runs and what comes: {live:?}");
        for (number, digest) in images.iter().enumerate() {
            let kept = cx.aws.image_by_digest(&name, digest).await.unwrap().unwrap();
            assert!(kept.tags.contains(&format!("src-{number}")), "every image keeps its build tag: {kept:?}");
        }
        let again = Release::observe(&cx, &cluster, &set, vec![wanted], BTreeMap::new()).await.unwrap();
        assert_eq!(again.retired, [], "nothing is left to retire");
    });
}
