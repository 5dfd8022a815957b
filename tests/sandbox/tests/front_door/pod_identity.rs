//! Pod Identity from a pod's token to its role's credentials: the agent, EKS Auth, associations, trust policies, and each way to be refused.
use std::net::{Ipv4Addr, SocketAddr};

use deployctl_sandbox::{iam as set_up, standins::pod_identity_agent};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::{
    aws::{Answer, Call, Key, answer, client},
    stack::{Stack, until},
    web_identity::{iam, role, rsa},
};

const CLUSTER: &str = "arn:aws:eks:us-east-1:111122223333:cluster/c";
const AUDIENCE: &str = "pods.eks.amazonaws.com";

/// A cluster with a node whose role may do what AmazonEKSWorkerNodePolicy has, and the agent on it.
struct Place {
    stack: Stack,
    issuer: String,
    key: EncodingKey,
    agent: SocketAddr,
}

/// What a token says.
struct Token<'a> {
    account: &'a str,
    audience: &'a str,
    seconds: i64,
    pod: Option<&'a str>,
}

const UPLOADER: Token<'static> = Token { account: "uploader", audience: AUDIENCE, seconds: 600, pod: Some("uploader-1") };

fn trust(account: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Principal": { "Service": "pods.eks.amazonaws.com" },
        "Condition": { "StringEquals": {
            "aws:SourceAccount": "111122223333", "aws:RequestTag/eks-cluster-arn": CLUSTER,
            "aws:RequestTag/kubernetes-namespace": "apps", "aws:RequestTag/kubernetes-service-account": account,
        } },
    }] })
}

fn arn(role: &str) -> String {
    format!("arn:aws:iam::111122223333:role/{role}")
}

impl Place {
    async fn up() -> Option<Self> {
        let stack = Stack::start().await?;
        let cluster = stack.cluster("").await;
        let (private, public) = rsa();
        *stack.switches.key.lock().unwrap() = Some(public);
        let issuer = cluster["identity"]["oidc"]["issuer"].as_str().unwrap().to_owned();
        let node = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": "ec2.amazonaws.com" } }] });
        role(&stack, "node", &node.to_string()).await;
        iam(&stack, "Action=AttachRolePolicy&RoleName=node&PolicyArn=arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy").await;
        let group = json!({ "nodegroupName": "main", "nodeRole": arn("node"), "subnets": ["a"] });
        let made = Call::rest("eks", "POST", "/clusters/c/node-groups", &group.to_string()).send(stack.door, &stack.person).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let agent = listener.local_addr().unwrap();
        let settings = pod_identity_agent::Agent {
            endpoint: format!("http://{}", stack.door),
            emulator: stack.emulator.to_string(),
            state: stack.folder.path().to_owned(),
        };
        tokio::spawn(async move { pod_identity_agent::serve(settings, listener).await.unwrap() });
        Some(Self { stack, issuer, key: EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(), agent })
    }

    /// As the API server signs it for a projected volume.
    fn token(&self, token: &Token<'_>) -> String {
        let now = jiff::Timestamp::now().as_second();
        let bound = |name: &str| json!({ "name": name, "uid": format!("uid-of-{name}") });
        let claims = json!({
            "iss": self.issuer, "sub": format!("system:serviceaccount:apps:{}", token.account), "aud": [token.audience],
            "iat": now, "nbf": now - 60, "exp": now + token.seconds,
            "kubernetes.io": { "namespace": "apps", "serviceaccount": bound(token.account), "pod": token.pod.map(bound) },
        });
        jsonwebtoken::encode(&Header::new(jsonwebtoken::Algorithm::RS256), &claims, &self.key).unwrap()
    }

    /// As an SDK in a pod asks.
    async fn ask(&self, token: &str) -> Answer {
        answer(client().get(format!("http://{}/v1/credentials", self.agent)).header("authorization", token)).await
    }

    async fn eks(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Call::rest("eks", method, path, &body).send(self.stack.door, &self.stack.person).await
    }

    /// Gives the id.
    async fn associate(&self, account: &str, role: &str) -> String {
        let body = json!({ "namespace": "apps", "serviceAccount": account, "roleArn": arn(role) });
        let made = self.eks("POST", "/clusters/c/pod-identity-associations", &body).await;
        assert_eq!(made.status, 200, "{}", made.text);
        made.json()["association"]["associationId"].as_str().unwrap().to_owned()
    }

