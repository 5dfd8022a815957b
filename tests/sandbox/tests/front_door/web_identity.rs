//! AssumeRoleWithWebIdentity: the token's signature, issuer and expiry count, and the trust policy's subject and audience.
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use crate::{
    aws::{Answer, Call, answer, client},
    stack::Stack,
};

const SUBJECT: &str = "system:serviceaccount:apps:uploader";

struct Issuer {
    url: String,
    key: EncodingKey,
}

pub fn rsa() -> (String, String) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    (key.serialize_pem(), key.public_key_pem())
}

impl Issuer {
    fn token(&self, subject: &str, audience: &str, seconds: i64) -> String {
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({ "iss": self.url, "sub": subject, "aud": [audience], "iat": now, "nbf": now - 60, "exp": now + seconds });
        jsonwebtoken::encode(&Header::new(jsonwebtoken::Algorithm::RS256), &claims, &self.key).unwrap()
    }
}

async fn assume(stack: &Stack, token: &str) -> Answer {
    assume_role(stack, "uploader", token).await
}

async fn assume_role(stack: &Stack, role: &str, token: &str) -> Answer {
    let form = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/{role}&RoleSessionName=pod&WebIdentityToken={token}"
    );
    let request = client().post(format!("http://{}/", stack.door)).header("content-type", "application/x-www-form-urlencoded");
    answer(request.body(form)).await
}

pub async fn iam(stack: &Stack, form: &str) {
    let made = Call::query("iam", &format!("{form}&Version=2010-05-08")).send(stack.door, &stack.person).await;
    assert_eq!(made.status, 200, "{}", made.text);
}

async fn provider(stack: &Stack, url: &str) {
    let thumbprint = "a".repeat(40);
    let form = format!(
        "Action=CreateOpenIDConnectProvider&Url={url}&ClientIDList.member.1=sts.amazonaws.com&ThumbprintList.member.1={thumbprint}"
    );
    iam(stack, &form).await;
}

pub async fn role(stack: &Stack, name: &str, trust: &str) {
    let trust: String = url::form_urlencoded::byte_serialize(trust.as_bytes()).collect();
    iam(stack, &format!("Action=CreateRole&RoleName={name}&AssumeRolePolicyDocument={trust}")).await;
}

/// The committed trust policy of terraform/bootstrap, for one repository and one of its environments.
#[tokio::test(flavor = "multi_thread")]
async fn only_jobs_of_one_repository_and_environment_are_the_deployer() {
    let Some(stack) = Stack::start().await else { return };
    let (private, public) = rsa();
    let url = "https://token.actions.githubusercontent.com";
    stack.switches.issuers.lock().unwrap().push((url.to_owned(), public));
    let github = Issuer { url: url.to_owned(), key: EncodingKey::from_rsa_pem(private.as_bytes()).unwrap() };
    provider(&stack, url).await;
    let committed = std::fs::read_to_string(stack.project.join("terraform/policies/github-trust.json")).unwrap();
    let values = [("account_id", "111122223333"), ("repository", "example/files"), ("github_environment", "staging")];
    let trust = values.iter().fold(committed, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
    assert!(!trust.contains("${"), "{trust}");
    role(&stack, "ci", &trust).await;
    let job = async |subject: &str, audience: &str| assume_role(&stack, "ci", &github.token(subject, audience, 300)).await;
    let good = "repo:example/files:environment:staging";
    let opened = job(good, "sts.amazonaws.com").await;
    assert!(opened.text.contains("assumed-role/ci/pod"), "{} {}", opened.status, opened.text);
    for other in [
        "repo:example/others:environment:staging",
        "repo:other/files:environment:staging",
        "repo:example/files:environment:production",
        "repo:example/files:environment:staging2",
        "repo:example/files:ref:refs/heads/main",
        "repo:example/files:pull_request",
        "repo:example/files",
        "repo:Example/files:environment:staging",
        "repo:*:environment:staging",
    ] {
        let refused = job(other, "sts.amazonaws.com").await;
        assert!(refused.text.contains("AccessDenied"), "{other}: {} {}", refused.status, refused.text);
    }
    let refused = job(good, "https://github.com/example").await;
    assert!(refused.text.contains("InvalidIdentityToken"), "another audience: {} {}", refused.status, refused.text);
    // A wildcard is one only to StringLike: what a trust policy with StringEquals says is meant to the letter.
    let wide = trust.replace("repo:example/files:environment:staging", "repo:example/*");
    role(&stack, "letter", &wide).await;
    role(&stack, "like", &wide.replace("StringEquals", "StringLike")).await;
    let token = github.token(good, "sts.amazonaws.com", 300);
    let refused = assume_role(&stack, "letter", &token).await;
    assert!(refused.text.contains("AccessDenied"), "{} {}", refused.status, refused.text);
    let opened = assume_role(&stack, "like", &token).await;
    assert!(opened.text.contains("assumed-role/like/pod"), "this is why ours has no StringLike: {}", opened.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_token_opens_the_role() {
    let Some(stack) = Stack::start().await else { return };
    let cluster = stack.cluster("").await;
    let url = cluster["identity"]["oidc"]["issuer"].as_str().unwrap().to_owned();
    let (private, public) = rsa();
    *stack.switches.key.lock().unwrap() = Some(public);
    let issuer = Issuer { url: url.clone(), key: EncodingKey::from_rsa_pem(private.as_bytes()).unwrap() };
    let good = issuer.token(SUBJECT, "sts.amazonaws.com", 600);
    let early = assume(&stack, &good).await;
    assert!(early.text.contains("No OpenIDConnect provider"), "{}", early.text);

    let host = url.trim_start_matches("https://");
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": format!("arn:aws:iam::111122223333:oidc-provider/{host}")},
        "Condition": {"StringEquals": {format!("{host}:sub"): SUBJECT, format!("{host}:aud"): "sts.amazonaws.com"}}}]});
    provider(&stack, &url).await;
    role(&stack, "uploader", &trust.to_string()).await;
    let opened = assume(&stack, &good).await;
    assert!(opened.text.contains("assumed-role/uploader/pod"), "{} {}", opened.status, opened.text);

    let (other, _) = rsa();
    let forged = Issuer { url: url.clone(), key: EncodingKey::from_rsa_pem(other.as_bytes()).unwrap() };
    let foreign = Issuer {
        url: "https://oidc.eks.us-east-1.amazonaws.com/id/OTHER".into(),
        key: EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(),
    };
    for (token, code) in [
        (forged.token(SUBJECT, "sts.amazonaws.com", 600), "InvalidIdentityToken"),
        (foreign.token(SUBJECT, "sts.amazonaws.com", 600), "InvalidIdentityToken"),
        (issuer.token(SUBJECT, "sts.amazonaws.com", -60), "InvalidIdentityToken"),
        (issuer.token(SUBJECT, "other", 600), "InvalidIdentityToken"),
        (issuer.token("system:serviceaccount:apps:parser", "sts.amazonaws.com", 600), "AccessDenied"),
        (issuer.token("system:serviceaccount:other:uploader", "sts.amazonaws.com", 600), "AccessDenied"),
        (issuer.token("system:serviceaccount:apps:uploader2", "sts.amazonaws.com", 600), "AccessDenied"),
        (issuer.token("System:serviceaccount:apps:uploader", "sts.amazonaws.com", 600), "AccessDenied"),
    ] {
        let refused = assume(&stack, &token).await;
        assert!(refused.text.contains(code), "expected {code}: {} {}", refused.status, refused.text);
    }
}
