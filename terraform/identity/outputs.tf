output "role_arns" {
  description = "Each service account's role, by NAMESPACE/SERVICEACCOUNT."
  value       = { for key, role in aws_iam_role.service_account : key => role.arn }
}
