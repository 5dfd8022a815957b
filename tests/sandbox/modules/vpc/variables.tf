# The inputs of terraform-aws-modules/vpc/aws that this module carries out, with that module's defaults. The others are in
# refused.tf.json: whoever sets one is told that the sandbox's module does not do it.

variable "name" {
  description = "Name of everything in the VPC."
  type        = string
  default     = ""
}

variable "cidr" {
  description = "Addresses of the VPC."
  type        = string
  default     = "10.0.0.0/16"
}

variable "azs" {
  description = "Availability zones, one for each subnet of a kind."
  type        = list(string)
  default     = []
}

variable "private_subnets" {
  description = "Networks of the private subnets."
  type        = list(string)
  default     = []
}

variable "public_subnets" {
  description = "Networks of the public subnets."
  type        = list(string)
  default     = []
}

variable "database_subnets" {
  description = "Networks of the database's subnets."
  type        = list(string)
  default     = []
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}

variable "vpc_tags" {
  description = "Tags of the VPC."
  type        = map(string)
  default     = {}
}

variable "private_subnet_tags" {
  description = "Tags of the private subnets."
  type        = map(string)
  default     = {}
}

variable "public_subnet_tags" {
  description = "Tags of the public subnets."
  type        = map(string)
  default     = {}
}

variable "database_subnet_tags" {
  description = "Tags of the database's subnets."
  type        = map(string)
  default     = {}
}

variable "create_database_subnet_group" {
  description = "Whether the database's subnets get a group."
  type        = bool
  default     = true
}

variable "database_subnet_group_name" {
  description = "Name of that group."
  type        = string
  default     = null
}

variable "create_database_subnet_route_table" {
  description = "Whether the database's subnets get a route table of their own, without a way out."
  type        = bool
  default     = false
}

variable "enable_dns_support" {
  description = "Whether the VPC has a resolver."
  type        = bool
  default     = true
}

variable "enable_dns_hostnames" {
  description = "Whether instances get names."
  type        = bool
  default     = true
}

variable "map_public_ip_on_launch" {
  description = "Whether instances in public subnets get public addresses."
  type        = bool
  default     = false
}

variable "enable_nat_gateway" {
  description = "Whether private subnets have a way out."
  type        = bool
  default     = false
}

variable "single_nat_gateway" {
  description = "One NAT gateway for all zones."
  type        = bool
  default     = false
}

variable "one_nat_gateway_per_az" {
  description = "One NAT gateway in each zone."
  type        = bool
  default     = false

  validation {
    condition     = !var.enable_nat_gateway || var.single_nat_gateway || var.one_nat_gateway_per_az
    error_message = "The sandbox's vpc module makes one NAT gateway or one in each zone, not one for each subnet."
  }
}

variable "manage_default_security_group" {
  description = "Whether the default security group is emptied."
  type        = bool
  default     = true
}

variable "default_security_group_ingress" {
  description = "Rules of the default security group."
  type        = list(map(string))
  default     = []

  validation {
    condition     = length(var.default_security_group_ingress) == 0
    error_message = "The sandbox's vpc module can only empty the default security group."
  }
}

variable "default_security_group_egress" {
  description = "Rules of the default security group."
  type        = list(map(string))
  default     = []

  validation {
    condition     = length(var.default_security_group_egress) == 0
    error_message = "The sandbox's vpc module can only empty the default security group."
  }
}

variable "manage_default_network_acl" {
  description = "Whether the default network ACL is managed: never here."
  type        = bool
  default     = false

  validation {
    condition     = !var.manage_default_network_acl
    error_message = "The sandbox's vpc module does not manage the default network ACL."
  }
}

variable "manage_default_route_table" {
  description = "Whether the default route table is managed: never here."
  type        = bool
  default     = false

  validation {
    condition     = !var.manage_default_route_table
    error_message = "The sandbox's vpc module does not manage the default route table."
  }
}

variable "enable_flow_log" {
  description = "Whether the VPC's traffic is logged, to CloudWatch."
  type        = bool
  default     = false
}

variable "create_flow_log_cloudwatch_log_group" {
  description = "Whether the log group is made here."
  type        = bool
  default     = false

  validation {
    condition     = var.create_flow_log_cloudwatch_log_group == var.enable_flow_log
    error_message = "The sandbox's vpc module makes flow logs with their log group, or neither."
  }
}

variable "create_flow_log_cloudwatch_iam_role" {
  description = "Whether the role that writes the log is made here."
  type        = bool
  default     = false

  validation {
    condition     = var.create_flow_log_cloudwatch_iam_role == var.enable_flow_log
    error_message = "The sandbox's vpc module makes flow logs with their role, or neither."
  }
}

variable "flow_log_max_aggregation_interval" {
  description = "Seconds of traffic in one record, 60 or 600."
  type        = number
  default     = 600
}

variable "flow_log_traffic_type" {
  description = "ACCEPT, REJECT or ALL."
  type        = string
  default     = "ALL"
}

variable "flow_log_cloudwatch_log_group_name_prefix" {
  description = "Begins the log group's name."
  type        = string
  default     = "/aws/vpc-flow-log/"
}

variable "flow_log_cloudwatch_log_group_name_suffix" {
  description = "Ends the log group's name; the VPC's id by default."
  type        = string
  default     = ""
}

variable "flow_log_cloudwatch_log_group_retention_in_days" {
  description = "Days that the log is kept; for ever by default."
  type        = number
  default     = null
}

variable "vpc_flow_log_iam_role_name" {
  description = "Name of the role that writes the log."
  type        = string
  default     = "vpc-flow-log-role"
}

variable "vpc_flow_log_iam_role_use_name_prefix" {
  description = "Whether that name is only a prefix."
  type        = bool
  default     = true
}

variable "vpc_flow_log_iam_policy_name" {
  description = "Name of that role's policy."
  type        = string
  default     = "vpc-flow-log-to-cloudwatch"
}

variable "vpc_flow_log_iam_policy_use_name_prefix" {
  description = "Whether that name is only a prefix."
  type        = bool
  default     = true
}
