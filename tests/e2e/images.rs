//! Live tags: they go from images that nothing can need any more, and stay on what a workload would go back to. A repository that somebody has
//! weakened is put right.
use std::{io::Write as _, path::Path, process::Stdio};

use aws_sdk_ecr::{
    Client,
    config::{BehaviorVersion, Region},
    types::{ImageIdentifier, ImageTagMutability},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    commands::block_on,
    target::{Target, text},
};

const REPOSITORY: &str = "deployctl-sandbox/parser";
const HOST: &str = "111122223333.dkr.ecr.us-east-1.amazonaws.com";

/// Two former images of the parser: one that a set of replicas still names, one that nothing names.
pub fn retire(target: &Target) {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(target.variable("AWS_ENDPOINT_URL"))
        .credentials_provider(target.person())
        .build();
    let ecr = Client::from_conf(config);
    block_on(live_ones_are_in_both_regions(&ecr, &Client::new(&target.sdk("eu-west-1"))));
    let manifest = block_on(current(&ecr));
    let [before, forgotten] = ["before", "forgotten"].map(|name| block_on(pushed(&ecr, &manifest, name)));
    replica_set(target, &before);
    block_on(async {
        ecr.delete_lifecycle_policy().repository_name(REPOSITORY).send().await.unwrap();
        let mutable = ecr.put_image_tag_mutability().repository_name(REPOSITORY).image_tag_mutability(ImageTagMutability::Mutable);
        mutable.send().await.unwrap();
    });
    let live = |digest: &str| format!("live-sandbox-{}", &digest["sha256:".len()..][..12]);
    let planned = target.deployctl(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(planned.out.contains(&format!("{REPOSITORY}:{}", live(&forgotten))), "{}", planned.out);
    assert!(planned.out.contains("no longer live here") && !planned.out.contains(&live(&before)), "{}", planned.out);
    for weakened in ["lifecycle_policy: put back to the one that keeps what is live", "image_tag_mutability: MUTABLE -> IMMUTABLE"] {
        assert!(planned.out.contains(weakened), "{weakened}:\n{}", planned.out);
    }
    target.deployctl(&["apply", "--yes"]).expect(0);
    let policy = block_on(ecr.get_lifecycle_policy().repository_name(REPOSITORY).send()).unwrap();
    assert!(policy.lifecycle_policy_text().is_some_and(|text| text.contains("live-")), "{policy:?}");
    assert_eq!(block_on(tags(&ecr, &forgotten)), ["src-forgotten"], "the build tag stays, and with it the image");
    assert_eq!(block_on(tags(&ecr, &before)), [live(&before), "src-before".to_owned()], "the parser would go back to this one");
    target.deployctl(&["plan", "--detailed-exitcode"]).expect(0);
}

/// Under the same tags: what is brought up in the other region pulls them there.
async fn live_ones_are_in_both_regions(home: &Client, there: &Client) {
    let live = async |ecr: &Client, repository: &str| {
        let listed = ecr.list_images().repository_name(repository).send().await.unwrap();
        let live = listed.image_ids().iter().filter(|id| id.image_tag().is_some_and(|tag| tag.starts_with("live-sandbox-")));
        let mut found: Vec<String> = live.map(|id| format!("{:?} {:?}", id.image_tag(), id.image_digest())).collect();
        found.sort();
        found
    };
    for repository in [REPOSITORY, "deployctl-sandbox/uploader", "deployctl-sandbox/deployctl"] {
        let found = live(there, repository).await;
        assert!(found.len() == 1 && found == live(home, repository).await, "{repository}: {found:?}");
    }
}

/// The manifest of an image that is there.
async fn current(ecr: &Client) -> Value {
    let listed = ecr.list_images().repository_name(REPOSITORY).send().await.unwrap();
    let live = listed.image_ids().iter().find(|id| id.image_tag().is_some_and(|tag| tag.starts_with("live-sandbox-"))).unwrap();
    let got = ecr.batch_get_image().repository_name(REPOSITORY).image_ids(live.clone()).send().await.unwrap();
    serde_json::from_str(got.images()[0].image_manifest().unwrap()).unwrap()
}

/// The same layers under another manifest, as a former release has them; gives its digest.
async fn pushed(ecr: &Client, manifest: &Value, name: &str) -> String {
    let mut manifest = manifest.clone();
    manifest["annotations"] = json!({ "former": name });
    let text = manifest.to_string();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&text)));
    for tag in [format!("src-{name}"), format!("live-sandbox-{}", &digest["sha256:".len()..][..12])] {
        let put = ecr.put_image().repository_name(REPOSITORY).image_manifest(&text).image_tag(tag);
        let put = put.image_manifest_media_type(manifest["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json"));
        put.send().await.unwrap();
    }
    digest
}

async fn tags(ecr: &Client, digest: &str) -> Vec<String> {
    let id = ImageIdentifier::builder().image_digest(digest).build();
    let found = ecr.describe_images().repository_name(REPOSITORY).image_ids(id).send().await.unwrap();
    let mut tags = found.image_details()[0].image_tags().to_vec();
    tags.sort();
    tags
}

/// What a former rollout leaves behind: no replicas, and the image to go back to.
fn replica_set(target: &Target, digest: &str) {
    let labels = json!({ "former": "parser" });
    let object = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": "parser-before", "namespace": "apps" },
        "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": {
            "containers": [{ "name": "parser", "image": format!("{HOST}/{REPOSITORY}@{digest}") }],
        } } },
    });
    let mut kubectl = target.command(Path::new("kubectl"));
    let mut kubectl =
        kubectl.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    kubectl.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    let output = kubectl.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
