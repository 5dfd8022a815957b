locals {
  database_name = "deployctl"
}

resource "aws_security_group" "database" {
  name        = "${var.name_prefix}-database"
  description = "Database of ${var.name_prefix}: reached from its nodes only"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name_prefix}-database" }
}

# The only way in; there is no way out.
resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.database.id
  referenced_security_group_id = var.node_security_group_id
  description                  = "PostgreSQL from the nodes"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432

  tags = { Name = "${var.name_prefix}-nodes" }
}

resource "aws_db_parameter_group" "database" {
  name        = "${var.name_prefix}-postgres${var.database.engine_version}"
  family      = "postgres${var.database.engine_version}"
  description = "TLS for everybody, and logs that say who did what and what was slow"

  dynamic "parameter" {
    for_each = {
      "rds.force_ssl"                       = "1"
      "log_connections"                     = "1"
      "log_disconnections"                  = "1"
      "log_lock_waits"                      = "1"
      "log_min_duration_statement"          = "1000"
      "log_statement"                       = "ddl"
      "idle_in_transaction_session_timeout" = "300000"
    }

    content {
      name         = parameter.key
      value        = parameter.value
      apply_method = "immediate"
    }
  }

  # A static one. With it every row has the time of its commit, by which a drill says exactly what would have been lost.
  parameter {
    name         = "track_commit_timestamp"
    value        = "1"
    apply_method = "pending-reboot"
  }

  # Another major version needs another family: the new group is there before the instance leaves the old one.
  lifecycle {
    create_before_destroy = true
  }
}

# Made here because RDS would make it without an end to its retention.
resource "aws_cloudwatch_log_group" "database" {
  for_each = toset(["postgresql", "upgrade"])

  name              = "/aws/rds/instance/${var.name_prefix}/${each.key}"
  retention_in_days = 30
}

# Another one in each life of the environment: a name that a former instance's last snapshot has is taken for as long as that is kept.
resource "terraform_data" "life" {}

resource "aws_db_instance" "database" {
  identifier = var.name_prefix

  engine                      = "postgres"
  engine_version              = var.database.engine_version
  auto_minor_version_upgrade  = true
  allow_major_version_upgrade = false
  instance_class              = var.database.instance_class
  parameter_group_name        = aws_db_parameter_group.database.name
  ca_cert_identifier          = "rds-ca-rsa2048-g1"

  db_name  = local.database_name
  port     = 5432
  username = "deployctl_admin"
  # RDS makes the password, keeps it in Secrets Manager and changes it; terraform never sees it.
  manage_master_user_password = true

  storage_type          = "gp3"
  allocated_storage     = var.database.storage_gib.initial
  max_allocated_storage = var.database.storage_gib.max
  storage_encrypted     = true
  kms_key_id            = aws_kms_key.data.arn

  multi_az               = var.database.multi_az
  db_subnet_group_name   = var.database_subnet_group
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false

  # Point-in-time recovery reaches back as far as these.
  backup_retention_period  = var.database.backup_days
  backup_window            = "03:00-04:00"
  maintenance_window       = "sun:04:30-sun:05:30"
  copy_tags_to_snapshot    = true
  delete_automated_backups = false

  deletion_protection       = var.database.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = "${var.name_prefix}-final-${substr(terraform_data.life.id, 0, 8)}"

  performance_insights_enabled          = true
  performance_insights_kms_key_id       = aws_kms_key.data.arn
  performance_insights_retention_period = 7
  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]

  # Another class or a reboot waits for the maintenance window.
  apply_immediately = false

  timeouts {
    create = "60m"
    update = "80m"
    delete = "60m"
  }

  depends_on = [aws_cloudwatch_log_group.database]
}

# In the other region before this one is lost: a lost region copies nothing.
resource "aws_db_instance_automated_backups_replication" "database" {
  for_each = var.database.replicate_backups ? toset(["replica"]) : toset([])
  provider = aws.dr

  source_db_instance_arn = aws_db_instance.database.arn
  kms_key_id             = aws_kms_key.recovery.arn
  retention_period       = var.database.backup_days
}
