//! Whom the roles of service accounts trust, read back: each its own account and nobody else, in the way that the plan file has chosen.
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{
    Input,
    verify::{Outputs, must, output},
};
use crate::{
    failure::Failure,
    ids::{ClusterName, RoleArn},
    plan::file::Credentials,
    steps::StepContext,
};

/// What trust policies and associations are held against: the stack's own variables.
#[derive(Deserialize)]
struct Expected {
    #[serde(default)]
    credentials: Credentials,
    oidc_issuer: String,
    oidc_provider_arn: String,
    cluster_name: ClusterName,
    #[serde(default)]
    secrets_reader: String,
    service_accounts: BTreeMap<String, Account>,
}

#[derive(Deserialize)]
struct Account {
    namespace: String,
    service_account: String,
    #[serde(default)]
    secrets: Vec<String>,
}

impl Expected {
    fn of(input: &Input) -> Result<Self, Failure> {
        let variables = input.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        serde_json::from_value(Value::Object(variables))
            .map_err(|e| Failure::usage("check trust-policies: the stack's variables are not those of terraform/identity").because(e))
    }

    /// Whom the role of `NAMESPACE/NAME` trusts.
    fn pods<'a>(&'a self, cx: &'a StepContext, roles: &'a BTreeMap<String, RoleArn>, account: &str) -> Pods<'a> {
        let is_it = |known: &&Account| format!("{}/{}", known.namespace, known.service_account) == account;
        let has_secrets = self.service_accounts.values().find(is_it).is_some_and(|known| !known.secrets.is_empty());
        let reader = roles.get(&self.secrets_reader).filter(|_| has_secrets && account != self.secrets_reader);
        let aws = &cx.environment.aws;
        let partition = roles.values().next().and_then(|role| role.as_str().split(':').nth(1)).unwrap_or("aws");
        let cluster_arn = format!("arn:{partition}:eks:{}:{}:cluster/{}", aws.region, aws.account_id, self.cluster_name);
        Pods { account_id: aws.account_id.as_str(), cluster_arn, reader }
    }
}

/// Looks at every role, and at every association where there are any.
pub(super) async fn check(cx: &StepContext, input: &Input, outputs: &Outputs) -> Result<String, Failure> {
    let roles: BTreeMap<String, RoleArn> = output(outputs, "role_arns")?;
    let expected = Expected::of(input)?;
    for (account, arn) in &roles {
        let role = arn.as_str().rsplit('/').next().unwrap_or_default();
        let found = cx.aws.role_trust_policy(role).await?;
        let policy = found.ok_or_else(|| Failure::verification(format!("role {role} is not there")))?;
        let trusts = match expected.credentials {
            Credentials::Irsa => trusts_the_issuer(&policy, &expected.oidc_issuer, &expected.oidc_provider_arn, account),
            Credentials::PodIdentity => trusts_eks(&policy, &expected.pods(cx, &roles, account), account),
        };
        must(trusts, &format!("role {role}"))?;
        if expected.credentials == Credentials::PodIdentity {
            must(is_associated(cx, &expected.cluster_name, account, arn).await?, &format!("service account {account}"))?;
        }
    }
    Ok(match expected.credentials {
        Credentials::Irsa => format!("{} roles trust exactly their service accounts", roles.len()),
        Credentials::PodIdentity => {
            format!("{} roles trust EKS for exactly their service accounts, which are associated with them", roles.len())
        }
    })
}

async fn is_associated(cx: &StepContext, cluster: &ClusterName, account: &str, role: &RoleArn) -> Result<Result<(), String>, Failure> {
    let (namespace, name) = account.split_once('/').unwrap_or_default();
    let ids = cx.aws.pod_identity_associations(cluster.as_str(), namespace, name).await?;
    let [id] = ids.as_slice() else { return Ok(Err(format!("it has {} associations, not one", ids.len()))) };
    Ok(match cx.aws.role_of_association(cluster, id).await? {
        Some(found) if found == role.as_str() => Ok(()),
        found => Err(format!("its association {id} leads to {}, not to {role}", found.as_deref().unwrap_or("nothing"))),
    })
}

fn one(value: &Value) -> Option<&str> {
    match value {
        Value::Array(list) if list.len() == 1 => list[0].as_str(),
        other => other.as_str(),
    }
}

fn several(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    }
}

fn statements(policy: &Value) -> Vec<&Value> {
    match &policy["Statement"] {
        Value::Array(list) => list.iter().collect(),
        Value::Null => Vec::new(),
        only => vec![only],
    }
}

