variable "credentials" {
  description = "How pods come to their roles: irsa (the roles trust the cluster's issuer) or pod-identity (they trust EKS, and accounts are associated with them)."
  type        = string
  default     = "irsa"
  nullable    = false

  validation {
    condition     = contains(["irsa", "pod-identity"], var.credentials)
    error_message = "credentials must be irsa or pod-identity."
  }
}

variable "cluster_name" {
  description = "The cluster whose pods are associated with the roles."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$", var.cluster_name))
    error_message = "cluster_name must be the name of an EKS cluster."
  }
}

variable "secrets_reader" {
  description = "The service account that brings the others their secrets, External Secrets', as NAMESPACE/SERVICEACCOUNT; none means that nobody does. Only with pod-identity does it have to become them."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.secrets_reader == "" || contains([for account in values(var.service_accounts) : "${account.namespace}/${account.service_account}"], var.secrets_reader)
    error_message = "secrets_reader must be one of service_accounts, as NAMESPACE/SERVICEACCOUNT."
  }
}

variable "oidc_provider_arn" {
  description = "The cluster's OIDC provider in IAM."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/.+$", var.oidc_provider_arn))
    error_message = "oidc_provider_arn must be the ARN of an OIDC provider."
  }
}

variable "oidc_issuer" {
  description = "The cluster's OIDC issuer without https://, as conditions name it."
  type        = string
  nullable    = false

  validation {
    condition     = !startswith(var.oidc_issuer, "http") && endswith(var.oidc_provider_arn, ":oidc-provider/${var.oidc_issuer}")
    error_message = "oidc_issuer must be the issuer of oidc_provider_arn, without https://."
  }
}

variable "service_accounts" {
  description = "The service accounts that get a role, by a name of the caller's choice, each with what it may do and the names of secrets that are brought to it. One that the list does not name has no AWS permission at all."
  type = map(object({
    namespace       = string
    service_account = string
    secrets         = optional(list(string), [])
    statements = list(object({
      actions   = list(string)
      resources = list(string)
      conditions = optional(list(object({
        test     = string
        variable = string
        values   = list(string)
      })), [])
    }))
  }))
  nullable = false

  validation {
    condition = alltrue([for account in values(var.service_accounts) :
      can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", account.namespace)) && can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", account.service_account))
    ])
    error_message = "namespace and service_account must be exact Kubernetes names: `*` would trust other accounts too."
  }

  validation {
    condition = length(distinct([for account in values(var.service_accounts) : "${account.namespace}/${account.service_account}"])) == length(var.service_accounts)

    error_message = "A service account is named twice: put its statements into one entry."
  }

  validation {
    condition = alltrue([for account in values(var.service_accounts) :
      length("${var.name_prefix}-${account.namespace}-${account.service_account}${var.role_suffix}") <= 64
    ])
    error_message = "The role of a service account, NAME_PREFIX-NAMESPACE-SERVICEACCOUNT and role_suffix, may have 64 characters."
  }

  validation {
    condition = alltrue(flatten([for account in values(var.service_accounts) : [for statement in account.statements : [
      for action in statement.actions : can(regex("^[a-z0-9-]+:[A-Z][A-Za-z0-9]+$", action))
    ]]]))
    error_message = "Every action must be one exact action, as in s3:GetObject: no `*`, no `?`."
  }

  validation {
    condition = alltrue(flatten([for account in values(var.service_accounts) : [for statement in account.statements :
      length(statement.actions) > 0 && length(statement.resources) > 0
    ]]))
    error_message = "A statement needs at least one action and one resource."
  }

  validation {
    # Some actions know no resource: reading ones are let through, others need a condition that limits them.
    condition = alltrue(flatten([for account in values(var.service_accounts) : [for statement in account.statements :
      !contains(statement.resources, "*") || length(statement.conditions) > 0 ||
      alltrue([for action in statement.actions : can(regex("^[a-z0-9-]+:(Describe|List|Get)[A-Za-z0-9]*$", action))])
    ]]))
    error_message = "Resource `*` is for actions that begin with Describe, List or Get, or needs a condition that limits it."
  }
}

variable "role_suffix" {
  description = "End of the names of roles and policies: IAM knows no regions, so a stack's second copy in another region of the account needs one."
  type        = string
  default     = ""
  nullable    = false

  validation {
    # As long as in the other stacks.
    condition     = can(regex("^(-[a-z0-9]{1,5})?$", var.role_suffix))
    error_message = "role_suffix must be empty, or a hyphen and at most 5 lower-case letters and digits, as in -dr."
  }
}
