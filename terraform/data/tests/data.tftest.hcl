# What design §3 row 4 and §6 ask of bucket, queues, database and secrets.

mock_provider "aws" {
  override_during = plan

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::deployctl-staging-uploads-111122223333" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:111122223333:key/here", key_id = "here" }
  }
  mock_resource "aws_db_instance" {
    defaults = {
      address            = "deployctl-staging.abc.us-east-1.rds.amazonaws.com"
      arn                = "arn:aws:rds:us-east-1:111122223333:db:deployctl-staging"
      master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-1" }]
    }
  }
}

mock_provider "aws" {
  alias           = "dr"
  override_during = plan

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::deployctl-staging-uploads-111122223333-eu-west-1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:111122223333:key/there", key_id = "there" }
  }
}

override_resource {
  target          = aws_sqs_queue.service["parser"]
  override_during = plan
  values          = { arn = "arn:aws:sqs:us-east-1:111122223333:deployctl-staging-parser", id = "https://sqs/parser" }
}

override_resource {
  target          = aws_sqs_queue.dead_letter["parser"]
  override_during = plan
  values          = { arn = "arn:aws:sqs:us-east-1:111122223333:deployctl-staging-parser-dlq", id = "https://sqs/parser-dlq" }
}

override_resource {
  target          = terraform_data.life
  override_during = plan
  values          = { id = "0a1b2c3d-0000-0000-0000-000000000000" }
}

variables {
  name_prefix            = "deployctl-staging"
  environment            = "staging"
  account_id             = "111122223333"
  region                 = "us-east-1"
  dr_region              = "eu-west-1"
  vpc_id                 = "vpc-0a1b2c3d"
  database_subnet_group  = "deployctl-staging"
  node_security_group_id = "sg-0a1b2c3d"
  database = {
    engine_version      = "15"
    instance_class      = "db.t4g.medium"
    storage_gib         = { initial = 20, max = 100 }
    multi_az            = true
    backup_days         = 7
    replicate_backups   = true
    deletion_protection = true
  }
  storage = { current_to_glacier_days = 90, noncurrent_to_glacier_days = 30, replicate = true }
  queues  = { parser = { prefix = "uploads/", visibility_seconds = 120, max_receives = 5 } }
  secrets = ["kafka", "uploader-tokens", "parser-db", "migrator-db"]
}

run "bucket" {
  command = plan

  assert {
    condition     = aws_s3_bucket.uploads.bucket == "deployctl-staging-uploads-111122223333" && aws_s3_bucket.uploads.force_destroy != true
    error_message = "the bucket has the documented name and is not emptied by destroy"
  }
  assert {
    condition     = aws_s3_bucket_versioning.uploads.versioning_configuration[0].status == "Enabled"
    error_message = "versions are kept"
  }
  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.uploads.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "AES256"
    error_message = "objects are encrypted"
  }
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.uploads.block_public_acls, aws_s3_bucket_public_access_block.uploads.block_public_policy,
      aws_s3_bucket_public_access_block.uploads.ignore_public_acls, aws_s3_bucket_public_access_block.uploads.restrict_public_buckets,
    ])
    error_message = "nothing is public"
  }
  assert {
    condition     = aws_s3_bucket_ownership_controls.uploads.rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "objects belong to the bucket's owner"
  }
  assert {
    condition = jsondecode(aws_s3_bucket_policy.uploads.policy).Statement == [{
      Sid       = "RefuseWithoutTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = ["arn:aws:s3:::deployctl-staging-uploads-111122223333", "arn:aws:s3:::deployctl-staging-uploads-111122223333/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
    error_message = "TLS only"
  }
  assert {
    condition     = one(aws_s3_bucket_lifecycle_configuration.uploads.rule[0].transition).days == 90 && one(aws_s3_bucket_lifecycle_configuration.uploads.rule[0].transition).storage_class == "GLACIER"
    error_message = "current objects move to Glacier after 90 days"
  }
  assert {
    condition     = one(aws_s3_bucket_lifecycle_configuration.uploads.rule[1].noncurrent_version_transition).noncurrent_days == 30 && one(aws_s3_bucket_lifecycle_configuration.uploads.rule[1].noncurrent_version_transition).storage_class == "GLACIER"
    error_message = "noncurrent versions move to Glacier after 30 days"
  }
  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.uploads.rule[2].abort_incomplete_multipart_upload[0].days_after_initiation == 7
    error_message = "unfinished uploads are given up after 7 days"
  }
  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.uploads.rule : rule.status == "Enabled"])
    error_message = "every rule is on"
  }
}

