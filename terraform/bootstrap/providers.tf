provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = local.default_tags
  }
}

locals {
  default_tags = merge(var.tags, { "deployctl:stack" = "bootstrap" })
}
