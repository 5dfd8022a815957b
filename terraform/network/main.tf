# Local zones and wavelength zones have no NAT gateways and no RDS, so only zones that need no opting in count.
data "aws_availability_zones" "available" {
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  zones   = slice(sort(data.aws_availability_zones.available.names), 0, var.availability_zones)
  indices = range(var.availability_zones)

  # Of eight equal parts of the VPC, six are private subnets (/19 of a /16: every pod takes an address), the seventh holds
  # the public ones and the eighth the database's. A zone's place depends on its index alone: another zone moves no subnet.
  private_subnets  = [for index in local.indices : cidrsubnet(var.cidr, 3, index)]
  public_subnets   = [for index in local.indices : cidrsubnet(var.cidr, 6, 48 + index)]
  database_subnets = [for index in local.indices : cidrsubnet(var.cidr, 8, 224 + index)]
}

module "vpc" {
  source  = "terraform-aws-modules/vpc/aws"
  version = "6.6.0"

  name = var.name_prefix
  cidr = var.cidr
  azs  = local.zones

  private_subnets  = local.private_subnets
  public_subnets   = local.public_subnets
  database_subnets = local.database_subnets

  # The AWS Load Balancer Controller finds its subnets by these tags.
  public_subnet_tags  = { "kubernetes.io/role/elb" = "1" }
  private_subnet_tags = { "kubernetes.io/role/internal-elb" = "1" }

  # The database's subnets have a route table of their own without a way out.
  create_database_subnet_group       = true
  database_subnet_group_name         = var.name_prefix
  create_database_subnet_route_table = true

  enable_dns_support      = true
  enable_dns_hostnames    = true
  map_public_ip_on_launch = false

  enable_nat_gateway     = var.nat_gateways != "none"
  single_nat_gateway     = var.nat_gateways == "single"
  one_nat_gateway_per_az = var.nat_gateways == "per-zone"

  # Nothing is meant to use the default security group, so it lets nothing through. The default network ACL and
  # route table stay as AWS makes them: nothing here depends on them.
  manage_default_security_group  = true
  default_security_group_ingress = []
  default_security_group_egress  = []
  manage_default_network_acl     = false
  manage_default_route_table     = false

  enable_flow_log                                 = var.flow_log_days > 0
  create_flow_log_cloudwatch_log_group            = var.flow_log_days > 0
  create_flow_log_cloudwatch_iam_role             = var.flow_log_days > 0
  flow_log_max_aggregation_interval               = 60
  flow_log_cloudwatch_log_group_name_suffix       = var.name_prefix
  flow_log_cloudwatch_log_group_retention_in_days = var.flow_log_days > 0 ? var.flow_log_days : null
  vpc_flow_log_iam_role_name                      = "${var.name_prefix}-flow-log${var.role_suffix}"
  vpc_flow_log_iam_role_use_name_prefix           = false
  vpc_flow_log_iam_policy_name                    = "${var.name_prefix}-flow-log${var.role_suffix}"
  vpc_flow_log_iam_policy_use_name_prefix         = false
}

# Uploads and image layers reach S3 through this endpoint, not through the NAT gateway, which costs by the byte.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = module.vpc.vpc_id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = module.vpc.private_route_table_ids

  tags = { Name = "${var.name_prefix}-s3" }
}
