# What a restored database goes into, ready before the night: RDS would take the VPC's default security group and a default parameter group.
# `region` is the region that the environment is restored in; nothing here is in the one that may be lost.
resource "aws_security_group" "database" {
  name        = "${var.name_prefix}-database"
  description = "Restored database of ${var.name_prefix}: reached from its VPC only"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name_prefix}-database" }
}

# There are no nodes here yet whose security group could be named. There is no way out.
resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id = aws_security_group.database.id
  cidr_ipv4         = var.vpc_cidr
  description       = "PostgreSQL from this VPC"
  ip_protocol       = "tcp"
  from_port         = 5432
  to_port           = 5432

  tags = { Name = "${var.name_prefix}-vpc" }
}

# The same settings as terraform/data gives the database that is restored.
resource "aws_db_parameter_group" "database" {
  name        = "${var.name_prefix}-postgres${var.engine_version}"
  family      = "postgres${var.engine_version}"
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

  # Another major version needs another family: the new group is there before an instance leaves the old one.
  lifecycle {
    create_before_destroy = true
  }
}
