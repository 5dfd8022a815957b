# `credentials: pod-identity`: the same roles, trusted for the pods of one account in one cluster, and associated with it.

mock_provider "aws" {
  override_during = plan

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/one-of-them" }
  }
}

variables {
  name_prefix       = "deployctl-staging"
  environment       = "staging"
  account_id        = "111122223333"
  region            = "us-east-1"
  dr_region         = "eu-west-1"
  cluster_name      = "deployctl-staging"
  credentials       = "pod-identity"
  secrets_reader    = "external-secrets/external-secrets"
  oidc_issuer       = "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
  oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
  service_accounts = {
    uploader = {
      namespace       = "apps"
      service_account = "uploader"
      secrets         = ["uploader-tokens"]
      statements      = [{ actions = ["s3:PutObject"], resources = ["arn:aws:s3:::deployctl-staging-uploads-111122223333/uploads/*"] }]
    }
    exporter         = { namespace = "observability", service_account = "exporter", statements = [] }
    external-secrets = { namespace = "external-secrets", service_account = "external-secrets", secrets = ["of-its-own"], statements = [] }
  }
}

run "each_account_is_associated" {
  command = plan

  assert {
    condition     = toset(keys(aws_eks_pod_identity_association.service_account)) == toset(["apps/uploader", "observability/exporter", "external-secrets/external-secrets"])
    error_message = "one association for each service account, by namespace and name"
  }
  assert {
    condition = alltrue([for key, association in aws_eks_pod_identity_association.service_account :
      "${association.namespace}/${association.service_account}" == key && association.cluster_name == "deployctl-staging" &&
      association.role_arn == aws_iam_role.service_account[key].arn
    ])
    error_message = "an account is associated with its own role, in this cluster"
  }
  assert {
    condition     = aws_iam_role.service_account["apps/uploader"].name == "deployctl-staging-apps-uploader" && jsondecode(aws_iam_role_policy.service_account["apps/uploader"].policy).Statement[0].Action == ["s3:PutObject"]
    error_message = "names and permissions are those that roles have by IRSA, too"
  }
}

run "eks_is_trusted_for_one_account_of_one_cluster" {
  command = plan

  assert {
    condition = jsonencode(jsondecode(aws_iam_role.service_account["observability/exporter"].assume_role_policy)) == jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = ["sts:AssumeRole", "sts:TagSession"]
        Principal = { Service = "pods.eks.amazonaws.com" }
        Condition = { StringEquals = {
          "aws:SourceAccount"                         = "111122223333"
          "aws:RequestTag/eks-cluster-arn"            = "arn:aws:eks:us-east-1:111122223333:cluster/deployctl-staging"
          "aws:RequestTag/kubernetes-namespace"       = "observability"
          "aws:RequestTag/kubernetes-service-account" = "exporter"
        } }
      }]
    })
    error_message = "trust: EKS, for this account of AWS, this cluster, this namespace and service account, and nothing else"
  }
}

run "external_secrets_reads_for_those_who_have_secrets" {
  command = plan

  assert {
    condition = jsonencode(jsondecode(aws_iam_role.service_account["apps/uploader"].assume_role_policy).Statement[1]) == jsonencode({
      Effect    = "Allow"
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Principal = { AWS = "arn:aws:iam::111122223333:root" }
      Condition = { ArnEquals = { "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/deployctl-staging-external-secrets-external-secrets" } }
    })
    error_message = "External Secrets' role, and no other of the account, may become the role of an account with secrets"
  }
  assert {
    condition     = length(jsondecode(aws_iam_role.service_account["apps/uploader"].assume_role_policy).Statement) == 2
    error_message = "EKS and External Secrets, nobody else"
  }
  assert {
    condition     = alltrue([for key in ["observability/exporter", "external-secrets/external-secrets"] : length(jsondecode(aws_iam_role.service_account[key].assume_role_policy).Statement) == 1])
    error_message = "nobody becomes an account without secrets, nor External Secrets itself"
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.secrets_reader["external-secrets/external-secrets"].policy).Statement == [{
      Effect = "Allow", Action = ["sts:AssumeRole", "sts:TagSession"], Resource = [aws_iam_role.service_account["apps/uploader"].arn]
    }] && aws_iam_role_policy.secrets_reader["external-secrets/external-secrets"].role == "deployctl-staging-external-secrets-external-secrets"
    error_message = "External Secrets may become those it reads for, each by its ARN"
  }
}

run "without_a_reader_nobody_becomes_another" {
  command = plan
  variables { secrets_reader = "" }

  assert {
    condition     = length(aws_iam_role_policy.secrets_reader) == 0 && length(jsondecode(aws_iam_role.service_account["apps/uploader"].assume_role_policy).Statement) == 1
    error_message = "EKS alone is trusted"
  }
}

run "refuses_a_reader_that_has_no_role" {
  command = plan
  variables { secrets_reader = "external-secrets/somebody" }
  expect_failures = [var.secrets_reader]
}

run "refuses_another_way" {
  command = plan
  variables { credentials = "kiam" }
  expect_failures = [var.credentials]
}

run "refuses_no_cluster" {
  command = plan
  variables { cluster_name = "" }
  expect_failures = [var.cluster_name]
}
