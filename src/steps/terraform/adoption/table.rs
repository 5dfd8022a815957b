//! The table: how a thing that a killed terraform made is found again by what the plan says of it, or why making it again is harmless.
//!
//! Every resource type of our stacks and of the modules that they call has a row; `tests/terraform/adoption.rs` fails for one without.
//! In a template `{name}` is a planned attribute, `{oidc.name}` one of a block's first element, `{ACCOUNT}` the account, `{PARTITION}`
//! the partition. `{name?}` alone: if the attribute is null, nothing is compared.

/// One type's row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As in `aws_vpc`.
    pub kind: &'static str,
    /// How.
    pub how: How,
    /// The attribute that says that AWS has finished making it, and what it says then. Until that it is waited for.
    pub finished: Option<(&'static str, &'static str)>,
}

/// How a thing is found again.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// The import id follows from planned attributes, by the first of these templates that can be filled; whether the thing is there
    /// terraform finds out.
    Named(&'static [&'static str]),
    /// The parts of a classic security group rule, sources last, joined by `_`.
    ClassicRule,
    /// An object of EC2 is searched.
    Ec2(Ec2),
    /// Another service is asked.
    Asked(Ask),
    /// Making it again changes nothing; the reason.
    Harmless(&'static str),
    /// Nobody but a person can tell: apply stops before it is made a second time. The command that shows what is there.
    ByHand(&'static str),
}

/// A search in EC2.
#[derive(Clone, Copy, Debug)]
pub struct Ec2 {
    /// As in `DescribeVpcs`.
    pub action: &'static str,
    /// The path to the objects in its answer.
    pub items: &'static str,
    /// What an object must be.
    pub is: Is,
    /// The import id: an element of the object, or a template.
    pub id: &'static str,
}

/// What a searched object must be.
#[derive(Clone, Copy, Debug)]
pub enum Is {
    /// Tagged with all planned tags.
    Tagged,
    /// Equal in these: filter of the call, element of the object, template of the value. Either of the first two may be empty.
    Equal(&'static [(&'static str, &'static str, &'static str)]),
}

/// A question to another service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// KMS: keys with all planned tags and the planned description.
    Key,
    /// Secrets Manager: the ARN of a secret by its name.
    Secret,
    /// SQS: the URL of a queue by its name.
    Queue,
    /// RDS: what the region replicates of an instance.
    ReplicatedBackups,
    /// EKS: a service account's association.
    PodIdentity,
}

impl Row {
    /// Planned attributes that it reads; of blocks as `oidc.name`.
    pub fn attributes(&self) -> Vec<&'static str> {
        let finished = self.finished.map(|(attribute, _)| attribute);
        let used: Vec<&str> = match self.how {
            How::Named(templates) => templates.iter().flat_map(|template| placeholders(template)).collect(),
            How::ClassicRule => CLASSIC.iter().chain(CLASSIC_SOURCES).copied().collect(),
            How::Ec2(Ec2 { is: Is::Tagged, .. }) => vec!["tags_all"],
            How::Ec2(Ec2 { is: Is::Equal(parts), id, .. }) => {
                parts.iter().map(|(_, _, template)| *template).chain([id]).flat_map(placeholders).collect()
            }
            How::Asked(ask) => ask.attributes().to_vec(),
            How::Harmless(_) | How::ByHand(_) => Vec::new(),
        };
        used.into_iter().chain(finished).collect()
    }
}

/// Parts of a classic rule's import id that are always there.
pub const CLASSIC: &[&str] = &["security_group_id", "type", "protocol", "from_port", "to_port"];
/// Where it comes from or goes to; `self` besides.
pub const CLASSIC_SOURCES: &[&str] = &["cidr_blocks", "ipv6_cidr_blocks", "prefix_list_ids", "source_security_group_id"];

/// Attributes that a template names.
fn placeholders(template: &'static str) -> Vec<&'static str> {
    let names = template.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.trim_end_matches('?'));
    names.filter(|name| !["ACCOUNT", "PARTITION"].contains(name)).collect()
}

