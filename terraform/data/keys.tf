# One key in each region: a copy of an encrypted backup is encrypted by a key of the region that it goes to.
locals {
  key_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "GovernedByIam"
      Effect    = "Allow"
      Principal = { AWS = "arn:${data.aws_partition.current.partition}:iam::${var.account_id}:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

resource "aws_kms_key" "data" {
  description             = "Database and its backups of ${var.name_prefix}"
  policy                  = local.key_policy
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "data" {
  name          = "alias/${var.name_prefix}-data"
  target_key_id = aws_kms_key.data.key_id
}

resource "aws_kms_key" "recovery" {
  provider = aws.dr

  description             = "Backups of ${var.name_prefix} from ${var.region}"
  policy                  = local.key_policy
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "recovery" {
  provider = aws.dr

  name          = "alias/${var.name_prefix}-data"
  target_key_id = aws_kms_key.recovery.key_id
}
