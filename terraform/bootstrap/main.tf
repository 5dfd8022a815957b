# What an account needs before deployctl can work in it, made once by a person who has terraform/policies/bootstrap.json: the role that
# deployctl works as, the role of whoever is on call, and the provider by which GitHub's jobs become the first of them. The state bucket
# and the lock table are not here: step `backend` makes them, under the deployer's role.
locals {
  policies = "${path.module}/../policies"

  # The names between ${} in the policies' texts.
  values = {
    account_id  = var.account_id
    region      = var.region
    dr_region   = var.dr_region
    prefix      = "deployctl-${var.environment}"
    environment = var.environment
  }

  github_host = "token.actions.githubusercontent.com"

  roles = {
    deployer = {
      name       = var.deployer_role
      principals = var.deployer_principals
      statements = flatten([for file in concat(["deployer", "recovery"], var.standby == "warm" ? ["warm"] : []) : jsondecode(templatefile("${local.policies}/${file}.json", local.values)).Statement])
      # GitHub's jobs cannot renew their session, and a first apply takes longer than the hour that is usual.
      session_seconds = 14400
      trust = var.github == null ? [] : jsondecode(templatefile("${local.policies}/github-trust.json", {
        account_id         = var.account_id
        repository         = var.github.repository
        github_environment = coalesce(var.github.environment, var.environment)
      })).Statement
    }
    on-call = {
      name            = var.on_call_role
      principals      = var.on_call_principals
      statements      = jsondecode(templatefile("${local.policies}/on-call.json", local.values)).Statement
      session_seconds = 14400
      trust           = []
    }
  }

  # IAM takes 6,144 characters in a managed policy, and the deployer's statements are more: eight of them go into each. tests/terraform
  # measures the parts.
  parts = merge([for role, wanted in local.roles : {
    for part in range(ceil(length(wanted.statements) / 8)) : "${role}-${part + 1}" => {
      role       = role
      number     = part + 1
      statements = slice(wanted.statements, part * 8, min(length(wanted.statements), part * 8 + 8))
    }
  }]...)
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.github != null && var.create_github_provider ? 1 : 0

  url            = "https://${local.github_host}"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "ours" {
  for_each = local.roles

  name                 = each.value.name
  description          = "deployctl: ${each.key} of ${var.environment}"
  max_session_duration = each.value.session_seconds

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      length(each.value.principals) == 0 ? [] : [{
        Sid       = "People"
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { AWS = sort(each.value.principals) }
      }],
      each.value.trust,
    )
  })

  lifecycle {
    precondition {
      condition     = length(each.value.principals) + length(each.value.trust) > 0
      error_message = "Nobody could be the role ${each.value.name}: name principals, or a repository in github."
    }
  }

  # IAM refuses a trust in a provider that is not there.
  depends_on = [aws_iam_openid_connect_provider.github]
}

# In a path of their own: whatever an environment is called, its deployer may change policies of its prefix, and never these.
resource "aws_iam_policy" "ours" {
  for_each = local.parts

  name        = "${local.roles[each.value.role].name}-${each.value.number}"
  path        = "/deployctl/"
  description = "deployctl: part of what the role ${local.roles[each.value.role].name} may do"

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = each.value.statements
  })
}

resource "aws_iam_role_policy_attachment" "ours" {
  for_each = local.parts

  role       = aws_iam_role.ours[each.value.role].name
  policy_arn = aws_iam_policy.ours[each.key].arn
}
