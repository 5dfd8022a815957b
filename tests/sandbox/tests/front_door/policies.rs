//! The committed policies under the roles that they are for: what they open, and that another environment stays closed.
use deployctl_sandbox::iam;
use serde_json::{Value, json};

use crate::{
    aws::{Answer, Call, Key, deployer, element, session},
    stack::Stack,
};

const ACCOUNT: &str = "111122223333";

async fn send(stack: &Stack, key: &Key, call: Call<'_>) -> Answer {
    call.send(stack.door, key).await
}

/// Whether IAM let it through: whatever the service then said, it was asked.
fn is_refused(answer: &Answer, action: &str) -> bool {
    let refused = ["AccessDenied", "UnauthorizedOperation", "AuthorizationError"].iter().any(|code| answer.text.contains(code));
    assert!(!refused || answer.text.contains(action) || answer.status == 403, "a refusal names its action: {}", answer.text);
    refused || answer.status == 403
}

/// S3 says of a bucket that is not there that it is not there, whoever asks.
async fn bucket(stack: &Stack, name: &str, region: &str) {
    let path = format!("/{name}");
    let body = format!("<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>");
    let body = if region == "us-east-1" { "" } else { &body };
    let made = send(stack, &stack.person, Call::rest("s3", "PUT", &path, body).in_region(region)).await;
    assert_eq!(made.status, 200, "{}", made.text);
}

