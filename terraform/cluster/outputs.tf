output "cluster_name" {
  description = "The cluster. Its endpoint and certificate authority are read from DescribeCluster when they are needed."
  value       = module.eks.cluster_name
}

output "oidc_provider_arn" {
  description = "The OIDC provider that service accounts' roles trust."
  value       = module.eks.oidc_provider_arn
}

output "oidc_issuer" {
  description = "Its issuer without https://."
  value       = module.eks.oidc_provider
}

output "cluster_security_group_id" {
  description = "Security group of the control plane's interfaces."
  value       = module.eks.cluster_security_group_id
}

output "node_security_group_id" {
  description = "Security group of the nodes, and with them of every pod."
  value       = module.eks.node_security_group_id
}

output "addon_versions" {
  description = "The add-ons' versions, for addon_versions of an environment that wants them written down."
  value       = local.addon_version
}
