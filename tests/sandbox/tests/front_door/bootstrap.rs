//! The first day: a newcomer with nothing but the bootstrap policy makes the roles, and what is missing to them is named.
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output},
};

use deployctl_sandbox::iam;
use serde_json::{Value, json};

use crate::{
    aws::{Call, Key, session},
    installed,
    replay::{Policy, Seen},
    stack::Stack,
};

const VARIABLES: [&str; 9] = [
    "environment=sandbox",
    "account_id=111122223333",
    "region=us-east-1",
    "dr_region=eu-west-1",
    "deployer_role=deployctl-deployer-second",
    "on_call_role=deployctl-on-call-second",
    "deployer_principals=[\"arn:aws:iam::111122223333:user/person\"]",
    "on_call_principals=[\"arn:aws:iam::111122223333:user/person\"]",
    "github={ repository = \"example/files\" }",
];

/// What the newcomer may do and does not do here, each with its reason and AWS' page.
const UNSEEN: [(&str, &str); 3] = [
    ("iam:UpdateRole", "another session_seconds in a later release of the stack: API_UpdateRole"),
    ("iam:UpdateRoleDescription", "another description in a later release of the stack: API_UpdateRoleDescription"),
    ("sts:AssumeRole", "a newcomer among deployer_principals looks whether the role works: API_AssumeRole"),
];

/// terraform in a copy of the stack, as the newcomer.
struct Terraform<'a> {
    stack: &'a Stack,
    folder: tempfile::TempDir,
    key: Key,
}

