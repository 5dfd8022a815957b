variable "vpc_id" {
  description = "The VPC, made by the network stack."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-z]+$", var.vpc_id))
    error_message = "vpc_id must be the id of a VPC."
  }
}

variable "database_subnet_group" {
  description = "RDS' group of the database's subnets, made by the network stack."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.database_subnet_group) > 0
    error_message = "database_subnet_group must not be empty."
  }
}

variable "node_security_group_id" {
  description = "Security group of the nodes: the only one that may reach the database."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^sg-[0-9a-z]+$", var.node_security_group_id))
    error_message = "node_security_group_id must be the id of a security group."
  }
}

variable "database" {
  description = "The RDS instance."
  type = object({
    engine_version      = string
    instance_class      = string
    storage_gib         = object({ initial = number, max = number })
    multi_az            = bool
    backup_days         = number
    replicate_backups   = bool
    deletion_protection = bool
  })
  nullable = false

  validation {
    # With a minor version here, AWS' automatic minor upgrades would show as a difference after each of them.
    condition     = can(regex("^[0-9]{2}$", var.database.engine_version)) && try(tonumber(var.database.engine_version) >= 13, false)
    error_message = "database.engine_version must be a major version of PostgreSQL, 13 or later, as in 15."
  }

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.database.instance_class))
    error_message = "database.instance_class must be an instance class, as in db.t4g.medium."
  }

  validation {
    condition = (
      var.database.storage_gib.initial >= 20 &&
      var.database.storage_gib.max <= 65536 &&
      var.database.storage_gib.max >= ceil(var.database.storage_gib.initial * 1.1)
    )
    error_message = "database.storage_gib: initial at least 20, max at most 65536 and at least a tenth above initial, which RDS asks of autoscaling."
  }

  validation {
    condition     = var.database.backup_days >= 1 && var.database.backup_days <= 35 && floor(var.database.backup_days) == var.database.backup_days
    error_message = "database.backup_days must be from 1 to 35: without backups there is no point-in-time recovery."
  }
}

variable "storage" {
  description = "The bucket for uploads."
  type = object({
    current_to_glacier_days    = number
    noncurrent_to_glacier_days = number
    replicate                  = bool
  })
  nullable = false

  validation {
    condition     = var.storage.current_to_glacier_days >= 1 && var.storage.noncurrent_to_glacier_days >= 1
    error_message = "storage: objects can move to Glacier after one day at the earliest."
  }
}

variable "queues" {
  description = "Queues, by service, each with a dead-letter queue. With a prefix, the bucket sends a message for every object created below it."
  type = map(object({
    prefix             = optional(string)
    visibility_seconds = number
    max_receives       = number
  }))
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.queues) : can(regex("^[a-z][a-z0-9-]*$", name)) && !endswith(name, "-dlq")])
    error_message = "A queue's name must be of lower-case letters, digits and hyphens, and not end in -dlq."
  }

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.visibility_seconds >= 0 && queue.visibility_seconds <= 43200])
    error_message = "visibility_seconds must be from 0 to 43200."
  }

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.max_receives >= 1 && queue.max_receives <= 1000])
    error_message = "max_receives must be from 1 to 1000."
  }

  validation {
    # S3 refuses a configuration in which one object would match two of them.
    condition = alltrue(flatten([for name, queue in var.queues : [for other_name, other in var.queues :
      name == other_name || queue.prefix == null || other.prefix == null || !startswith(coalesce(other.prefix, "-"), coalesce(queue.prefix, "-"))
    ]]))
    error_message = "Two queues have prefixes of which one begins with the other; S3 tells only one queue of an object."
  }
}

variable "secrets" {
  description = "Names of secrets whose values come from elsewhere: `deployctl secret set`, or a Job in the cluster."
  type        = list(string)
  nullable    = false

  validation {
    condition     = alltrue([for name in var.secrets : can(regex("^[a-z][a-z0-9-]*$", name))])
    error_message = "A secret's name must be of lower-case letters, digits and hyphens."
  }

  validation {
    condition     = !contains(var.secrets, "database")
    error_message = "The secret `database` holds the database's address and belongs to this stack."
  }
}

variable "secret_store" {
  description = "`secrets-manager`, or `ssm` for Parameter Store."
  type        = string
  default     = "secrets-manager"
  nullable    = false

  validation {
    condition     = contains(["secrets-manager", "ssm"], var.secret_store)
    error_message = "secret_store must be secrets-manager or ssm."
  }
}

variable "existing_secrets" {
  description = "Secrets that exist already, by name with their ARN: made by `deployctl secret set` before the first apply, adopted here."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for arn in values(var.existing_secrets) : can(regex("^arn:[a-z-]+:(secretsmanager|ssm):", arn))])
    error_message = "existing_secrets must be ARNs of secrets or parameters."
  }
}
