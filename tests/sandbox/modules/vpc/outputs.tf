# What there is. Outputs about things that this module never makes are in empty.tf.json.

output "name" {
  description = "Name of the VPC."
  value       = var.name
}

output "azs" {
  description = "Availability zones."
  value       = var.azs
}

output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "vpc_arn" {
  description = "Its ARN."
  value       = aws_vpc.this.arn
}

output "vpc_cidr_block" {
  description = "Its addresses."
  value       = aws_vpc.this.cidr_block
}

output "vpc_main_route_table_id" {
  description = "Its main route table."
  value       = aws_vpc.this.main_route_table_id
}

output "vpc_owner_id" {
  description = "The account that owns it."
  value       = aws_vpc.this.owner_id
}

output "default_security_group_id" {
  description = "Its default security group."
  value       = aws_vpc.this.default_security_group_id
}

output "igw_id" {
  description = "The internet gateway."
  value       = one(aws_internet_gateway.this[*].id)
}

output "igw_arn" {
  description = "Its ARN."
  value       = one(aws_internet_gateway.this[*].arn)
}

output "natgw_ids" {
  description = "NAT gateways."
  value       = aws_nat_gateway.this[*].id
}

output "nat_ids" {
  description = "Allocations of their addresses."
  value       = aws_eip.nat[*].id
}

output "nat_public_ips" {
  description = "Their addresses."
  value       = aws_eip.nat[*].public_ip
}

output "private_subnets" {
  description = "Private subnets."
  value       = aws_subnet.private[*].id
}

output "private_subnet_arns" {
  description = "Their ARNs."
  value       = aws_subnet.private[*].arn
}

output "private_subnet_objects" {
  description = "All of them."
  value       = aws_subnet.private
}

output "private_subnets_cidr_blocks" {
  description = "Their addresses."
  value       = aws_subnet.private[*].cidr_block
}

output "private_route_table_ids" {
  description = "Their route tables."
  value       = aws_route_table.private[*].id
}

output "private_nat_gateway_route_ids" {
  description = "Their routes to NAT gateways."
  value       = aws_route.private_nat_gateway[*].id
}

output "private_route_table_association_ids" {
  description = "Which has which route table."
  value       = aws_route_table_association.private[*].id
}

output "public_subnets" {
  description = "Public subnets."
  value       = aws_subnet.public[*].id
}

output "public_subnet_arns" {
  description = "Their ARNs."
  value       = aws_subnet.public[*].arn
}

output "public_subnet_objects" {
  description = "All of them."
  value       = aws_subnet.public
}

output "public_subnets_cidr_blocks" {
  description = "Their addresses."
  value       = aws_subnet.public[*].cidr_block
}

output "public_route_table_ids" {
  description = "Their route tables."
  value       = aws_route_table.public[*].id
}

output "public_internet_gateway_route_id" {
  description = "Their route to the internet gateway."
  value       = one(aws_route.public_internet_gateway[*].id)
}

output "public_route_table_association_ids" {
  description = "Which has which route table."
  value       = aws_route_table_association.public[*].id
}

output "database_subnets" {
  description = "The database's subnets."
  value       = aws_subnet.database[*].id
}

output "database_subnet_arns" {
  description = "Their ARNs."
  value       = aws_subnet.database[*].arn
}

output "database_subnet_objects" {
  description = "All of them."
  value       = aws_subnet.database
}

output "database_subnets_cidr_blocks" {
  description = "Their addresses."
  value       = aws_subnet.database[*].cidr_block
}

output "database_subnet_group" {
  description = "Their group."
  value       = one(aws_db_subnet_group.database[*].id)
}

output "database_subnet_group_name" {
  description = "Its name."
  value       = one(aws_db_subnet_group.database[*].name)
}

output "database_route_table_ids" {
  description = "Their route tables."
  value       = coalescelist(aws_route_table.database[*].id, aws_route_table.private[*].id)
}

output "database_route_table_association_ids" {
  description = "Which has which route table."
  value       = aws_route_table_association.database[*].id
}

output "vpc_flow_log_id" {
  description = "The flow log."
  value       = one(aws_flow_log.this[*].id)
}

output "vpc_flow_log_destination_arn" {
  description = "Where it is written to."
  value       = one(aws_cloudwatch_log_group.flow_log[*].arn)
}

output "vpc_flow_log_destination_type" {
  description = "What that is."
  value       = "cloud-watch-logs"
}

output "vpc_flow_log_cloudwatch_iam_role_arn" {
  description = "The role that writes it."
  value       = one(aws_iam_role.vpc_flow_log_cloudwatch[*].arn)
}
