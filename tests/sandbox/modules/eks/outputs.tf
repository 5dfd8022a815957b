# What there is. Outputs about things that this module never makes are in empty.tf.json.

output "cluster_name" {
  description = "The cluster."
  value       = aws_eks_cluster.this.name
}

output "cluster_id" {
  description = "EKS' id of a cluster on an outpost; none elsewhere."
  value       = aws_eks_cluster.this.cluster_id
}

output "cluster_arn" {
  description = "Its ARN."
  value       = aws_eks_cluster.this.arn
}

output "cluster_endpoint" {
  description = "Where its API server is."
  value       = aws_eks_cluster.this.endpoint
}

output "cluster_certificate_authority_data" {
  description = "Who signs the API server's certificate."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "cluster_version" {
  description = "Its version."
  value       = aws_eks_cluster.this.version
}

output "cluster_platform_version" {
  description = "EKS' own version of it."
  value       = aws_eks_cluster.this.platform_version
}

output "cluster_status" {
  description = "Its status."
  value       = aws_eks_cluster.this.status
}

output "cluster_ip_family" {
  description = "ipv4."
  value       = "ipv4"
}

output "cluster_service_cidr" {
  description = "Addresses of services."
  value       = aws_eks_cluster.this.kubernetes_network_config[0].service_ipv4_cidr
}

output "cluster_oidc_issuer_url" {
  description = "Who signs service accounts' tokens."
  value       = aws_eks_cluster.this.identity[0].oidc[0].issuer
}

output "oidc_provider" {
  description = "The same without https://."
  value       = replace(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://", "")
}

output "oidc_provider_arn" {
  description = "The provider in IAM."
  value       = aws_iam_openid_connect_provider.oidc_provider.arn
}

output "cluster_primary_security_group_id" {
  description = "The security group that EKS makes itself."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "cluster_security_group_id" {
  description = "The control plane's security group."
  value       = aws_security_group.cluster.id
}

output "cluster_security_group_arn" {
  description = "Its ARN."
  value       = aws_security_group.cluster.arn
}

output "node_security_group_id" {
  description = "The nodes' security group."
  value       = aws_security_group.node.id
}

output "node_security_group_arn" {
  description = "Its ARN."
  value       = aws_security_group.node.arn
}

output "cluster_iam_role_arn" {
  description = "The control plane's role."
  value       = aws_iam_role.this.arn
}

output "cluster_iam_role_name" {
  description = "Its name."
  value       = aws_iam_role.this.name
}

output "cluster_iam_role_unique_id" {
  description = "Its id."
  value       = aws_iam_role.this.unique_id
}

output "kms_key_arn" {
  description = "The key that encrypts Secrets."
  value       = aws_kms_key.this.arn
}

output "kms_key_id" {
  description = "Its id."
  value       = aws_kms_key.this.key_id
}

output "kms_key_policy" {
  description = "Its policy."
  value       = aws_kms_key.this.policy
}

output "cloudwatch_log_group_name" {
  description = "Log group of the control plane."
  value       = aws_cloudwatch_log_group.this.name
}

output "cloudwatch_log_group_arn" {
  description = "Its ARN."
  value       = aws_cloudwatch_log_group.this.arn
}

output "access_entries" {
  description = "Who may use the cluster."
  value       = aws_eks_access_entry.this
}

output "access_policy_associations" {
  description = "With which policies."
  value       = aws_eks_access_policy_association.this
}

output "cluster_addons" {
  description = "Add-ons."
  value       = merge(aws_eks_addon.this, aws_eks_addon.before_compute)
}

output "eks_managed_node_groups" {
  description = "Managed node groups, with what the real module says of each that is known here."
  value = { for key, group in aws_eks_node_group.this : key => {
    node_group_arn       = group.arn
    node_group_id        = group.id
    node_group_resources = group.resources
    node_group_status    = group.status
    iam_role_name        = aws_iam_role.node[key].name
    iam_role_arn         = aws_iam_role.node[key].arn
    launch_template_id   = aws_launch_template.this[key].id
    launch_template_name = aws_launch_template.this[key].name
  } }
}
