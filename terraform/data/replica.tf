# Copies of every object in the region where the environment is restored.
locals {
  replicas = var.storage.replicate ? toset(["replica"]) : toset([])
}

resource "aws_s3_bucket" "replica" {
  for_each = local.replicas
  provider = aws.dr

  bucket = "${local.bucket_name}-${var.dr_region}"
}

resource "aws_s3_bucket_versioning" "replica" {
  for_each = local.replicas
  provider = aws.dr

  bucket = aws_s3_bucket.replica[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "replica" {
  for_each = local.replicas
  provider = aws.dr

  bucket = aws_s3_bucket.replica[each.key].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "replica" {
  for_each = local.replicas
  provider = aws.dr

  bucket = aws_s3_bucket.replica[each.key].id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "replica" {
  for_each = local.replicas
  provider = aws.dr

  bucket = aws_s3_bucket.replica[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_policy" "replica" {
  for_each = local.replicas
  provider = aws.dr

  bucket = aws_s3_bucket.replica[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "RefuseWithoutTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.replica[each.key].arn, "${aws_s3_bucket.replica[each.key].arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.replica]
}

# Replication copies objects, not their lifecycle: the copies move to Glacier by rules of their own.
resource "aws_s3_bucket_lifecycle_configuration" "replica" {
  for_each = local.replicas
  provider = aws.dr

  bucket = aws_s3_bucket.replica[each.key].id

  rule {
    id     = "current-to-glacier"
    status = "Enabled"

    filter {}

    transition {
      days          = var.storage.current_to_glacier_days
      storage_class = "GLACIER"
    }
  }

  rule {
    id     = "noncurrent-to-glacier"
    status = "Enabled"

    filter {}

    noncurrent_version_transition {
      noncurrent_days = var.storage.noncurrent_to_glacier_days
      storage_class   = "GLACIER"
    }
  }

  rule {
    id     = "abort-incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.replica]
}

# S3 says for no bucket that it asks when it takes this role to replicate (AWS documents its trust without conditions), so what the
# role may do is what limits it.
resource "aws_iam_role" "replication" {
  for_each = local.replicas

  name        = "${var.name_prefix}-replication"
  description = "S3 copies uploads of ${var.name_prefix} to ${var.dr_region}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "s3.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "replication" {
  for_each = local.replicas

  name = "permissions"
  role = aws_iam_role.replication[each.key].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
        Resource = aws_s3_bucket.uploads.arn
      },
      {
        Effect   = "Allow"
        Action   = ["s3:GetObjectVersionAcl", "s3:GetObjectVersionForReplication", "s3:GetObjectVersionTagging"]
        Resource = "${aws_s3_bucket.uploads.arn}/*"
      },
      {
        Effect   = "Allow"
        Action   = ["s3:ReplicateDelete", "s3:ReplicateObject", "s3:ReplicateTags"]
        Resource = "${aws_s3_bucket.replica[each.key].arn}/*"
      },
    ]
  })
}

resource "aws_s3_bucket_replication_configuration" "uploads" {
  for_each = local.replicas

  bucket = aws_s3_bucket.uploads.id
  role   = aws_iam_role.replication[each.key].arn

  rule {
    id       = "everything"
    priority = 0
    status   = "Enabled"

    filter {}

    delete_marker_replication {
      status = "Enabled"
    }

    destination {
      bucket        = aws_s3_bucket.replica[each.key].arn
      storage_class = "STANDARD"
    }
  }

  # Both buckets must have versions, and the role its rights, before S3 accepts this.
  depends_on = [aws_s3_bucket_versioning.uploads, aws_s3_bucket_versioning.replica, aws_iam_role_policy.replication]
}
