//! What design §3 and §6 promise and the modules have to keep: held against the plans, whichever modules made them.
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    Outcome, ensure,
    plan::{Plan, at},
};

/// Every promise that a plan breaks, so that one look shows all of them.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn ensure(&mut self, holds: bool, should: impl FnOnce() -> String) {
        if !holds {
            self.0.push(should());
        }
    }

    /// The value at a path must be what it should be.
    fn holds(&mut self, value: &Value, path: &str, should: Value) {
        let is = at(value, path);
        self.ensure(*is == should, || format!("{path} is {is}, not {should}"));
    }

    fn end(self) -> Outcome {
        if self.0.is_empty() { Ok(()) } else { Err(format!("broken: {}", self.0.join("; ")).into()) }
    }
}

/// Stack `data`: a secret that was set before the first apply is taken over, and of those that nobody declares none.
pub fn data(plan: &Plan) -> Outcome {
    let kafka = "arn:aws:secretsmanager:us-east-1:111122223333:secret:deployctl/staging/kafka-AbCdEf";
    let wanted = [("aws_secretsmanager_secret.service[\"kafka\"]".to_owned(), kafka.to_owned())].into();
    ensure(*plan.imported() == wanted, || format!("taken over are {:?}", plan.imported()))
}

/// Design §3 row 2: subnets, ways out, flow logs, nothing open.
pub fn network(plan: &Plan) -> Outcome {
    let mut found = Findings::default();
    let tagged = |key: &str| plan.all("aws_subnet").into_iter().filter(|(_, subnet)| subnet["tags"][key] == "1").count();
    found.ensure(plan.all("aws_subnet").len() == 9, || "three subnets of each kind".into());
    found.ensure(tagged("kubernetes.io/role/elb") == 3, || "three public subnets are tagged for internet-facing load balancers".into());
    found.ensure(tagged("kubernetes.io/role/internal-elb") == 3, || "three private subnets are tagged for internal load balancers".into());
    found.ensure(plan.all("aws_subnet").iter().all(|(_, subnet)| subnet["map_public_ip_on_launch"] != true), || {
        "no subnet gives out public addresses".into()
    });
    found.ensure(plan.all("aws_nat_gateway").len() == 3, || "a NAT gateway in each zone".into());
    let ways_out = plan.all("aws_route").into_iter().filter(|(_, route)| route["destination_cidr_block"] == "0.0.0.0/0").count();
    found
        .ensure(ways_out == 4, || "a way out for public subnets and one for the private ones of each zone, none for the database's".into());
    found.ensure(plan.all("aws_route").iter().all(|(address, _)| !address.contains("database")), || {
        "no route from the database's subnets".into()
    });
    found.ensure(!plan.all("aws_route_table").iter().all(|(address, _)| !address.contains("database")), || {
        "a route table of the database's own".into()
    });
    found.holds(plan.one("aws_vpc")?, "enable_dns_hostnames", json!(true));
    let closed = plan.one("aws_default_security_group")?;
    let rules = |kind: &str| closed[kind].as_array().is_none_or(Vec::is_empty);
    found.ensure(rules("ingress") && rules("egress"), || "the default security group lets nothing through".into());
    found.holds(plan.one("aws_db_subnet_group")?, "name", json!("deployctl-staging"));
    found.holds(plan.one("aws_flow_log")?, "traffic_type", json!("ALL"));
    found.holds(plan.one("aws_flow_log")?, "log_destination_type", json!("cloud-watch-logs"));
    found.holds(plan.one("aws_cloudwatch_log_group")?, "retention_in_days", json!(30));
    found.holds(plan.one("aws_cloudwatch_log_group")?, "name", json!("/aws/vpc-flow-log/deployctl-staging"));
    found.holds(plan.one("aws_iam_role")?, "name", json!("deployctl-staging-flow-log"));
    found.end()
}

/// Design §3 row 3 and §6: endpoint, access, encryption, logs, add-ons, nodes.
pub fn cluster(plan: &Plan) -> Outcome {
    let mut found = Findings::default();
    let cluster = plan.one("aws_eks_cluster")?;
    found.holds(cluster, "name", json!("deployctl-staging"));
    found.holds(cluster, "version", json!("1.34"));
    found.holds(cluster, "bootstrap_self_managed_addons", json!(false));
    found.holds(cluster, "access_config.0.authentication_mode", json!("API"));
    found.holds(cluster, "access_config.0.bootstrap_cluster_creator_admin_permissions", json!(false));
    found.holds(cluster, "vpc_config.0.endpoint_private_access", json!(true));
    found.holds(cluster, "vpc_config.0.endpoint_public_access", json!(true));
    found.holds(cluster, "vpc_config.0.public_access_cidrs", json!(["203.0.113.0/24"]));
    found.holds(cluster, "encryption_config.0.resources", json!(["secrets"]));
    found.ensure(
        strings(at(cluster, "enabled_cluster_log_types")) == set(["api", "audit", "authenticator", "controllerManager", "scheduler"]),
        || "every log of the control plane".into(),
    );
    found.holds(plan.one("aws_cloudwatch_log_group")?, "retention_in_days", json!(90));
    found.holds(plan.one("aws_kms_key")?, "enable_key_rotation", json!(true));
    found.holds(plan.one("aws_iam_openid_connect_provider")?, "client_id_list", json!(["sts.amazonaws.com"]));
    addons(plan, &mut found)?;
    nodes(plan, &mut found)?;
    let principals: BTreeSet<String> =
        plan.all("aws_eks_access_entry").into_iter().filter_map(|(_, entry)| entry["principal_arn"].as_str().map(str::to_owned)).collect();
    let declared = set(["arn:aws:iam::111122223333:role/deployctl-deployer", "arn:aws:iam::111122223333:role/on-call"]);
    found.ensure(principals == declared, || format!("those who were declared and nobody else may use the cluster, not {principals:?}"));
    found.ensure(plan.all("aws_eks_access_policy_association").len() == 3, || "three policies were declared".into());
    found.end()
}