/// These conditions under one operator, each with one value, and no others.
fn conditions(statement: &Value, operator: &str, wanted: &[(String, String)]) -> Result<(), String> {
    let operators = statement["Condition"].as_object().filter(|operators| operators.len() == 1);
    let keys = operators.and_then(|operators| operators.get(operator)?.as_object());
    let keys = keys.ok_or_else(|| format!("its conditions are not {operator} alone"))?;
    for (key, wanted) in wanted {
        let found = keys.get(key).and_then(one);
        if found != Some(wanted.as_str()) {
            return Err(format!("{key} is {}, not {wanted}", found.unwrap_or("not a condition")));
        }
    }
    Ok(())
}

fn principal<'a>(statement: &'a Value, kind: &str) -> Option<&'a str> {
    statement["Principal"].as_object().filter(|principals| principals.len() == 1).and_then(|principals| one(principals.get(kind)?))
}

/// One statement, for one provider, with both conditions by equality and no other way in.
fn trusts_the_issuer(policy: &Value, issuer: &str, provider: &str, account: &str) -> Result<(), String> {
    let (namespace, name) = account.split_once('/').ok_or("its service account is not NAMESPACE/NAME")?;
    let [statement] = statements(policy)[..] else { return Err("its trust policy does not have exactly one statement".into()) };
    if one(&statement["Action"]) != Some("sts:AssumeRoleWithWebIdentity") {
        return Err("its trust policy allows something else than sts:AssumeRoleWithWebIdentity".into());
    }
    if principal(statement, "Federated") != Some(provider) {
        return Err(format!("its trust policy trusts another principal than {provider}"));
    }
    let sub = (format!("{issuer}:sub"), format!("system:serviceaccount:{namespace}:{name}"));
    conditions(statement, "StringEquals", &[sub, (format!("{issuer}:aud"), "sts.amazonaws.com".to_owned())])
}

/// Whom the role of an account trusts where Pod Identity is used.
struct Pods<'a> {
    account_id: &'a str,
    cluster_arn: String,
    /// The role of External Secrets, where it becomes this account to read its secrets.
    reader: Option<&'a RoleArn>,
}

