//! The deployer's policy with single actions taken away: the step that needs one says which it is.
use std::collections::BTreeSet;

use aws_sdk_iam::Client;
use serde_json::{Value, json};

use super::{
    commands::block_on,
    target::{Target, project},
};
use crate::replay::Seen;

/// The role that deployctl works as.
const DEPLOYER: &str = "deployctl-deployer";
/// As the front door's record names it.
pub const DEPLOYER_SESSION: &str = "assumed-role/deployctl-deployer";

fn iam(target: &Target) -> Client {
    Client::new(&target.sdk("us-east-1"))
}

/// The deployer's own: what it may do in the DR region comes with it, as in terraform/bootstrap.
pub fn own() -> Value {
    let mut policy = committed("deployer.json");
    let more = committed("recovery.json")["Statement"].as_array().unwrap().clone();
    policy["Statement"].as_array_mut().unwrap().extend(more);
    policy
}

/// A committed policy, filled in for the sandbox.
pub fn committed(file: &str) -> Value {
    let policy = std::fs::read_to_string(project().join("terraform/policies").join(file)).unwrap();
    let values = [
        ("account_id", "111122223333"),
        ("region", "us-east-1"),
        ("dr_region", "eu-west-1"),
        ("prefix", "deployctl-sandbox"),
        ("environment", "sandbox"),
    ];
    let filled = values.iter().fold(policy, |policy, (name, value)| policy.replace(&format!("${{{name}}}"), value));
    serde_json::from_str(&filled).unwrap()
}

/// Gives the deployer this policy with these actions of it and no others.
pub fn grant(target: &Target, mut policy: Value, keep: impl Fn(&str) -> bool) {
    let statements = policy["Statement"].as_array_mut().unwrap();
    for statement in statements.iter_mut() {
        statement["Action"].as_array_mut().unwrap().retain(|action| keep(action.as_str().unwrap()));
    }
    statements.retain(|statement| !statement["Action"].as_array().unwrap().is_empty());
    block_on(async {
        let client = iam(target);
        let attached = client.list_attached_role_policies().role_name(DEPLOYER).send().await.unwrap();
        for arn in attached.attached_policies().iter().map(|policy| policy.policy_arn().unwrap()) {
            client.detach_role_policy().role_name(DEPLOYER).policy_arn(arn).send().await.unwrap();
            client.delete_policy().policy_arn(arn).send().await.unwrap();
        }
        for (number, part) in (1..).zip(policy["Statement"].as_array().unwrap().chunks(8)) {
            let document = json!({ "Version": "2012-10-17", "Statement": part }).to_string();
            let name = format!("{DEPLOYER}-{number}");
            let made = client.create_policy().policy_name(name).path("/deployctl/").policy_document(document).send().await.unwrap();
            client.attach_role_policy().role_name(DEPLOYER).policy_arn(made.policy().unwrap().arn().unwrap()).send().await.unwrap();
        }
    });
}

/// Begins with next to nothing and is given what it is refused, until the command ends well: each action that it needs was missing once, and of
/// those that were missing at a time at least one was named.
pub fn asks_for_what_it_needs(target: &Target, policy: &Value, command: &[&str]) {
    let all: BTreeSet<&str> =
        policy["Statement"].as_array().unwrap().iter().flat_map(|s| s["Action"].as_array().unwrap()).map(|a| a.as_str().unwrap()).collect();
    let mut granted = BTreeSet::from(["sts:GetCallerIdentity".to_owned()]);
    for round in 1.. {
        grant(target, policy.clone(), |action| granted.contains(action));
        let from = target.requests().len();
        let ended = target.deployctl(command);
        if ended.code == Some(0) {
            eprintln!("{} of {} actions, in {round} rounds: {granted:?}", granted.len(), all.len());
            break;
        }
        let refused: BTreeSet<String> =
            Seen::of(&target.requests()[from..], DEPLOYER_SESSION).refused.into_iter().map(|one| one.action).collect();
        // What the policy has by a wildcard goes with it.
        let allows = |known: &str, action: &str| known.strip_suffix('*').map_or(known == action, |start| action.starts_with(start));
        let names = refused.iter().map(|action| all.iter().find(|known| allows(known, action)).copied().unwrap_or(action));
        let missing: BTreeSet<String> = names.map(str::to_owned).filter(|action| !granted.contains(action)).collect();
        assert!(!missing.is_empty(), "it ended with {:?}, and nothing was refused that it did not have: {}", ended.code, ended.err);
        assert!(missing.iter().all(|action| all.contains(action.as_str())), "the policy has none of {missing:?}: {}", ended.err);
        assert!(refused.iter().any(|action| ended.err.contains(action)), "{refused:?} is refused, and none of it named: {}", ended.err);
        granted.extend(missing);
    }
    grant(target, own(), |_| true);
}

/// The step that needs an action fails and says which one it is; the policy is put back afterwards.
pub fn a_missing_one_is_named(target: &Target) {
    for (action, step) in [("dynamodb:CreateTable", "backend"), ("ec2:CreateVpc", "network")] {
        grant(target, own(), |granted| granted != action);
        let refused = target.deployctl(&["apply", "--yes"]).expect(15);
        assert!(refused.err.contains(action) && refused.err.contains(step), "{}", refused.err);
    }
    grant(target, own(), |_| true);
}
