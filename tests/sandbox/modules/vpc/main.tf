# What the sandbox has in place of terraform-aws-modules/vpc/aws 6.6.0, which cannot be had offline: the same inputs and outputs, and
# for what the network stack asks for the same things.

locals {
  nat_gateways = !var.enable_nat_gateway ? 0 : var.single_nat_gateway ? 1 : length(var.azs)

  # One for each NAT gateway; without any, one for each zone.
  private_route_tables = length(var.private_subnets) == 0 ? 0 : local.nat_gateways > 0 ? local.nat_gateways : length(var.azs)
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = var.enable_dns_support
  enable_dns_hostnames = var.enable_dns_hostnames

  tags = merge({ Name = var.name }, var.tags, var.vpc_tags)
}

resource "aws_default_security_group" "this" {
  count = var.manage_default_security_group ? 1 : 0

  # Without rules in it, all rules that AWS put there are removed.
  vpc_id = aws_vpc.this.id

  tags = merge({ Name = "${var.name}-default" }, var.tags)
}

resource "aws_subnet" "public" {
  count = length(var.public_subnets)

  vpc_id                  = aws_vpc.this.id
  cidr_block              = var.public_subnets[count.index]
  availability_zone       = element(var.azs, count.index)
  map_public_ip_on_launch = var.map_public_ip_on_launch

  tags = merge({ Name = "${var.name}-public-${element(var.azs, count.index)}" }, var.tags, var.public_subnet_tags)
}

resource "aws_subnet" "private" {
  count = length(var.private_subnets)

  vpc_id            = aws_vpc.this.id
  cidr_block        = var.private_subnets[count.index]
  availability_zone = element(var.azs, count.index)

  tags = merge({ Name = "${var.name}-private-${element(var.azs, count.index)}" }, var.tags, var.private_subnet_tags)
}

resource "aws_subnet" "database" {
  count = length(var.database_subnets)

  vpc_id            = aws_vpc.this.id
  cidr_block        = var.database_subnets[count.index]
  availability_zone = element(var.azs, count.index)

  tags = merge({ Name = "${var.name}-db-${element(var.azs, count.index)}" }, var.tags, var.database_subnet_tags)
}

resource "aws_db_subnet_group" "database" {
  count = var.create_database_subnet_group && length(var.database_subnets) > 0 ? 1 : 0

  name        = lower(coalesce(var.database_subnet_group_name, var.name))
  description = "Database subnet group for ${var.name}"
  subnet_ids  = aws_subnet.database[*].id

  tags = merge({ Name = lower(coalesce(var.database_subnet_group_name, var.name)) }, var.tags)
}
