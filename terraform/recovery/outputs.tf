output "security_group_id" {
  description = "Guards a restored database."
  value       = aws_security_group.database.id
}

output "parameter_group" {
  description = "RDS' name for its settings."
  value       = aws_db_parameter_group.database.name
}
