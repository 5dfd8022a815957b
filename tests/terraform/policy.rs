//! The committed policies: within AWS' limits for every environment, exact where AWS lets them be, said what for, and clean under parliament.
use std::{collections::BTreeSet, fs, process::Command};

use deployctl::plan::{definition, environment::SecretStore, file::PlanFile};
use serde_json::{Value, json};

use crate::{Outcome, ensure, installed, stacks, workspace::project};

/// What only reads and has many names for one thing; spelt out it would say no more.
const WILDCARDS: [&str; 1] = ["s3:GetBucket*"];
/// Actions that may stand on `*`: AWS knows no resource for them.
const WITHOUT_RESOURCE: [&str; 13] = [
    "ecr:GetAuthorizationToken",
    "eks:CreateCluster",
    "eks:DescribeAddonVersions",
    "kms:CreateKey",
    "kms:ListAliases",
    "kms:ListKeys",
    "logs:DescribeLogGroups",
    "rds:DescribeAccountAttributes",
    "rds:DescribeOrderableDBInstanceOptions",
    "servicequotas:GetAWSDefaultServiceQuota",
    "servicequotas:GetServiceQuota",
    "ssm:DescribeParameters",
    "sts:GetCallerIdentity",
];
/// Characters that IAM takes in a managed policy, and statements that terraform/bootstrap puts into one.
const MANAGED: (usize, usize) = (6_144, 8);

/// Values as long as they can be.
const LONGEST: [(&str, &str); 5] = [
    ("account_id", "111122223333"),
    ("region", "ap-southeast-1"),
    ("dr_region", "ap-southeast-2"),
    ("prefix", "deployctl-abcdefghijklmn"),
    ("environment", "abcdefghijklmn"),
];

fn text_of(name: &str) -> Outcome<String> {
    Ok(fs::read_to_string(project().join(format!("terraform/policies/{name}.json")))?)
}

fn text() -> Outcome<String> {
    text_of("deployer")
}

