# What a restored database needs where RDS has defaults that nobody wants: a closed security group, its own settings.

mock_provider "aws" {
  override_during = plan
}

variables {
  name_prefix    = "deployctl-staging"
  environment    = "staging"
  account_id     = "111122223333"
  region         = "eu-west-1"
  dr_region      = "us-east-1"
  vpc_id         = "vpc-0123"
  vpc_cidr       = "10.51.0.0/16"
  engine_version = "15"
}

run "closed_and_named" {
  command = plan

  assert {
    condition     = aws_security_group.database.name == "deployctl-staging-database" && aws_security_group.database.vpc_id == "vpc-0123"
    error_message = "plans/restore-rds.yaml finds the security group by this name, in this VPC"
  }
  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.database.cidr_ipv4 == "10.51.0.0/16" &&
      aws_vpc_security_group_ingress_rule.database.from_port == 5432 && aws_vpc_security_group_ingress_rule.database.to_port == 5432
    )
    error_message = "PostgreSQL from the VPC, and nothing else"
  }
  assert {
    condition     = aws_db_parameter_group.database.name == "deployctl-staging-postgres15" && aws_db_parameter_group.database.family == "postgres15"
    error_message = "plans/restore-rds.yaml finds the parameter group by this name"
  }
  assert {
    condition     = contains([for parameter in aws_db_parameter_group.database.parameter : "${parameter.name}=${parameter.value}"], "rds.force_ssl=1")
    error_message = "a restored database takes TLS only"
  }
  assert {
    condition     = alltrue([for setting in ["log_connections=1", "log_disconnections=1", "log_lock_waits=1", "log_min_duration_statement=1000", "log_statement=ddl"] : contains([for parameter in aws_db_parameter_group.database.parameter : "${parameter.name}=${parameter.value}"], setting)])
    error_message = "and logs as the lost one did"
  }
}

run "another_version_of_postgresql" {
  command = plan
  variables { engine_version = "9.6" }
  expect_failures = [var.engine_version]
}

run "no_network" {
  command = plan
  variables { vpc_cidr = "everywhere" }
  expect_failures = [var.vpc_cidr]
}
