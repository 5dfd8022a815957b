# Inputs with an inside. They are of any type on purpose: a declared object type would drop, silently, what it does not name.

variable "encryption_config" {
  description = "What the key encrypts."
  type        = any
  default     = { resources = ["secrets"] }

  validation {
    condition     = try(length(setsubtract(keys(var.encryption_config), ["resources"])) == 0, false)
    error_message = "The sandbox's eks module encrypts with a key of its own: encryption_config takes resources only."
  }
}

variable "access_entries" {
  description = "Who may use the cluster, by a name of the caller's choice."
  type        = any
  default     = {}

  validation {
    condition = alltrue([for entry in values(var.access_entries) :
      length(setsubtract(keys(entry), ["principal_arn", "policy_associations"])) == 0
    ])
    error_message = "The sandbox's eks module makes standard entries: access_entries takes principal_arn and policy_associations."
  }
}

variable "addons" {
  description = "Add-ons, by name."
  type        = any
  default     = {}

  validation {
    condition = alltrue([for addon in values(var.addons) : length(setsubtract(keys(addon), [
      "addon_version", "before_compute", "configuration_values", "preserve", "resolve_conflicts_on_create", "resolve_conflicts_on_update", "service_account_role_arn",
    ])) == 0])
    error_message = "The sandbox's eks module does not carry out something in addons: it knows addon_version, before_compute, configuration_values, preserve, resolve_conflicts_on_create, resolve_conflicts_on_update and service_account_role_arn."
  }

  validation {
    condition     = alltrue([for addon in values(var.addons) : contains(keys(addon), "addon_version")])
    error_message = "The sandbox's eks module chooses no version for an add-on: every one needs addon_version."
  }
}

variable "eks_managed_node_groups" {
  description = "Managed node groups, by a name of the caller's choice."
  type        = any
  default     = {}

  validation {
    condition = alltrue([for group in values(var.eks_managed_node_groups) : length(setsubtract(keys(group), [
      "ami_type", "block_device_mappings", "create_security_group", "desired_size", "iam_role_attach_cni_policy", "iam_role_name",
      "iam_role_use_name_prefix", "instance_types", "launch_template_name", "launch_template_tags", "launch_template_use_name_prefix",
      "max_size", "metadata_options", "min_size", "name", "update_config", "use_latest_ami_release_version", "use_name_prefix",
    ])) == 0])
    error_message = "The sandbox's eks module does not carry out something in eks_managed_node_groups; see its variables-nested.tf for what it knows."
  }

  validation {
    condition = alltrue(flatten([for group in values(var.eks_managed_node_groups) : [
      length(setsubtract(keys(try(group.metadata_options, {})), ["http_endpoint", "http_put_response_hop_limit", "http_tokens"])) == 0,
      length(setsubtract(keys(try(group.update_config, {})), ["max_unavailable_percentage"])) == 0,
      [for device in values(try(group.block_device_mappings, {})) : (
        length(setsubtract(keys(device), ["device_name", "ebs"])) == 0 &&
        length(setsubtract(keys(device.ebs), ["delete_on_termination", "encrypted", "volume_size", "volume_type"])) == 0
      )],
    ]]))
    error_message = "The sandbox's eks module does not carry out something in metadata_options, update_config or block_device_mappings of a node group."
  }

  validation {
    condition = alltrue([for group in values(var.eks_managed_node_groups) :
      can(group.name) && !try(group.use_latest_ami_release_version, true) && !try(group.create_security_group, true)
    ])
    error_message = "The sandbox's eks module wants of a node group a name, use_latest_ami_release_version false and create_security_group false."
  }
}
