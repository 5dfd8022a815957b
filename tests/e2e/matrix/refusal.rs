//! Everything that deployctl asks for is refused, by IAM and by the API server, as when somebody has taken its rights away. What it writes
//! down stays allowed, so that a failure can be told from a lost record; or not even that.
use std::{
    io::Write as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{commands::block_on, target::Target};

const ROLE: &str = "deployctl-deployer";
/// The policy, its binding and the two in IAM.
const NAME: &str = "refused-by-the-test";
const RECORDS: &str = "records-refused-by-the-test";

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// All but its own records.
    Work,
    /// The journal in the state bucket too.
    WorkAndJournal,
}

/// A refusal that ends with this value.
pub struct Refusal<'a> {
    target: &'a Target,
    what: Refused,
}

/// Makes what each refusal needs, once; nothing is refused by that.
pub fn prepare(target: &Target) {
    let everything = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Deny",
        // Who it is, and where the API server is that refuses it.
        "NotAction": ["sts:*", "eks:DescribeCluster"],
        "NotResource": ["arn:aws:s3:::deployctl-sandbox-state-*/*", "arn:aws:dynamodb:*:*:table/deployctl-sandbox-state-lock"],
    }] });
    let records = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Deny",
        "Action": ["s3:PutObject", "dynamodb:PutItem"],
        "Resource": ["arn:aws:s3:::deployctl-sandbox-state-*/deployctl/runs/*", "arn:aws:s3:::deployctl-sandbox-state-*/verify-*",
                     "arn:aws:dynamodb:*:*:table/deployctl-sandbox-state-lock"],
    }] });
    block_on(async {
        let iam = aws_sdk_iam::Client::new(&target.sdk("us-east-1"));
        for (name, document) in [(NAME, everything), (RECORDS, records)] {
            let made = iam.create_policy().policy_name(name).policy_document(document.to_string()).send().await;
            let there =
                made.as_ref().err().and_then(|error| error.as_service_error()).is_some_and(|e| e.is_entity_already_exists_exception());
            assert!(made.is_ok() || there, "{made:?}");
        }
    });
    let rule = json!({ "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["*"] });
    apply(
        target,
        &json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": NAME },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [rule] },
                "matchConditions": [{ "name": "the-deployer", "expression": format!("request.userInfo.username.contains('{ROLE}')") }],
                // Plans go through: what they send changes nothing.
                "validations": [{ "expression": "has(request.dryRun) && request.dryRun", "reason": "Forbidden", "message": "refused by the test" }],
            },
        }),
    );
}

impl<'a> Refusal<'a> {
    /// From now on.
    pub fn begin(target: &'a Target, what: Refused) -> Self {
        let refusal = Self { target, what };
        block_on(async {
            let iam = aws_sdk_iam::Client::new(&target.sdk("us-east-1"));
            for name in refusal.policies() {
                iam.attach_role_policy().role_name(ROLE).policy_arn(arn(name)).send().await.unwrap();
            }
        });
        apply(
            target,
            &json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": NAME },
                "spec": { "policyName": NAME, "validationActions": ["Deny"] },
            }),
        );
        wait_until(target, true);
        refusal
    }

    fn policies(&self) -> &'static [&'static str] {
        match self.what {
            Refused::Work => &[NAME],
            Refused::WorkAndJournal => &[NAME, RECORDS],
        }
    }
}

impl Drop for Refusal<'_> {
    fn drop(&mut self) {
        block_on(async {
            let iam = aws_sdk_iam::Client::new(&self.target.sdk("us-east-1"));
            for name in self.policies() {
                iam.detach_role_policy().role_name(ROLE).policy_arn(arn(name)).send().await.unwrap();
            }
        });
        self.target.kubectl(&["delete", "validatingadmissionpolicybinding", NAME]);
        if !std::thread::panicking() {
            wait_until(self.target, false);
        }
    }
}

fn arn(name: &str) -> String {
    format!("arn:aws:iam::111122223333:policy/{name}")
}

fn apply(target: &Target, object: &Value) {
    let mut command = target.command(Path::new("kubectl"));
    let mut child = command.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{object}");
}

/// The API server takes about a second to follow; asked as somebody of the deployer's name.
fn wait_until(target: &Target, refused: bool) {
    let end = Instant::now() + Duration::from_secs(20);
    let user = format!("--as=arn:aws:sts::111122223333:assumed-role/{ROLE}/the-test");
    let create = ["create", "configmap", "refusal", "-n", "default", "--as-group=system:masters", user.as_str()];
    loop {
        let tried = target.command(Path::new("kubectl")).args(create).output().unwrap();
        let said = crate::target::text(&tried);
        if tried.status.success() {
            target.kubectl(&["delete", "configmap", "refusal", "-n", "default"]);
        } else {
            assert!(said.contains("refused by the test"), "{said}");
        }
        if tried.status.success() != refused {
            return;
        }
        assert!(Instant::now() < end, "the API server does not follow: {said}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
