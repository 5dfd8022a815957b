# What design §3 row 5 asks: one role for each service account, trusted for exactly that account, with exactly what was declared.

mock_provider "aws" {
  override_during = plan
}

variables {
  name_prefix       = "deployctl-staging"
  environment       = "staging"
  account_id        = "111122223333"
  region            = "us-east-1"
  dr_region         = "eu-west-1"
  cluster_name      = "deployctl-staging"
  oidc_issuer       = "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
  oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
  service_accounts = {
    uploader = {
      namespace       = "apps"
      service_account = "uploader"
      statements = [
        { actions = ["s3:PutObject", "s3:GetObject"], resources = ["arn:aws:s3:::deployctl-staging-uploads-111122223333/uploads/*"] },
        { actions = ["s3:ListBucket"], resources = ["arn:aws:s3:::deployctl-staging-uploads-111122223333"] },
      ]
    }
    idle = { namespace = "apps", service_account = "idle", statements = [] }
  }
}

run "one_role_for_each_account" {
  command = plan

  assert {
    condition     = toset(keys(aws_iam_role.service_account)) == toset(["apps/uploader", "apps/idle"])
    error_message = "one role for each service account, by namespace and name"
  }
  assert {
    condition     = aws_iam_role.service_account["apps/uploader"].name == "deployctl-staging-apps-uploader"
    error_message = "roles have the names that the deployer policy and the manifests know"
  }
  assert {
    condition = jsondecode(aws_iam_role.service_account["apps/uploader"].assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = "sts:AssumeRoleWithWebIdentity"
        Principal = { Federated = var.oidc_provider_arn }
        Condition = { StringEquals = {
          "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF:sub" = "system:serviceaccount:apps:uploader"
          "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF:aud" = "sts.amazonaws.com"
        } }
      }]
    }
    error_message = "trust: this provider, and exact subject and audience, nothing else"
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.service_account["apps/uploader"].policy) == {
      Version = "2012-10-17"
      Statement = [
        { Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject"], Resource = ["arn:aws:s3:::deployctl-staging-uploads-111122223333/uploads/*"] },
        { Effect = "Allow", Action = ["s3:ListBucket"], Resource = ["arn:aws:s3:::deployctl-staging-uploads-111122223333"] },
      ]
    }
    error_message = "the policy says what was declared and no more"
  }
  assert {
    condition     = keys(aws_iam_role_policy.service_account) == ["apps/uploader"]
    error_message = "an account without statements has no policy"
  }
  assert {
    condition     = toset(keys(output.role_arns)) == toset(["apps/uploader", "apps/idle"])
    error_message = "role_arns by NAMESPACE/SERVICEACCOUNT"
  }
  assert {
    condition     = length(aws_eks_pod_identity_association.service_account) == 0 && length(aws_iam_role_policy.secrets_reader) == 0
    error_message = "with IRSA nobody is associated, and nobody becomes another"
  }
}

run "secrets_in_parameter_store" {
  command = plan
  variables {
    service_accounts = {
      agent = {
        namespace       = "deployctl"
        service_account = "agent"
        statements = [
          { actions = ["ssm:GetParameter"], resources = ["arn:aws:ssm:us-east-1:111122223333:parameter/deployctl/staging/kafka"] },
          { actions = ["ssm:PutParameter"], resources = ["arn:aws:ssm:us-east-1:111122223333:parameter/deployctl/staging/parser-db"] },
        ]
      }
    }
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.service_account["deployctl/agent"].policy).Statement == [
      { Effect = "Allow", Action = ["ssm:GetParameter"], Resource = ["arn:aws:ssm:us-east-1:111122223333:parameter/deployctl/staging/kafka"] },
      { Effect = "Allow", Action = ["ssm:PutParameter"], Resource = ["arn:aws:ssm:us-east-1:111122223333:parameter/deployctl/staging/parser-db"] },
    ]
    error_message = "each parameter by its whole name"
  }
}

run "a_third_service_is_another_entry" {
  command = plan
  variables {
    service_accounts = {
      a = { namespace = "apps", service_account = "uploader", statements = [] }
      b = { namespace = "apps", service_account = "parser", statements = [] }
      c = {
        namespace       = "reports"
        service_account = "monthly"
        statements = [{
          actions    = ["cloudwatch:PutMetricData"]
          resources  = ["*"]
          conditions = [{ test = "StringEquals", variable = "cloudwatch:namespace", values = ["deployctl"] }]
        }]
      }
    }
  }

  assert {
    condition     = length(aws_iam_role.service_account) == 3 && aws_iam_role.service_account["reports/monthly"].name == "deployctl-staging-reports-monthly"
    error_message = "a third service account gets its role"
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.service_account["reports/monthly"].policy).Statement[0].Condition == { StringEquals = { "cloudwatch:namespace" = ["deployctl"] } }
    error_message = "conditions reach the policy"
  }
}

run "refuses_a_wildcard_action" {
  command = plan
  variables { service_accounts = { a = { namespace = "apps", service_account = "a", statements = [{ actions = ["s3:*"], resources = ["arn:aws:s3:::b"] }] } } }
  expect_failures = [var.service_accounts]
}

run "refuses_part_of_a_wildcard" {
  command = plan
  variables { service_accounts = { a = { namespace = "apps", service_account = "a", statements = [{ actions = ["s3:Get*"], resources = ["arn:aws:s3:::b"] }] } } }
  expect_failures = [var.service_accounts]
}

run "refuses_writing_to_everything" {
  command = plan
  variables { service_accounts = { a = { namespace = "apps", service_account = "a", statements = [{ actions = ["sqs:DeleteMessage"], resources = ["*"] }] } } }
  expect_failures = [var.service_accounts]
}

run "refuses_a_wildcard_account" {
  command = plan
  variables { service_accounts = { a = { namespace = "apps", service_account = "*", statements = [] } } }
  expect_failures = [var.service_accounts]
}

run "refuses_an_account_twice" {
  command = plan
  variables {
    service_accounts = {
      a = { namespace = "apps", service_account = "a", statements = [] }
      b = { namespace = "apps", service_account = "a", statements = [] }
    }
  }
  expect_failures = [var.service_accounts]
}

run "refuses_a_name_too_long_for_a_role" {
  command = plan
  variables { service_accounts = { a = { namespace = "a-namespace-of-some-length", service_account = "an-account-of-some-length", statements = [] } } }
  expect_failures = [var.service_accounts]
}

run "refuses_a_statement_without_actions" {
  command = plan
  variables { service_accounts = { a = { namespace = "apps", service_account = "a", statements = [{ actions = [], resources = ["arn:aws:s3:::b"] }] } } }
  expect_failures = [var.service_accounts]
}

run "refuses_the_issuer_of_another_cluster" {
  command = plan
  variables { oidc_issuer = "oidc.eks.us-east-1.amazonaws.com/id/FFFF" }
  expect_failures = [var.oidc_issuer]
}

# IAM is one for all regions: a second copy of the stack makes roles of its own.
run "a_copy_in_another_region_has_other_names" {
  command = plan

  variables {
    role_suffix = "-dr"
  }
  assert {
    condition     = aws_iam_role.service_account["apps/uploader"].name == "deployctl-staging-apps-uploader-dr"
    error_message = "the suffix ends the role's name"
  }
}

run "a_suffix_that_would_make_names_too_long_is_refused" {
  command = plan

  variables {
    role_suffix = "-ireland"
  }
  expect_failures = [var.role_suffix]
}
