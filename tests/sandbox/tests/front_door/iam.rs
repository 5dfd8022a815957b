//! Authentication and IAM hold at the front door, for our own backends too.
use deployctl_sandbox::iam;

use crate::{
    aws::{Call, Key, answer, client, deployer},
    stack::{SHELL_KEY, Stack},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_names_the_action_and_the_resource() {
    let Some(stack) = Stack::start().await else { return };
    iam::set_deployer_policy(&stack.emulator.to_string(), None).await.unwrap();
    let deployer = deployer(stack.door, &stack.person).await;
    let eks = Call::rest("eks", "GET", "/clusters/deployctl-sandbox", "").send(stack.door, &deployer).await;
    assert_eq!(eks.status, 403, "{}", eks.text);
    assert!(
        eks.text.contains(
            "not authorized to perform: eks:DescribeCluster on resource: arn:aws:eks:us-east-1:111122223333:cluster/deployctl-sandbox"
        ),
        "{}",
        eks.text
    );
    let rds = Call::query("rds", "Action=DescribeDBInstances&Version=2014-10-31").send(stack.door, &deployer).await;
    assert_eq!(rds.status, 403);
    assert!(rds.text.contains("rds:DescribeDBInstances on resource: arn:aws:rds:us-east-1:111122223333:db:*"), "{}", rds.text);
    let renamed = Call::rest("eks", "GET", "/clusters/deployctl-sandbox?Action=ListClusters", "").send(stack.door, &deployer).await;
    assert!(renamed.text.contains("eks:DescribeCluster"), "{}", renamed.text);
    let record = stack.record();
    assert!(record.contains(r#""action":"eks:DescribeCluster""#), "{record}");
    assert!(record.contains(r#""principal":"arn:aws:sts::111122223333:assumed-role/deployctl-deployer/test""#), "{record}");
    assert!(!record.contains(&deployer.secret) && !record.contains("Signature"), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_key_and_nobody_are_refused() {
    let Some(stack) = Stack::start().await else { return };
    for id in ["test", "111122223333"] {
        let root = Key { id: id.into(), secret: "test".into(), token: None };
        let refused = Call::query("sts", "Action=GetCallerIdentity&Version=2011-06-15").send(stack.door, &root).await;
        assert_eq!((refused.status, refused.text.contains("InvalidClientTokenId")), (403, true), "{}", refused.text);
    }
    for path in ["/", "/some-bucket/key", "/_ministack/reset", "/_%6dinistack/reset", "/_sandbox/principal"] {
        let refused = answer(client().post(format!("http://{}{path}", stack.door))).await;
        assert!([403, 404].contains(&refused.status), "{path}: {} {}", refused.status, refused.text);
    }
    let shell = Key { id: SHELL_KEY.into(), secret: "shell".into(), token: None };
    let refused = Call::query("sts", "Action=GetCallerIdentity&Version=2011-06-15").send(stack.door, &shell).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let wrong = Key { secret: "wrong".into(), ..stack.person.clone() };
    let refused = Call::rest("eks", "GET", "/clusters", "").send(stack.door, &wrong).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let direct = answer(client().get(format!("http://{}/some-bucket/key", stack.emulator))).await;
    assert_eq!(direct.status, 403, "{}", direct.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn handing_on_a_role_needs_pass_role() {
    let Some(stack) = Stack::start().await else { return };
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["eks:CreateCluster","sts:GetCallerIdentity"],"Resource":"*"}]}"#;
    let project = stack.folder.path().join("project");
    std::fs::create_dir_all(project.join("terraform/policies")).unwrap();
    std::fs::write(project.join("terraform/policies/deployer.json"), policy).unwrap();
    let policy = iam::DeployerPolicy::of(&project, "deployctl-sandbox").unwrap();
    iam::set_deployer_policy(&stack.emulator.to_string(), policy).await.unwrap();
    let deployer = deployer(stack.door, &stack.person).await;
    let body = r#"{"name":"deployctl-sandbox","roleArn":"arn:aws:iam::111122223333:role/c","resourcesVpcConfig":{"subnetIds":["a","b"]}}"#;
    let refused = Call::rest("eks", "POST", "/clusters", body).send(stack.door, &deployer).await;
    assert!(refused.text.contains("iam:PassRole on resource: arn:aws:iam::111122223333:role/c"), "{} {}", refused.status, refused.text);
}