impl Terraform<'_> {
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        self.run_with(arguments, &[])
    }

    /// With other values of some variables: of two the second counts.
    fn run_with(&self, arguments: &[&str], variables: &[&str]) -> (bool, String) {
        let mut command = Command::new(installed::terraform());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.args(arguments).arg("-no-color").current_dir(self.folder.path().join("bootstrap"));
        if arguments[0] != "init" {
            command.args(["-input=false", "-auto-approve"]).args(VARIABLES.iter().chain(variables).flat_map(|variable| ["-var", variable]));
        }
        command.env("TF_CLI_CONFIG_FILE", self.folder.path().join("cli.tfrc")).env("CHECKPOINT_DISABLE", "1");
        command.env("DEPLOYCTL_SANDBOX", "test").env("AWS_ENDPOINT_URL", format!("http://{}", self.stack.door));
        command.env("AWS_ACCESS_KEY_ID", &self.key.id).env("AWS_SECRET_ACCESS_KEY", &self.key.secret).env("AWS_REGION", "us-east-1");
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The bootstrap policy with these actions of it.
fn policy(stack: &Stack, keep: impl Fn(&str) -> bool) -> Value {
    let text = std::fs::read_to_string(stack.project.join("terraform/policies/bootstrap.json")).unwrap();
    let mut policy: Value = serde_json::from_str(&text.replace("${account_id}", "111122223333")).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    for statement in statements.iter_mut() {
        statement["Action"].as_array_mut().unwrap().retain(|action| keep(action.as_str().unwrap()));
    }
    statements.retain(|statement| !statement["Action"].as_array().unwrap().is_empty());
    policy
}

/// Grants what each refusal names. `make soak` starts with one action, so that every one that the stack needs was missing once.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_makes_the_roles_and_hears_what_is_missing() {
    let Some(stack) = Stack::start().await else { return };
    let Some(provider) = installed::provider() else { return };
    let client = iam::root_client(&stack.emulator.to_string());
    client.create_user().user_name("newcomer").send().await.unwrap();
    let key = client.create_access_key().user_name("newcomer").send().await.unwrap().access_key.unwrap();
    let key = Key { id: key.access_key_id, secret: key.secret_access_key, token: None };
    let terraform = Terraform { stack: &stack, folder: tempfile::tempdir().unwrap(), key };
    for name in ["bootstrap", "policies"] {
        copy(&stack.project.join("terraform").join(name), &terraform.folder.path().join(name));
    }
    let mirror =
        format!("disable_checkpoint = true\nprovider_installation {{\n  filesystem_mirror {{\n    path = {provider:?}\n  }}\n}}\n");
    std::fs::write(terraform.folder.path().join("cli.tfrc"), mirror).unwrap();
    let (initialised, said) = terraform.run(&["init"]);
    assert!(initialised, "{said}");

    let whole = policy(&stack, |_| true);
    let all: BTreeSet<String> = whole["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|s| s["Action"].as_array().unwrap().clone())
        .map(|a| a.as_str().unwrap().to_owned())
        .collect();
    let soak = std::env::var_os("DEPLOYCTL_SOAK").is_some();
    let given = |action: &&String| if soak { *action == "sts:GetCallerIdentity" } else { *action != "iam:AttachRolePolicy" };
    let mut granted: BTreeSet<String> = all.iter().filter(given).cloned().collect();
    let grant = async |document: Value| {
        let put = client.put_user_policy().user_name("newcomer").policy_name("bootstrap").policy_document(document.to_string());
        put.send().await.unwrap();
    };
    let mut rounds = 0;
    loop {
        grant(policy(&stack, |action| granted.contains(action))).await;
        let (made, said) = terraform.run(&["apply"]);
        if made {
            break;
        }
        // The plan above the errors shows policies, which name many actions.
        let errors = said.split_once("Error: ").map_or("", |(_, errors)| errors);
        let word =
            |action: &str| errors.match_indices(action).any(|(at, _)| !errors[at + action.len()..].starts_with(char::is_alphanumeric));
        let named: Vec<String> = all.iter().filter(|action| !granted.contains(*action) && word(action)).cloned().collect();
        assert!(!named.is_empty(), "no action of the policy is named that is not granted already: {said}");
        granted.extend(named);
        rounds += 1;
        assert!(rounds < 30, "{granted:?}");
    }
    eprintln!("{} of {} actions, in {rounds} rounds: {granted:?}", granted.len(), all.len());
    assert!(
        ["iam:CreateRole", "iam:CreatePolicy", "iam:AttachRolePolicy", "iam:CreateOpenIDConnectProvider"]
            .iter()
            .all(|needed| granted.contains(*needed))
    );
    grant(whole).await;
    let (unchanged, said) = terraform.run(&["apply"]);
    assert!(unchanged && said.contains("No changes"), "{said}");
    // The role is what it should be: its session does what the deployer does, in its own environment.
    let deployer = session(stack.door, &stack.person, "deployctl-deployer-second").await;
    let secret = |environment: &str| json!({ "SecretId": format!("deployctl/{environment}/kafka"), "SecretString": "x" }).to_string();
    let put = async |environment: &str| {
        Call::target("secretsmanager", "secretsmanager.PutSecretValue", &secret(environment)).send(stack.door, &deployer).await
    };
    assert!(put("sandbox").await.text.contains("ResourceNotFoundException"), "allowed, and there is none");
    assert!(put("other").await.text.contains("AccessDenied"));
    // Who may assume roles, and is not among the principals, is not the deployer.
    client.create_user().user_name("stranger").send().await.unwrap();
    let assume = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*" }] });
    client.put_user_policy().user_name("stranger").policy_name("own").policy_document(assume.to_string()).send().await.unwrap();
    let key = client.create_access_key().user_name("stranger").send().await.unwrap().access_key.unwrap();
    let stranger = Key { id: key.access_key_id, secret: key.secret_access_key, token: None };
    for role in ["deployctl-deployer-second", "deployctl-on-call-second"] {
        let form = format!("Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/{role}&RoleSessionName=x");
        let refused = Call::query("sts", &form).send(stack.door, &stranger).await;
        assert!(refused.status == 403 && refused.text.contains("AccessDenied"), "{role}: {} {}", refused.status, refused.text);
    }
    // What a later release or another team would change, there and back again.
    let person = r#"on_call_principals=["arn:aws:iam::111122223333:user/newcomer"]"#;
    for change in [&[person, "dr_region=eu-central-1", r#"tags={ team = "files" }"#][..], &[]] {
        let (changed, said) = terraform.run_with(&["apply"], change);
        assert!(changed && !said.contains("No changes"), "{said}");
    }
    let (gone, said) = terraform.run(&["destroy"]);
    assert!(gone, "{said}");
    let policy = Policy::of([&policy(&stack, |_| true)]);
    let seen = Seen::of(&stack.requests(), "user/newcomer");
    let unused: BTreeSet<String> = policy.unused_actions(&seen.uses).into_iter().map(|(_, action)| action).collect();
    assert_eq!(unused, UNSEEN.map(|(action, _)| action.to_owned()).into(), "{} actions", policy.actions());
    assert!(policy.beyond(&seen.uses).is_empty(), "{:?}", policy.beyond(&seen.uses));
}
