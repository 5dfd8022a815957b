//! Authentication and IAM hold at the front door, for our own backends too.
use deployctl_sandbox::iam;
use serde_json::json;

use crate::{
    aws::{Call, Key, answer, client, deployer, session},
    replay::Seen,
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

/// A session of a new role that may do these on everything.
async fn allowed(stack: &Stack, role: &str, actions: &[&str]) -> Key {
    let client = iam::root_client(&stack.emulator.to_string());
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"sts:AssumeRole"}]}"#;
    client.create_role().role_name(role).assume_role_policy_document(trust).send().await.unwrap();
    let policy = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }] }).to_string();
    client.put_role_policy().role_name(role).policy_name("own").policy_document(policy).send().await.unwrap();
    session(stack.door, &stack.person, role).await
}

/// "If you have the s3:ListBucket permission on the bucket, Amazon S3 returns 404. If not, 403": S3 API Reference, GetObject and HeadObject.
#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_list_is_told_that_a_key_is_not_there() {
    let Some(stack) = Stack::start().await else { return };
    Call::rest("s3", "PUT", "/listed", "").send(stack.door, &stack.person).await;
    let reader = allowed(&stack, "reader", &["s3:GetObject"]).await;
    let lister = allowed(&stack, "lister", &["s3:GetObject", "s3:ListBucket"]).await;
    for (method, path) in [("GET", "/listed/absent"), ("HEAD", "/listed/absent")] {
        let statuses = [
            Call::rest("s3", method, path, "").send(stack.door, &reader).await.status,
            Call::rest("s3", method, path, "").send(stack.door, &lister).await.status,
        ];
        assert_eq!(statuses, [403, 404], "{method}");
    }
    let seen = Seen::of(&stack.requests(), "assumed-role/lister");
    assert_eq!(seen.uses.iter().map(|used| used.action.as_str()).collect::<Vec<_>>(), ["s3:GetObject", "s3:ListBucket"]);
    assert_eq!(Seen::of(&stack.requests(), "assumed-role/reader").refused.first().unwrap().action, "s3:ListBucket");
}

/// What RDS and EKS do in the caller's name takes the caller's permission.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_does_nothing_that_its_caller_may_not() {
    let Some(stack) = Stack::start().await else { return };
    let made = Call::target("kms", "TrentService.CreateKey", "{}").send(stack.door, &stack.person).await.json();
    let key = made["KeyMetadata"]["Arn"].as_str().unwrap();
    let instance = "Action=CreateDBInstance&Version=2014-10-31&DBInstanceIdentifier=x&Engine=postgres&MasterUsername=m";
    let cluster =
        json!({ "name": "x", "roleArn": "arn:aws:iam::111122223333:role/c", "encryptionConfig": [{ "provider": { "keyArn": key } }] });
    let calls = [
        ("secretsmanager:CreateSecret", Call::query("rds", &format!("{instance}&ManageMasterUserPassword=true"))),
        ("kms:DescribeKey", Call::query("rds", &format!("{instance}&StorageEncrypted=true&KmsKeyId={key}"))),
        ("kms:DescribeKey", Call::rest("eks", "POST", "/clusters", &cluster.to_string())),
    ];
    // Tags that come along are an action of their own.
    let role = "Action=CreateRole&Version=2010-05-08&RoleName=x&AssumeRolePolicyDocument=%7B%7D&Tags.member.1.Key=a&Tags.member.1.Value=b";
    let key = json!({ "Tags": [{ "TagKey": "a", "TagValue": "b" }] }).to_string();
    let vpc = "Action=CreateVpc&Version=2016-11-15&CidrBlock=10.9.0.0/16&TagSpecification.1.ResourceType=vpc&TagSpecification.1.Tag.1.Key=a&\
               TagSpecification.1.Tag.1.Value=b";
    let tagged = [
        ("iam:TagRole", Call::query("iam", role)),
        ("kms:TagResource", Call::target("kms", "TrentService.CreateKey", &key)),
        ("ec2:CreateTags", Call::query("ec2", vpc)),
    ];
    let calls = calls.into_iter().chain(tagged);
    let makes = ["rds:CreateDBInstance", "eks:CreateCluster", "iam:PassRole", "iam:CreateRole", "kms:CreateKey", "ec2:CreateVpc"];
    let without = allowed(&stack, "without", &makes).await;
    for (action, call) in calls {
        let refused = call.send(stack.door, &without).await;
        assert!(refused.status == 403 && refused.text.contains(action), "{action}: {} {}", refused.status, refused.text);
    }
}
