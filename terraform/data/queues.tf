locals {
  notified_queues = { for name, queue in var.queues : name => queue if queue.prefix != null }
}

resource "aws_sqs_queue" "dead_letter" {
  for_each = var.queues

  name                    = "${var.name_prefix}-${each.key}-dlq"
  sqs_managed_sse_enabled = true

  # As long as SQS keeps anything: somebody has to look at these.
  message_retention_seconds = 1209600
}

# SQS encrypts with its own key: with alias/aws/sqs, whose policy nobody can change, S3 could not send.
resource "aws_sqs_queue" "service" {
  for_each = var.queues

  name                       = "${var.name_prefix}-${each.key}"
  sqs_managed_sse_enabled    = true
  visibility_timeout_seconds = each.value.visibility_seconds
  receive_wait_time_seconds  = 20

  # Shorter than the dead-letter queue's: a message that moves there keeps the age that it has.
  message_retention_seconds = 604800

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letter[each.key].arn
    maxReceiveCount     = each.value.max_receives
  })
}

# Only its own queue may put messages into a dead-letter queue.
resource "aws_sqs_queue_redrive_allow_policy" "dead_letter" {
  for_each = var.queues

  queue_url = aws_sqs_queue.dead_letter[each.key].id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.service[each.key].arn]
  })
}

resource "aws_sqs_queue_policy" "service" {
  for_each = local.notified_queues

  queue_url = aws_sqs_queue.service[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "UploadsMaySend"
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.service[each.key].arn
      # S3 sends for every bucket of every account; both conditions together mean ours, even after its name was lost to another account.
      Condition = {
        ArnEquals    = { "aws:SourceArn" = aws_s3_bucket.uploads.arn }
        StringEquals = { "aws:SourceAccount" = var.account_id }
      }
    }]
  })
}