impl Ask {
    /// Planned attributes that it needs.
    pub fn attributes(self) -> &'static [&'static str] {
        match self {
            Self::Key => &["tags_all", "description"],
            Self::Secret | Self::Queue => &["name"],
            Self::ReplicatedBackups => &["source_db_instance_arn"],
            Self::PodIdentity => &["cluster_name", "namespace", "service_account"],
        }
    }
}

/// The row of a type.
pub fn row(kind: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.kind == kind)
}

const fn named(kind: &'static str, templates: &'static [&'static str]) -> Row {
    Row { kind, how: How::Named(templates), finished: None }
}

const fn slow(kind: &'static str, templates: &'static [&'static str], attribute: &'static str, value: &'static str) -> Row {
    Row { kind, how: How::Named(templates), finished: Some((attribute, value)) }
}

const fn tagged(kind: &'static str, action: &'static str, items: &'static str, id: &'static str) -> Row {
    Row { kind, how: How::Ec2(Ec2 { action, items, is: Is::Tagged, id }), finished: None }
}

const fn equal(
    kind: &'static str,
    action: &'static str,
    items: &'static str,
    equal: &'static [(&'static str, &'static str, &'static str)],
    id: &'static str,
) -> Row {
    Row { kind, how: How::Ec2(Ec2 { action, items, is: Is::Equal(equal), id }), finished: None }
}

/// EC2 holds no two rules that are the same in all of these.
const RULE: [(&str, &str, &str); 8] = [
    ("group-id", "groupId", "{security_group_id}"),
    ("", "ipProtocol", "{ip_protocol}"),
    ("", "fromPort", "{from_port?}"),
    ("", "toPort", "{to_port?}"),
    ("", "cidrIpv4", "{cidr_ipv4?}"),
    ("", "cidrIpv6", "{cidr_ipv6?}"),
    ("", "prefixListId", "{prefix_list_id?}"),
    ("", "referencedGroupInfo/groupId", "{referenced_security_group_id?}"),
];

