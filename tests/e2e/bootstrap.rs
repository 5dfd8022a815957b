//! The first day: a newcomer with nothing but the bootstrap policy makes the roles, and deployctl works under the new one.
use std::{path::Path, process::Output};

use aws_sdk_iam::{
    Client,
    config::{BehaviorVersion, Region},
};

use super::{
    commands::block_on,
    target::{Target, project, text},
};

const ROLE: &str = "deployctl-deployer-second";

/// Made, made again without a change, worked under, and taken away.
pub fn makes_the_roles(target: &Target) {
    let elsewhere = tempfile::tempdir().unwrap();
    copy(&project().join("terraform/policies"), &elsewhere.path().join("policies"));
    copy(&project().join("terraform/bootstrap"), &elsewhere.path().join("bootstrap"));
    let stack = elsewhere.path().join("bootstrap");
    let key = newcomer(target, |_| true);
    let terraform = |args: &[&str]| -> Output {
        let variables = [
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
        let mut command = target.command(Path::new("terraform"));
        command.arg(args[0]).arg("-no-color").current_dir(&stack);
        if args[0] != "init" {
            command.args(["-input=false", "-auto-approve"]).args(variables.iter().flat_map(|variable| ["-var", variable]));
        }
        command.env("AWS_ACCESS_KEY_ID", &key.0).env("AWS_SECRET_ACCESS_KEY", &key.1).env_remove("AWS_SESSION_TOKEN");
        command.output().unwrap()
    };
    assert!(terraform(&["init"]).status.success());
    newcomer(target, |action| action != "iam:AttachRolePolicy");
    let refused = terraform(&["apply"]);
    assert!(!refused.status.success() && text(&refused).contains("iam:AttachRolePolicy"), "{}", text(&refused));
    newcomer(target, |_| true);
    let made = terraform(&["apply"]);
    assert!(made.status.success(), "{}", text(&made));
    eprintln!("{}", text(&made));
    let again = terraform(&["apply"]);
    assert!(text(&again).contains("No changes"), "{}", text(&again));
    works_under_it(target);
    let gone = terraform(&["destroy"]);
    assert!(gone.status.success(), "{}", text(&gone));
}

/// A user with the bootstrap policy, less what is not kept; the key of the first call stays good.
fn newcomer(target: &Target, keep: impl Fn(&str) -> bool) -> (String, String) {
    let policy = std::fs::read_to_string(project().join("terraform/policies/bootstrap.json")).unwrap();
    let mut policy: serde_json::Value = serde_json::from_str(&policy.replace("${account_id}", "111122223333")).unwrap();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        statement["Action"].as_array_mut().unwrap().retain(|action| keep(action.as_str().unwrap()));
    }
    let config = aws_sdk_iam::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(target.variable("AWS_ENDPOINT_URL"))
        .credentials_provider(target.person())
        .build();
    let iam = Client::from_conf(config);
    block_on(async {
        // There already in the second call.
        let made = iam.create_user().user_name("newcomer").send().await.is_ok();
        let put = iam.put_user_policy().user_name("newcomer").policy_name("bootstrap").policy_document(policy.to_string());
        put.send().await.unwrap();
        if !made {
            return (String::new(), String::new());
        }
        let key = iam.create_access_key().user_name("newcomer").send().await.unwrap().access_key.unwrap();
        (key.access_key_id, key.secret_access_key)
    })
}

/// The step that comes first, as the role that was made just now.
fn works_under_it(target: &Target) {
    let elsewhere = tempfile::tempdir().unwrap();
    for folder in ["templates", "terraform", "services"] {
        std::os::unix::fs::symlink(project().join(folder), elsewhere.path().join(folder)).unwrap();
    }
    copy(&project().join("plans"), &elsewhere.path().join("plans"));
    let file = elsewhere.path().join("plans/environments/sandbox.yaml");
    let written = std::fs::read_to_string(&file).unwrap();
    let second = written.replacen("role/deployctl-deployer", &format!("role/{ROLE}"), 1);
    assert_ne!(second, written);
    std::fs::write(&file, second).unwrap();
    let folder = elsewhere.path().to_str().unwrap();
    target.deployctl(&["apply", "--yes", "--only", "backend", "--project", folder]).expect(0);
    let doctor = target.deployctl(&["doctor", "--project", folder]).expect(0);
    assert!(doctor.out.contains(ROLE), "{}", doctor.out);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
