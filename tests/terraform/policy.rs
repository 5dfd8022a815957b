//! The deployer policy: within AWS' limits for every environment, exact where AWS lets it be, and said what for.
use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::{Outcome, ensure, workspace::project};

/// Names that only read, of which no resource is narrower than what AWS allows anyway; spelt out they would not fit into an inline policy.
const WILDCARDS: [&str; 2] = ["ec2:Describe*", "s3:GetBucket*"];
/// Services whose actions may stand on `*`: AWS knows no resource for them, or the statement is limited by region.
const WITHOUT_RESOURCE: [&str; 10] = [
    "ec2:Describe*",
    "ecr:GetAuthorizationToken",
    "eks:CreateCluster",
    "eks:DescribeAddonVersions",
    "kms:CreateKey",
    "kms:ListAliases",
    "kms:ListKeys",
    "logs:DescribeLogGroups",
    "ssm:DescribeParameters",
    "sts:GetCallerIdentity",
];

fn text() -> Outcome<String> {
    Ok(fs::read_to_string(project().join("terraform/policies/deployer.json"))?)
}

fn statements(text: &str) -> Outcome<Vec<Value>> {
    let document: Value = serde_json::from_str(text)?;
    ensure(document["Version"] == "2012-10-17", || "the policy's language is of 2012-10-17".into())?;
    Ok(document["Statement"].as_array().cloned().unwrap_or_default())
}

fn list<'a>(statement: &'a Value, key: &str) -> Vec<&'a str> {
    statement[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn fits_inline() -> Outcome {
    let longest = [
        ("account_id", "111122223333"),
        ("region", "ap-southeast-1"),
        ("dr_region", "ap-southeast-1"),
        ("prefix", "deployctl-abcdefghijklmn"),
    ];
    let filled = longest.iter().fold(text()?, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
    ensure(!filled.contains("${"), || "only account_id, region, dr_region and prefix are filled in".into())?;
    let characters = filled.chars().filter(|character| !character.is_whitespace()).count();
    ensure(characters <= 10_240, || format!("an inline policy may have 10,240 characters, this has {characters}"))
}

/// Beside the deployer's own policy there is no room for it inline.
#[test]
fn recovery_fits_a_managed_policy() -> Outcome {
    let text = fs::read_to_string(project().join("terraform/policies/recovery.json"))?;
    let characters = text.chars().filter(|character| !character.is_whitespace()).count();
    // Placeholders and what stands in their place are of about the same length; the limit is far.
    ensure(characters <= 5_000, || format!("a managed policy may have 6,144 characters, this has {characters}"))?;
    for statement in statements(&text)? {
        let sid = statement["Sid"].as_str().unwrap_or_default().to_owned();
        ensure(sid.starts_with("Step") && statement["Effect"] == "Allow", || format!("{sid} does not say what needs it"))?;
        let actions = list(&statement, "Action");
        ensure(actions.is_sorted() && !actions.iter().any(|action| action.contains('*')), || format!("{sid}: a sorted list of actions"))?;
        let there = statement["Condition"]["StringEquals"]["aws:RequestedRegion"] == "${dr_region}";
        let named = list(&statement, "Resource").iter().all(|resource| resource.split(':').nth(3) == Some("${dr_region}"));
        ensure(there || named, || format!("{sid} reaches beyond the DR region"))?;
    }
    Ok(())
}

#[test]
fn exact() -> Outcome {
    let mut sids = BTreeSet::new();
    for statement in statements(&text()?)? {
        let sid = statement["Sid"].as_str().unwrap_or_default().to_owned();
        ensure(["Step", "EveryStep", "Doctor"].iter().any(|word| sid.starts_with(word)), || {
            format!("{sid} does not say which step needs it")
        })?;
        ensure(sid.chars().all(|character| character.is_ascii_alphanumeric()), || format!("{sid}: AWS takes letters and digits"))?;
        ensure(statement["Effect"] == "Allow" && statement.get("NotAction").is_none() && statement.get("NotResource").is_none(), || {
            format!("{sid} must allow what it names")
        })?;
        let actions = list(&statement, "Action");
        ensure(!actions.is_empty() && actions.is_sorted(), || format!("{sid}: a sorted list of actions"))?;
        for action in &actions {
            ensure(!action.contains('*') || WILDCARDS.contains(action), || format!("{sid}: {action} is not one action"))?;
        }
        let resources = list(&statement, "Resource");
        ensure(!resources.is_empty(), || format!("{sid} names no resource"))?;
        let limited = statement["Condition"]["StringEquals"]["aws:RequestedRegion"] == "${region}";
        if resources.contains(&"*") && !limited {
            let wide: Vec<_> = actions.iter().filter(|action| !WITHOUT_RESOURCE.contains(action)).collect();
            ensure(wide.is_empty(), || format!("{sid}: {wide:?} can be limited to resources"))?;
        }
        ensure(sids.insert(sid.clone()), || format!("{sid} is there twice"))?;
    }
    Ok(())
}

/// Passing a role or attaching a policy is how a narrow role becomes a wide one.
#[test]
fn grows_nothing() -> Outcome {
    for statement in statements(&text()?)? {
        let actions = list(&statement, "Action");
        if actions.contains(&"iam:PassRole") {
            let services = &statement["Condition"]["StringEqualsIfExists"]["iam:PassedToService"];
            ensure(services.as_array().is_some_and(|services| !services.is_empty()), || "iam:PassRole names the services".into())?;
            ensure(list(&statement, "Resource") == ["arn:aws:iam::${account_id}:role/${prefix}-*"], || {
                "iam:PassRole is for the environment's roles".into()
            })?;
        }
        if actions.contains(&"iam:AttachRolePolicy") {
            let known = &statement["Condition"]["ArnLikeIfExists"]["iam:PolicyARN"];
            let all = known
                .as_array()
                .into_iter()
                .flatten()
                .all(|arn| arn.as_str().is_some_and(|arn| !arn.ends_with("policy/*") && !arn.contains("Admin")));
            ensure(known.is_array() && all, || "iam:AttachRolePolicy names the policies".into())?;
        }
        let roles = list(&statement, "Resource").into_iter().filter(|resource| resource.contains(":role/")).collect::<Vec<_>>();
        let own = actions == ["iam:SimulatePrincipalPolicy"];
        let safe = |resource: &&str| resource.ends_with("role/${prefix}-*") || resource.ends_with("role/aws-service-role/*");
        ensure(own || roles.iter().all(safe), || format!("{roles:?}: the deployer must not reach its own role"))?;
    }
    Ok(())
}
