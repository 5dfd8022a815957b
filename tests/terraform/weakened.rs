//! Every promise of the stacks broken once: the tests must notice each. Takes minutes; `make soak` runs it.
use std::{fs, io::Write};

use crate::{
    Outcome, ensure, stacks,
    workspace::{Workspace, project},
};

/// Stack, file in it, what is written there, and what somebody might write instead.
const WEAKENED: [(&str, &str, &str, &str); 148] = [
    ("identity", "main.tf", "${each.value.service_account}${var.role_suffix}\"", "${each.value.service_account}\""),
    ("cluster", "addons.tf", "${each.value.service_account}${var.role_suffix}\"", "${each.value.service_account}\""),
    ("bootstrap", "main.tf", "var.standby == \"warm\" ? [\"warm\"] : []", "[\"warm\"]"),
    ("network", "main.tf", "map_public_ip_on_launch = false", "map_public_ip_on_launch = true"),
    ("network", "main.tf", "create_database_subnet_route_table = true", "create_database_subnet_route_table = false"),
    ("network", "main.tf", "\"kubernetes.io/role/internal-elb\" = \"1\"", "\"kubernetes.io/role/internal-elb\" = \"0\""),
    ("network", "main.tf", "var.nat_gateways == \"single\"", "true"),
    ("network", "main.tf", "manage_default_security_group  = true", "manage_default_security_group  = false"),
    (
        "network",
        "main.tf",
        "enable_flow_log                                 = var.flow_log_days > 0",
        "enable_flow_log                                 = false",
    ),
    ("network", "main.tf", "\"Gateway\"", "\"Interface\""),
    ("cluster", "main.tf", "endpoint_private_access      = true", "endpoint_private_access      = false"),
    ("cluster", "main.tf", "endpoint_public_access       = local.public", "endpoint_public_access       = true"),
    ("cluster", "main.tf", "enable_cluster_creator_admin_permissions = false", "enable_cluster_creator_admin_permissions = true"),
    (
        "cluster",
        "main.tf",
        "authentication_mode                      = \"API\"",
        "authentication_mode                      = \"API_AND_CONFIG_MAP\"",
    ),
    ("cluster", "main.tf", "\"api\", \"audit\", ", "\"api\", "),
    ("cluster", "main.tf", "encryption_config      = { resources = [\"secrets\"] }", "encryption_config      = null"),
    ("cluster", "main.tf", "= var.log_days", "= 1"),
    ("cluster", "nodes.tf", "http_tokens                 = \"required\"", "http_tokens                 = \"optional\""),
    ("cluster", "nodes.tf", "http_put_response_hop_limit = 1", "http_put_response_hop_limit = 2"),
    ("cluster", "nodes.tf", "encrypted             = true", "encrypted             = false"),
    ("cluster", "nodes.tf", "max_size     = var.nodes.max", "max_size     = var.nodes.desired"),
    ("cluster", "nodes.tf", "iam_role_attach_cni_policy = false", "iam_role_attach_cni_policy = true"),
    ("cluster", "nodes.tf", "launch_template_tags = local.default_tags", "launch_template_tags = {}"),
    ("cluster", "addons.tf", "before_compute              = true", "before_compute              = false"),
    ("cluster", "addons.tf", "enableNetworkPolicy = \"true\"", "enableNetworkPolicy = \"false\""),
    ("cluster", "addons.tf", "\"aws-ebs-csi-driver\", \"metrics-server\"]", "\"aws-ebs-csi-driver\"]"),
    ("cluster", "addons.tf", "most_recent        = false", "most_recent        = true"),
    ("cluster", "access.tf", "entry in var.access_entries : entry.policy", "entry in slice(var.access_entries, 0, 1) : entry.policy"),
    ("cluster", "variables.tf", ">= 8, false", ">= 0, false"),
    ("data", "bucket.tf", "block_public_policy     = true", "block_public_policy     = false"),
    ("data", "bucket.tf", "BucketOwnerEnforced", "ObjectWriter"),
    ("data", "bucket.tf", "\"aws:SecureTransport\" = \"false\"", "\"aws:SecureTransport\" = \"true\""),
    ("data", "bucket.tf", "days_after_initiation = 7", "days_after_initiation = 70"),
    (
        "data",
        "bucket.tf",
        "noncurrent_days = var.storage.noncurrent_to_glacier_days",
        "noncurrent_days = var.storage.current_to_glacier_days",
    ),
    ("data", "bucket.tf", "sse_algorithm = \"AES256\"", "sse_algorithm = \"aws:kms\""),
    ("data", "bucket.tf", "s3:ObjectCreated:*", "s3:ObjectCreated:Put"),
    ("data", "queues.tf", "sqs_managed_sse_enabled    = true", "kms_master_key_id          = \"alias/aws/sqs\""),
    ("data", "queues.tf", "ArnEquals    = { \"aws:SourceArn\" = aws_s3_bucket.uploads.arn }", ""),
    ("data", "queues.tf", "StringEquals = { \"aws:SourceAccount\" = var.account_id }", ""),
    ("data", "queues.tf", "message_retention_seconds = 604800", "message_retention_seconds = 1209600"),
    ("data", "database.tf", "\"rds.force_ssl\"                       = \"1\"", "\"rds.force_ssl\"                       = \"0\""),
    ("data", "database.tf", "\"log_statement\"                       = \"ddl\"", "\"log_statement\"                       = \"none\""),
    ("data", "database.tf", "manage_master_user_password = true", "password = \"x\""),
    ("data", "database.tf", "publicly_accessible    = false", "publicly_accessible    = true"),
    ("data", "database.tf", "storage_encrypted     = true", "storage_encrypted     = false"),
    ("data", "database.tf", "deletion_protection       = var.database.deletion_protection", "deletion_protection       = false"),
    ("data", "database.tf", "multi_az               = var.database.multi_az", "multi_az               = false"),
    ("data", "database.tf", "skip_final_snapshot       = false", "skip_final_snapshot       = true"),
    ("data", "database.tf", "performance_insights_enabled          = true", "performance_insights_enabled          = false"),
    ("data", "database.tf", "exports       = [\"postgresql\", \"upgrade\"]", "exports       = [\"upgrade\"]"),
    ("data", "database.tf", "kms_key_id             = aws_kms_key.recovery.arn", "kms_key_id             = aws_kms_key.data.arn"),
    ("data", "secrets.tf", "region = var.dr_region", "region = \"us-west-2\""),
    ("identity", "main.tf", "StringEquals = {", "StringLike = {"),
    ("identity", "main.tf", "\"${var.oidc_issuer}:aud\" = \"sts.amazonaws.com\"", ""),
    ("bootstrap", "main.tf", "path        = \"/deployctl/\"", "path        = \"/\""),
    ("bootstrap", "../policies/github-trust.json", "StringEquals", "StringLike"),
    ("bootstrap", "../policies/github-trust.json", ":environment:${github_environment}", ":*"),
    ("network", "main.tf", "enable_dns_hostnames    = true", "enable_dns_hostnames    = false"),
    ("network", "main.tf", "\"opt-in-not-required\"", "\"opted-in\""),
    ("network", "main.tf", "create_database_subnet_group       = true", "create_database_subnet_group       = false"),
    ("network", "main.tf", "default_security_group_egress  = []", "default_security_group_egress  = [{ cidr_blocks = \"0.0.0.0/0\" }]"),
    ("network", "main.tf", "retention_in_days = var.flow_log_days > 0 ? var.flow_log_days : null", "retention_in_days = null"),
    (
        "cluster",
        "main.tf",
        "endpoint_public_access_cidrs = local.public ? var.public_access_cidrs : null",
        "endpoint_public_access_cidrs = null",
    ),
    (
        "cluster",
        "main.tf",
        "access_entries                           = local.access_entries",
        "access_entries                           = {}",
    ),
    ("cluster", "main.tf", "enable_irsa                     = true", "enable_irsa                     = false"),
    (
        "cluster",
        "addons.tf",
        "before_compute              = true\n      addon_version               = local.addon_version[\"kube-proxy\"]",
        "addon_version               = local.addon_version[\"kube-proxy\"]",
    ),
    ("cluster", "addons.tf", "addon_version               = local.addon_version[\"coredns\"]\n", ""),
    ("cluster", "addons.tf", "addon_version               = local.addon_version[\"vpc-cni\"]\n", ""),
    ("cluster", "addons.tf", "service_account_role_arn    = aws_iam_role.addon[\"vpc-cni\"].arn\n", ""),
    ("cluster", "addons.tf", "service_account_role_arn    = aws_iam_role.addon[\"aws-ebs-csi-driver\"].arn\n", ""),
    ("cluster", "addons.tf", "ignore_changes = [input]", "ignore_changes = []"),
    ("cluster", "addons.tf", "triggers_replace = var.kubernetes_version", "triggers_replace = \"\""),
    ("cluster", "addons.tf", "StringEquals = {", "StringLike = {"),
    ("cluster", "addons.tf", ":aud\" = \"sts.amazonaws.com\"", ":aud\" = \"anybody\""),
    ("cluster", "nodes.tf", "min_size     = var.nodes.min", "min_size     = 0"),
    ("cluster", "nodes.tf", "desired_size = var.nodes.desired", "desired_size = var.nodes.min"),
    ("cluster", "nodes.tf", "volume_type           = \"gp3\"", "volume_type           = \"gp2\""),
    ("cluster", "nodes.tf", "delete_on_termination = true", "delete_on_termination = false"),
    ("data", "bucket.tf", "status = \"Enabled\"", "status = \"Suspended\""),
    ("data", "bucket.tf", "block_public_acls       = true", "block_public_acls       = false"),
    ("data", "bucket.tf", "ignore_public_acls      = true", "ignore_public_acls      = false"),
    ("data", "bucket.tf", "restrict_public_buckets = true", "restrict_public_buckets = false"),
    ("data", "bucket.tf", "Effect    = \"Deny\"", "Effect    = \"Allow\""),
    (
        "data",
        "bucket.tf",
        "Resource  = [aws_s3_bucket.uploads.arn, \"${aws_s3_bucket.uploads.arn}/*\"]",
        "Resource  = [aws_s3_bucket.uploads.arn]",
    ),
    ("data", "bucket.tf", "days          = var.storage.current_to_glacier_days", "days          = var.storage.noncurrent_to_glacier_days"),
    ("data", "bucket.tf", "storage_class = \"GLACIER\"", "storage_class = \"STANDARD_IA\""),
    ("data", "bucket.tf", "filter_prefix = queue.value.prefix", "filter_prefix = \"\""),
    ("data", "replica.tf", "status = \"Enabled\"", "status = \"Suspended\""),
    ("data", "replica.tf", "sse_algorithm = \"AES256\"", "sse_algorithm = \"aws:kms\""),
    ("data", "replica.tf", "restrict_public_buckets = true", "restrict_public_buckets = false"),
    ("data", "replica.tf", "BucketOwnerEnforced", "ObjectWriter"),
    ("data", "replica.tf", "\"aws:SecureTransport\" = \"false\"", "\"aws:SecureTransport\" = \"true\""),
    ("data", "replica.tf", "days          = var.storage.current_to_glacier_days", "days          = 1"),
    ("data", "replica.tf", "noncurrent_days = var.storage.noncurrent_to_glacier_days", "noncurrent_days = 1"),
    ("data", "replica.tf", "days_after_initiation = 7", "days_after_initiation = 70"),
    ("data", "replica.tf", "Service = \"s3.amazonaws.com\"", "AWS = \"*\""),
    ("data", "replica.tf", "\"s3:ReplicateDelete\", ", ""),
    ("data", "replica.tf", "Resource = \"${aws_s3_bucket.replica[each.key].arn}/*\"", "Resource = \"*\""),
    (
        "data",
        "replica.tf",
        "delete_marker_replication {\n      status = \"Enabled\"",
        "delete_marker_replication {\n      status = \"Disabled\"",
    ),
    ("data", "queues.tf", "sqs_managed_sse_enabled = true", "sqs_managed_sse_enabled = false"),
    ("data", "queues.tf", "message_retention_seconds = 1209600", "message_retention_seconds = 345600"),
    ("data", "queues.tf", "maxReceiveCount     = each.value.max_receives", "maxReceiveCount     = 1"),
    ("data", "queues.tf", "redrivePermission = \"byQueue\"", "redrivePermission = \"allowAll\""),
    ("data", "queues.tf", "Principal = { Service = \"s3.amazonaws.com\" }", "Principal = \"*\""),
    ("data", "queues.tf", "visibility_timeout_seconds = each.value.visibility_seconds", "visibility_timeout_seconds = 30"),
    ("data", "database.tf", "\"log_connections\"                     = \"1\"", "\"log_connections\"                     = \"0\""),
    ("data", "database.tf", "\"log_min_duration_statement\"          = \"1000\"", "\"log_min_duration_statement\"          = \"-1\""),
    ("data", "database.tf", "referenced_security_group_id = var.node_security_group_id", "cidr_ipv4 = \"0.0.0.0/0\""),
    ("data", "database.tf", "backup_retention_period  = var.database.backup_days", "backup_retention_period  = 1"),
    ("data", "database.tf", "copy_tags_to_snapshot    = true", "copy_tags_to_snapshot    = false"),
    ("data", "database.tf", "delete_automated_backups = false", "delete_automated_backups = true"),
    ("data", "database.tf", "-final-${substr(terraform_data.life.id, 0, 8)}", "-final"),
    ("data", "database.tf", "kms_key_id            = aws_kms_key.data.arn", "kms_key_id            = null"),
    ("data", "database.tf", "performance_insights_kms_key_id       = aws_kms_key.data.arn", "performance_insights_kms_key_id       = null"),
    ("data", "database.tf", "var.database.replicate_backups ? toset([\"replica\"]) : toset([])", "toset([])"),
    ("data", "database.tf", "retention_period       = var.database.backup_days", "retention_period       = 1"),
    ("data", "database.tf", "parameter_group_name        = aws_db_parameter_group.database.name", "parameter_group_name        = null"),
    ("data", "database.tf", "auto_minor_version_upgrade  = true", "auto_minor_version_upgrade  = false"),
    ("data", "database.tf", "max_allocated_storage = var.database.storage_gib.max", "max_allocated_storage = null"),
    ("data", "database.tf", "retention_in_days = 30", "retention_in_days = 0"),
    ("data", "keys.tf", "enable_key_rotation     = true", "enable_key_rotation     = false"),
    ("data", "keys.tf", "deletion_window_in_days = 30", "deletion_window_in_days = 7"),
    ("data", "keys.tf", ":root\" }", ":user/someone\" }"),
    ("data", "secrets.tf", "recovery_window_in_days = 30", "recovery_window_in_days = 0"),
    (
        "data",
        "secrets.tf",
        "for_each = { for name, arn in var.existing_secrets : name => arn if contains(local.secrets, name) }",
        "for_each = {}",
    ),
    (
        "identity",
        "main.tf",
        ":sub\" = \"system:serviceaccount:${each.value.namespace}:${each.value.service_account}\"",
        ":sub\" = \"system:serviceaccount:${each.value.namespace}:default\"",
    ),
    ("identity", "main.tf", "length(statement.conditions) == 0 ? {} : {", "length(statement.conditions) >= 0 ? {} : {"),
    ("identity", "variables.tf", "!contains(statement.resources, \"*\") || ", "true || "),
    ("identity", "main.tf", "local.pod_identity ? local.pod_identity_trust[each.key] : ", ""),
    ("identity", "pod_identity.tf", "Service = \"pods.eks.amazonaws.com\"", "Service = \"ec2.amazonaws.com\""),
    ("identity", "pod_identity.tf", "StringEquals = {", "StringLike = {"),
    ("identity", "pod_identity.tf", "\"aws:SourceAccount\"                         = var.account_id\n", ""),
    ("identity", "pod_identity.tf", "\"aws:RequestTag/eks-cluster-arn\"            = local.cluster_arn\n", ""),
    ("identity", "pod_identity.tf", "= account.namespace\n", "= \"*\"\n"),
    ("identity", "pod_identity.tf", "= account.service_account\n", "= \"default\"\n"),
    ("identity", "pod_identity.tf", "\"sts:AssumeRole\", \"sts:TagSession\"", "\"sts:*\""),
    ("identity", "pod_identity.tf", "Condition = { ArnEquals = { \"aws:PrincipalArn\" = local.reader_role } }\n", ""),
    ("identity", "pod_identity.tf", "contains(keys(local.read_for), key) ?", "true ?"),
    ("identity", "pod_identity.tf", "length(account.secrets) > 0 && key != var.secrets_reader", "length(account.secrets) >= 0"),
    ("identity", "pod_identity.tf", "Resource = [for key in keys(each.value) : aws_iam_role.service_account[key].arn]", "Resource = \"*\""),
    ("identity", "pod_identity.tf", "local.pod_identity ? local.service_accounts : {}", "local.service_accounts"),
    ("identity", "pod_identity.tf", "namespace       = each.value.namespace", "namespace       = \"default\""),
    ("identity", "variables.tf", "contains([\"irsa\", \"pod-identity\"], var.credentials)", "true"),
    (
        "cluster",
        "addons.tf",
        "before_compute              = true\n      addon_version               = local.addon_version[\"eks-pod-identity-agent\"]",
        "addon_version               = local.addon_version[\"eks-pod-identity-agent\"]",
    ),
    ("cluster", "addons.tf", "addon_version               = local.addon_version[\"eks-pod-identity-agent\"]\n", ""),
    ("recovery", "main.tf", "\"rds.force_ssl\"                       = \"1\"", "\"rds.force_ssl\"                       = \"0\""),
    ("recovery", "main.tf", "cidr_ipv4         = var.vpc_cidr", "cidr_ipv4         = \"0.0.0.0/0\""),
    ("recovery", "main.tf", "\"log_statement\"                       = \"ddl\"", "\"log_statement\"                       = \"none\""),
];

