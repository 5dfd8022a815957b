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

fn rsa() -> (String, String) {
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
    let form = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/uploader&RoleSessionName=pod&WebIdentityToken={token}"
    );
    let request = client().post(format!("http://{}/", stack.door)).header("content-type", "application/x-www-form-urlencoded");
    answer(request.body(form)).await
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
    let trust: String = url::form_urlencoded::byte_serialize(trust.to_string().as_bytes()).collect();
    for form in [
        format!(
            "Action=CreateOpenIDConnectProvider&Url={url}&ClientIDList.member.1=sts.amazonaws.com&ThumbprintList.member.1={}",
            "a".repeat(40)
        ),
        format!("Action=CreateRole&RoleName=uploader&AssumeRolePolicyDocument={trust}"),
    ] {
        let made = Call::query("iam", &format!("{form}&Version=2010-05-08")).send(stack.door, &stack.person).await;
        assert_eq!(made.status, 200, "{}", made.text);
    }
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
    ] {
        let refused = assume(&stack, &token).await;
        assert!(refused.text.contains(code), "expected {code}: {} {}", refused.status, refused.text);
    }
}
