output "bucket" {
  description = "The bucket for uploads."
  value       = aws_s3_bucket.uploads.bucket
}

output "bucket_arn" {
  description = "Its ARN, for policies."
  value       = aws_s3_bucket.uploads.arn
}

output "replica_bucket" {
  description = "The bucket in the other region that gets a copy of every object; null without replication."
  value       = one([for bucket in aws_s3_bucket.replica : bucket.bucket])
}

output "queue_urls" {
  description = "Each queue's URL, by service."
  value       = { for name, queue in aws_sqs_queue.service : name => queue.url }
}

output "queue_arns" {
  description = "Each queue's ARN, by service."
  value       = { for name, queue in aws_sqs_queue.service : name => queue.arn }
}

output "dead_letter_queue_urls" {
  description = "Each dead-letter queue's URL, by service."
  value       = { for name, queue in aws_sqs_queue.dead_letter : name => queue.url }
}

output "database_identifier" {
  description = "RDS' name for the instance."
  value       = aws_db_instance.database.identifier
}

output "database_host" {
  description = "Where it listens, reachable from the nodes only."
  value       = aws_db_instance.database.address
}

output "database_port" {
  description = "Its port."
  value       = aws_db_instance.database.port
}

output "database_name" {
  description = "The database in it."
  value       = aws_db_instance.database.db_name
}

output "database_master_secret_arn" {
  description = "The secret in which RDS keeps the master user's password."
  value       = aws_db_instance.database.master_user_secret[0].secret_arn
}

output "secret_arns" {
  description = "Each secret's ARN, by name, `database` among them."
  value = merge(
    local.parameter_arns,
    { for name, secret in aws_secretsmanager_secret.service : name => secret.arn },
    { for name, secret in aws_secretsmanager_secret.database : name => secret.arn },
    { for name, parameter in aws_ssm_parameter.database : name => parameter.arn },
  )
}

output "kms_key_arn" {
  description = "The key of the database and its snapshots."
  value       = aws_kms_key.data.arn
}

output "recovery_kms_key_arn" {
  description = "The key in the other region for copies of snapshots."
  value       = aws_kms_key.recovery.arn
}