fn filled(name: &str) -> Outcome<String> {
    let filled = LONGEST.iter().fold(text_of(name)?, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
    ensure(!filled.contains("${"), || format!("{name}: only {LONGEST:?} are filled in"))?;
    Ok(filled)
}

fn statements(text: &str) -> Outcome<Vec<Value>> {
    let document: Value = serde_json::from_str(text)?;
    ensure(document["Version"] == "2012-10-17", || "the policy's language is of 2012-10-17".into())?;
    Ok(document["Statement"].as_array().cloned().unwrap_or_default())
}

/// Everything that a statement has under a key.
fn list<'a>(statement: &'a Value, key: &str) -> Vec<&'a str> {
    statement[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn fit_into_managed_policies() -> Outcome {
    for name in ["bootstrap", "deployer", "on-call"] {
        let mut all = statements(&filled(name)?)?;
        if name == "deployer" {
            // At its most: what terraform/bootstrap puts together for an environment with a warm standby.
            for more in ["recovery", "warm"] {
                all.extend(statements(&filled(more)?)?);
            }
        }
        let parts: Vec<&[Value]> = if name == "deployer" { all.chunks(MANAGED.1).collect() } else { vec![&all] };
        // A role has ten managed policies at most.
        ensure(parts.len() <= 10, || format!("{name} has {} parts", parts.len()))?;
        for part in parts {
            let length = json!({ "Version": "2012-10-17", "Statement": part }).to_string().len();
            ensure(length <= MANAGED.0, || {
                format!("a part of {name} has {length} characters, IAM takes {}: order its statements anew", MANAGED.0)
            })?;
        }
    }
    let stack = fs::read_to_string(stacks::folder("bootstrap").join("main.tf"))?;
    ensure(stack.contains(&format!("part * {}", MANAGED.1)), || "terraform/bootstrap makes parts of the size that is measured here".into())
}

/// Each service account's policy as the plan file has it for a store of secrets, on made-up ARNs of the right kinds.
fn service_policies(store: SecretStore) -> Outcome<Vec<(String, String)>> {
    policies_of("deploy", store)
}

fn policies_of(file: &str, store: SecretStore) -> Outcome<Vec<(String, String)>> {
    let plan: PlanFile = serde_saphyr::from_str(&fs::read_to_string(project().join(format!("plans/{file}.yaml")))?)?;
    let all = definition::all(&plan, store, "staging");
    let mut policies = Vec::new();
    for account in all["service_accounts"].as_object().into_iter().flatten().map(|(_, account)| account) {
        let statements: Vec<Value> = account["statements"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|statement| {
                let resources: Vec<String> = list(statement, "resources").into_iter().map(|resource| made_up(resource, store)).collect();
                let mut made = json!({ "Effect": "Allow", "Action": statement["actions"], "Resource": resources });
                // As terraform/identity writes them.
                for condition in statement["conditions"].as_array().into_iter().flatten() {
                    let values: Vec<String> = list(condition, "values").into_iter().map(|value| made_up(value, store)).collect();
                    let (test, variable) =
                        (condition["test"].as_str().unwrap_or_default(), condition["variable"].as_str().unwrap_or_default());
                    // A list of one is what it lists; parliament reads `Null` only so.
                    made["Condition"][test][variable] = if let [value] = values.as_slice() { json!(value) } else { json!(values) };
                }
                made
            })
            .collect();
        // An account that may do nothing has no policy.
        if statements.is_empty() {
            continue;
        }
        let document = json!({ "Version": "2012-10-17", "Statement": statements });
        policies.push((format!("{}-{store:?}-{file}", account["service_account"].as_str().unwrap_or_default()), document.to_string()));
    }
    Ok(policies)
}

fn made_up(resource: &str, store: SecretStore) -> String {
    let known = [
        ("${env.aws.account_id}", "111122223333"),
        ("${env.aws.region}", "ap-southeast-1"),
        ("${env.aws.dr_region}", "eu-central-1"),
        ("${env.name}", "abcdefghijklmn"),
        ("${steps.network.outputs.vpc_id}", "vpc-0123456789abcdef0"),
        ("${steps.cluster.outputs.cluster_name}", "deployctl-abcdefghijklmn"),
    ];
    if let Some(filled) = known
        .iter()
        .any(|(name, _)| resource.contains(name))
        .then(|| known.iter().fold(resource.to_owned(), |text, (name, value)| text.replace(name, value)))
    {
        return filled;
    }
    let Some((reference, rest)) = resource.strip_prefix("${").and_then(|text| text.split_once('}')) else { return resource.to_owned() };
    let last = reference.rsplit('.').next().unwrap_or_default();
    let arn = if reference.ends_with("bucket_arn") {
        "arn:aws:s3:::deployctl-staging-uploads-111122223333".to_owned()
    } else if reference.contains("queue_arns") {
        format!("arn:aws:sqs:us-east-1:111122223333:deployctl-staging-{last}")
    } else if store == SecretStore::Ssm && reference.contains("secret_arns.") {
        format!("arn:aws:ssm:us-east-1:111122223333:parameter/deployctl/staging/{last}")
    } else {
        format!("arn:aws:secretsmanager:us-east-1:111122223333:secret:deployctl/staging/{last}-AbCdEf")
    };
    arn + rest
}

/// A role takes 10,240 characters of inline policy without blanks, and changes nothing by an action on `*` that no condition limits.
#[test]
fn service_accounts_fit_and_are_limited() -> Outcome {
    let plan: Value = serde_saphyr::from_str(&fs::read_to_string(project().join("plans/deploy.yaml"))?)?;
    for account in plan["accounts"].as_object().into_iter().flatten().map(|(_, account)| account) {
        let part = |key: &str| account[key].as_str().unwrap_or_default();
        let role = format!("deployctl-abcdefghijklmn-{}-{}", part("namespace"), part("service_account"));
        ensure(role.len() <= 64, || format!("{role} is too long for a role"))?;
    }
    for (name, policy) in [service_policies(SecretStore::SecretsManager)?, service_policies(SecretStore::Ssm)?].concat() {
        let length = policy.chars().filter(|letter| !letter.is_whitespace()).count();
        ensure(length <= 10_240, || format!("{name}: {length} characters"))?;
        for statement in statements(&policy)? {
            let reads = |action: &&str| {
                let word = action.split(':').nth(1).unwrap_or_default();
                ["Describe", "List", "Get"].iter().any(|verb| word.starts_with(verb))
            };
            let everything = list(&statement, "Resource").contains(&"*") && statement["Condition"].is_null();
            ensure(!everything || list(&statement, "Action").iter().all(reads), || format!("{name}: {statement}"))?;
        }
    }
    Ok(())
}

/// What the controller's published policy has and its role has not: features that its values turn off.
#[test]
fn the_load_balancer_controller_may_do_what_it_is_told_to() -> Outcome {
    let policies = service_policies(SecretStore::SecretsManager)?;
    let (_, policy) = policies.iter().find(|(name, _)| name.starts_with("load-balancer-controller-")).ok_or("there is no such account")?;
    let actions: BTreeSet<String> = statements(policy)?
        .iter()
        .flat_map(|statement| list(statement, "Action").into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let values = fs::read_to_string(project().join("templates/charts/aws-load-balancer-controller.yaml.hbs"))?;
    for (feature, service) in [("enableShield", "shield:"), ("enableWaf", "waf-regional:"), ("enableWafv2", "wafv2:")] {
        let off = values.contains(&format!("{feature}: false"));
        let may = actions.iter().any(|action| action.starts_with(service));
        ensure(off != may, || format!("{feature} and the role's {service} actions do not fit"))?;
    }
    // One of each kind of work: the account's policy is no empty shell.
    for action in [
        "elasticloadbalancing:CreateLoadBalancer",
        "elasticloadbalancing:RegisterTargets",
        "ec2:CreateSecurityGroup",
        "iam:CreateServiceLinkedRole",
    ] {
        ensure(actions.contains(action), || format!("{action} is missing"))?;
    }
    Ok(())
}

#[test]
fn parliament_finds_nothing() -> Outcome {
    let Some(python) = installed::parliament() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut policies = [service_policies(SecretStore::SecretsManager)?, service_policies(SecretStore::Ssm)?].concat();
    ensure(policies.len() >= 6, || "uploader, parser and agent have policies".into())?;
    for store in [SecretStore::SecretsManager, SecretStore::Ssm] {
        let warm = policies_of("warm-dr", store)?;
        ensure(warm.len() == 2, || "parser and agent have policies in the DR region".into())?;
        policies.extend(warm);
    }
    for name in ["bootstrap", "deployer", "on-call", "warm"] {
        policies.push((name.to_owned(), filled(name)?));
    }
    // What it would say of a bad one, so that silence means something.
    let bad =
        json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": ["s3:GetObjekt"], "Resource": ["*"] }] }).to_string();
    let audit = |policies: &[(String, String)]| -> Outcome<String> {
        let mut command = Command::new(&python);
        command.arg(project().join("tests/sandbox/policies/audit.py")).env("PYTHONDONTWRITEBYTECODE", "1");
        for (name, text) in policies {
            let path = folder.path().join(format!("{name}.json"));
            fs::write(&path, text)?;
            command.arg(path);
        }
        let output = command.output()?;
        ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // A key that AWS has (Service Authorization Reference, Elastic Load Balancing V2) and parliament's data are too old for; the controller's
    // published policy is built on it.
    let old = |line: &&str| !line.contains("elasticloadbalancing:CreateAction for action elasticloadbalancing:AddTags");
    let found = audit(&policies)?.lines().filter(old).collect::<Vec<_>>().join("\n");
    ensure(found.is_empty(), || found.clone())?;
    ensure(audit(&[("bad".to_owned(), bad)])?.contains("UNKNOWN_ACTION"), || "parliament reads what it is given".into())
}

/// A secret, a queue, a bucket, a role of another environment is nobody's business here.
#[test]
fn keeps_to_its_environment() -> Outcome {
    for name in ["deployer", "on-call"] {
        for statement in statements(&text_of(name)?)? {
            for resource in list(&statement, "Resource") {
                let service = resource.split(':').nth(2).unwrap_or("*");
                let named = resource.contains("${prefix}") || resource.contains("${environment}");
                let limited = statement["Condition"].is_object();
                // What carries no name of ours: RDS' own names, what only reads, the cluster's issuer, service-linked roles.
                let other = [
                    "rds!db-",
                    ":auto-backup:",
                    ":og:default",
                    "oidc-provider/oidc.eks",
                    "role/aws-service-role",
                    "role/deployctl-deployer",
                    ":alarm:",
                ]
                .iter()
                .any(|word| resource.contains(word));
                let reads = list(&statement, "Action").iter().all(|action| {
                    let verb = action.split(':').nth(1).unwrap_or_default();
                    ["Describe", "List", "Get", "Download"].iter().any(|read| verb.starts_with(read))
                });
                ensure(resource == "*" || named || limited || other || reads, || {
                    format!("{name}: {} reaches {service} of every environment: {resource}", statement["Sid"])
                })?;
            }
        }
    }
    Ok(())
}

/// Beside the deployer's own policy there is no room for it inline; nor for what a warm standby asks besides.
#[test]
fn recovery_fits_a_managed_policy() -> Outcome {
    ["recovery", "warm"].into_iter().try_for_each(fits_and_stays_in_the_dr_region)
}

fn fits_and_stays_in_the_dr_region(name: &str) -> Outcome {
    let text = text_of(name)?;
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
        if resources.contains(&"*") {
            let known = |action: &&&str| WITHOUT_RESOURCE.contains(*action) || action.starts_with("ec2:Describe");
            let wide: Vec<_> = actions.iter().filter(|action| !known(action)).collect();
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
            let known = &statement["Condition"]["ArnLike"]["iam:PolicyARN"];
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
