variable "vpc_id" {
  description = "The VPC, made by the network stack in the same region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-z]+$", var.vpc_id))
    error_message = "vpc_id must be the id of a VPC."
  }
}

variable "vpc_cidr" {
  description = "Its addresses: from these a restored database can be reached."
  type        = string
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr))
    error_message = "vpc_cidr must be an IPv4 network, as in 10.41.0.0/16."
  }
}

variable "engine_version" {
  description = "Major version of the database that would be restored."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{2}$", var.engine_version)) && try(tonumber(var.engine_version) >= 13, false)
    error_message = "engine_version must be a major version of PostgreSQL, 13 or later, as in 15."
  }
}
