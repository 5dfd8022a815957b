# The inputs of terraform-aws-modules/eks/aws that this module carries out, with that module's defaults. Those with an inside
# are in variables-nested.tf. The others are in refused.tf.json: whoever sets one is told that the sandbox's module does not do it.

variable "name" {
  description = "Name of the cluster."
  type        = string
  default     = ""
}

variable "kubernetes_version" {
  description = "Its minor version."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "The VPC of its security groups."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "Subnets of nodes and of the control plane's interfaces."
  type        = list(string)
  default     = []
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}

variable "endpoint_private_access" {
  description = "Whether the endpoint is reached from inside the VPC."
  type        = bool
  default     = true
}

variable "endpoint_public_access" {
  description = "Whether the endpoint is reached from outside."
  type        = bool
  default     = false
}

variable "endpoint_public_access_cidrs" {
  description = "From which networks."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "authentication_mode" {
  description = "API or API_AND_CONFIG_MAP."
  type        = string
  default     = "API_AND_CONFIG_MAP"
}

variable "enable_cluster_creator_admin_permissions" {
  description = "Whether whoever makes the cluster may use it: never here."
  type        = bool
  default     = false

  validation {
    condition     = !var.enable_cluster_creator_admin_permissions
    error_message = "The sandbox's eks module gives the cluster's creator no rights; name them in access_entries."
  }
}

variable "enabled_log_types" {
  description = "Logs of the control plane."
  type        = list(string)
  default     = ["audit", "api", "authenticator"]
}

variable "cloudwatch_log_group_retention_in_days" {
  description = "Days that they are kept."
  type        = number
  default     = 90
}

variable "create_kms_key" {
  description = "Whether the key that encrypts Secrets is made here: always."
  type        = bool
  default     = true

  validation {
    condition     = var.create_kms_key
    error_message = "The sandbox's eks module always makes the key that encrypts Secrets."
  }
}

variable "kms_key_administrators" {
  description = "Who governs that key."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.kms_key_administrators) > 0
    error_message = "The sandbox's eks module does not look up who runs terraform; name kms_key_administrators."
  }
}

variable "enable_irsa" {
  description = "Whether service accounts can have roles: always."
  type        = bool
  default     = true

  validation {
    condition     = var.enable_irsa
    error_message = "The sandbox's eks module always makes the OIDC provider."
  }
}

variable "include_oidc_root_ca_thumbprint" {
  description = "Whether the issuer's certificate is looked up: never here."
  type        = bool
  default     = true

  validation {
    condition     = !var.include_oidc_root_ca_thumbprint
    error_message = "The sandbox's eks module looks up no certificate; set include_oidc_root_ca_thumbprint to false."
  }
}

variable "iam_role_name" {
  description = "Name of the control plane's role."
  type        = string
  default     = null
}

variable "iam_role_use_name_prefix" {
  description = "Whether that name is only a prefix."
  type        = bool
  default     = true
}

variable "encryption_policy_name" {
  description = "Name of the policy that lets the control plane use the key."
  type        = string
  default     = null
}

variable "encryption_policy_use_name_prefix" {
  description = "Whether that name is only a prefix."
  type        = bool
  default     = true
}

variable "security_group_name" {
  description = "Name of the control plane's security group."
  type        = string
  default     = null
}

variable "security_group_use_name_prefix" {
  description = "Whether that name is only a prefix."
  type        = bool
  default     = true
}

variable "node_security_group_name" {
  description = "Name of the nodes' security group."
  type        = string
  default     = null
}

variable "node_security_group_use_name_prefix" {
  description = "Whether that name is only a prefix."
  type        = bool
  default     = true
}
