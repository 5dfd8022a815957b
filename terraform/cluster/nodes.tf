locals {
  # A node group is replaced when its instance types change, the new one first: so its name has to change with them.
  node_group_name = "${var.name_prefix}-${substr(sha1(join(",", var.instance_types)), 0, 8)}"

  node_groups = {
    nodes = {
      name            = local.node_group_name
      use_name_prefix = false
      ami_type        = local.arm ? "AL2023_ARM_64_STANDARD" : "AL2023_x86_64_STANDARD"
      instance_types  = var.instance_types

      # An image is replaced when somebody asks for it, not when AWS publishes one between plan and apply.
      use_latest_ami_release_version = false

      min_size     = var.nodes.min
      desired_size = var.nodes.desired
      max_size     = var.nodes.max

      update_config = { max_unavailable_percentage = 33 }

      # Version 2 of the metadata service only, and one hop: a pod is a hop further than its node, so it cannot take the
      # node's role and has to use the one of its service account.
      metadata_options = {
        http_endpoint               = "enabled"
        http_tokens                 = "required"
        http_put_response_hop_limit = 1
      }

      block_device_mappings = {
        root = {
          device_name = "/dev/xvda"
          ebs = {
            volume_type           = "gp3"
            volume_size           = var.disk_gib
            encrypted             = true
            delete_on_termination = true
          }
        }
      }

      launch_template_name            = "${var.name_prefix}-nodes"
      launch_template_use_name_prefix = false
      # The provider's default tags do not reach what a launch template makes: instances, volumes, network interfaces.
      launch_template_tags = local.default_tags

      iam_role_name            = "${var.name_prefix}-nodes${var.role_suffix}"
      iam_role_use_name_prefix = false
      # The add-on has a role of its own for this.
      iam_role_attach_cni_policy = false
      create_security_group      = false
    }
  }
}