/// EKS, for this account's pods in this cluster; External Secrets, where it reads for it; nobody else.
fn trusts_eks(policy: &Value, pods: &Pods<'_>, account: &str) -> Result<(), String> {
    let (namespace, name) = account.split_once('/').ok_or("its service account is not NAMESPACE/NAME")?;
    let (statement, reading) = match (statements(policy)[..].split_first(), pods.reader) {
        (Some((statement, [])), None) => (*statement, None),
        (Some((statement, [reading])), Some(reader)) => (*statement, Some((*reading, reader))),
        (_, None) => return Err("its trust policy does not have exactly one statement".into()),
        (_, Some(_)) => return Err("its trust policy does not have exactly two statements, for EKS and for External Secrets".into()),
    };
    let chains = |statement: &Value| {
        let mut actions = several(&statement["Action"]);
        actions.sort_unstable();
        if actions == ["sts:AssumeRole", "sts:TagSession"] {
            Ok(())
        } else {
            Err("its trust policy allows something else than sts:AssumeRole and sts:TagSession".to_owned())
        }
    };
    chains(statement)?;
    if principal(statement, "Service") != Some("pods.eks.amazonaws.com") {
        return Err("its trust policy trusts another principal than pods.eks.amazonaws.com".into());
    }
    let wanted = [
        ("aws:SourceAccount", pods.account_id),
        ("aws:RequestTag/eks-cluster-arn", pods.cluster_arn.as_str()),
        ("aws:RequestTag/kubernetes-namespace", namespace),
        ("aws:RequestTag/kubernetes-service-account", name),
    ];
    conditions(statement, "StringEquals", &wanted.map(|(key, value)| (key.to_owned(), value.to_owned())))?;
    let Some((reading, reader)) = reading else { return Ok(()) };
    chains(reading)?;
    // A role that is named as principal must be there first, and is another one once it is made anew; its ARN in a condition is only a text.
    let root = principal(reading, "AWS").is_some_and(|arn| arn.ends_with(&format!(":iam::{}:root", pods.account_id)));
    if !root {
        return Err("its trust policy trusts another account for External Secrets".into());
    }
    conditions(reading, "ArnEquals", &[("aws:PrincipalArn".to_owned(), reader.to_string())])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/oidc.eks/id/1";

    fn policy(condition: Value) -> Value {
        json!({"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": PROVIDER}, "Condition": condition}]})
    }

    #[test]
    fn only_exact_trust_passes() {
        let right =
            json!({"StringEquals": {"oidc.eks/id/1:sub": "system:serviceaccount:apps:parser", "oidc.eks/id/1:aud": "sts.amazonaws.com"}});
        trusts_the_issuer(&policy(right.clone()), "oidc.eks/id/1", PROVIDER, "apps/parser").unwrap();
        assert!(trusts_the_issuer(&policy(right.clone()), "oidc.eks/id/1", PROVIDER, "apps/uploader").unwrap_err().contains("sub is"));
        assert!(trusts_the_issuer(&policy(right.clone()), "oidc.eks/id/1", "arn:other", "apps/parser").is_err());
        for loose in [
            json!({"StringLike": {"oidc.eks/id/1:sub": "system:serviceaccount:*", "oidc.eks/id/1:aud": "sts.amazonaws.com"}}),
            json!({"StringEquals": {"oidc.eks/id/1:sub": "system:serviceaccount:apps:parser"}}),
            json!({"StringEquals": {"oidc.eks/id/1:sub": ["system:serviceaccount:apps:parser", "system:serviceaccount:apps:x"], "oidc.eks/id/1:aud": "sts.amazonaws.com"}}),
        ] {
            assert!(trusts_the_issuer(&policy(loose.clone()), "oidc.eks/id/1", PROVIDER, "apps/parser").is_err(), "{loose}");
        }
        let mut two = policy(right);
        let second = two["Statement"][0].clone();
        two["Statement"].as_array_mut().unwrap().push(second);
        assert!(trusts_the_issuer(&two, "oidc.eks/id/1", PROVIDER, "apps/parser").is_err());
    }

    fn for_pods() -> Value {
        json!({"Statement": [{
            "Effect": "Allow", "Action": ["sts:TagSession", "sts:AssumeRole"], "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Condition": {"StringEquals": {
                "aws:SourceAccount": "111122223333",
                "aws:RequestTag/eks-cluster-arn": "arn:aws:eks:us-east-1:111122223333:cluster/deployctl-qa",
                "aws:RequestTag/kubernetes-namespace": "apps",
                "aws:RequestTag/kubernetes-service-account": "parser",
            }},
        }]})
    }

    fn reading() -> Value {
        json!({
            "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
            "Condition": {"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/reader"}},
        })
    }

    #[test]
    fn pods_are_those_of_one_account_in_one_cluster() {
        let pods = |reader| Pods {
            account_id: "111122223333",
            cluster_arn: "arn:aws:eks:us-east-1:111122223333:cluster/deployctl-qa".into(),
            reader,
        };
        trusts_eks(&for_pods(), &pods(None), "apps/parser").unwrap();
        assert!(trusts_eks(&for_pods(), &pods(None), "apps/uploader").unwrap_err().contains("kubernetes-service-account is parser"));
        assert!(trusts_eks(&for_pods(), &pods(None), "other/parser").is_err());
        for (path, value) in [
            ("/Statement/0/Condition/StringEquals/aws:SourceAccount", json!("444455556666")),
            (
                "/Statement/0/Condition/StringEquals/aws:RequestTag~1eks-cluster-arn",
                json!("arn:aws:eks:us-east-1:111122223333:cluster/other"),
            ),
            ("/Statement/0/Condition/StringEquals/aws:RequestTag~1kubernetes-namespace", json!(["apps", "x"])),
            ("/Statement/0/Condition", json!({"StringLike": for_pods()["Statement"][0]["Condition"]["StringEquals"]})),
            ("/Statement/0/Principal", json!({"Service": "ec2.amazonaws.com"})),
            ("/Statement/0/Principal", json!({"Service": "pods.eks.amazonaws.com", "AWS": "*"})),
            ("/Statement/0/Action", json!("sts:AssumeRole")),
        ] {
            let mut loose = for_pods();
            *loose.pointer_mut(path).unwrap() = value.clone();
            assert!(trusts_eks(&loose, &pods(None), "apps/parser").is_err(), "{path} {value}");
        }
        let reader = RoleArn::parse("arn:aws:iam::111122223333:role/reader").unwrap();
        assert!(trusts_eks(&for_pods(), &pods(Some(&reader)), "apps/parser").is_err(), "External Secrets reads for it, too");
        let mut both = for_pods();
        both["Statement"].as_array_mut().unwrap().push(reading());
        trusts_eks(&both, &pods(Some(&reader)), "apps/parser").unwrap();
        assert!(trusts_eks(&both, &pods(None), "apps/parser").is_err(), "nobody reads for it");
        let other = RoleArn::parse("arn:aws:iam::111122223333:role/other").unwrap();
        assert!(trusts_eks(&both, &pods(Some(&other)), "apps/parser").is_err());
        both["Statement"][1]["Principal"]["AWS"] = json!("*");
        assert!(trusts_eks(&both, &pods(Some(&reader)), "apps/parser").is_err());
    }
}
