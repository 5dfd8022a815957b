# Without networks that may reach it, the endpoint is private.

mock_provider "aws" {
  override_during = plan

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333", arn = "arn:aws:iam::111122223333:role/someone" }
  }
  mock_data "aws_iam_session_context" {
    defaults = { issuer_arn = "arn:aws:iam::111122223333:role/someone" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_eks_addon_version" {
    defaults = { version = "v1.2.3-eksbuild.4" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = {
      identity              = [{ oidc = [{ issuer = "https://oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF" }] }]
      certificate_authority = [{ data = "Q0E=" }]
    }
  }
}

run "private_endpoint" {
  command = plan

  variables {
    name_prefix        = "deployctl-production"
    environment        = "production"
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

  assert {
    condition     = !local.public
    error_message = "no networks, no public endpoint"
  }
}
