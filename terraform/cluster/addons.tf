# The module makes the cluster without EKS' own copies of these (bootstrap_self_managed_addons is false there), so no node becomes
# Ready and no name resolves without them.
locals {
  addon_names = toset(concat(
    ["vpc-cni", "coredns", "kube-proxy", "aws-ebs-csi-driver", "metrics-server"],
    var.credentials == "pod-identity" ? ["eks-pod-identity-agent"] : [],
  ))

  addon_version = { for name in local.addon_names : name => coalesce(
    lookup(var.addon_versions, name, null),
    terraform_data.addon_version[name].output,
  ) }

  addons = merge(local.agent, {
    # Before the nodes: a node without a network plugin stays NotReady, and one whose plugin learns of network policy later has
    # pods without it.
    vpc-cni = {
      before_compute              = true
      addon_version               = local.addon_version["vpc-cni"]
      service_account_role_arn    = aws_iam_role.addon["vpc-cni"].arn
      configuration_values        = jsonencode({ enableNetworkPolicy = "true" })
      resolve_conflicts_on_create = "OVERWRITE"
    }
    kube-proxy = {
      before_compute              = true
      addon_version               = local.addon_version["kube-proxy"]
      resolve_conflicts_on_create = "OVERWRITE"
    }
    coredns = {
      addon_version               = local.addon_version["coredns"]
      resolve_conflicts_on_create = "OVERWRITE"
    }
    aws-ebs-csi-driver = {
      addon_version               = local.addon_version["aws-ebs-csi-driver"]
      service_account_role_arn    = aws_iam_role.addon["aws-ebs-csi-driver"].arn
      resolve_conflicts_on_create = "OVERWRITE"
    }
    metrics-server = {
      addon_version               = local.addon_version["metrics-server"]
      resolve_conflicts_on_create = "OVERWRITE"
    }
  })

  # Where pods come to their roles by Pod Identity. With the nodes, so that no pod starts on one that has no agent yet; and gone with its add-on.
  agent = var.credentials != "pod-identity" ? {} : {
    eks-pod-identity-agent = {
      before_compute              = true
      addon_version               = local.addon_version["eks-pod-identity-agent"]
      preserve                    = false
      resolve_conflicts_on_create = "OVERWRITE"
    }
  }

  # Add-ons that call AWS, each under a role of its own: with IRSA for them, the nodes' role needs no right to change the network. Also where pods use
  # Pod Identity: no add-on then waits for another one.
  addon_roles = {
    vpc-cni = {
      service_account = "aws-node"
      policy          = "AmazonEKS_CNI_Policy"
    }
    aws-ebs-csi-driver = {
      service_account = "ebs-csi-controller-sa"
      policy          = "service-role/AmazonEBSCSIDriverPolicy"
    }
  }
}

# What AWS recommends today for this version of Kubernetes.
data "aws_eks_addon_version" "recommended" {
  for_each = local.addon_names

  addon_name         = each.key
  kubernetes_version = var.kubernetes_version
  most_recent        = false
}

# Keeps the recommendation as it was when the add-on was made: a later plan must not move an add-on because AWS moved its
# recommendation. Another version of Kubernetes asks again.
resource "terraform_data" "addon_version" {
  for_each = local.addon_names

  input            = data.aws_eks_addon_version.recommended[each.key].version
  triggers_replace = var.kubernetes_version

  lifecycle {
    ignore_changes = [input]
  }
}

resource "aws_iam_role" "addon" {
  for_each = local.addon_roles

  name        = "${var.name_prefix}-kube-system-${each.value.service_account}${var.role_suffix}"
  description = "Add-on ${each.key} of ${var.name_prefix}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = module.eks.oidc_provider_arn }
      Condition = {
        StringEquals = {
          "${module.eks.oidc_provider}:sub" = "system:serviceaccount:kube-system:${each.value.service_account}"
          "${module.eks.oidc_provider}:aud" = "sts.amazonaws.com"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "addon" {
  for_each = local.addon_roles

  role       = aws_iam_role.addon[each.key].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.value.policy}"
}
