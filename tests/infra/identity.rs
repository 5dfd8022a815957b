//! Who we are: the deployer role with exactly the committed policy, the wrong account refused, and what doctor and secret set say.
use std::process::Command;

use deployctl::{
    aws::Aws,
    commands::{
        doctor::{self, Status},
        secret::{self, Existing, Source},
    },
    failure::FailureKind,
    ids::{AccountId, ClusterName, Region, SecretName},
    plan::environment::SecretStore,
    steps::{
        StepContext,
        state_backend::{Input, StateBackend},
    },
};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{emulator::with_aws, fixture};

const AS_PERSON: &str = "DEPLOYCTL_TEST_PERSON";

/// The committed policies with their placeholders filled in, less one action.
fn policy(without: &str) -> String {
    let mut policy = json!({ "Version": "2012-10-17", "Statement": [] });
    for name in ["deployer", "recovery"] {
        let path = format!("{}/terraform/policies/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.replace("${account_id}", "111122223333").replace("${region}", "us-east-1").replace("${dr_region}", "eu-west-1");
        let text = text.replace("${environment}", "sandbox").replace("${prefix}", "deployctl-sandbox");
        let more: serde_json::Value = serde_json::from_str(&text).unwrap();
        policy["Statement"].as_array_mut().unwrap().extend(more["Statement"].as_array().unwrap().clone());
    }
    for statement in policy["Statement"].as_array_mut().unwrap() {
        statement["Action"].as_array_mut().unwrap().retain(|action| action != without);
    }
    policy.to_string()
}

/// Whether this is that run.
pub fn is_person() -> bool {
    std::env::var_os(AS_PERSON).is_some()
}

/// Makes the role and the person as the sandbox's set-up does, and runs `test` again as the person.
pub async fn as_person(test: &str, without: &str) {
    run_as_person(test, &policy(without)).await;
}

async fn run_as_person(test: &str, document: &str) {
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let config = config.into_builder().region(aws_config::Region::new("us-east-1")).build();
    let iam = aws_sdk_iam::Client::new(&config);
    let anybody = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "sts:AssumeRole"}]});
    let admin = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    iam.create_role().role_name("deployctl-deployer").assume_role_policy_document(anybody.to_string()).send().await.unwrap();
    attach(&iam, document).await;
    iam.create_user().user_name("person").send().await.unwrap();
    iam.put_user_policy().user_name("person").policy_name("admin").policy_document(admin.to_string()).send().await.unwrap();
    let key = iam.create_access_key().user_name("person").send().await.unwrap().access_key.unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(AS_PERSON, "person")
        // EKS and RDS are not there: doctor need not ask them six times.
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_ACCESS_KEY_ID", key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key)
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed as the person");
}

/// As terraform/bootstrap does: eight statements in each managed policy.
pub async fn attach(iam: &aws_sdk_iam::Client, policy: &str) {
    let policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    for (number, part) in policy["Statement"].as_array().unwrap().chunks(8).enumerate() {
        let document = json!({ "Version": "2012-10-17", "Statement": part }).to_string();
        let made = iam.create_policy().policy_name(format!("deployer-{number}")).policy_document(document).send().await.unwrap();
        let arn = made.policy().unwrap().arn().unwrap();
        iam.attach_role_policy().role_name("deployctl-deployer").policy_arn(arn).send().await.unwrap();
    }
}

async fn deployer(account: &str) -> Result<Aws, deployctl::failure::Failure> {
    let environment = fixture::environment();
    let role = environment.aws.deployer_role_arn.filter(|role| role.as_str().contains(account));
    Aws::connect(&environment.aws.region, role.as_ref(), &AccountId::parse(account).unwrap()).await
}