    async fn is_refused(&self, token: &str, code: &str, word: &str) {
        let refused = self.ask(token).await;
        assert!(refused.status >= 400, "{code} was expected, and it was given credentials");
        let said = refused.json();
        assert!(said["code"] == code && said["message"].as_str().unwrap().contains(word), "{code} {word}: {} {said}", refused.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_becomes_its_role_and_no_other() {
    let Some(place) = Place::up().await else { return };
    role(&place.stack, "uploader", &trust("uploader").to_string()).await;
    let good = place.token(&UPLOADER);
    place.is_refused(&good, "ResourceNotFoundException", "No associations found for apps/uploader").await;
    let id = place.associate("uploader", "uploader").await;
    let given = place.ask(&good).await;
    assert_eq!(given.status, 200, "{}", given.text);
    let given = given.json();
    let text = |key: &str| given[key].as_str().unwrap().to_owned();
    assert_eq!(text("AccountId"), "111122223333");
    assert!(text("Expiration").parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::now(), "{given}");
    let session = Key { id: text("AccessKeyId"), secret: text("SecretAccessKey"), token: Some(text("Token")) };
    let who = Call::query("sts", "Action=GetCallerIdentity&Version=2011-06-15").send(place.stack.door, &session).await;
    assert!(who.text.contains("assumed-role/uploader/eks-c-uploader-1-"), "{}", who.text);
    // It was the node that asked, and the record has no token.
    let record = place.stack.record();
    assert!(record.contains("eks-auth:AssumeRoleForPodIdentity") && record.contains("assumed-role/node/"), "{record}");
    assert!(!record.contains(&good) && !record.contains(&text("Token")), "a secret is in the record");

    for (wrong, code, word) in [
        (Token { audience: "sts.amazonaws.com", ..UPLOADER }, "InvalidTokenException", "audience"),
        (Token { pod: None, ..UPLOADER }, "InvalidTokenException", "not bound to a pod"),
        (Token { seconds: -60, ..UPLOADER }, "ExpiredTokenException", "expired"),
        (Token { account: "default", ..UPLOADER }, "ResourceNotFoundException", "apps/default"),
    ] {
        place.is_refused(&place.token(&wrong), code, word).await;
    }
    let (other, _) = rsa();
    let forged = Place { key: EncodingKey::from_rsa_pem(other.as_bytes()).unwrap(), ..place };
    let token = forged.token(&UPLOADER);
    forged.is_refused(&token, "InvalidTokenException", "signature").await;
    forged.is_refused("nonsense", "InvalidTokenException", "").await;
    let nobody = answer(client().get(format!("http://{}/v1/credentials", forged.agent))).await;
    assert_eq!(nobody.status, 400, "{}", nobody.text);

    // Gone with its association.
    assert_eq!(forged.eks("DELETE", &format!("/clusters/c/pod-identity-associations/{id}"), &Value::Null).await.status, 200);
    forged.is_refused(&good, "ResourceNotFoundException", "No associations").await;
}

/// What an association says is not enough: the role has to trust EKS, for this account, in this cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_does_not_trust_is_not_given() {
    let Some(place) = Place::up().await else { return };
    let swapped = |path: &str, value: Value| {
        let mut trust = trust("uploader");
        *trust.pointer_mut(path).unwrap() = value;
        trust
    };
    let condition = |key: &str| format!("/Statement/0/Condition/StringEquals/{}", key.replace('/', "~1"));
    let without_tags = swapped("/Statement/0/Action", json!("sts:AssumeRole"));
    let others = [
        ("service", swapped("/Statement/0/Principal", json!({ "Service": "ec2.amazonaws.com" }))),
        ("account", swapped("/Statement/0/Principal", json!({ "AWS": "arn:aws:iam::111122223333:root" }))),
        ("name", trust("parser")),
        ("namespace", swapped(&condition("aws:RequestTag/kubernetes-namespace"), json!("other"))),
        ("cluster", swapped(&condition("aws:RequestTag/eks-cluster-arn"), json!(format!("{CLUSTER}2")))),
        ("source", swapped(&condition("aws:SourceAccount"), json!("444455556666"))),
        ("tags", without_tags),
    ];
    let token = place.token(&UPLOADER);
    let id = place.associate("uploader", "uploader").await;
    place.is_refused(&token, "AccessDeniedException", "role/uploader").await;
    for (name, trust) in others {
        role(&place.stack, name, &trust.to_string()).await;
        let path = format!("/clusters/c/pod-identity-associations/{id}");
        assert_eq!(place.eks("POST", &path, &json!({ "roleArn": arn(name) })).await.status, 200);
        place.is_refused(&token, "AccessDeniedException", &format!("role/{name}")).await;
    }
    // And the last one is given once it is right: the role was the reason.
    role(&place.stack, "right", &trust("uploader").to_string()).await;
    let path = format!("/clusters/c/pod-identity-associations/{id}");
    place.eks("POST", &path, &json!({ "roleArn": arn("right") })).await;
    assert_eq!(place.ask(&token).await.status, 200);
}

/// A session keeps its tags on the way to another role: its own role must allow that, and the other one, too.
#[tokio::test(flavor = "multi_thread")]
async fn who_becomes_another_takes_his_tags_along() {
    let Some(place) = Place::up().await else { return };
    role(&place.stack, "reader", &trust("uploader").to_string()).await;
    place.associate("uploader", "reader").await;
    let given = place.ask(&place.token(&UPLOADER)).await.json();
    let text = |key: &str| given[key].as_str().unwrap().to_owned();
    let session = Key { id: text("AccessKeyId"), secret: text("SecretAccessKey"), token: Some(text("Token")) };
    let for_reader = |role: &str, actions: Value| {
        json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": actions, "Principal": { "AWS": "arn:aws:iam::111122223333:root" },
            "Condition": { "ArnEquals": { "aws:PrincipalArn": arn(role) } },
        }] })
        .to_string()
    };
    let both = json!(["sts:AssumeRole", "sts:TagSession"]);
    role(&place.stack, "secrets", &for_reader("reader", both.clone())).await;
    role(&place.stack, "untagged", &for_reader("reader", json!("sts:AssumeRole"))).await;
    role(&place.stack, "others", &for_reader("somebody", both.clone())).await;
    let become_role = async |role: &str| {
        let form = format!("Action=AssumeRole&Version=2011-06-15&RoleArn={}&RoleSessionName=chained", arn(role));
        Call::query("sts", &form).send(place.stack.door, &session).await
    };
    let root = set_up::root_client(&place.stack.emulator.to_string());
    let allow = async |actions: Value| {
        let policy =
            json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }] }).to_string();
        root.put_role_policy().role_name("reader").policy_name("read-as").policy_document(policy).send().await.unwrap();
    };
    assert_eq!(become_role("secrets").await.status, 403, "its own role does not allow it");
    allow(json!(["sts:AssumeRole"])).await;
    let refused = become_role("secrets").await;
    assert!(refused.status == 403 && refused.text.contains("sts:TagSession"), "{} {}", refused.status, refused.text);
    allow(both).await;
    let became = become_role("secrets").await;
    assert!(became.text.contains("assumed-role/secrets/chained"), "{} {}", became.status, became.text);
    for other in ["untagged", "others"] {
        let refused = become_role(other).await;
        assert_eq!(refused.status, 403, "{other}: {}", refused.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn associations_are_found_and_one_is_enough() {
    let Some(place) = Place::up().await else { return };
    let uploader = place.associate("uploader", "uploader").await;
    place.associate("parser", "parser").await;
    let twice = json!({ "namespace": "apps", "serviceAccount": "uploader", "roleArn": arn("other") });
    let refused = place.eks("POST", "/clusters/c/pod-identity-associations", &twice).await;
    assert_eq!(refused.headers["x-amzn-errortype"], "ResourceInUseException", "{}", refused.text);
    let all = place.eks("GET", "/clusters/c/pod-identity-associations", &Value::Null).await.json();
    assert_eq!(all["associations"].as_array().unwrap().len(), 2, "{all}");
    let path = "/clusters/c/pod-identity-associations?namespace=apps&serviceAccount=uploader";
    let found = place.eks("GET", path, &Value::Null).await.json();
    assert_eq!(found["associations"].as_array().unwrap().len(), 1, "{found}");
    assert!(found["associations"][0]["associationId"] == uploader.as_str() && found["associations"][0]["roleArn"].is_null(), "{found}");
    let whole = place.eks("GET", &format!("/clusters/c/pod-identity-associations/{uploader}"), &Value::Null).await.json();
    assert_eq!(whole["association"]["roleArn"], arn("uploader"));
    // The operation is EKS Auth's: who signs for EKS has none of this name.
    let body = json!({ "token": place.token(&UPLOADER) });
    let other = place.eks("POST", "/clusters/c/assume-role-for-pod-identity", &body).await;
    assert!(other.status >= 400, "{}", other.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_add_on_is_active_while_the_agent_runs() {
    let Some(place) = Place::up().await else { return };
    let made = place.eks("POST", "/clusters/c/addons", &json!({ "addonName": "eks-pod-identity-agent" })).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let status =
        async || place.eks("GET", "/clusters/c/addons/eks-pod-identity-agent", &Value::Null).await.json()["addon"]["status"].clone();
    until("the add-on", || async { status().await == "ACTIVE" }).await;
    place.stack.switches.on.lock().unwrap().retain(|part| *part != "pod identity agent");
    assert_eq!(status().await, "DEGRADED");
    place.stack.switches.on.lock().unwrap().push("pod identity agent");
    assert_eq!(status().await, "ACTIVE");
    assert_eq!(place.eks("DELETE", "/clusters/c/addons/eks-pod-identity-agent", &Value::Null).await.status, 200);
    until("the agent to go", || async { !place.stack.switches.on.lock().unwrap().contains(&"pod identity agent") }).await;
}