run "replica" {
  command = plan

  assert {
    condition     = aws_s3_bucket.replica["replica"].bucket == "deployctl-staging-uploads-111122223333-eu-west-1"
    error_message = "copies go to a bucket of the other region"
  }
  assert {
    condition     = aws_s3_bucket_replication_configuration.uploads["replica"].rule[0].destination[0].bucket == "arn:aws:s3:::deployctl-staging-uploads-111122223333-eu-west-1" && aws_s3_bucket_replication_configuration.uploads["replica"].rule[0].status == "Enabled"
    error_message = "replication goes there"
  }
  assert {
    condition     = aws_s3_bucket_versioning.replica["replica"].versioning_configuration[0].status == "Enabled" && aws_s3_bucket_public_access_block.replica["replica"].restrict_public_buckets && can(aws_s3_bucket_policy.replica["replica"].policy)
    error_message = "the copy is kept as the original is"
  }
  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.replica["replica"].rule).apply_server_side_encryption_by_default[0].sse_algorithm == "AES256" && aws_s3_bucket_ownership_controls.replica["replica"].rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "the copy is encrypted and its owner's, as the original is"
  }
  assert {
    condition = jsondecode(aws_s3_bucket_policy.replica["replica"].policy).Statement == [{
      Sid       = "RefuseWithoutTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = ["arn:aws:s3:::deployctl-staging-uploads-111122223333-eu-west-1", "arn:aws:s3:::deployctl-staging-uploads-111122223333-eu-west-1/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
    error_message = "TLS only, for the copy too"
  }
  assert {
    condition = (
      one(aws_s3_bucket_lifecycle_configuration.replica["replica"].rule[0].transition).days == 90 &&
      one(aws_s3_bucket_lifecycle_configuration.replica["replica"].rule[1].noncurrent_version_transition).noncurrent_days == 30 &&
      aws_s3_bucket_lifecycle_configuration.replica["replica"].rule[2].abort_incomplete_multipart_upload[0].days_after_initiation == 7
    )
    error_message = "the copy's lifecycle is the original's"
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.replication["replica"].policy).Statement[2].Resource == "arn:aws:s3:::deployctl-staging-uploads-111122223333-eu-west-1/*" && jsondecode(aws_iam_role_policy.replication["replica"].policy).Statement[1].Resource == "arn:aws:s3:::deployctl-staging-uploads-111122223333/*"
    error_message = "from this bucket into that one, and no other"
  }
  assert {
    condition     = aws_s3_bucket_replication_configuration.uploads["replica"].rule[0].delete_marker_replication[0].status == "Enabled"
    error_message = "what is deleted here is deleted there"
  }
  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.replication["replica"].policy).Statement : statement.Action])) == toset([
      "s3:GetReplicationConfiguration", "s3:ListBucket", "s3:GetObjectVersionAcl", "s3:GetObjectVersionForReplication", "s3:GetObjectVersionTagging",
      "s3:ReplicateDelete", "s3:ReplicateObject", "s3:ReplicateTags",
    ])
    error_message = "S3 may do what replication takes"
  }
  assert {
    condition     = jsondecode(aws_iam_role.replication["replica"].assume_role_policy).Statement[0].Principal == { Service = "s3.amazonaws.com" }
    error_message = "S3 and nobody else takes the role"
  }
}

run "no_replica" {
  command = plan
  variables { storage = { current_to_glacier_days = 90, noncurrent_to_glacier_days = 30, replicate = false } }

  assert {
    condition     = length(aws_s3_bucket.replica) == 0 && length(aws_s3_bucket_replication_configuration.uploads) == 0 && length(aws_iam_role.replication) == 0 && output.replica_bucket == null
    error_message = "no copies unless asked for"
  }
}