#[test]
#[ignore = "some minutes: make soak"]
fn every_weakening_is_noticed() -> Outcome {
    let mut unnoticed = Vec::new();
    for (stack, file, from, to) in WEAKENED {
        let workspace = Workspace::of(&stacks::folder(stack), &stacks::modules(stack, &project().join("tests/sandbox/modules")))?;
        let path = workspace.path().join(file);
        let text = fs::read_to_string(&path)?;
        ensure(text.contains(from), || format!("{stack}/{file} does not say {from}"))?;
        fs::write(&path, text.replacen(from, to, 1))?;
        if file != "variables.tf" {
            without_refusals(&workspace)?;
        }
        let noticed = stacks::examine(stack, &workspace).err().map(|error| error.to_string());
        let first = noticed.as_deref().and_then(|said| said.lines().next()).unwrap_or("NOT NOTICED");
        writeln!(std::io::stderr(), "{stack}/{file}: {to}: {}", first.chars().take(150).collect::<String>())?;
        if noticed.is_none() {
            unnoticed.push(format!("{stack}/{file}: {to}"));
        }
    }
    ensure(unnoticed.is_empty(), || format!("{} of {} are not noticed: {unnoticed:#?}", unnoticed.len(), WEAKENED.len()))
}

/// Runs that try the variables' own rules take most of the time, and notice nothing of the rest.
fn without_refusals(workspace: &Workspace) -> Outcome {
    for entry in fs::read_dir(workspace.path().join("tests"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let kept = text.split("\nrun \"").filter(|block| !block.starts_with("refuses_")).collect::<Vec<_>>();
        fs::write(&path, kept.join("\nrun \""))?;
    }
    Ok(())
}
