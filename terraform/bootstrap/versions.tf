terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.62"
    }
  }

  # The state stays where it is made: the bucket for states comes later, and every name here is fixed, so a lost one is imported again.
}
