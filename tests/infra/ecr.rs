//! Repositories as the step `images` wants them, and tags that go one at a time.
use std::collections::BTreeMap;

use aws_sdk_ecr::types::ImageTagMutability;
use deployctl::{
    cluster::ApplySet,
    ids::{EnvironmentName, ImageDigest, Region, RepositoryName},
    image::{Blob, Image, Registry},
    manifests::Object,
    plan::environment::Standby,
    steps::{
        Action, StepContext,
        image::copies::{self, CopyState, Wanted},
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

/// An image with layers of its own and one that all have.
fn image(number: u8) -> Image {
    let blob = |bytes: Vec<u8>| Blob::new(bytes).unwrap();
    let blobs = vec![blob(vec![b'c', number]), blob(b"shared".to_vec()), blob(vec![number; 300_000])];
    let part = |blob: &Blob| json!({ "mediaType": "application/octet-stream", "digest": blob.digest, "size": blob.bytes.len() });
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": part(&blobs[0]),
        "layers": [part(&blobs[1]), part(&blobs[2])] });
    Image { manifest: blob(manifest.to_string().into_bytes()), blobs, media_type: media_type.into() }
}

/// Pushed and live at home.
async fn released(cx: &StepContext, home: &Registry, repository: &RepositoryName, number: u8) -> Wanted {
    let (image, build_tag) = (image(number), format!("src-{number}"));
    let digest = image.manifest.digest.clone();
    let tags = [build_tag.clone(), live_tag(&cx.environment.name, &digest)];
    home.push(repository, &image, &tags).await.unwrap();
    Wanted { repository: repository.clone(), digest, build_tag }
}

#[test]
fn what_is_live_is_copied_to_the_dr_region_and_what_is_not_goes_there_too() {
    with_aws("ecr::what_is_live_is_copied_to_the_dr_region_and_what_is_not_goes_there_too", || async {
        let cx = fixture::context("images", &fixture::test_dir()).await;
        let there = cx.aws.in_region(&Region::parse("eu-west-1").unwrap());
        let repository = RepositoryName::parse("deployctl-sandbox/parser").unwrap();
        cx.aws.ensure_repository(&repository, &BTreeMap::new()).await.unwrap();
        let home = Registry::connect(&cx.aws).await.unwrap();
        let policy = json!({ "rules": [] });
        let environment = &cx.environment.name;
        let look = async |wanted: &Wanted| copies::look(&cx, &wanted.repository, &wanted.build_tag, Some(&wanted.digest)).await;

        let one = released(&cx, &home, &repository, 1).await;
        assert_eq!(look(&one).await, CopyState::Missing);
        assert_eq!(copies::make(&cx, &home, &policy, std::slice::from_ref(&one)).await, 1);
        assert_eq!(look(&one).await, CopyState::There);
        assert!(there.find_repository(&repository).await.unwrap().unwrap().immutable_tags, "as at home");
        let copied = Registry::connect(&there).await.unwrap();
        assert_eq!(copied.find(&repository, &one.build_tag).await.unwrap(), Some(one.digest.clone()));

        // The next release: its first one is retired at home, and its tag goes there with the next copy.
        let two = released(&cx, &home, &repository, 2).await;
        assert_eq!(copies::look(&cx, &repository, "src-3", None).await, CopyState::Missing, "not built yet");
        cx.aws.remove_tag(&repository, &live_tag(environment, &one.digest)).await.unwrap();
        assert_eq!(copies::make(&cx, &home, &policy, std::slice::from_ref(&two)).await, 1);
        let live: Vec<ImageDigest> =
            live_images(&there, environment, &repository).await.unwrap().into_iter().map(|(_, i)| i.digest).collect();
        assert!(live.len() == 1 && live.contains(&two.digest), "{live:?}");
        assert!(there.image_by_digest(&repository, &one.digest).await.unwrap().is_some(), "an image keeps its build tag");

        // What cannot be copied is told, and stops nothing.
        let mut heard = cx.events.subscribe();
        let never = Wanted { digest: image(9).manifest.digest, ..two.clone() };
        assert_eq!(copies::make(&cx, &home, &policy, &[never]).await, 0);
        let mut told = Vec::new();
        while let Ok(event) = heard.try_recv() {
            told.push(serde_json::to_string(&event).unwrap());
        }
        assert!(told.iter().any(|event| event.contains("warning") && event.contains("not every image is in eu-west-1")), "{told:?}");

        let mut alone = fixture::environment();
        alone.recovery.standby = Standby::Backups;
        let cx = StepContext { environment: std::sync::Arc::new(alone), ..cx.clone() };
        assert_eq!(copies::look(&cx, &repository, &two.build_tag, Some(&two.digest)).await, CopyState::NotWanted);
    });
}
