variable "cidr" {
  description = "Addresses of the VPC, a /16 to a /20."
  type        = string
  nullable    = false

  validation {
    condition = (
      can(cidrnetmask(var.cidr)) &&
      try(cidrhost(var.cidr, 0) == split("/", var.cidr)[0], false) &&
      try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    )
    error_message = "cidr must be an IPv4 network in its canonical form, /16 to /20, as in 10.40.0.0/16."
  }
}

variable "availability_zones" {
  description = "How many availability zones to use; EKS and a Multi-AZ database need two."
  type        = number
  nullable    = false

  validation {
    condition     = var.availability_zones >= 2 && var.availability_zones <= 6 && floor(var.availability_zones) == var.availability_zones
    error_message = "availability_zones must be a whole number from 2 to 6."
  }
}

variable "nat_gateways" {
  description = "`single`: one NAT gateway for all zones, cheaper, lost with its zone. `per-zone`: one in each. `none`: no way out, where nothing runs yet."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["none", "single", "per-zone"], var.nat_gateways)
    error_message = "nat_gateways must be none, single or per-zone."
  }
}

variable "flow_log_days" {
  description = "Days that the VPC's flow logs are kept in CloudWatch; 0 turns them off."
  type        = number
  nullable    = false

  validation {
    condition     = contains([0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.flow_log_days)
    error_message = "flow_log_days must be 0 or a retention that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653."
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
