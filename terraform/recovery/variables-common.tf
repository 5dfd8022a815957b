variable "name_prefix" {
  description = "Prefix of everything that this environment owns, deployctl-ENV. Policies are scoped by it."
  type        = string
  nullable    = false

  validation {
    # 24 characters leave room for the longest name made from it: a role's, with a namespace and a service account, has 64.
    condition     = can(regex("^deployctl-[a-z][a-z0-9-]{0,13}$", var.name_prefix)) && !endswith(var.name_prefix, "-")
    error_message = "name_prefix must be deployctl-ENV with ENV of lower-case letters, digits and hyphens, at most 24 characters together."
  }
}

variable "environment" {
  description = "Name of the environment, for tags."
  type        = string
  nullable    = false

  validation {
    condition     = var.name_prefix == "deployctl-${var.environment}"
    error_message = "environment and name_prefix belong to different environments."
  }
}

variable "account_id" {
  description = "The only AWS account that this stack may be applied to."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "region" {
  description = "Region of the environment."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be a region's code, as in us-east-1."
  }
}

variable "dr_region" {
  description = "Region that the environment is restored in when its own is lost."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.dr_region)) && var.dr_region != var.region
    error_message = "dr_region must be a region's code and another one than region."
  }
}

variable "tags" {
  description = "Tags of the environment, put on everything that takes tags."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && !startswith(lower(key), "deployctl:")])
    error_message = "Tag keys must not begin with aws: or deployctl:, which AWS and deployctl set themselves."
  }
}