run "queues" {
  command = plan

  assert {
    condition     = aws_sqs_queue.service["parser"].name == "deployctl-staging-parser" && aws_sqs_queue.dead_letter["parser"].name == "deployctl-staging-parser-dlq"
    error_message = "the documented names"
  }
  assert {
    condition     = aws_sqs_queue.service["parser"].sqs_managed_sse_enabled && aws_sqs_queue.dead_letter["parser"].sqs_managed_sse_enabled
    error_message = "SSE-SQS: S3 cannot notify a queue encrypted by alias/aws/sqs"
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.service["parser"].redrive_policy) == { deadLetterTargetArn = "arn:aws:sqs:us-east-1:111122223333:deployctl-staging-parser-dlq", maxReceiveCount = 5 }
    error_message = "after five receives a message goes to the dead-letter queue"
  }
  assert {
    condition     = jsondecode(aws_sqs_queue_redrive_allow_policy.dead_letter["parser"].redrive_allow_policy) == { redrivePermission = "byQueue", sourceQueueArns = ["arn:aws:sqs:us-east-1:111122223333:deployctl-staging-parser"] }
    error_message = "only its own queue may use the dead-letter queue"
  }
  assert {
    condition     = aws_sqs_queue.service["parser"].visibility_timeout_seconds == 120 && aws_sqs_queue.service["parser"].receive_wait_time_seconds == 20
    error_message = "visibility as declared, long polling"
  }
  assert {
    condition     = aws_sqs_queue.dead_letter["parser"].message_retention_seconds > aws_sqs_queue.service["parser"].message_retention_seconds
    error_message = "a dead letter keeps its age, so its queue must keep messages for longer"
  }
  assert {
    condition = jsondecode(aws_sqs_queue_policy.service["parser"].policy).Statement == [{
      Sid       = "UploadsMaySend"
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = "arn:aws:sqs:us-east-1:111122223333:deployctl-staging-parser"
      Condition = {
        ArnEquals    = { "aws:SourceArn" = "arn:aws:s3:::deployctl-staging-uploads-111122223333" }
        StringEquals = { "aws:SourceAccount" = "111122223333" }
      }
    }]
    error_message = "our bucket of our account may send, nobody else"
  }
  assert {
    condition     = one(aws_s3_bucket_notification.uploads.queue).events == toset(["s3:ObjectCreated:*"]) && one(aws_s3_bucket_notification.uploads.queue).filter_prefix == "uploads/" && one(aws_s3_bucket_notification.uploads.queue).queue_arn == "arn:aws:sqs:us-east-1:111122223333:deployctl-staging-parser"
    error_message = "the bucket tells the queue of every object below its prefix"
  }
}

run "a_third_service_is_another_entry" {
  command = plan
  variables {
    queues = {
      parser = { prefix = "uploads/", visibility_seconds = 120, max_receives = 5 }
      thumbs = { prefix = "images/", visibility_seconds = 30, max_receives = 3 }
      timer  = { visibility_seconds = 30, max_receives = 3 }
    }
    secrets = ["kafka", "thumbs-key"]
  }

  assert {
    condition     = length(aws_s3_bucket_notification.uploads.queue) == 2 && length(aws_sqs_queue.service) == 3 && length(aws_sqs_queue.dead_letter) == 3
    error_message = "each queue with its dead-letter queue; notified are those with a prefix"
  }
  assert {
    condition     = toset(keys(aws_sqs_queue_policy.service)) == toset(["parser", "thumbs"])
    error_message = "S3 may not send to a queue that it does not notify"
  }
  assert {
    condition     = toset(keys(output.secret_arns)) == toset(["kafka", "thumbs-key", "database"])
    error_message = "each declared secret and the database's address"
  }
}

