//! What roles may do, held against what the front door has seen them do: a service's role has used each of its permissions and was refused
//! nothing, and with its own token it gets no further than its own.
use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_iam::error::ProvideErrorMetadata;
use aws_sdk_s3::{config::Credentials, primitives::ByteStream};
use serde_json::Value;

use super::{commands::block_on, target::Target};
use crate::replay::{Policy, Seen};

/// What terraform/identity calls the policy that a service account's role has.
const INLINE: &str = "permissions";
/// An environment that is not this one, as far as names go.
const OTHER: &str = "deployctl-other";

/// Controllers that a stand-in stands for, which asks AWS nothing: what they may do is what they publish of themselves.
const STOOD_IN_FOR: [(&str, &str); 1] = [(
    "load-balancer-controller",
    "AWS Load Balancer Controller: docs/install/iam_policy.json of its repository, which the EKS User Guide (\"Install AWS Load Balancer Controller\") has one apply",
)];

/// What a deployment alone gives no reason to do, by what it is done to, and the part of the soak test that does it.
const IN_A_DRILL: [(&str, &str); 2] = [
    ("secret:rds!db-*", "looking into a restored database: `only_the_verification`"),
    ("deployctl/drills/*", "reading a drill's result: `only_the_recovery` leaves some"),
];

/// A service account and its role.
struct Identity {
    role: String,
    namespace: String,
    account: String,
    /// As IAM has it.
    policy: Value,
}

