# Managed node groups, each with a role and a launch template.

resource "aws_iam_role" "node" {
  for_each = var.eks_managed_node_groups

  name        = try(each.value.iam_role_use_name_prefix, true) ? null : try(each.value.iam_role_name, "${each.value.name}-eks-node-group")
  name_prefix = try(each.value.iam_role_use_name_prefix, true) ? "${try(each.value.iam_role_name, "${each.value.name}-eks-node-group")}-" : null

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "EKSNodeAssumeRole"
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })

  force_detach_policies = true

  tags = var.tags
}

locals {
  node_policies = merge([for group, settings in var.eks_managed_node_groups : {
    for policy in concat(
      ["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryReadOnly"],
      try(settings.iam_role_attach_cni_policy, true) ? ["AmazonEKS_CNI_Policy"] : [],
    ) : "${group}_${policy}" => { group = group, policy = policy }
  }]...)
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = local.node_policies

  role       = aws_iam_role.node[each.value.group].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value.policy}"
}

resource "aws_launch_template" "this" {
  for_each = var.eks_managed_node_groups

  name                   = try(each.value.launch_template_use_name_prefix, true) ? null : try(each.value.launch_template_name, each.key)
  name_prefix            = try(each.value.launch_template_use_name_prefix, true) ? "${try(each.value.launch_template_name, each.key)}-" : null
  description            = "Custom launch template for ${each.value.name} EKS managed node group"
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.node.id]

  metadata_options {
    http_endpoint               = try(each.value.metadata_options.http_endpoint, "enabled")
    http_tokens                 = try(each.value.metadata_options.http_tokens, "required")
    http_put_response_hop_limit = try(each.value.metadata_options.http_put_response_hop_limit, 1)
  }

  dynamic "block_device_mappings" {
    for_each = try(each.value.block_device_mappings, {})

    content {
      device_name = block_device_mappings.value.device_name

      ebs {
        volume_type           = block_device_mappings.value.ebs.volume_type
        volume_size           = block_device_mappings.value.ebs.volume_size
        encrypted             = block_device_mappings.value.ebs.encrypted
        delete_on_termination = block_device_mappings.value.ebs.delete_on_termination
      }
    }
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume", "network-interface"])

    content {
      resource_type = tag_specifications.key
      tags          = merge(var.tags, { Name = each.value.name }, try(each.value.launch_template_tags, {}))
    }
  }

  tags = merge(var.tags, try(each.value.launch_template_tags, {}))

  # Nodes that start before the role has its policies never join.
  depends_on = [aws_iam_role_policy_attachment.node]
}

resource "aws_eks_node_group" "this" {
  for_each = var.eks_managed_node_groups

  cluster_name           = aws_eks_cluster.this.id
  node_group_name        = try(each.value.use_name_prefix, true) ? null : each.value.name
  node_group_name_prefix = try(each.value.use_name_prefix, true) ? "${each.value.name}-" : null
  node_role_arn          = aws_iam_role.node[each.key].arn
  subnet_ids             = var.subnet_ids
  version                = aws_eks_cluster.this.version
  ami_type               = try(each.value.ami_type, "AL2023_x86_64_STANDARD")
  instance_types         = each.value.instance_types

  scaling_config {
    min_size     = each.value.min_size
    max_size     = each.value.max_size
    desired_size = each.value.desired_size
  }

  launch_template {
    id      = aws_launch_template.this[each.key].id
    version = aws_launch_template.this[each.key].default_version
  }

  update_config {
    max_unavailable_percentage = try(each.value.update_config.max_unavailable_percentage, 33)
  }

  tags = merge(var.tags, { Name = each.value.name })

  # The network plugin first: a node is Ready only with it.
  depends_on = [aws_eks_addon.before_compute]

  lifecycle {
    create_before_destroy = true
    ignore_changes        = [scaling_config[0].desired_size]
  }
}
