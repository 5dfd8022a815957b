//! Every promise of the stacks broken once: the tests must notice each. Takes minutes; `make soak` runs it.
use std::{fs, io::Write};

use crate::{
    Outcome, ensure, stacks,
    workspace::{Workspace, project},
};

/// Stack, file in it, what is written there, and what somebody might write instead.
const WEAKENED: [(&str, &str, &str, &str); 54] = [
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