#[test]
fn the_deployer_role_is_enough() {
    const NAME: &str = "identity::the_deployer_role_is_enough";
    with_aws(NAME, || async {
        if std::env::var_os(AS_PERSON).is_none() {
            return as_person(NAME, "nothing").await;
        }
        let aws = deployer("111122223333").await.unwrap();
        assert!(aws.principal().contains("assumed-role/deployctl-deployer/deployctl"), "{}", aws.principal());
        let cx = StepContext { aws: aws.into(), ..fixture::context("backend", &fixture::test_dir()).await };
        let input: Input = serde_json::from_value(json!({})).unwrap();
        fixture::run::<StateBackend>(&cx, &input).await.unwrap();
        let (plan, _) = fixture::run::<StateBackend>(&cx, &input).await.unwrap();
        assert_eq!(plan.changes, []);

        let failure = deployer("999922223333").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Credentials);
        assert!(failure.message.contains("999922223333") && failure.message.contains("111122223333"), "{failure}");

        let value = fixture::test_dir().join("value");
        std::fs::write(&value, "{\"api_key\":\"k\",\"api_secret\":\"canary\"}\n").unwrap();
        for store in [SecretStore::SecretsManager, SecretStore::Ssm] {
            let mut environment = fixture::environment();
            environment.secrets.store = store;
            let name = SecretName::parse("kafka").unwrap();
            let regions = std::slice::from_ref(&*cx.aws);
            let set = async |existing| secret::set(regions, &environment, &name, Source::File(value.clone()), existing).await.unwrap();
            assert_eq!(cx.aws.find_secret(store, &environment.name, &name).await.unwrap(), None);
            let made = set(Existing::Keep).await;
            assert!(made.name.ends_with("deployctl/sandbox/kafka") && made.version.is_some(), "{made:?}");
            assert_eq!(set(Existing::Keep).await.version, made.version, "kept");
            assert_ne!(set(Existing::Replace).await.version, made.version, "a new version");
        }

        // The token is what EKS' webhook takes: a request that STS itself answers, for this cluster.
        use base64::Engine;
        let token = cx.aws.eks_token(&ClusterName::parse("deployctl-sandbox").unwrap()).await.unwrap();
        let token = token.expose_secret().strip_prefix("k8s-aws-v1.").unwrap();
        let url = String::from_utf8(base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
        let (host, query) = url.strip_prefix("https://").unwrap().split_once('/').unwrap();
        assert_eq!(host, "sts.us-east-1.amazonaws.com");
        assert!(query.contains("X-Amz-SignedHeaders=host%3Bx-k8s-aws-id") && query.contains("X-Amz-Expires=60"), "{query}");
        let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let ask = async |cluster: &str| {
            let request = reqwest::Client::new().get(format!("{endpoint}/{query}")).header("host", host).header("x-k8s-aws-id", cluster);
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(ask("deployctl-sandbox").await, 200);
        assert_eq!(ask("another").await, 403);
    });
}

#[test]
fn a_missing_action_is_named() {
    const NAME: &str = "identity::a_missing_action_is_named";
    with_aws(NAME, || async {
        if std::env::var_os(AS_PERSON).is_none() {
            return as_person(NAME, "dynamodb:UpdateContinuousBackups").await;
        }
        let aws = deployer("111122223333").await.unwrap();
        let cx = StepContext { aws: aws.into(), ..fixture::context("backend", &fixture::test_dir()).await };
        let input: Input = serde_json::from_value(json!({})).unwrap();
        let failure = fixture::run::<StateBackend>(&cx, &input).await.unwrap_err();
        assert!(failure.message.contains("dynamodb:UpdateContinuousBackups"), "{failure}");
        assert!(failure.next.iter().any(|next| next.contains("\"Action\":\"dynamodb:UpdateContinuousBackups\"")), "{:?}", failure.next);

        let checks = doctor::run(&fixture::environment(), env!("CARGO_MANIFEST_DIR").as_ref()).await;
        for check in &checks {
            eprintln!("{:8?} {}: {} {}", check.status, check.name, check.detail, check.fix.as_deref().unwrap_or_default());
        }
        let failed: Vec<&str> = checks.iter().filter(|c| c.status == Status::Failed).map(|c| c.name.as_str()).collect();
        assert_eq!(failed, ["permission dynamodb:UpdateContinuousBackups"]);
    });
}

/// The committed policy with only these actions in it.
fn policy_with(granted: &std::collections::BTreeSet<String>) -> String {
    let mut policy: serde_json::Value = serde_json::from_str(&policy("nothing")).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    for statement in statements.iter_mut() {
        statement["Action"].as_array_mut().unwrap().retain(|action| granted.contains(action.as_str().unwrap()));
    }
    statements.retain(|statement| !statement["Action"].as_array().unwrap().is_empty());
    policy.to_string()
}

/// Starts with nothing, and grants what each failure names, until the step is through: so every action that it needs was missing once.
#[test]
fn every_action_of_the_backend_is_named_when_it_is_missing() {
    const NAME: &str = "identity::every_action_of_the_backend_is_named_when_it_is_missing";
    with_aws(NAME, || async {
        let mut granted = std::collections::BTreeSet::from(["sts:GetCallerIdentity".to_owned()]);
        if std::env::var_os(AS_PERSON).is_none() {
            return run_as_person(NAME, &policy_with(&granted)).await;
        }
        let all: serde_json::Value = serde_json::from_str(&policy("nothing")).unwrap();
        let all: Vec<String> = all["Statement"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|s| s["Action"].as_array().unwrap().clone())
            .map(|a| a.as_str().unwrap().to_owned())
            .collect();
        let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
        let iam = aws_sdk_iam::Client::new(&config.into_builder().region(aws_config::Region::new("us-east-1")).build());
        let input: Input = serde_json::from_value(json!({})).unwrap();
        for _ in 0..60 {
            let aws = deployer("111122223333").await.unwrap();
            let cx = StepContext { aws: aws.into(), ..fixture::context("backend", &fixture::test_dir()).await };
            let Err(failure) = fixture::run::<StateBackend>(&cx, &input).await else { break };
            // The longest that fits: s3:GetBucketVersioning is allowed as s3:GetBucket*.
            let names = |action: &&String| failure.message.contains(action.trim_end_matches('*'));
            let named = all.iter().filter(names).max_by_key(|action| action.len());
            let named = named.unwrap_or_else(|| panic!("no action of the policy is named: {failure:?}"));
            assert!(granted.insert(named.clone()), "{named} is granted, and yet: {failure:?}");
            assert!(failure.next.iter().any(|next| next.contains("\"Action\":\"")), "{:?}", failure.next);
            let put = iam.put_role_policy().role_name("deployctl-deployer").policy_name("granted").policy_document(policy_with(&granted));
            put.send().await.unwrap();
        }
        eprintln!("named, each when it was missing: {granted:?}");
        assert!(granted.len() >= 15, "the backend needs more: {granted:?}");
        let needed =
            ["dynamodb:CreateTable", "s3:CreateBucket", "s3:PutBucketVersioning", "s3:PutBucketPublicAccessBlock", "dynamodb:PutItem"];
        assert!(needed.iter().all(|action| granted.contains(*action)), "{granted:?}");
        let aws = deployer("111122223333").await.unwrap();
        let cx = StepContext { aws: aws.into(), ..fixture::context("backend", &fixture::test_dir()).await };
        fixture::run::<StateBackend>(&cx, &input).await.unwrap();
    });
}

#[test]
fn bad_credentials_and_bad_endpoints_are_told_apart() {
    const NAME: &str = "identity::bad_credentials_and_bad_endpoints_are_told_apart";
    if std::env::var_os(AS_PERSON).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let region = Region::parse("us-east-1").unwrap();
        let account = AccountId::parse("111122223333").unwrap();
        let started = std::time::Instant::now();
        let failure = runtime.block_on(Aws::connect(&region, None, &account)).unwrap_err();
        eprintln!("{:?} after {} ms: {:?}", failure.kind, started.elapsed().as_millis(), failure.chain());
        let expected = if std::env::var_os("AWS_ACCESS_KEY_ID").is_some() { FailureKind::Preflight } else { FailureKind::Credentials };
        assert_eq!(failure.kind, expected, "{failure:?}");
        assert!(started.elapsed().as_secs() < 20);
        return;
    }
    // Port 9 on loopback: nobody listens.
    for credentials in [true, false] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).env(AS_PERSON, "1").env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", "/nonexistent");
        for name in ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        if credentials {
            command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
        }
        assert!(command.status().unwrap().success());
    }
}