/// Every service account that step `namespace` has given a role.
fn identities(target: &Target) -> Vec<Identity> {
    let listed =
        target.kubectl(&["get", "serviceaccounts", "--all-namespaces", "-l", "app.kubernetes.io/managed-by=deployctl", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let iam = aws_sdk_iam::Client::new(&target.sdk("us-east-1"));
    let identities: Vec<Identity> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|account| {
            let metadata = &account["metadata"];
            let role = metadata["annotations"]["eks.amazonaws.com/role-arn"].as_str()?.rsplit('/').next()?.to_owned();
            let answer = block_on(iam.get_role_policy().role_name(&role).policy_name(INLINE).send());
            let policy = match answer {
                Ok(answer) => {
                    let text = url::form_urlencoded::parse(answer.policy_document().as_bytes()).next().unwrap().0.into_owned();
                    serde_json::from_str(&text).unwrap()
                }
                // Some are only names, for others to trust.
                Err(error) if error.code() == Some("NoSuchEntity") => Value::Null,
                Err(error) => panic!("{role}: {error:?}"),
            };
            let [namespace, account] = ["namespace", "name"].map(|key| metadata[key].as_str().unwrap().to_owned());
            Some(Identity { role, namespace, account, policy })
        })
        .collect();
    assert!(identities.len() >= 3, "uploader, parser and agent have roles");
    identities
}

/// Everything that a service's role may do was done, on each thing that it may be done to; nothing that it tried was refused. Of the actions that
/// this run is about.
pub fn is_used_up(target: &Target, about: impl Fn(&str) -> bool) {
    let wrong = left_over(target, about);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What speaks against it, a line each.
pub fn left_over(target: &Target, about: impl Fn(&str) -> bool) -> Vec<String> {
    let requests = target.requests();
    let mut wrong = Vec::new();
    for Identity { role, policy, account, .. } in identities(target) {
        if policy.is_null() || STOOD_IN_FOR.iter().any(|(name, _)| *name == account) {
            continue;
        }
        let policy = Policy::of([&policy]);
        let all = policy.unused(&BTreeSet::new());
        // Nor is its step run, then, where only this is looked at.
        if !all.iter().any(|permission| about(&permission.action)) {
            continue;
        }
        let seen = Seen::of(&requests, &format!("assumed-role/{role}"));
        let unused = policy.unused(&seen.uses);
        eprintln!("{role}: {} of {} permissions used", all.len() - unused.len(), all.len());
        let unused =
            unused.iter().filter(|permission| about(&permission.action)).map(|permission| format!("{role} never used {permission}"));
        wrong.extend(unused.filter(|line| !IN_A_DRILL.iter().any(|(resource, _)| line.ends_with(resource))));
        wrong.extend(policy.beyond(&seen.uses).iter().map(|used| format!("{role} did {used:?}, which its policy does not allow")));
        wrong.extend(seen.refused.iter().map(|refused| format!("{role} was refused {refused:?}")));
    }
    wrong
}

/// With its own token, each is refused the others' roles, what the others read, and everything of another environment.
pub fn ends_at_its_own(target: &Target) {
    let identities = identities(target);
    let person = Elsewhere::of(&target.sdk("us-east-1"), target);
    block_on(person.make());
    for identity in &identities {
        let token = target.kubectl(&["-n", &identity.namespace, "create", "token", &identity.account, "--audience=sts.amazonaws.com"]);
        for other in &identities {
            let session = block_on(assume(target, &other.role, &token));
            assert_eq!(session.is_some(), other.role == identity.role, "{} as {}", identity.role, other.role);
        }
        let session = block_on(assume(target, &identity.role, &token)).unwrap();
        let config = target.sdk("us-east-1").into_builder().credentials_provider(SharedCredentialsProvider::new(session)).build();
        let own = Elsewhere::of(&config, target);
        let foreign: &[&str] = match identity.account.as_str() {
            "uploader" => &["deployctl/sandbox/parser-db", "deployctl/sandbox/kafka", "deployctl/other/kafka"],
            "parser" => &["deployctl/sandbox/uploader-tokens", "deployctl/sandbox/migrator-db", "deployctl/other/kafka"],
            _ => &["deployctl/sandbox/uploader-tokens", "deployctl/other/kafka"],
        };
        for secret in foreign {
            assert!(block_on(own.is_refused_the_secret(secret)), "{} reads {secret}", identity.role);
        }
        assert!(block_on(own.is_refused_the_rest()), "{} reaches another environment", identity.role);
    }
    block_on(person.remove());
}

/// A session, unless STS refuses it.
async fn assume(target: &Target, role: &str, token: &str) -> Option<Credentials> {
    let config = aws_sdk_sts::config::Builder::from(&target.sdk("us-east-1")).allow_no_auth().build();
    let request = aws_sdk_sts::Client::from_conf(config).assume_role_with_web_identity();
    let request = request.role_arn(format!("arn:aws:iam::111122223333:role/{role}")).role_session_name("the-test");
    match request.web_identity_token(token.trim()).send().await {
        Ok(answer) => {
            let made = answer.credentials().unwrap();
            Some(Credentials::new(made.access_key_id(), made.secret_access_key(), Some(made.session_token().to_owned()), None, "the test"))
        }
        Err(error) => {
            assert_eq!(error.code(), Some("AccessDenied"), "{error:?}");
            None
        }
    }
}

/// Things of another environment, seen by somebody.
struct Elsewhere {
    secrets: aws_sdk_secretsmanager::Client,
    sqs: aws_sdk_sqs::Client,
    s3: aws_sdk_s3::Client,
    queue: String,
}

impl Elsewhere {
    fn of(config: &SdkConfig, target: &Target) -> Self {
        Self {
            secrets: aws_sdk_secretsmanager::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
            s3: aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(config).force_path_style(true).build()),
            queue: format!("{}/111122223333/{OTHER}-parser", target.variable("AWS_ENDPOINT_URL")),
        }
    }

    async fn make(&self) {
        self.secrets.create_secret().name("deployctl/other/kafka").secret_string("{}").send().await.unwrap();
        self.sqs.create_queue().queue_name(format!("{OTHER}-parser")).send().await.unwrap();
        self.s3.create_bucket().bucket(OTHER).send().await.unwrap();
        let put = self.s3.put_object().bucket(OTHER).key("uploads/smoke/a").body(ByteStream::from_static(b"x"));
        put.send().await.unwrap();
    }

    async fn is_refused_the_secret(&self, name: &str) -> bool {
        let read = self.secrets.get_secret_value().secret_id(name).send().await;
        read.is_err_and(|error| error.code() == Some("AccessDeniedException"))
    }

    /// Reading, writing, listing, receiving and sending.
    async fn is_refused_the_rest(&self) -> bool {
        let denied = |code: Option<&str>| code.is_some_and(|code| code.contains("AccessDenied"));
        let got = self.s3.get_object().bucket(OTHER).key("uploads/smoke/a").send().await;
        let put = self.s3.put_object().bucket(OTHER).key("uploads/smoke/b").body(ByteStream::from_static(b"x")).send().await;
        let listed = self.s3.list_objects_v2().bucket(OTHER).send().await;
        let received = self.sqs.receive_message().queue_url(&self.queue).send().await;
        let sent = self.sqs.send_message().queue_url(&self.queue).message_body("x").send().await;
        got.is_err_and(|error| denied(error.code()))
            && put.is_err_and(|error| denied(error.code()))
            && listed.is_err_and(|error| denied(error.code()))
            && received.is_err_and(|error| denied(error.code()))
            && sent.is_err_and(|error| denied(error.code()))
    }

    async fn remove(&self) {
        self.secrets.delete_secret().secret_id("deployctl/other/kafka").force_delete_without_recovery(true).send().await.unwrap();
        self.sqs.delete_queue().queue_url(&self.queue).send().await.unwrap();
        self.s3.delete_object().bucket(OTHER).key("uploads/smoke/a").send().await.unwrap();
        self.s3.delete_bucket().bucket(OTHER).send().await.unwrap();
    }
}