run "database" {
  command = plan

  assert {
    condition     = aws_db_instance.database.identifier == "deployctl-staging" && aws_db_instance.database.engine == "postgres" && aws_db_instance.database.engine_version == "15" && aws_db_instance.database.auto_minor_version_upgrade
    error_message = "PostgreSQL of the major version asked for, minor versions by AWS"
  }
  assert {
    condition     = aws_db_instance.database.manage_master_user_password && aws_db_instance.database.username == "deployctl_admin" && aws_db_instance.database.db_name == "deployctl"
    error_message = "the password belongs to RDS and is in no state"
  }
  assert {
    condition     = aws_db_instance.database.multi_az && aws_db_instance.database.backup_retention_period == 7 && aws_db_instance.database.deletion_protection && aws_db_instance.database.copy_tags_to_snapshot && !aws_db_instance.database.delete_automated_backups
    error_message = "a standby, backups for point-in-time recovery that outlive it, protection from deletion"
  }
  assert {
    condition     = !aws_db_instance.database.skip_final_snapshot && aws_db_instance.database.final_snapshot_identifier == "deployctl-staging-final-0a1b2c3d"
    error_message = "destroying takes a snapshot first"
  }
  assert {
    condition     = aws_db_instance.database.storage_encrypted && aws_db_instance.database.kms_key_id == "arn:aws:kms:us-east-1:111122223333:key/here" && aws_db_instance.database.storage_type == "gp3"
    error_message = "encrypted by our key, on gp3"
  }
  assert {
    condition     = aws_db_instance.database.performance_insights_kms_key_id == "arn:aws:kms:us-east-1:111122223333:key/here" && aws_db_instance.database.parameter_group_name == "deployctl-staging-postgres15"
    error_message = "performance insights by our key too, and our own parameter group"
  }
  assert {
    condition = (
      aws_kms_key.data.deletion_window_in_days == 30 && aws_kms_key.recovery.deletion_window_in_days == 30 &&
      jsondecode(aws_kms_key.data.policy).Statement == [{ Sid = "GovernedByIam", Effect = "Allow", Principal = { AWS = "arn:aws:iam::111122223333:root" }, Action = "kms:*", Resource = "*" }]
    )
    error_message = "a key can be brought back for 30 days, and IAM says who may use it"
  }
  assert {
    condition     = aws_db_instance.database.allocated_storage == 20 && aws_db_instance.database.max_allocated_storage == 100
    error_message = "storage grows by itself to its bound"
  }
  assert {
    condition     = aws_db_instance.database.performance_insights_enabled && toset(aws_db_instance.database.enabled_cloudwatch_logs_exports) == toset(["postgresql", "upgrade"])
    error_message = "performance insights and logs"
  }
  assert {
    condition     = !aws_db_instance.database.publicly_accessible && aws_db_instance.database.db_subnet_group_name == "deployctl-staging"
    error_message = "in the database's subnets and not public"
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.database.referenced_security_group_id == "sg-0a1b2c3d" && aws_vpc_security_group_ingress_rule.database.from_port == 5432 && aws_vpc_security_group_ingress_rule.database.to_port == 5432 && aws_vpc_security_group_ingress_rule.database.ip_protocol == "tcp"
    error_message = "reached from the nodes' security group on 5432 and by nothing else"
  }
  assert {
    condition     = aws_db_parameter_group.database.family == "postgres15" && length([for parameter in aws_db_parameter_group.database.parameter : parameter if parameter.name == "rds.force_ssl" && parameter.value == "1"]) == 1
    error_message = "TLS for everybody"
  }
  assert {
    condition     = alltrue([for setting in ["log_connections=1", "log_disconnections=1", "log_lock_waits=1", "log_min_duration_statement=1000", "log_statement=ddl"] : contains([for parameter in aws_db_parameter_group.database.parameter : "${parameter.name}=${parameter.value}"], setting)])
    error_message = "logs that say who did what and what was slow"
  }
  assert {
    condition     = alltrue([for group in values(aws_cloudwatch_log_group.database) : group.retention_in_days == 30]) && aws_cloudwatch_log_group.database["postgresql"].name == "/aws/rds/instance/deployctl-staging/postgresql"
    error_message = "its logs do not stay for ever"
  }
  assert {
    condition     = aws_db_instance_automated_backups_replication.database["replica"].kms_key_id == "arn:aws:kms:eu-west-1:111122223333:key/there" && aws_db_instance_automated_backups_replication.database["replica"].retention_period == 7
    error_message = "backups are in the other region, by a key of that region, as long as here"
  }
  assert {
    condition     = aws_kms_key.data.enable_key_rotation && aws_kms_key.recovery.enable_key_rotation && aws_kms_alias.recovery.name == "alias/deployctl-staging-data"
    error_message = "keys are rotated and found by name"
  }
}

run "secrets" {
  command = plan

  assert {
    condition     = alltrue([for secret in values(aws_secretsmanager_secret.service) : secret.recovery_window_in_days == 30]) && aws_secretsmanager_secret.database["database"].recovery_window_in_days == 30
    error_message = "a deleted secret can be brought back for 30 days"
  }

  assert {
    condition     = aws_secretsmanager_secret.service["kafka"].name == "deployctl/staging/kafka" && length(aws_secretsmanager_secret.service) == 4
    error_message = "one secret for each name"
  }
  assert {
    condition     = one(aws_secretsmanager_secret.service["parser-db"].replica).region == "eu-west-1"
    error_message = "what a restored environment needs is in the other region"
  }
  assert {
    condition     = length(aws_secretsmanager_secret.database["database"].replica) == 0
    error_message = "the endpoint's secret has no replica, because a replica cannot be written"
  }
  assert {
    condition     = jsondecode(nonsensitive(aws_secretsmanager_secret_version.database["database"].secret_string)) == { host = "deployctl-staging.abc.us-east-1.rds.amazonaws.com", port = 5432, dbname = "deployctl" }
    error_message = "the endpoint's secret says where the database is"
  }
  assert {
    condition     = keys(aws_secretsmanager_secret_version.database) == ["database"]
    error_message = "terraform writes the value of no other secret"
  }
  assert {
    condition     = output.database_master_secret_arn == "arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-1"
    error_message = "where RDS keeps the password"
  }
}

