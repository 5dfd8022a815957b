output "vpc_id" {
  description = "The VPC."
  value       = module.vpc.vpc_id
}

output "vpc_cidr" {
  description = "Its addresses."
  value       = module.vpc.vpc_cidr_block
}

output "private_subnets" {
  description = "Subnets of the nodes and of internal load balancers, one a zone."
  value       = module.vpc.private_subnets
}

output "public_subnets" {
  description = "Subnets of internet-facing load balancers and NAT gateways, one a zone."
  value       = module.vpc.public_subnets
}

output "database_subnets" {
  description = "Subnets of the database, one a zone."
  value       = module.vpc.database_subnets
}

output "database_subnet_group" {
  description = "RDS' name for them."
  value       = module.vpc.database_subnet_group_name
}