const fn rule(kind: &'static str, parts: &'static [(&'static str, &'static str, &'static str)]) -> Row {
    equal(kind, "DescribeSecurityGroupRules", "securityGroupRuleSet/item", parts, "securityGroupRuleId")
}

const fn asked(kind: &'static str, ask: Ask) -> Row {
    Row { kind, how: How::Asked(ask), finished: None }
}

const fn harmless(kind: &'static str, why: &'static str) -> Row {
    Row { kind, how: How::Harmless(why), finished: None }
}

const fn by_hand(kind: &'static str, command: &'static str) -> Row {
    Row { kind, how: How::ByHand(command), finished: None }
}

const BUCKET_SETTING: &str = "it is a setting of its bucket: setting it again is the same call";
const QUEUE_SETTING: &str = "it is an attribute of its queue: setting it again is the same call";
const ONLY_STATE: &str = "it is nowhere but in the state";
const DEFAULT: &str = "AWS made it with its VPC: terraform takes it over and makes nothing";

/// All of it.
pub const TABLE: &[Row] = &[
    // Networks.
    tagged("aws_vpc", "DescribeVpcs", "vpcSet/item", "vpcId"),
    tagged("aws_subnet", "DescribeSubnets", "subnetSet/item", "subnetId"),
    tagged("aws_internet_gateway", "DescribeInternetGateways", "internetGatewaySet/item", "internetGatewayId"),
    tagged(
        "aws_egress_only_internet_gateway",
        "DescribeEgressOnlyInternetGateways",
        "egressOnlyInternetGatewaySet/item",
        "egressOnlyInternetGatewayId",
    ),
    tagged("aws_eip", "DescribeAddresses", "addressesSet/item", "allocationId"),
    tagged("aws_nat_gateway", "DescribeNatGateways", "natGatewaySet/item", "natGatewayId"),
    tagged("aws_route_table", "DescribeRouteTables", "routeTableSet/item", "routeTableId"),
    named(
        "aws_route",
        &[
            "{route_table_id}_{destination_cidr_block}",
            "{route_table_id}_{destination_ipv6_cidr_block}",
            "{route_table_id}_{destination_prefix_list_id}",
        ],
    ),
    equal(
        "aws_route_table_association",
        "DescribeRouteTables",
        "routeTableSet/item/associationSet/item",
        &[("association.subnet-id", "subnetId", "{subnet_id}"), ("route-table-id", "routeTableId", "{route_table_id}")],
        "{subnet_id}/{route_table_id}",
    ),
    tagged("aws_network_acl", "DescribeNetworkAcls", "networkAclSet/item", "networkAclId"),
    named("aws_network_acl_rule", &["{network_acl_id}:{rule_number}:{protocol}:{egress}"]),
    Row {
        finished: Some(("state", "available")),
        ..tagged("aws_vpc_endpoint", "DescribeVpcEndpoints", "vpcEndpointSet/item", "vpcEndpointId")
    },
    tagged("aws_flow_log", "DescribeFlowLogs", "flowLogSet/item", "flowLogId"),
    tagged("aws_security_group", "DescribeSecurityGroups", "securityGroupInfo/item", "groupId"),
    Row { kind: "aws_security_group_rule", how: How::ClassicRule, finished: None },
    rule(
        "aws_vpc_security_group_ingress_rule",
        &[("", "isEgress", "false"), RULE[0], RULE[1], RULE[2], RULE[3], RULE[4], RULE[5], RULE[6], RULE[7]],
    ),
    rule(
        "aws_vpc_security_group_egress_rule",
        &[("", "isEgress", "true"), RULE[0], RULE[1], RULE[2], RULE[3], RULE[4], RULE[5], RULE[6], RULE[7]],
    ),
    tagged("aws_customer_gateway", "DescribeCustomerGateways", "customerGatewaySet/item", "customerGatewayId"),
    tagged("aws_vpn_gateway", "DescribeVpnGateways", "vpnGatewaySet/item", "vpnGatewayId"),
    by_hand("aws_vpn_gateway_attachment", "aws ec2 describe-vpn-gateways"),
    harmless("aws_vpn_gateway_route_propagation", "propagation that is on is switched on again"),
    tagged("aws_vpc_dhcp_options", "DescribeDhcpOptions", "dhcpOptionsSet/item", "dhcpOptionsId"),
    harmless("aws_vpc_dhcp_options_association", "a VPC has one set of options: associating it again is the same call"),
    equal(
        "aws_vpc_ipv4_cidr_block_association",
        "DescribeVpcs",
        "vpcSet/item/cidrBlockAssociationSet/item",
        &[("vpc-id", "", "{vpc_id}"), ("cidr-block-association.cidr-block", "cidrBlock", "{cidr_block}")],
        "associationId",
    ),
    tagged(
        "aws_vpc_block_public_access_exclusion",
        "DescribeVpcBlockPublicAccessExclusions",
        "vpcBlockPublicAccessExclusionSet/item",
        "exclusionId",
    ),
    harmless("aws_vpc_block_public_access_options", "it is a setting of the region: setting it again is the same call"),
    harmless("aws_default_network_acl", DEFAULT),
    harmless("aws_default_route_table", DEFAULT),
    harmless("aws_default_security_group", DEFAULT),
    harmless("aws_default_vpc", "AWS made it with the account: terraform takes it over"),
    harmless("aws_ec2_tag", "a tag that is there is set to the same value"),
    tagged("aws_launch_template", "DescribeLaunchTemplates", "launchTemplates/item", "launchTemplateId"),
    named("aws_placement_group", &["{name}"]),
    named("aws_autoscaling_group", &["{name}"]),
    // Subnet groups of databases.
    named("aws_db_subnet_group", &["{name}"]),
    named("aws_elasticache_subnet_group", &["{name}"]),
    named("aws_redshift_subnet_group", &["{name}"]),
    // Databases.
    named("aws_db_parameter_group", &["{name}"]),
    slow("aws_db_instance", &["{identifier}"], "status", "available"),
    asked("aws_db_instance_automated_backups_replication", Ask::ReplicatedBackups),
    // Clusters.
    slow("aws_eks_cluster", &["{name}"], "status", "ACTIVE"),
    slow("aws_eks_node_group", &["{cluster_name}:{node_group_name}"], "status", "ACTIVE"),
    slow("aws_eks_fargate_profile", &["{cluster_name}:{fargate_profile_name}"], "status", "ACTIVE"),
    named("aws_eks_addon", &["{cluster_name}:{addon_name}"]),
    named("aws_eks_access_entry", &["{cluster_name}:{principal_arn}"]),
    named("aws_eks_access_policy_association", &["{cluster_name}#{principal_arn}#{policy_arn}"]),
    slow("aws_eks_identity_provider_config", &["{cluster_name}:{oidc.identity_provider_config_name}"], "status", "ACTIVE"),
    asked("aws_eks_pod_identity_association", Ask::PodIdentity),
    by_hand("aws_eks_capability", "aws eks list-capabilities --cluster-name CLUSTER"),
    // Identity.
    named("aws_iam_role", &["{name}"]),
    named("aws_iam_policy", &["arn:{PARTITION}:iam::{ACCOUNT}:policy{path}{name}"]),
    named("aws_iam_instance_profile", &["{name}"]),
    named("aws_iam_openid_connect_provider", &["arn:{PARTITION}:iam::{ACCOUNT}:oidc-provider/{url}"]),
    harmless("aws_iam_role_policy", "it is put under its name: putting it again is the same call"),
    harmless("aws_iam_role_policy_attachment", "attaching an attached policy changes nothing"),
    by_hand("aws_rolesanywhere_profile", "aws rolesanywhere list-profiles"),
    by_hand("aws_rolesanywhere_trust_anchor", "aws rolesanywhere list-trust-anchors"),
    // Keys and secrets.
    asked("aws_kms_key", Ask::Key),
    asked("aws_kms_external_key", Ask::Key),
    named("aws_kms_alias", &["{name}"]),
    harmless("aws_kms_grant", "KMS gives the same grant again for the same name and parameters"),
    asked("aws_kms_replica_key", Ask::Key),
    asked("aws_kms_replica_external_key", Ask::Key),
    asked("aws_secretsmanager_secret", Ask::Secret),
    harmless("aws_secretsmanager_secret_version", "a second version has the same value, and Secrets Manager drops the first"),
    named("aws_ssm_parameter", &["{name}"]),
    // Buckets.
    named("aws_s3_bucket", &["{bucket}"]),
    harmless("aws_s3_bucket_lifecycle_configuration", BUCKET_SETTING),
    harmless("aws_s3_bucket_notification", BUCKET_SETTING),
    harmless("aws_s3_bucket_ownership_controls", BUCKET_SETTING),
    harmless("aws_s3_bucket_policy", BUCKET_SETTING),
    harmless("aws_s3_bucket_public_access_block", BUCKET_SETTING),
    harmless("aws_s3_bucket_replication_configuration", BUCKET_SETTING),
    harmless("aws_s3_bucket_server_side_encryption_configuration", BUCKET_SETTING),
    harmless("aws_s3_bucket_versioning", BUCKET_SETTING),
    // Queues, logs, events.
    asked("aws_sqs_queue", Ask::Queue),
    harmless("aws_sqs_queue_policy", QUEUE_SETTING),
    harmless("aws_sqs_queue_redrive_allow_policy", QUEUE_SETTING),
    named("aws_cloudwatch_log_group", &["{name}"]),
    harmless("aws_cloudwatch_event_rule", "it is put under its name: putting it again is the same call"),
    harmless("aws_cloudwatch_event_target", "it is put under its id: putting it again is the same call"),
    // Of no account.
    harmless("terraform_data", ONLY_STATE),
    harmless("null_resource", ONLY_STATE),
    harmless("time_sleep", ONLY_STATE),
];
