locals {
  policy_arn_prefix = "arn:${data.aws_partition.current.partition}:eks::aws:cluster-access-policy"

  # One entry a principal, with all its policies: EKS knows one entry for each principal.
  access_entries = { for principal in distinct(var.access_entries[*].principal_arn) : principal => {
    principal_arn = principal
    policy_associations = { for entry in var.access_entries : entry.policy => {
      policy_arn = "${local.policy_arn_prefix}/${entry.policy}"
      access_scope = {
        type       = length(entry.namespaces) == 0 ? "cluster" : "namespace"
        namespaces = length(entry.namespaces) == 0 ? null : entry.namespaces
      }
    } if entry.principal_arn == principal }
  } }
}
