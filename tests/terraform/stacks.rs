//! Each stack with the sandbox's modules, or with the real ones from a folder that a person gives: valid, its own tests pass, and the
//! modules make of our calls what design §3 and §6 ask for.
use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    Outcome, ensure,
    plan::{self, Plan, at, holds},
    workspace::{Module, Workspace, project},
};

/// The modules that stacks use: stack, call and module, version.
pub const CALLS: [(&str, &str, &str); 2] = [("network", "vpc", "6.6.0"), ("cluster", "eks", "21.19.0")];
const STACKS: [&str; 4] = ["network", "cluster", "data", "identity"];

/// A stack's folder.
pub fn folder(stack: &str) -> PathBuf {
    project().join("terraform").join(stack)
}

/// The modules that a stack calls, taken from `modules/NAME`.
pub fn modules(stack: &str, modules: &Path) -> Vec<Module> {
    let called = CALLS.iter().filter(|(caller, ..)| *caller == stack);
    called
        .map(|(_, name, version)| Module {
            key: (*name).to_owned(),
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            folder: modules.join(name),
        })
        .collect()
}

fn check(stack: &str, modules: &[Module]) -> Outcome {
    let workspace = Workspace::of(&folder(stack), modules)?;
    let said = workspace.terraform(&["validate", "-no-color"])?;
    ensure(said.succeeded, || format!("terraform validate: {}", said.text))?;
    let plans = plan::of_tests(&workspace)?;
    let planned = |run: &str| plans.get(run).ok_or_else(|| format!("{stack} has no run {run}"));
    match stack {
        "network" => network(planned("three_zones")?),
        "cluster" => cluster(planned("as_declared")?).and_then(|()| private_cluster(planned("private_endpoint")?)),
        _ => Ok(()),
    }
}

fn offline(stack: &str) -> Outcome {
    check(stack, &modules(stack, &project().join("tests/sandbox/modules")))
}

#[test]
fn network_stack() -> Outcome {
    offline("network")
}

#[test]
fn cluster_stack() -> Outcome {
    offline("cluster")
}

#[test]
fn data_stack() -> Outcome {
    offline("data")
}

#[test]
fn identity_stack() -> Outcome {
    offline("identity")
}

/// `tests/terraform/real-modules.sh DIR`: DIR has the modules' repositories as vpc, eks and kms (which eks calls).
#[test]
fn real_modules() -> Outcome {
    let Some(given) = env::var_os("DEPLOYCTL_REAL_MODULES").map(PathBuf::from) else {
        writeln!(std::io::stderr(), "SKIPPED: the stacks with the real modules; tests/terraform/real-modules.sh DIR does it")?;
        return Ok(());
    };
    for stack in STACKS {
        let mut modules = modules(stack, &given);
        if stack == "cluster" {
            let folder = given.join("kms");
            modules.push(Module { key: "eks.kms".into(), name: "kms".into(), version: version_of_kms(&given)?, folder });
        }
        check(stack, &modules).map_err(|error| format!("{stack} with the real modules: {error}"))?;
        writeln!(std::io::stderr(), "{stack} with the real modules: valid, planned, as it should be")?;
    }
    Ok(())
}

/// The version that the eks module asks for.
fn version_of_kms(given: &Path) -> Outcome<String> {
    let text = fs::read_to_string(given.join("eks/main.tf"))?;
    let after = text.split_once("terraform-aws-modules/kms/aws").ok_or("the eks module does not call the kms module")?.1;
    Ok(after.split('"').nth(2).ok_or("the eks module names no version of the kms module")?.to_owned())
}

