data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

locals {
  flow_logs      = var.enable_flow_log ? 1 : 0
  log_group_name = "${var.flow_log_cloudwatch_log_group_name_prefix}${coalesce(var.flow_log_cloudwatch_log_group_name_suffix, aws_vpc.this.id)}"
  log_group_arn  = "arn:${data.aws_partition.current.partition}:logs:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:log-group:${local.log_group_name}"
}

resource "aws_cloudwatch_log_group" "flow_log" {
  count = local.flow_logs

  name              = local.log_group_name
  retention_in_days = var.flow_log_cloudwatch_log_group_retention_in_days

  tags = var.tags
}

resource "aws_iam_role" "vpc_flow_log_cloudwatch" {
  count = local.flow_logs

  name        = var.vpc_flow_log_iam_role_use_name_prefix ? null : var.vpc_flow_log_iam_role_name
  name_prefix = var.vpc_flow_log_iam_role_use_name_prefix ? "${var.vpc_flow_log_iam_role_name}-" : null

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AWSVPCFlowLogsAssumeRole"
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "vpc-flow-logs.amazonaws.com" }
    }]
  })

  tags = var.tags
}

resource "aws_iam_policy" "vpc_flow_log_cloudwatch" {
  count = local.flow_logs

  name        = var.vpc_flow_log_iam_policy_use_name_prefix ? null : var.vpc_flow_log_iam_policy_name
  name_prefix = var.vpc_flow_log_iam_policy_use_name_prefix ? "${var.vpc_flow_log_iam_policy_name}-" : null

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "AWSVPCFlowLogsPushToCloudWatch"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      Resource = ["${local.log_group_arn}:*"]
    }]
  })

  tags = var.tags
}

resource "aws_iam_role_policy_attachment" "vpc_flow_log_cloudwatch" {
  count = local.flow_logs

  role       = aws_iam_role.vpc_flow_log_cloudwatch[0].name
  policy_arn = aws_iam_policy.vpc_flow_log_cloudwatch[0].arn
}

resource "aws_flow_log" "this" {
  count = local.flow_logs

  vpc_id                   = aws_vpc.this.id
  traffic_type             = var.flow_log_traffic_type
  log_destination_type     = "cloud-watch-logs"
  log_destination          = aws_cloudwatch_log_group.flow_log[0].arn
  iam_role_arn             = aws_iam_role.vpc_flow_log_cloudwatch[0].arn
  max_aggregation_interval = var.flow_log_max_aggregation_interval

  tags = var.tags
}
