# Who may use the cluster.

locals {
  associations = merge([for key, entry in var.access_entries : {
    for name, association in try(entry.policy_associations, {}) : "${key}_${name}" => {
      principal_arn = entry.principal_arn
      policy_arn    = association.policy_arn
      scope         = association.access_scope
    }
  }]...)
}

resource "aws_eks_access_entry" "this" {
  for_each = var.access_entries

  cluster_name  = aws_eks_cluster.this.id
  principal_arn = each.value.principal_arn
  type          = "STANDARD"

  tags = var.tags
}

resource "aws_eks_access_policy_association" "this" {
  for_each = local.associations

  cluster_name  = aws_eks_cluster.this.id
  principal_arn = each.value.principal_arn
  policy_arn    = each.value.policy_arn

  access_scope {
    type       = each.value.scope.type
    namespaces = try(each.value.scope.namespaces, null)
  }

  depends_on = [aws_eks_access_entry.this]
}
