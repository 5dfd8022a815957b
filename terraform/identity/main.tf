locals {
  # Keyed as the outputs are, so that a role's address says whose it is.
  service_accounts = { for account in values(var.service_accounts) : "${account.namespace}/${account.service_account}" => account }

  pod_identity = var.credentials == "pod-identity"
}

resource "aws_iam_role" "service_account" {
  for_each = local.service_accounts

  name        = "${var.name_prefix}-${each.value.namespace}-${each.value.service_account}${var.role_suffix}"
  description = "Service account ${each.key} of ${var.name_prefix}"

  # Both conditions compare exactly: the subject keeps other accounts out, the audience tokens that were made for others.
  assume_role_policy = local.pod_identity ? local.pod_identity_trust[each.key] : jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = var.oidc_provider_arn }
      Condition = {
        StringEquals = {
          "${var.oidc_issuer}:sub" = "system:serviceaccount:${each.value.namespace}:${each.value.service_account}"
          "${var.oidc_issuer}:aud" = "sts.amazonaws.com"
        }
      }
    }]
  })

  # Someone who attached a policy by hand must not keep `destroy` from finishing.
  force_detach_policies = true
}

resource "aws_iam_role_policy" "service_account" {
  for_each = { for key, account in local.service_accounts : key => account if length(account.statements) > 0 }

  name = "permissions"
  role = aws_iam_role.service_account[each.key].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for statement in each.value.statements : merge(
      {
        Effect   = "Allow"
        Action   = sort(statement.actions)
        Resource = sort(statement.resources)
      },
      length(statement.conditions) == 0 ? {} : {
        Condition = { for test in distinct(statement.conditions[*].test) : test => {
          for condition in statement.conditions : condition.variable => condition.values if condition.test == test
        } }
      },
    )]
  })
}
