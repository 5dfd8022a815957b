output "deployer_role_arn" {
  description = "For aws.deployer_role_arn of the environment file, and for the workflow of GitHub Actions."
  value       = aws_iam_role.ours["deployer"].arn
}

output "on_call_role_arn" {
  description = "For a second entry of cluster.access_entries, as AmazonEKSViewPolicy."
  value       = aws_iam_role.ours["on-call"].arn
}
