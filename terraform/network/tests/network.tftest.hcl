# What design §3 row 2 asks of the VPC. What the module makes of it is checked on the plan by tests/terraform.

mock_provider "aws" {
  override_during = plan

  mock_data "aws_availability_zones" {
    defaults = { names = ["us-east-1f", "us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d", "us-east-1e"] }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { region = "us-east-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name_prefix        = "deployctl-staging"
  environment        = "staging"
  account_id         = "111122223333"
  region             = "us-east-1"
  dr_region          = "eu-west-1"
  tags               = { team = "deployctl" }
  cidr               = "10.40.0.0/16"
  availability_zones = 3
  nat_gateways       = "per-zone"
  flow_log_days      = 30
}

run "three_zones" {
  command = plan

  assert {
    condition     = local.zones == tolist(["us-east-1a", "us-east-1b", "us-east-1c"])
    error_message = "zones must be the first ones by name, whatever order AWS lists them in"
  }
  assert {
    condition     = one(data.aws_availability_zones.available.filter).values == toset(["opt-in-not-required"])
    error_message = "no local zones: they have no NAT gateways and no RDS"
  }
  assert {
    condition     = local.private_subnets == ["10.40.0.0/19", "10.40.32.0/19", "10.40.64.0/19"]
    error_message = "private subnets: one of the six larger parts for each zone"
  }
  assert {
    condition     = local.public_subnets == ["10.40.192.0/22", "10.40.196.0/22", "10.40.200.0/22"]
    error_message = "public subnets: in the seventh eighth of the VPC"
  }
  assert {
    condition     = local.database_subnets == ["10.40.224.0/24", "10.40.225.0/24", "10.40.226.0/24"]
    error_message = "database subnets: in the last eighth of the VPC"
  }
  assert {
    condition     = local.default_tags == { team = "deployctl", "deployctl:environment" = "staging", "deployctl:stack" = "network" }
    error_message = "everything carries the environment's tags and deployctl's own"
  }
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.s3.service_name == "com.amazonaws.us-east-1.s3"
    error_message = "S3 must be reached by a gateway endpoint"
  }
}

run "another_zone_moves_no_subnet" {
  command = plan
  variables {
    availability_zones = 6
    cidr               = "10.40.0.0/20"
  }

  assert {
    condition     = slice(local.private_subnets, 0, 2) == ["10.40.0.0/23", "10.40.2.0/23"]
    error_message = "a zone's subnets depend on its index alone"
  }
  assert {
    condition     = local.private_subnets[5] == "10.40.10.0/23" && local.public_subnets[0] == "10.40.12.0/26" && local.public_subnets[5] == "10.40.13.64/26"
    error_message = "the last private subnet ends where the public ones begin"
  }
  assert {
    condition     = local.database_subnets[0] == "10.40.14.0/28" && local.database_subnets[5] == "10.40.14.80/28"
    error_message = "the database's subnets are in the last eighth"
  }
}

run "refuses_a_cidr_that_is_none" {
  command = plan
  variables { cidr = "10.40.0.1/16" }
  expect_failures = [var.cidr]
}

run "refuses_a_cidr_too_small_for_pods" {
  command = plan
  variables { cidr = "10.40.0.0/21" }
  expect_failures = [var.cidr]
}

run "refuses_one_zone" {
  command = plan
  variables { availability_zones = 1 }
  expect_failures = [var.availability_zones]
}

run "refuses_an_unknown_nat" {
  command = plan
  variables { nat_gateways = "two" }
  expect_failures = [var.nat_gateways]
}

run "refuses_a_retention_that_cloudwatch_does_not_know" {
  command = plan
  variables { flow_log_days = 10 }
  expect_failures = [var.flow_log_days]
}

run "refuses_another_environments_prefix" {
  command = plan
  variables { name_prefix = "deployctl-production" }
  expect_failures = [var.environment]
}

run "refuses_a_prefix_that_no_policy_covers" {
  command = plan
  variables {
    name_prefix = "staging"
  }
  expect_failures = [var.name_prefix]
}

run "refuses_an_account_that_is_none" {
  command = plan
  variables { account_id = "1111" }
  expect_failures = [var.account_id]
}

run "refuses_to_restore_into_the_same_region" {
  command = plan
  variables { dr_region = "us-east-1" }
  expect_failures = [var.dr_region]
}

run "refuses_tags_that_deployctl_sets" {
  command = plan
  variables { tags = { "deployctl:stack" = "mine" } }
  expect_failures = [var.tags]
}
