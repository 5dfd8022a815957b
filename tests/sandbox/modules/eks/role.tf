# The role that the control plane works as.

resource "aws_iam_role" "this" {
  name        = var.iam_role_use_name_prefix ? null : coalesce(var.iam_role_name, "${var.name}-cluster")
  name_prefix = var.iam_role_use_name_prefix ? "${coalesce(var.iam_role_name, "${var.name}-cluster")}-" : null

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "EKSClusterAssumeRole"
      Effect    = "Allow"
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Principal = { Service = "eks.amazonaws.com" }
    }]
  })

  force_detach_policies = true

  tags = var.tags
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = toset(["AmazonEKSClusterPolicy"])

  role       = aws_iam_role.this.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.key}"
}

resource "aws_iam_policy" "cluster_encryption" {
  name        = var.encryption_policy_use_name_prefix ? null : coalesce(var.encryption_policy_name, "${var.name}-cluster-ClusterEncryption")
  name_prefix = var.encryption_policy_use_name_prefix ? coalesce(var.encryption_policy_name, "${var.name}-cluster-ClusterEncryption") : null
  description = "Cluster encryption policy to allow cluster role to utilize CMK provided"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:ListGrants"]
      Resource = aws_kms_key.this.arn
    }]
  })

  tags = var.tags
}

resource "aws_iam_role_policy_attachment" "cluster_encryption" {
  role       = aws_iam_role.this.name
  policy_arn = aws_iam_policy.cluster_encryption.arn
}
