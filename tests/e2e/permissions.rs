//! What every role may do against what it was seen to do in the front door's record; and the whole plan under a policy that grows by what
//! failures name.
use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_iam::Client;
use serde_json::{Value, json};

use super::{
    commands::block_on,
    target::{Target, project},
};

/// The role that deployctl works as.
const DEPLOYER: &str = "deployctl-deployer";

/// Actions that a role may do and was not seen to do, each with the reason why it keeps them.
const UNSEEN: &[(&str, &[&str], &str)] = &[];

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

fn actions(policy: &Value) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let actions = statements.flat_map(|statement| match &statement["Action"] {
        Value::Array(actions) => actions.clone(),
        one => vec![one.clone()],
    });
    actions.filter_map(|action| action.as_str().map(str::to_owned)).collect()
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

/// The step that needs an action fails and says which one it is; the policy is put back afterwards.
pub fn a_missing_one_is_named(target: &Target) {
    for (action, step) in [("dynamodb:CreateTable", "backend"), ("ec2:CreateVpc", "network")] {
        grant(target, own(), |granted| granted != action);
        let refused = target.deployctl(&["apply", "--yes"]).expect(15);
        assert!(refused.err.contains(action) && refused.err.contains(step), "{}", refused.err);
    }
    grant(target, own(), |_| true);
}

/// Starts with nothing and grants what each failure names, until the whole plan is applied: so every action that apply needs was missing once.
pub fn are_all_named(target: &Target) {
    let all = actions(&own());
    let mut granted = BTreeSet::from(["sts:GetCallerIdentity".to_owned()]);
    for round in 1..=400 {
        grant(target, own(), |action| granted.contains(action));
        let ended = target.deployctl(&["apply", "--yes"]);
        if ended.code == Some(0) {
            eprintln!("{} of {} actions were needed, each named when it was missing; {round} rounds", granted.len(), all.len());
            eprintln!("not needed by apply: {:?}", all.difference(&granted).collect::<Vec<_>>());
            return;
        }
        let named: Vec<&String> = all.iter().filter(|action| !granted.contains(*action) && names(&ended.err, action)).collect();
        eprintln!("round {round}: exit {:?} names {named:?}", ended.code);
        assert!(!named.is_empty(), "no action is named that is not granted already:\n{}", ended.err);
        let named: Vec<String> = named.into_iter().cloned().collect();
        granted.extend(named);
    }
    panic!("400 rounds were not enough");
}

/// Whether a text has an action as a word of its own.
fn names(text: &str, action: &str) -> bool {
    let (word, is_family) = (action.trim_end_matches('*'), action.ends_with('*'));
    text.match_indices(word).any(|(at, _)| is_family || !text[at + word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// What each role did, by its name.
fn seen(target: &Target) -> BTreeMap<String, BTreeSet<String>> {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in target.requests() {
        let principal = request["principal"].as_str().unwrap_or_default();
        let Some(role) = principal.split_once(":assumed-role/").and_then(|(_, rest)| rest.split('/').next()) else { continue };
        if request["status"] != 403 {
            seen.entry(role.to_owned()).or_default().insert(request["action"].as_str().unwrap_or_default().to_owned());
        }
    }
    seen
}

/// What each role of the environment may do by its own policies, the deployer's among them.
fn allowed(target: &Target) -> BTreeMap<String, BTreeSet<String>> {
    let mut allowed = BTreeMap::from([(DEPLOYER.to_owned(), actions(&own()))]);
    block_on(async {
        let client = iam(target);
        let roles = client.list_roles().send().await.unwrap();
        for role in roles.roles().iter().map(|role| role.role_name()).filter(|role| role.starts_with("deployctl-sandbox-")) {
            let inline = client.list_role_policies().role_name(role).send().await.unwrap();
            if !inline.policy_names().iter().any(|name| name == "permissions") {
                continue;
            }
            let policy = client.get_role_policy().role_name(role).policy_name("permissions").send().await.unwrap();
            // IAM sends policies URL-encoded.
            let text = url::form_urlencoded::parse(policy.policy_document().as_bytes()).next().unwrap().0.into_owned();
            allowed.insert(role.to_owned(), actions(&serde_json::from_str(&text).unwrap()));
        }
    });
    assert!(allowed.len() >= 4, "the deployer, both services and the agent: {:?}", allowed.keys());
    allowed
}

/// After everything that this test has done: what was seen is allowed by name, and what is allowed was seen, or is kept for a reason.
pub fn are_exact(target: &Target) {
    let seen = seen(target);
    let mut wrong = Vec::new();
    for (role, allowed) in allowed(target) {
        let seen = &seen[&role];
        let covers = |action: &str, used: &str| action == used || action.strip_suffix('*').is_some_and(|family| used.starts_with(family));
        let reasons: Vec<_> = UNSEEN.iter().filter(|(of, ..)| *of == role).collect();
        for action in &allowed {
            let was_seen = seen.iter().any(|used| covers(action, used));
            let kept = reasons.iter().any(|(_, actions, _)| actions.contains(&action.as_str()));
            match (was_seen, kept) {
                (true, false) | (false, true) => {}
                (true, true) => wrong.push(format!("{role}: {action} was seen; it needs no reason")),
                (false, false) => wrong.push(format!("{role}: {action} was never seen")),
            }
        }
        for (_, actions, reason) in reasons {
            for action in actions.iter().filter(|action| !allowed.contains(**action)) {
                wrong.push(format!("{role}: {action} is not allowed at all, and yet has a reason: {reason}"));
            }
        }
        // The account's root evaluates nothing, so whatever got through is allowed by these policies: but for what AWS never denies.
        const NEVER_DENIED: [&str; 1] = ["sts:GetCallerIdentity"];
        for used in seen.iter().filter(|used| used.split_once(':').is_some_and(|(_, verb)| verb.chars().all(char::is_alphanumeric))) {
            if !NEVER_DENIED.contains(&used.as_str()) && !allowed.iter().any(|action| covers(action, used)) {
                wrong.push(format!("{role}: did {used}, which its policy does not name"));
            }
        }
        eprintln!("{role}: {} actions allowed, {} seen", allowed.len(), seen.len());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
