# Where `credentials` is pod-identity: EKS itself is trusted, for the pods of one account in this cluster, and an association says which account.
locals {
  partition   = split(":", var.oidc_provider_arn)[1]
  cluster_arn = "arn:${local.partition}:eks:${var.region}:${var.account_id}:cluster/${var.cluster_name}"

  # External Secrets cannot ask for another account's credentials by Pod Identity: EKS takes tokens of an account's own pods only. So it becomes
  # these accounts from its own role, and no others.
  reads       = local.pod_identity && var.secrets_reader != ""
  read_for    = { for key, account in local.service_accounts : key => account if local.reads && length(account.secrets) > 0 && key != var.secrets_reader }
  reader_role = "arn:${local.partition}:iam::${var.account_id}:role/${var.name_prefix}-${replace(var.secrets_reader, "/", "-")}"

  # A session keeps its tags when it becomes another role, so whoever becomes one must be allowed to tag it as well.
  assume = ["sts:AssumeRole", "sts:TagSession"]

  pod_identity_trust = { for key, account in local.service_accounts : key => jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Effect    = "Allow"
        Action    = local.assume
        Principal = { Service = "pods.eks.amazonaws.com" }
        # The tags are EKS' own, of the pod that asks: a name would fit the next cluster of this name too, the ARN says account and region.
        Condition = {
          StringEquals = {
            "aws:SourceAccount"                         = var.account_id
            "aws:RequestTag/eks-cluster-arn"            = local.cluster_arn
            "aws:RequestTag/kubernetes-namespace"       = account.namespace
            "aws:RequestTag/kubernetes-service-account" = account.service_account
          }
        }
      }],
      # By condition, not as principal: IAM takes no principal that is not there yet, and knows a role that was made anew as another one.
      contains(keys(local.read_for), key) ? [{
        Effect    = "Allow"
        Action    = local.assume
        Principal = { AWS = "arn:${local.partition}:iam::${var.account_id}:root" }
        Condition = { ArnEquals = { "aws:PrincipalArn" = local.reader_role } }
      }] : [],
    )
  }) }
}

resource "aws_eks_pod_identity_association" "service_account" {
  for_each = local.pod_identity ? local.service_accounts : {}

  cluster_name    = var.cluster_name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.service_account[each.key].arn
}

resource "aws_iam_role_policy" "secrets_reader" {
  for_each = { for key in [var.secrets_reader] : key => local.read_for if length(local.read_for) > 0 }

  name = "read-as"
  role = aws_iam_role.service_account[each.key].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = local.assume
      Resource = [for key in keys(each.value) : aws_iam_role.service_account[key].arn]
    }]
  })
}