/// Calls on things of an environment, each with the action that it is checked for.
fn calls<'a>(environment: &str) -> Vec<(&'static str, Call<'a>)> {
    let name = format!("deployctl-{environment}");
    let secret = json!({ "SecretId": format!("deployctl/{environment}/kafka"), "SecretString": "x" });
    let parameter = json!({ "Name": format!("/deployctl/{environment}/database"), "Value": "x", "Type": "String", "Overwrite": true });
    let item = json!({ "TableName": format!("{name}-state-lock"), "Key": { "LockID": { "S": "x" } } });
    let repository = json!({ "repositoryName": format!("{name}/parser"), "imageTag": "t", "imageManifest": "{}" });
    let bucket: &'static str = Box::leak(format!("/{name}-state-{ACCOUNT}-us-east-1/key").into_boxed_str());
    let cluster: &'static str = Box::leak(format!("/clusters/{name}").into_boxed_str());
    vec![
        ("secretsmanager:PutSecretValue", Call::target("secretsmanager", "secretsmanager.PutSecretValue", &secret.to_string())),
        ("ssm:PutParameter", Call::target("ssm", "AmazonSSM.PutParameter", &parameter.to_string())),
        ("dynamodb:GetItem", Call::target("dynamodb", "DynamoDB_20120810.GetItem", &item.to_string())),
        ("ecr:PutImage", Call::target("ecr", "AmazonEC2ContainerRegistry_V20150921.PutImage", &repository.to_string())),
        ("s3:GetObject", Call::rest("s3", "GET", bucket, "")),
        ("eks:DescribeCluster", Call::rest("eks", "GET", cluster, "")),
        ("iam:GetRole", Call::query("iam", &format!("Action=GetRole&Version=2010-05-08&RoleName={name}-apps-parser"))),
        ("sqs:GetQueueUrl", Call::target("sqs", "AmazonSQS.GetQueueUrl", &json!({ "QueueName": format!("{name}-parser") }).to_string())),
        ("rds:ModifyDBInstance", Call::query("rds", &format!("Action=ModifyDBInstance&Version=2014-10-31&DBInstanceIdentifier={name}"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deployer_reaches_its_own_environment_and_no_other() {
    let Some(stack) = Stack::start().await else { return };
    let deployer = deployer(stack.door, &stack.person).await;
    for environment in ["sandbox", "other"] {
        bucket(&stack, &format!("deployctl-{environment}-state-{ACCOUNT}-us-east-1"), "us-east-1").await;
    }
    for (action, call) in calls("sandbox") {
        let answer = send(&stack, &deployer, call).await;
        assert!(!is_refused(&answer, action), "{action}: {} {}", answer.status, answer.text);
    }
    for (action, call) in calls("other") {
        let answer = send(&stack, &deployer, call).await;
        assert!(is_refused(&answer, action), "{action}: {} {}", answer.status, answer.text);
    }
    // RDS gives automated backups ids of its own, and checks this action on them.
    let backup = "Action=DeleteDBInstanceAutomatedBackup&Version=2014-10-31&DBInstanceAutomatedBackupsArn=arn:aws:rds:us-east-1:111122223333:auto-backup:ab-1";
    let answer = send(&stack, &deployer, Call::query("rds", backup)).await;
    assert!(!is_refused(&answer, "rds:DeleteDBInstanceAutomatedBackup"), "{} {}", answer.status, answer.text);
}

/// EC2 and KMS know no names of ours: there the tag decides that everything we make carries.
#[tokio::test(flavor = "multi_thread")]
async fn what_carries_another_environments_tag_is_not_touched() {
    let Some(stack) = Stack::start().await else { return };
    let deployer = deployer(stack.door, &stack.person).await;
    for (environment, is_other) in [("sandbox", false), ("other", true)] {
        let tags = format!("TagSpecification.1.Tag.1.Key=deployctl:environment&TagSpecification.1.Tag.1.Value={environment}");
        let form = format!("Action=CreateVpc&Version=2016-11-15&CidrBlock=10.9.0.0/16&TagSpecification.1.ResourceType=vpc&{tags}");
        let vpc = element(&send(&stack, &stack.person, Call::query("ec2", &form)).await.text, "vpcId");
        let subnet = format!("Action=CreateSubnet&Version=2016-11-15&VpcId={vpc}&CidrBlock=10.9.0.0/24");
        let inside = send(&stack, &deployer, Call::query("ec2", &subnet)).await;
        assert_eq!(is_refused(&inside, "ec2:CreateSubnet"), is_other, "{environment}: {}", inside.text);
        if !is_other {
            let id = element(&inside.text, "subnetId");
            send(&stack, &deployer, Call::query("ec2", &format!("Action=DeleteSubnet&Version=2016-11-15&SubnetId={id}"))).await;
        }
        let delete = send(&stack, &deployer, Call::query("ec2", &format!("Action=DeleteVpc&Version=2016-11-15&VpcId={vpc}"))).await;
        assert_eq!(is_refused(&delete, "ec2:DeleteVpc"), is_other, "{environment}: {}", delete.text);

        let key = json!({ "Tags": [{ "TagKey": "deployctl:environment", "TagValue": environment }] });
        let made = send(&stack, &stack.person, Call::target("kms", "TrentService.CreateKey", &key.to_string())).await.json();
        let id = json!({ "KeyId": made["KeyMetadata"]["KeyId"], "PendingWindowInDays": 7 }).to_string();
        let gone = send(&stack, &deployer, Call::target("kms", "TrentService.ScheduleKeyDeletion", &id)).await;
        assert_eq!(is_refused(&gone, "kms:ScheduleKeyDeletion"), is_other, "{environment}: {}", gone.text);
    }
    // Neither where it deploys nor where it recovers.
    let elsewhere = Call::query("ec2", "Action=CreateVpc&Version=2016-11-15&CidrBlock=10.9.0.0/16").in_region("eu-central-1");
    let refused = send(&stack, &deployer, elsewhere).await;
    assert!(is_refused(&refused, "ec2:CreateVpc"), "another region: {}", refused.text);
}

/// A role with a committed policy, as terraform/bootstrap would make it.
async fn role_with(stack: &Stack, role: &str, policy: &str) -> Key {
    let path = stack.project.join(format!("terraform/policies/{policy}.json"));
    let values = [
        ("account_id", ACCOUNT),
        ("region", "us-east-1"),
        ("dr_region", "eu-west-1"),
        ("prefix", "deployctl-sandbox"),
        ("environment", "sandbox"),
    ];
    let text = std::fs::read_to_string(path).unwrap();
    let text = values.iter().fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
    let document = serde_json::from_str::<Value>(&text).unwrap().to_string();
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/person")}, "Action": "sts:AssumeRole"}]});
    let client = iam::root_client(&stack.emulator.to_string());
    client.create_role().role_name(role).assume_role_policy_document(trust.to_string()).send().await.unwrap();
    let made = client.create_policy().policy_name(role).path("/deployctl/").policy_document(document).send().await.unwrap();
    let arn = made.policy().unwrap().arn().unwrap();
    client.attach_role_policy().role_name(role).policy_arn(arn).send().await.unwrap();
    session(stack.door, &stack.person, role).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_call_looks_everywhere_and_restores_in_the_other_region_only() {
    let Some(stack) = Stack::start().await else { return };
    let key = role_with(&stack, "deployctl-on-call", "on-call").await;
    let restore = "Action=RestoreDBInstanceFromDBSnapshot&Version=2014-10-31&DBInstanceIdentifier=deployctl-sandbox&DBSnapshotIdentifier=\
                   deployctl-sandbox-parser-v0&DBSubnetGroupName=deployctl-sandbox";
    let point = "Action=RestoreDBInstanceToPointInTime&Version=2014-10-31&TargetDBInstanceIdentifier=deployctl-sandbox&\
                 SourceDBInstanceAutomatedBackupsArn=arn:aws:rds:eu-west-1:111122223333:auto-backup:ab-1";
    let queue = json!({ "QueueName": "deployctl-sandbox-parser" }).to_string();
    let secret = json!({ "SecretId": "deployctl/sandbox/kafka" }).to_string();
    let address = json!({ "SecretId": "deployctl/sandbox/database-AbCdEf", "SecretString": "{}" }).to_string();
    let tags = json!([{ "Key": "deployctl:environment", "Value": "sandbox" }]);
    let first = json!({ "Name": "deployctl/sandbox/database", "SecretString": "{}", "Tags": tags }).to_string();
    let state = format!("/deployctl-sandbox-state-{ACCOUNT}");
    let (here, there) = (format!("{state}-us-east-1/lease"), format!("{state}-eu-west-1/lease"));
    for region in ["us-east-1", "eu-west-1"] {
        bucket(&stack, &format!("deployctl-sandbox-state-{ACCOUNT}-{region}"), region).await;
    }
    let allowed = [
        ("rds:DescribeDBInstances", Call::query("rds", "Action=DescribeDBInstances&Version=2014-10-31")),
        ("rds:RestoreDBInstanceFromDBSnapshot", Call::query("rds", restore).in_region("eu-west-1")),
        ("rds:RestoreDBInstanceToPointInTime", Call::query("rds", point).in_region("eu-west-1")),
        ("eks:DescribeCluster", Call::rest("eks", "GET", "/clusters/deployctl-sandbox", "")),
        ("ec2:DescribeVpcs", Call::query("ec2", "Action=DescribeVpcs&Version=2016-11-15")),
        ("sqs:GetQueueUrl", Call::target("sqs", "AmazonSQS.GetQueueUrl", &queue)),
        ("secretsmanager:DescribeSecret", Call::target("secretsmanager", "secretsmanager.DescribeSecret", &secret)),
        ("secretsmanager:PutSecretValue", Call::target("secretsmanager", "secretsmanager.PutSecretValue", &address).in_region("eu-west-1")),
        ("secretsmanager:CreateSecret", Call::target("secretsmanager", "secretsmanager.CreateSecret", &first).in_region("eu-west-1")),
        ("s3:GetObject", Call::rest("s3", "GET", &here, "")),
        ("s3:PutObject", Call::rest("s3", "PUT", &there, "x").in_region("eu-west-1")),
    ];
    // A key's tag decides, by whatever name it is called.
    for environment in ["sandbox", "other"] {
        let there = |target: &'static str, asked: Value| Call::target("kms", target, &asked.to_string()).in_region("eu-west-1");
        let tags = json!({ "Tags": [{ "TagKey": "deployctl:environment", "TagValue": environment }] });
        let made = send(&stack, &stack.person, there("TrentService.CreateKey", tags)).await.json();
        let alias = format!("alias/deployctl-{environment}-data");
        let named = json!({ "AliasName": alias, "TargetKeyId": made["KeyMetadata"]["KeyId"] });
        assert_eq!(send(&stack, &stack.person, there("TrentService.CreateAlias", named)).await.status, 200);
        let looked = send(&stack, &key, there("TrentService.DescribeKey", json!({ "KeyId": alias }))).await;
        assert_eq!(is_refused(&looked, "kms:DescribeKey"), environment == "other", "{environment}: {}", looked.text);
    }
    for (action, call) in allowed {
        let answer = send(&stack, &key, call).await;
        assert!(!is_refused(&answer, action), "{action}: {} {}", answer.status, answer.text);
    }
    let refused = [
        ("rds:RestoreDBInstanceFromDBSnapshot", Call::query("rds", restore)),
        ("rds:RestoreDBInstanceFromDBSnapshot", Call::query("rds", "Action=RestoreDBInstanceFromDBSnapshot&Version=2014-10-31&DBInstanceIdentifier=deployctl-other&DBSnapshotIdentifier=deployctl-other-1").in_region("eu-west-1")),
        ("rds:DeleteDBInstance", Call::query("rds", "Action=DeleteDBInstance&Version=2014-10-31&DBInstanceIdentifier=deployctl-sandbox")),
        ("rds:ModifyDBInstance", Call::query("rds", "Action=ModifyDBInstance&Version=2014-10-31&DBInstanceIdentifier=deployctl-sandbox")),
        ("eks:DeleteCluster", Call::rest("eks", "DELETE", "/clusters/deployctl-sandbox", "")),
        ("ec2:CreateVpc", Call::query("ec2", "Action=CreateVpc&Version=2016-11-15&CidrBlock=10.9.0.0/16")),
        ("secretsmanager:GetSecretValue", Call::target("secretsmanager", "secretsmanager.GetSecretValue", &secret)),
        ("secretsmanager:PutSecretValue", Call::target("secretsmanager", "secretsmanager.PutSecretValue", &address)),
        ("s3:PutObject", Call::rest("s3", "PUT", &here, "x")),
        ("iam:CreateRole", Call::query("iam", "Action=CreateRole&Version=2010-05-08&RoleName=x&AssumeRolePolicyDocument=%7B%7D")),
    ];
    for (action, call) in refused {
        let answer = send(&stack, &key, call).await;
        assert!(is_refused(&answer, action), "{action}: {} {}", answer.status, answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_bootstraps_makes_these_roles_and_no_others() {
    let Some(stack) = Stack::start().await else { return };
    let key = role_with(&stack, "newcomer", "bootstrap").await;
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:role/newcomer")}, "Action": "sts:AssumeRole"}]});
    let trust: String = url::form_urlencoded::byte_serialize(trust.to_string().as_bytes()).collect();
    let iam = async |form: &str| send(&stack, &key, Call::query("iam", &format!("{form}&Version=2010-05-08"))).await;
    let role = |name: &str| format!("Action=CreateRole&RoleName={name}&AssumeRolePolicyDocument={trust}");
    let policy = |path: &str, name: &str| {
        let document = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22s3%3AGetObject%22%2C%22Resource%22%3A%22*%22%7D%5D%7D";
        format!("Action=CreatePolicy&PolicyName={name}&Path={path}&PolicyDocument={document}")
    };
    let attach = |role: &str, arn: &str| format!("Action=AttachRolePolicy&RoleName={role}&PolicyArn={arn}");
    let provider = |host: &str| {
        format!(
            "Action=CreateOpenIDConnectProvider&Url=https://{host}&ClientIDList.member.1=sts.amazonaws.com&ThumbprintList.member.1={}",
            "a".repeat(40)
        )
    };
    let ours = "arn:aws:iam::111122223333:policy/deployctl/deployctl-deployer-x-1";
    for (action, form) in [
        ("iam:CreateRole", role("deployctl-deployer-x")),
        ("iam:CreatePolicy", policy("/deployctl/", "deployctl-deployer-x-1")),
        ("iam:AttachRolePolicy", attach("deployctl-deployer-x", ours)),
        ("iam:CreateOpenIDConnectProvider", provider("token.actions.githubusercontent.com")),
    ] {
        let answer = iam(&form).await;
        assert!(answer.status == 200 && !is_refused(&answer, action), "{action}: {} {}", answer.status, answer.text);
    }
    for (action, form) in [
        ("iam:CreateRole", role("admin")),
        ("iam:CreatePolicy", policy("/", "deployctl-deployer-x-2")),
        ("iam:AttachRolePolicy", attach("deployctl-deployer-x", "arn:aws:iam::aws:policy/AdministratorAccess")),
        ("iam:AttachRolePolicy", attach("newcomer", ours)),
        ("iam:CreateOpenIDConnectProvider", provider("token.example.com")),
        ("iam:PutRolePolicy", "Action=PutRolePolicy&RoleName=newcomer&PolicyName=x&PolicyDocument=%7B%7D".to_owned()),
    ] {
        let answer = iam(&form).await;
        assert!(is_refused(&answer, action), "{action}: {} {}", answer.status, answer.text);
    }
    session(stack.door, &key, "deployctl-deployer-x").await;
}