fn network(plan: &Plan) -> Outcome {
    let tagged = |key: &str| plan.all("aws_subnet").into_iter().filter(|(_, subnet)| subnet["tags"][key] == "1").count();
    ensure(plan.all("aws_subnet").len() == 9, || "three subnets of each kind".into())?;
    ensure(tagged("kubernetes.io/role/elb") == 3, || "three public subnets are tagged for internet-facing load balancers".into())?;
    ensure(tagged("kubernetes.io/role/internal-elb") == 3, || "three private subnets are tagged for internal load balancers".into())?;
    ensure(plan.all("aws_subnet").iter().all(|(_, subnet)| subnet["map_public_ip_on_launch"] != true), || {
        "no subnet gives out public addresses".into()
    })?;
    ensure(plan.all("aws_nat_gateway").len() == 3, || "a NAT gateway in each zone".into())?;
    let ways_out = plan.all("aws_route").into_iter().filter(|(_, route)| route["destination_cidr_block"] == "0.0.0.0/0").count();
    ensure(ways_out == 4, || "a way out for public subnets and one for the private ones of each zone, none for the database's".into())?;
    ensure(plan.all("aws_route").iter().all(|(address, _)| !address.contains("database")), || {
        "no route from the database's subnets".into()
    })?;
    ensure(!plan.all("aws_route_table").iter().all(|(address, _)| !address.contains("database")), || {
        "a route table of the database's own".into()
    })?;
    let closed = plan.one("aws_default_security_group")?;
    let rules = |kind: &str| closed[kind].as_array().is_none_or(Vec::is_empty);
    ensure(rules("ingress") && rules("egress"), || "the default security group lets nothing through".into())?;
    holds(plan.one("aws_db_subnet_group")?, "name", json!("deployctl-staging"))?;
    holds(plan.one("aws_flow_log")?, "traffic_type", json!("ALL"))?;
    holds(plan.one("aws_flow_log")?, "log_destination_type", json!("cloud-watch-logs"))?;
    holds(plan.one("aws_cloudwatch_log_group")?, "retention_in_days", json!(30))?;
    holds(plan.one("aws_cloudwatch_log_group")?, "name", json!("/aws/vpc-flow-log/deployctl-staging"))?;
    holds(plan.one("aws_iam_role")?, "name", json!("deployctl-staging-flow-log"))
}

fn cluster(plan: &Plan) -> Outcome {
    let cluster = plan.one("aws_eks_cluster")?;
    holds(cluster, "name", json!("deployctl-staging"))?;
    holds(cluster, "version", json!("1.34"))?;
    holds(cluster, "bootstrap_self_managed_addons", json!(false))?;
    holds(cluster, "access_config.0.authentication_mode", json!("API"))?;
    holds(cluster, "access_config.0.bootstrap_cluster_creator_admin_permissions", json!(false))?;
    holds(cluster, "vpc_config.0.endpoint_private_access", json!(true))?;
    holds(cluster, "vpc_config.0.endpoint_public_access", json!(true))?;
    holds(cluster, "vpc_config.0.public_access_cidrs", json!(["203.0.113.0/24"]))?;
    holds(cluster, "encryption_config.0.resources", json!(["secrets"]))?;
    ensure(
        strings(at(cluster, "enabled_cluster_log_types")) == set(["api", "audit", "authenticator", "controllerManager", "scheduler"]),
        || "every log of the control plane".into(),
    )?;
    holds(plan.one("aws_cloudwatch_log_group")?, "retention_in_days", json!(90))?;
    holds(plan.one("aws_kms_key")?, "enable_key_rotation", json!(true))?;
    holds(plan.one("aws_iam_openid_connect_provider")?, "client_id_list", json!(["sts.amazonaws.com"]))?;
    addons(plan)?;
    nodes(plan)?;
    let principals: BTreeSet<String> =
        plan.all("aws_eks_access_entry").into_iter().filter_map(|(_, entry)| entry["principal_arn"].as_str().map(str::to_owned)).collect();
    let declared = set(["arn:aws:iam::111122223333:role/deployctl-deployer", "arn:aws:iam::111122223333:role/on-call"]);
    ensure(principals == declared, || format!("those who were declared and nobody else may use the cluster, not {principals:?}"))?;
    ensure(plan.all("aws_eks_access_policy_association").len() == 3, || "three policies were declared".into())
}

fn addons(plan: &Plan) -> Outcome {
    let addons = plan.all("aws_eks_addon");
    let names: BTreeSet<String> = addons.iter().filter_map(|(_, addon)| addon["addon_name"].as_str().map(str::to_owned)).collect();
    ensure(names == set(["aws-ebs-csi-driver", "coredns", "kube-proxy", "metrics-server", "vpc-cni"]), || {
        format!("the add-ons are {names:?}")
    })?;
    let first = addons.iter().find(|(_, addon)| addon["addon_name"] == "vpc-cni").ok_or("vpc-cni is planned")?;
    ensure(first.0.contains("before_compute"), || "vpc-cni comes before the nodes".into())?;
    let settings: Value = serde_json::from_str(first.1["configuration_values"].as_str().unwrap_or_default())?;
    holds(&settings, "enableNetworkPolicy", json!("true"))
}