fn addons(plan: &Plan, found: &mut Findings) -> Outcome {
    let addons = plan.all("aws_eks_addon");
    let names: BTreeSet<String> = addons.iter().filter_map(|(_, addon)| addon["addon_name"].as_str().map(str::to_owned)).collect();
    found.ensure(names == set(["aws-ebs-csi-driver", "coredns", "kube-proxy", "metrics-server", "vpc-cni"]), || {
        format!("the add-ons are {names:?}")
    });
    let first = addons.iter().find(|(_, addon)| addon["addon_name"] == "vpc-cni").ok_or("vpc-cni is planned")?;
    let before: BTreeSet<String> = addons
        .iter()
        .filter(|(address, _)| address.contains("before_compute"))
        .filter_map(|(_, addon)| addon["addon_name"].as_str().map(str::to_owned))
        .collect();
    found.ensure(before == set(["kube-proxy", "vpc-cni"]), || format!("the network's add-ons come before the nodes, not {before:?}"));
    let settings: Value = serde_json::from_str(first.1["configuration_values"].as_str().unwrap_or_default())?;
    found.holds(&settings, "enableNetworkPolicy", json!("true"));
    Ok(())
}

fn nodes(plan: &Plan, found: &mut Findings) -> Outcome {
    let template = plan.one("aws_launch_template")?;
    found.holds(template, "metadata_options.0.http_tokens", json!("required"));
    found.holds(template, "metadata_options.0.http_put_response_hop_limit", json!(1));
    let volume = at(template, "block_device_mappings.0.ebs.0");
    found.ensure(volume["encrypted"] == "true" || volume["encrypted"] == true, || format!("the nodes' volumes are encrypted: {volume}"));
    found.ensure(volume["delete_on_termination"] == "true" || volume["delete_on_termination"] == true, || {
        "a node's volume goes with it".into()
    });
    found.holds(volume, "volume_type", json!("gp3"));
    found.holds(volume, "volume_size", json!(50));
    let tagged: BTreeSet<String> = template["tag_specifications"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|tags| tags["tags"]["deployctl:environment"] == "staging" && tags["tags"]["team"] == "deployctl")
        .filter_map(|tags| tags["resource_type"].as_str().map(str::to_owned))
        .collect();
    found.ensure(tagged == set(["instance", "volume", "network-interface"]), || {
        format!("instances, volumes and interfaces carry our tags, not only {tagged:?}")
    });
    let group = plan.one("aws_eks_node_group")?;
    found.holds(group, "ami_type", json!("AL2023_x86_64_STANDARD"));
    found.holds(group, "instance_types", json!(["m7i.large", "m7a.large"]));
    found.holds(group, "scaling_config.0", json!({ "desired_size": 3, "max_size": 6, "min_size": 2 }));
    let attached = plan.all("aws_iam_role_policy_attachment");
    let may_change_network = attached
        .iter()
        .filter(|(address, _)| address.contains("module."))
        .any(|(_, policy)| policy["policy_arn"].as_str().is_some_and(|arn| arn.ends_with("AmazonEKS_CNI_Policy")));
    found.ensure(!may_change_network, || "the nodes' role has no right to change the network".into());
    Ok(())
}

/// With the Pod Identity agent, which comes before the nodes.
pub fn cluster_with_agent(plan: &Plan) -> Outcome {
    let mut found = Findings::default();
    let addons = plan.all("aws_eks_addon");
    let agent = addons.iter().find(|(_, addon)| addon["addon_name"] == "eks-pod-identity-agent").ok_or("the agent's add-on is planned")?;
    found.ensure(agent.0.contains("before_compute"), || format!("the agent is on a node before its pods, not as {}", agent.0));
    found.ensure(addons.len() == 6, || format!("there are {} add-ons", addons.len()));
    found.end()
}

/// Without networks that may reach it.
pub fn private_cluster(plan: &Plan) -> Outcome {
    let mut found = Findings::default();
    let cluster = plan.one("aws_eks_cluster")?;
    found.holds(cluster, "vpc_config.0.endpoint_public_access", json!(false));
    found.holds(cluster, "vpc_config.0.endpoint_private_access", json!(true));
    found.end()
}

fn strings(values: &Value) -> BTreeSet<String> {
    values.as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

fn set<const N: usize>(values: [&str; N]) -> BTreeSet<String> {
    values.into_iter().map(str::to_owned).collect()
}
