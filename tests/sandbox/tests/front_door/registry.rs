//! ECR: push with a login token, pull with the node's role, immutable tags, a record that fits.
use base64::Engine;
use sha2::{Digest, Sha256};

use crate::{
    aws::{Call, answer, client, element},
    stack::Stack,
};

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

struct Push<'a> {
    stack: &'a Stack,
    login: String,
}

impl Push<'_> {
    async fn blob(&self, content: &'static str) -> String {
        let base = format!("http://{}", self.stack.door);
        let digest = digest(content.as_bytes());
        let begun = answer(client().post(format!("{base}/v2/app/blobs/uploads/")).header("authorization", &self.login)).await;
        assert_eq!(begun.status, 202, "{}", begun.text);
        let location = begun.headers["location"].to_str().unwrap();
        let done =
            answer(client().put(format!("{base}{location}?digest={digest}")).header("authorization", &self.login).body(content)).await;
        assert_eq!(done.status, 201, "{}", done.text);
        let head = client().head(format!("{base}/v2/app/blobs/{digest}")).header("authorization", &self.login).send().await.unwrap();
        assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, content.len().to_string().as_str()));
        digest
    }

    async fn manifest(&self, reference: &str, text: &str) -> u16 {
        let url = format!("http://{}/v2/app/manifests/{reference}", self.stack.door);
        let request =
            client().put(url).header("authorization", &self.login).header("content-type", "application/vnd.oci.image.manifest.v1+json");
        answer(request.body(text.to_owned())).await.status
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn push_pull_and_the_rules_between() {
    let Some(stack) = Stack::start().await else { return };
    let ecr = |action: &'static str, body: &'static str| Call::target("ecr", action, body);
    let made = ecr("AmazonEC2ContainerRegistry_V20150921.CreateRepository", r#"{"repositoryName":"app","imageTagMutability":"IMMUTABLE"}"#);
    assert_eq!(made.send(stack.door, &stack.person).await.status, 200);
    let anonymous = answer(client().post(format!("http://{}/v2/app/blobs/uploads/", stack.door))).await;
    assert_eq!(anonymous.status, 401);
    let forged = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("AWS:ministack-auth-token"));
    assert_eq!(answer(client().get(format!("http://{}/v2/", stack.door)).header("authorization", forged)).await.status, 401);

    let token = ecr("AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "{}").send(stack.door, &stack.person).await.json();
    let push = Push { stack: &stack, login: format!("Basic {}", token["authorizationData"][0]["authorizationToken"].as_str().unwrap()) };
    let (config, layer) = (push.blob("{}").await, push.blob("layer").await);
    let manifest = |layer: &str| {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config}","size":2}},"layers":[{{"mediaType":"l","digest":"{layer}","size":5}}]}}"#
        )
    };
    assert_eq!(push.manifest("one", &manifest(&digest(b"absent"))).await, 400, "a manifest of absent layers");
    assert_eq!(push.manifest("one", &manifest(&layer)).await, 201);
    assert_eq!(push.manifest("one", &format!("{} ", manifest(&layer))).await, 400, "an immutable tag");
    assert_eq!(push.manifest("two", &manifest(&layer)).await, 201);
    let shown = ecr("AmazonEC2ContainerRegistry_V20150921.DescribeImages", r#"{"repositoryName":"app"}"#)
        .send(stack.door, &stack.person)
        .await
        .json();
    assert_eq!(shown["imageDetails"][0]["imageSizeInBytes"], 7);
    assert_eq!(shown["imageDetails"][0]["imageTags"].as_array().unwrap().len(), 2);

    // A tag goes alone; the image goes with its last one.
    for (tag, left) in [("one", 1), ("two", 0)] {
        let body = format!(r#"{{"repositoryName":"app","imageIds":[{{"imageTag":"{tag}"}}]}}"#);
        Call::target("ecr", "AmazonEC2ContainerRegistry_V20150921.BatchDeleteImage", &body).send(stack.door, &stack.person).await;
        let shown = ecr("AmazonEC2ContainerRegistry_V20150921.DescribeImages", r#"{"repositoryName":"app"}"#)
            .send(stack.door, &stack.person)
            .await
            .json();
        assert_eq!(shown["imageDetails"].as_array().unwrap().len(), left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_pulls_with_its_role_and_cannot_push() {
    let Some(mut stack) = Stack::start().await else { return };
    let call = |action: &'static str, body: &'static str| Call::target("ecr", action, body);
    call("AmazonEC2ContainerRegistry_V20150921.CreateRepository", r#"{"repositoryName":"app"}"#).send(stack.door, &stack.person).await;
    let token = call("AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "{}").send(stack.door, &stack.person).await.json();
    let push = Push { stack: &stack, login: format!("Basic {}", token["authorizationData"][0]["authorizationToken"].as_str().unwrap()) };
    let config = push.blob("{}").await;
    let manifest = format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config}","size":2}},"layers":[]}}"#);
    assert_eq!(push.manifest("one", &manifest).await, 201);
    let reference = digest(manifest.as_bytes());
    let url = format!("http://{}/v2/app/manifests/{reference}?ns=111122223333.dkr.ecr.us-east-1.amazonaws.com", stack.door);
    assert_eq!(answer(client().get(&url)).await.status, 401, "no node group, no role");

    std::fs::create_dir_all(stack.folder.path().join("eks")).unwrap();
    let state = r#"{"nodegroups":{"main":{"nodeRole":"arn:aws:iam::111122223333:role/node"}}}"#;
    std::fs::write(stack.folder.path().join("eks/state.json"), state).unwrap();
    assert_eq!(answer(client().get(&url)).await.status, 403, "a role that may nothing");
    let trust = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D";
    let (door, person) = (stack.door, stack.person.clone());
    let iam = async |form: String| Call::query("iam", &form).send(door, &person).await;
    let made = iam(format!("Action=CreateRole&Version=2010-05-08&RoleName=node&AssumeRolePolicyDocument={trust}")).await;
    assert_eq!(element(&made.text, "RoleName"), "node");
    let attached =
        "Action=AttachRolePolicy&Version=2010-05-08&RoleName=node&PolicyArn=arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly";
    assert_eq!(iam(attached.to_owned()).await.status, 200);
    let pulled = answer(client().get(&url)).await;
    assert_eq!((pulled.status, pulled.text.as_str()), (200, manifest.as_str()));
    let pushed = answer(client().put(&url).body("{}")).await;
    assert_eq!(pushed.status, 401, "the node's role is for pulls only");

    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    stack.kill_emulator_and_start_again().await;
    assert_eq!(answer(client().get(&url)).await.status, 200, "manifests survive kill -9");
    let blob = format!("http://{}/v2/app/blobs/{config}?ns=111122223333.dkr.ecr.us-east-1.amazonaws.com", stack.door);
    assert_eq!(answer(client().get(&blob)).await.text, "{}");
}
