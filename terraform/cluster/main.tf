locals {
  public = length(var.public_access_cidrs) > 0
  arm    = can(regex("^[a-z]+[0-9]+g", var.instance_types[0]))
}

data "aws_partition" "current" {}

module "eks" {
  source  = "terraform-aws-modules/eks/aws"
  version = "21.19.0"

  name               = var.name_prefix
  kubernetes_version = var.kubernetes_version

  vpc_id     = var.vpc_id
  subnet_ids = var.private_subnets

  # Nodes and pods always use the private endpoint; the public one is for people and CI, from the networks named.
  endpoint_private_access      = true
  endpoint_public_access       = local.public
  endpoint_public_access_cidrs = local.public ? var.public_access_cidrs : null

  # Access is what access_entries says and nothing else: no aws-auth ConfigMap, no rights from having made the cluster.
  authentication_mode                      = "API"
  enable_cluster_creator_admin_permissions = false
  access_entries                           = local.access_entries

  enabled_log_types                      = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
  cloudwatch_log_group_retention_in_days = var.log_days

  # Secrets are encrypted in etcd by a key of their own. Its administrators are the account's, by IAM: the module would
  # take whoever runs terraform, so that the plan would change with the person.
  create_kms_key         = true
  encryption_config      = { resources = ["secrets"] }
  kms_key_administrators = ["arn:${data.aws_partition.current.partition}:iam::${var.account_id}:root"]

  # Service accounts get their roles through this provider. AWS trusts its own issuers by their certificate authority, so the
  # thumbprint that the module would fetch over the network is not needed.
  enable_irsa                     = true
  include_oidc_root_ca_thumbprint = false

  # Names are fixed, so that policies can name them and a lost state can be found again.
  iam_role_name                       = "${var.name_prefix}-cluster${var.role_suffix}"
  iam_role_use_name_prefix            = false
  encryption_policy_name              = "${var.name_prefix}-cluster-encryption${var.role_suffix}"
  encryption_policy_use_name_prefix   = false
  security_group_name                 = "${var.name_prefix}-cluster"
  security_group_use_name_prefix      = false
  node_security_group_name            = "${var.name_prefix}-node"
  node_security_group_use_name_prefix = false

  addons                  = local.addons
  eks_managed_node_groups = local.node_groups
}