run "adopts_what_exists" {
  command = plan

  # A mocked provider cannot import; this stands for what it would find.
  override_resource {
    target          = aws_secretsmanager_secret.service["kafka"]
    override_during = plan
    values          = { arn = "arn:aws:secretsmanager:us-east-1:111122223333:secret:deployctl/staging/kafka-AbCdEf" }
  }

  variables { existing_secrets = { kafka = "arn:aws:secretsmanager:us-east-1:111122223333:secret:deployctl/staging/kafka-AbCdEf", former = "arn:aws:secretsmanager:us-east-1:111122223333:secret:deployctl/staging/former-AbCdEf" } }

  assert {
    condition     = output.secret_arns["kafka"] == "arn:aws:secretsmanager:us-east-1:111122223333:secret:deployctl/staging/kafka-AbCdEf" && length(aws_secretsmanager_secret.service) == 4
    error_message = "a secret that was set before the first apply is taken over; one that nobody declares is left alone"
  }
}

run "parameters" {
  command = plan
  variables { secret_store = "ssm" }

  assert {
    condition     = length(aws_secretsmanager_secret.service) == 0 && length(aws_secretsmanager_secret.database) == 0 && keys(aws_ssm_parameter.database) == ["database"]
    error_message = "in Parameter Store terraform writes the database's address and nothing secret"
  }
  assert {
    condition     = aws_ssm_parameter.database["database"].type == "String" && aws_ssm_parameter.database["database"].name == "/deployctl/staging/database"
    error_message = "the address under its documented name"
  }
  assert {
    condition     = output.secret_arns["kafka"] == "arn:aws:ssm:us-east-1:111122223333:parameter/deployctl/staging/kafka"
    error_message = "roles can name the parameters that deployctl writes"
  }
}

run "refuses_a_minor_version" {
  command = plan
  variables { database = { engine_version = "15.8", instance_class = "db.t4g.medium", storage_gib = { initial = 20, max = 100 }, multi_az = true, backup_days = 7, replicate_backups = true, deletion_protection = true } }
  expect_failures = [var.database]
}

run "refuses_no_backups" {
  command = plan
  variables { database = { engine_version = "15", instance_class = "db.t4g.medium", storage_gib = { initial = 20, max = 100 }, multi_az = true, backup_days = 0, replicate_backups = true, deletion_protection = true } }
  expect_failures = [var.database]
}

run "refuses_storage_that_cannot_grow" {
  command = plan
  variables { database = { engine_version = "15", instance_class = "db.t4g.medium", storage_gib = { initial = 20, max = 21 }, multi_az = true, backup_days = 7, replicate_backups = true, deletion_protection = true } }
  expect_failures = [var.database]
}

run "refuses_an_instance_class_that_is_none" {
  command = plan
  variables { database = { engine_version = "15", instance_class = "t4g.medium", storage_gib = { initial = 20, max = 100 }, multi_az = true, backup_days = 7, replicate_backups = true, deletion_protection = true } }
  expect_failures = [var.database]
}

run "refuses_overlapping_prefixes" {
  command = plan
  variables {
    queues = {
      parser = { prefix = "uploads/", visibility_seconds = 120, max_receives = 5 }
      thumbs = { prefix = "uploads/images/", visibility_seconds = 30, max_receives = 3 }
    }
  }
  expect_failures = [var.queues]
}

run "refuses_a_dead_letter_queues_name" {
  command = plan
  variables { queues = { parser-dlq = { visibility_seconds = 120, max_receives = 5 } } }
  expect_failures = [var.queues]
}

run "refuses_no_receives" {
  command = plan
  variables { queues = { parser = { prefix = "uploads/", visibility_seconds = 120, max_receives = 0 } } }
  expect_failures = [var.queues]
}

run "refuses_a_visibility_that_sqs_does_not_know" {
  command = plan
  variables { queues = { parser = { prefix = "uploads/", visibility_seconds = 43201, max_receives = 5 } } }
  expect_failures = [var.queues]
}

run "refuses_a_secret_that_is_its_own" {
  command = plan
  variables { secrets = ["database"] }
  expect_failures = [var.secrets]
}

run "refuses_an_unknown_store" {
  command = plan
  variables { secret_store = "vault" }
  expect_failures = [var.secret_store]
}

run "refuses_glacier_at_once" {
  command = plan
  variables { storage = { current_to_glacier_days = 0, noncurrent_to_glacier_days = 30, replicate = false } }
  expect_failures = [var.storage]
}

run "refuses_secrets_that_are_none" {
  command = plan
  variables { existing_secrets = { kafka = "deployctl/staging/kafka" } }
  expect_failures = [var.existing_secrets]
}
