# Add-ons, before and after the nodes.

resource "aws_eks_addon" "before_compute" {
  for_each = { for name, addon in var.addons : name => addon if try(addon.before_compute, false) }

  cluster_name                = aws_eks_cluster.this.id
  addon_name                  = each.key
  addon_version               = each.value.addon_version
  configuration_values        = try(each.value.configuration_values, null)
  service_account_role_arn    = try(each.value.service_account_role_arn, null)
  preserve                    = try(each.value.preserve, true)
  resolve_conflicts_on_create = try(each.value.resolve_conflicts_on_create, "NONE")
  resolve_conflicts_on_update = try(each.value.resolve_conflicts_on_update, "OVERWRITE")

  tags = var.tags
}

resource "aws_eks_addon" "this" {
  for_each = { for name, addon in var.addons : name => addon if !try(addon.before_compute, false) }

  cluster_name                = aws_eks_cluster.this.id
  addon_name                  = each.key
  addon_version               = each.value.addon_version
  configuration_values        = try(each.value.configuration_values, null)
  service_account_role_arn    = try(each.value.service_account_role_arn, null)
  preserve                    = try(each.value.preserve, true)
  resolve_conflicts_on_create = try(each.value.resolve_conflicts_on_create, "NONE")
  resolve_conflicts_on_update = try(each.value.resolve_conflicts_on_update, "OVERWRITE")

  tags = var.tags

  # Their pods need a node.
  depends_on = [aws_eks_node_group.this]
}
