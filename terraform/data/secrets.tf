# Secrets without values. Whoever has a value writes it past terraform, so that none is ever in a state or a plan.
locals {
  in_secrets_manager = var.secret_store == "secrets-manager"
  secrets            = local.in_secrets_manager ? toset(var.secrets) : toset([])

  # A parameter cannot be empty, and the provider reads a SecureString's value back into the state. So in Parameter Store
  # terraform owns none of them: `deployctl secret set` and the bootstrap Job make them under these names.
  parameter_arns = { for name in var.secrets :
    name => "arn:${data.aws_partition.current.partition}:ssm:${var.region}:${var.account_id}:parameter/deployctl/${var.environment}/${name}"
    if !local.in_secrets_manager
  }

  # Where the database is; nothing in it is secret. The other region has one of its own, since a replica cannot be written.
  endpoint = jsonencode({
    host   = aws_db_instance.database.address
    port   = aws_db_instance.database.port
    dbname = local.database_name
  })
}

import {
  for_each = { for name, arn in var.existing_secrets : name => arn if contains(local.secrets, name) }
  to       = aws_secretsmanager_secret.service[each.key]
  id       = each.value
}

resource "aws_secretsmanager_secret" "service" {
  for_each = local.secrets

  name                    = "deployctl/${var.environment}/${each.key}"
  description             = "Value written by deployctl secret set, or in the cluster"
  recovery_window_in_days = 30

  # A restored database knows the same passwords, and the event bus the same key.
  replica {
    region = var.dr_region
  }
}

resource "aws_secretsmanager_secret" "database" {
  for_each = local.in_secrets_manager ? toset(["database"]) : toset([])

  name                    = "deployctl/${var.environment}/${each.key}"
  description             = "Address of the database in ${var.region}"
  recovery_window_in_days = 30
}

resource "aws_secretsmanager_secret_version" "database" {
  for_each = aws_secretsmanager_secret.database

  secret_id     = each.value.id
  secret_string = local.endpoint
}

resource "aws_ssm_parameter" "database" {
  for_each = local.in_secrets_manager ? toset([]) : toset(["database"])

  name        = "/deployctl/${var.environment}/${each.key}"
  description = "Address of the database in ${var.region}"
  type        = "String"
  value       = local.endpoint
}
