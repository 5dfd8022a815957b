variable "environment" {
  description = "The environment that the deployer may change, as its file is called."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,13}$", var.environment)) && !endswith(var.environment, "-")
    error_message = "environment must be of lower-case letters, digits and hyphens, at most 14 characters."
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

variable "deployer_role" {
  description = "Name of the role that deployctl works as. A second environment in the same account needs a second one."
  type        = string
  default     = "deployctl-deployer"
  nullable    = false

  validation {
    condition     = can(regex("^deployctl-deployer(-[a-z0-9-]{1,40})?$", var.deployer_role))
    error_message = "deployer_role must be deployctl-deployer or begin with deployctl-deployer-: the bootstrap policy knows these names."
  }
}

variable "on_call_role" {
  description = "Name of the role of whoever is on call."
  type        = string
  default     = "deployctl-on-call"
  nullable    = false

  validation {
    condition     = can(regex("^deployctl-on-call(-[a-z0-9-]{1,40})?$", var.on_call_role))
    error_message = "on_call_role must be deployctl-on-call or begin with deployctl-on-call-: the bootstrap policy knows these names."
  }
}

variable "deployer_principals" {
  description = "ARNs of roles and users that may be the deployer, besides GitHub's jobs."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.deployer_principals : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/[^*?]+$", arn))])
    error_message = "deployer_principals must be ARNs of single roles or users: no root, no wildcard."
  }
}

variable "on_call_principals" {
  description = "ARNs of roles and users that may be on call."
  type        = list(string)
  nullable    = false

  validation {
    condition = length(var.on_call_principals) > 0 && alltrue([for arn in var.on_call_principals :
      can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/[^*?]+$", arn))
    ])
    error_message = "on_call_principals must be ARNs of single roles or users, at least one: no root, no wildcard."
  }
}

variable "github" {
  description = "The repository, as OWNER/NAME, whose jobs may be the deployer, and the GitHub environment that they must run in (as this environment is called unless it says otherwise). Which branches may use it is a rule of that GitHub environment."
  type = object({
    repository  = string
    environment = optional(string)
  })
  default = null

  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.github.repository))
    error_message = "github.repository must be OWNER/NAME of one repository: no `*`."
  }

  validation {
    condition     = try(var.github.environment, null) == null || can(regex("^[A-Za-z0-9._-]+$", var.github.environment))
    error_message = "github.environment must be the name of one GitHub environment, of letters, digits, `.`, `_` and `-`."
  }
}

variable "create_github_provider" {
  description = "Whether to make the account's OIDC provider for GitHub; an account has one for all repositories."
  type        = bool
  default     = true
  nullable    = false

  validation {
    condition     = var.create_github_provider || var.github != null
    error_message = "create_github_provider is about github, which is not given."
  }
}

variable "standby" {
  description = "As recovery.standby of the environment file; with warm the deployer may also keep a cluster in dr_region."
  type        = string
  default     = "pilot-light"
  nullable    = false

  validation {
    condition     = contains(["backups", "pilot-light", "warm"], var.standby)
    error_message = "standby must be backups, pilot-light or warm."
  }
}

variable "tags" {
  description = "Tags put on everything that takes tags."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && !startswith(lower(key), "deployctl:")])
    error_message = "Tag keys must not begin with aws: or deployctl:, which AWS and deployctl set themselves."
  }
}
