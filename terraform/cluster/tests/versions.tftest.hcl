# An add-on stays at the version that AWS recommended when it was made, until Kubernetes' version changes.

mock_provider "aws" {
  override_during = plan

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_eks_addon_version" {
    defaults = { version = "v1.2.3-eksbuild.4" }
  }
}

variables {
  name_prefix        = "deployctl-staging"
  environment        = "staging"
  account_id         = "111122223333"
  region             = "us-east-1"
  dr_region          = "eu-west-1"
  vpc_id             = "vpc-0a1b2c3d"
  private_subnets    = ["subnet-0a", "subnet-0b"]
  kubernetes_version = "1.34"
  access_entries     = [{ principal_arn = "arn:aws:iam::111122223333:role/deployctl-deployer", policy = "AmazonEKSClusterAdminPolicy" }]
  instance_types     = ["m7i.large"]
  nodes              = { min = 1, desired = 1, max = 1 }
  disk_gib           = 50
}

run "made" {
  command = apply
  plan_options { target = [terraform_data.addon_version] }
}

run "another_recommendation_moves_nothing" {
  command = plan
  plan_options { target = [terraform_data.addon_version] }

  override_data {
    target = data.aws_eks_addon_version.recommended["coredns"]
    values = { version = "v9.9.9-eksbuild.9" }
  }

  assert {
    condition     = terraform_data.addon_version["coredns"].output == "v1.2.3-eksbuild.4"
    error_message = "a plan must not move an add-on because AWS has moved its recommendation"
  }
}
