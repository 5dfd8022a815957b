# Who may be the deployer and the one on call, and what the two may do.

mock_provider "aws" {
  override_during = plan
}

variables {
  environment         = "staging"
  account_id          = "111122223333"
  region              = "us-east-1"
  dr_region           = "eu-west-1"
  deployer_principals = ["arn:aws:iam::111122223333:role/engineers"]
  on_call_principals  = ["arn:aws:iam::111122223333:role/engineers"]
  github              = { repository = "example/files" }
}

run "bootstrapped" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_role.ours["deployer"].assume_role_policy).Statement == [
      {
        Sid       = "People"
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { AWS = ["arn:aws:iam::111122223333:role/engineers"] }
      },
      {
        Sid       = "GithubActions"
        Effect    = "Allow"
        Action    = "sts:AssumeRoleWithWebIdentity"
        Principal = { Federated = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com" }
        Condition = { StringEquals = {
          "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
          "token.actions.githubusercontent.com:sub" = "repo:example/files:environment:staging"
        } }
      },
    ]
    error_message = "trust: the people named, and jobs of exactly this repository in exactly this GitHub environment"
  }
  assert {
    condition     = length(jsondecode(aws_iam_role.ours["on-call"].assume_role_policy).Statement) == 1
    error_message = "no job of GitHub's is on call"
  }
  assert {
    condition     = aws_iam_openid_connect_provider.github[0].url == "https://token.actions.githubusercontent.com" && aws_iam_openid_connect_provider.github[0].client_id_list == toset(["sts.amazonaws.com"])
    error_message = "GitHub's provider, for tokens that were made for AWS"
  }
  assert {
    condition     = aws_iam_role.ours["deployer"].name == "deployctl-deployer" && aws_iam_role.ours["deployer"].max_session_duration == 14400
    error_message = "the role has the name that environment files use, and a session that outlasts a first apply"
  }
  assert {
    condition     = alltrue([for policy in aws_iam_policy.ours : policy.path == "/deployctl/" && length(policy.policy) <= 6144])
    error_message = "every part is short enough for IAM, and where no deployer may change it"
  }
  assert {
    condition = length(flatten([for key, policy in aws_iam_policy.ours : jsondecode(policy.policy).Statement if startswith(key, "deployer-")])) == length(
      flatten([for name in ["deployer", "recovery"] : jsondecode(file("../policies/${name}.json")).Statement])
    )
    error_message = "every statement of the committed policies is in one of the parts"
  }
  assert {
    condition     = alltrue([for policy in aws_iam_policy.ours : !strcontains(policy.policy, "$${")])
    error_message = "every placeholder is filled in"
  }
  assert {
    condition     = toset([for attachment in aws_iam_role_policy_attachment.ours : attachment.role]) == toset(["deployctl-deployer", "deployctl-on-call"])
    error_message = "the parts are attached"
  }
}

run "another_github_environment" {
  command = plan
  variables {
    github                 = { repository = "example/files", environment = "aws-staging" }
    create_github_provider = false
  }

  assert {
    condition     = jsondecode(aws_iam_role.ours["deployer"].assume_role_policy).Statement[1].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == "repo:example/files:environment:aws-staging"
    error_message = "the GitHub environment may be called otherwise"
  }
  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "an account that has the provider keeps it"
  }
}

run "without_github" {
  command = plan
  variables { github = null }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0 && length(jsondecode(aws_iam_role.ours["deployer"].assume_role_policy).Statement) == 1
    error_message = "no repository, no trust in GitHub"
  }
}

run "refuses_a_role_for_nobody" {
  command = plan
  variables {
    github              = null
    deployer_principals = []
  }
  expect_failures = [aws_iam_role.ours]
}

run "refuses_every_repository_of_an_owner" {
  command = plan
  variables { github = { repository = "example/*" } }
  expect_failures = [var.github]
}

run "refuses_every_github_environment" {
  command = plan
  variables { github = { repository = "example/files", environment = "*" } }
  expect_failures = [var.github]
}

run "refuses_the_whole_account" {
  command = plan
  variables { deployer_principals = ["arn:aws:iam::111122223333:root"] }
  expect_failures = [var.deployer_principals]
}

run "refuses_nobody_on_call" {
  command = plan
  variables { on_call_principals = [] }
  expect_failures = [var.on_call_principals]
}

run "refuses_a_role_that_the_bootstrap_policy_does_not_know" {
  command = plan
  variables { deployer_role = "admin" }
  expect_failures = [var.deployer_role]
}

run "refuses_an_on_call_role_of_another_name" {
  command = plan
  variables { on_call_role = "admin" }
  expect_failures = [var.on_call_role]
}

run "refuses_a_provider_for_nothing" {
  command = plan
  variables {
    github                 = null
    create_github_provider = false
  }
  expect_failures = [var.create_github_provider]
}

run "refuses_to_restore_into_the_same_region" {
  command = plan
  variables { dr_region = "us-east-1" }
  expect_failures = [var.dr_region]
}

run "a_warm_standby_needs_more" {
  command = plan
  variables { standby = "warm" }

  assert {
    condition = contains(flatten([for policy in aws_iam_policy.ours : [
      for statement in jsondecode(policy.policy).Statement : statement.Sid
    ]]), "StepWarmCluster")
    error_message = "the deployer may keep a cluster in the DR region"
  }
}

run "and_nothing_else_does" {
  command = plan

  assert {
    condition = !contains(flatten([for policy in aws_iam_policy.ours : [
      for statement in jsondecode(policy.policy).Statement : statement.Sid
    ]]), "StepWarmCluster")
    error_message = "a pilot light has no cluster"
  }
}
