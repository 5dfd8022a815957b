locals {
  # deployctl finds what an environment owns by these, when a state is lost.
  default_tags = merge(var.tags, {
    "deployctl:environment" = var.environment
    "deployctl:stack"       = "recovery"
  })
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = local.default_tags
  }
}