fn nodes(plan: &Plan) -> Outcome {
    let template = plan.one("aws_launch_template")?;
    holds(template, "metadata_options.0.http_tokens", json!("required"))?;
    holds(template, "metadata_options.0.http_put_response_hop_limit", json!(1))?;
    let volume = at(template, "block_device_mappings.0.ebs.0");
    ensure(volume["encrypted"] == "true" || volume["encrypted"] == true, || format!("the nodes' volumes are encrypted: {volume}"))?;
    holds(volume, "volume_type", json!("gp3"))?;
    holds(volume, "volume_size", json!(50))?;
    let tagged: BTreeSet<String> = template["tag_specifications"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|tags| tags["tags"]["deployctl:environment"] == "staging" && tags["tags"]["team"] == "deployctl")
        .filter_map(|tags| tags["resource_type"].as_str().map(str::to_owned))
        .collect();
    ensure(tagged == set(["instance", "volume", "network-interface"]), || {
        format!("instances, volumes and interfaces carry our tags, not only {tagged:?}")
    })?;
    let group = plan.one("aws_eks_node_group")?;
    holds(group, "ami_type", json!("AL2023_x86_64_STANDARD"))?;
    holds(group, "instance_types", json!(["m7i.large", "m7a.large"]))?;
    holds(group, "scaling_config.0", json!({ "desired_size": 3, "max_size": 6, "min_size": 2 }))?;
    let attached = plan.all("aws_iam_role_policy_attachment");
    let may_change_network = attached
        .iter()
        .filter(|(address, _)| address.contains("module."))
        .any(|(_, policy)| policy["policy_arn"].as_str().is_some_and(|arn| arn.ends_with("AmazonEKS_CNI_Policy")));
    ensure(!may_change_network, || "the nodes' role has no right to change the network".into())
}

fn private_cluster(plan: &Plan) -> Outcome {
    let cluster = plan.one("aws_eks_cluster")?;
    holds(cluster, "vpc_config.0.endpoint_public_access", json!(false))?;
    holds(cluster, "vpc_config.0.endpoint_private_access", json!(true))
}

fn strings(values: &Value) -> BTreeSet<String> {
    values.as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

fn set<const N: usize>(values: [&str; N]) -> BTreeSet<String> {
    values.into_iter().map(str::to_owned).collect()
}

#[test]
fn formatted() -> Outcome {
    for folder in ["terraform", "tests/sandbox/modules"] {
        let output =
            Command::new("terraform").args(["fmt", "-check", "-recursive", "-diff"]).current_dir(project().join(folder)).output()?;
        ensure(output.status.success(), || format!("terraform fmt in {folder}: {}", String::from_utf8_lossy(&output.stdout)))?;
    }
    Ok(())
}

/// What a mocked plan cannot show: who the providers refuse to work for, and that nothing is written that should not be in a state.
#[test]
fn written_down() -> Outcome {
    for stack in STACKS {
        let mut all = String::new();
        for entry in fs::read_dir(folder(stack))? {
            let path = entry?.path();
            ensure(path.file_name().is_none_or(|name| name != ".terraform.lock.hcl"), || {
                format!("{}: its hashes would be the offline provider's", path.display())
            })?;
            if path.extension().is_some_and(|extension| extension == "tf") {
                all.push('\n');
                all.push_str(&fs::read_to_string(&path)?);
            }
        }
        let count = |text: &str| all.matches(text).count();
        let providers = count("provider \"aws\" {");
        ensure(providers > 0 && count("allowed_account_ids = [var.account_id]") == providers, || {
            format!("{stack}: every provider refuses other accounts")
        })?;
        ensure(count("tags = local.default_tags\n  }") == providers, || format!("{stack}: every provider tags what it makes"))?;
        ensure(count("backend \"s3\" {}") == 1, || format!("{stack}: the state is in S3, where deployctl says"))?;
        for (block, parts) in [("variable", &["description", "type", "validation"][..]), ("output", &["description"])] {
            for declared in blocks(&all, block) {
                for part in parts {
                    let has = declared.lines().any(|line| line.trim_start().starts_with(part));
                    ensure(has, || format!("{stack}: {block} \"{} has no {part}", declared.lines().next().unwrap_or_default()))?;
                }
            }
        }
        let secret: Vec<&str> = all
            .lines()
            .map(str::trim)
            .filter(|line| ["password", "secret_string", "value", "random_password"].iter().any(|word| line.starts_with(word)))
            .filter(|line| line.contains("password") || line.starts_with("secret_string"))
            .collect();
        let allowed: &[&str] = if stack == "data" { &["secret_string = local.endpoint"] } else { &[] };
        ensure(secret == allowed, || format!("{stack} writes a secret into its state: {secret:?}"))?;
    }
    Ok(())
}

/// The text of every block of a kind, from its name to its end.
fn blocks<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    let start = format!("\n{kind} \"");
    text.split(start.as_str()).skip(1).map(|rest| rest.split("\n}").next().unwrap_or(rest)).collect()
}
