terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.62"
    }
  }

  # Bucket, key, region and locking come from deployctl by -backend-config.
  backend "s3" {}
}
