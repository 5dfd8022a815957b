//! Every action of terraform/policies/deployer.json and recovery.json, and of warm.json where it is needed, simulated for the role: what is missing is
//! said before an apply finds it.
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::doctor::{Check, Status};
use crate::{
    aws::{
        Aws,
        iam::{Decision, Question},
    },
    failure::Failure,
    ids::RoleArn,
    plan::environment::{Environment, Standby},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    statement: Vec<Statement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    #[serde(default)]
    sid: String,
    action: OneOrMany,
    resource: OneOrMany,
    #[serde(default)]
    condition: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// One member of a family that the policy allows by a wildcard; the simulator takes no wildcards.
const REPRESENTATIVES: [(&str, &str); 1] = [("s3:GetBucket*", "s3:GetBucketVersioning")];

/// One summary, and a line for each action that is missing.
pub(super) async fn checks(aws: &Aws, environment: &Environment, project: &Path) -> Vec<Check> {
    let Some(role) = environment.aws.deployer_role_arn.as_ref() else {
        return vec![
            Check::new("permissions", Status::Unknown, "only a deployer role's can be simulated").fix("set aws.deployer_role_arn"),
        ];
    };
    let questions = match questions(environment, project) {
        Ok(questions) => questions,
        Err(failure) => return vec![Check::failed("permissions", &failure)],
    };
    let total: usize = questions.iter().map(|(_, question)| question.actions.len()).sum();
    let mut missing = Vec::new();
    for (sid, question) in questions {
        match aws.simulate(role, &question).await {
            Ok(decisions) => {
                let denied = decisions.into_iter().filter(|(_, decision)| *decision == Decision::Denied);
                missing.extend(denied.map(|(action, _)| (sid.clone(), action, question.resource.clone())));
            }
            // Not being allowed to ask says nothing about the answer.
            Err(failure) => {
                return vec![
                    Check::new("permissions", Status::Unknown, format!("they cannot be simulated: {}", failure.message)).fix(allow(role)),
                ];
            }
        }
    }
    let mut checks = Vec::with_capacity(missing.len() + 1);
    if missing.is_empty() {
        checks.push(Check::new("permissions", Status::Ok, format!("all {total} actions of the deployer policy")));
    }
    checks.extend(missing.into_iter().map(|(sid, action, resource)| {
        Check::new(format!("permission {action}"), Status::Failed, format!("{role} may not do it on {resource}"))
            .fix(format!("terraform -chdir=terraform/bootstrap apply; the statement {sid} of terraform/policies has it"))
    }));
    checks
}

fn allow(role: &RoleArn) -> String {
    format!("let {role} call iam:SimulatePrincipalPolicy on itself")
}

fn questions(environment: &Environment, project: &Path) -> Result<Vec<(String, Question)>, Failure> {
    let mut statements = Vec::new();
    // In the DR region it may do what a recovery needs, by a policy of its own, and by another what a cluster there needs.
    let warm = (environment.recovery.standby == Standby::Warm).then_some("warm.json");
    for name in ["deployer.json", "recovery.json"].into_iter().chain(warm) {
        let path = project.join("terraform/policies").join(name);
        let unreadable = || Failure::usage(format!("{} cannot be read", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable().because(e))?;
        let policy: Policy = serde_json::from_str(&filled(&text, environment)).map_err(|e| unreadable().because(e))?;
        statements.extend(policy.statement);
    }
    let mut questions = Vec::new();
    for statement in statements {
        let (actions, _wildcards): (Vec<String>, Vec<String>) =
            statement.action.into_vec().into_iter().map(representative).partition(|action| !action.contains('*'));
        let resources = statement.resource.into_vec();
        // An action may fit only one of the statement's resources, so it is asked about each kind of them.
        for (resource, actions) in by_resource(&resources, &actions) {
            questions.push((statement.sid.clone(), Question { actions, resource, context: context(&statement.condition) }));
        }
    }
    Ok(questions)
}

fn filled(text: &str, environment: &Environment) -> String {
    text.replace("${account_id}", environment.aws.account_id.as_str())
        .replace("${region}", environment.aws.region.as_str())
        .replace("${dr_region}", environment.aws.dr_region.as_str())
        .replace("${prefix}", &format!("deployctl-{}", environment.name))
        .replace("${environment}", environment.name.as_str())
}

fn representative(action: String) -> String {
    REPRESENTATIVES.iter().find(|(family, _)| *family == action).map_or(action, |(_, member)| (*member).to_owned())
}

/// Which resource to ask about: the statement's first whose service is the action's, with wildcards made concrete.
fn by_resource(resources: &[String], actions: &[String]) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for action in actions {
        let service = action.split(':').next().unwrap_or_default();
        let fits = |resource: &&String| resource.split(':').nth(2) == Some(service);
        let resource = resources.iter().find(fits).or(resources.first()).map_or("*", String::as_str);
        let concrete = if resource == "*" { "*".to_owned() } else { resource.replace('*', "x") };
        match groups.iter_mut().find(|(known, _)| *known == concrete) {
            Some((_, group)) => group.push(action.clone()),
            None => groups.push((concrete, vec![action.clone()])),
        }
    }
    groups
}

/// Values that meet the statement's own conditions: the first of each key.
fn context(condition: &Value) -> Vec<(String, String)> {
    let operators = condition.as_object().into_iter().flatten();
    let keys = operators.filter_map(|(_, keys)| keys.as_object()).flatten();
    keys.filter_map(|(key, value)| {
        let first = value.as_array().and_then(|values| values.first()).unwrap_or(value);
        first.as_str().map(|text| (key.clone(), text.replace('*', "x")))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_is_asked_about_a_resource_of_its_service() {
        let resources = ["arn:aws:s3:::a-*/*", "arn:aws:rds:*:1:db:a"].map(String::from);
        let actions = ["rds:DescribeDBInstances", "s3:GetObject"].map(String::from);
        assert_eq!(
            by_resource(&resources, &actions),
            [
                ("arn:aws:rds:x:1:db:a".to_owned(), vec!["rds:DescribeDBInstances".to_owned()]),
                ("arn:aws:s3:::a-x/x".to_owned(), vec!["s3:GetObject".to_owned()])
            ]
        );
    }
}
