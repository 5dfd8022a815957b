# What design §3 row 3 and §6 ask of the cluster, as far as it is said in this stack. What the module makes of it is checked on the
# plan by tests/terraform.

mock_provider "aws" {
  override_during = plan

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333", arn = "arn:aws:iam::111122223333:role/someone" }
  }
  mock_data "aws_iam_session_context" {
    defaults = { issuer_arn = "arn:aws:iam::111122223333:role/someone" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_eks_addon_version" {
    defaults = { version = "v1.2.3-eksbuild.4" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = {
      identity              = [{ oidc = [{ issuer = "https://oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF" }] }]
      certificate_authority = [{ data = "Q0E=" }]
    }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF" }
  }
}

variables {
  name_prefix         = "deployctl-staging"
  environment         = "staging"
  account_id          = "111122223333"
  region              = "us-east-1"
  dr_region           = "eu-west-1"
  tags                = { team = "deployctl" }
  vpc_id              = "vpc-0a1b2c3d"
  private_subnets     = ["subnet-0a", "subnet-0b"]
  kubernetes_version  = "1.34"
  public_access_cidrs = ["203.0.113.0/24"]
  access_entries = [
    { principal_arn = "arn:aws:iam::111122223333:role/deployctl-deployer", policy = "AmazonEKSClusterAdminPolicy" },
    { principal_arn = "arn:aws:iam::111122223333:role/on-call", policy = "AmazonEKSViewPolicy" },
    { principal_arn = "arn:aws:iam::111122223333:role/on-call", policy = "AmazonEKSEditPolicy", namespaces = ["apps"] },
  ]
  instance_types = ["m7i.large", "m7a.large"]
  nodes          = { min = 2, desired = 3, max = 6 }
  disk_gib       = 50
}

run "as_declared" {
  command = plan

  assert {
    condition     = toset(keys(local.addons)) == toset(["vpc-cni", "coredns", "kube-proxy", "aws-ebs-csi-driver", "metrics-server"])
    error_message = "every add-on without which no node becomes Ready, volumes and metrics"
  }
  assert {
    condition     = local.addons["vpc-cni"].before_compute && jsondecode(local.addons["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "vpc-cni before the nodes, with network policy"
  }
  assert {
    condition     = alltrue([for addon in values(local.addons) : contains(keys(addon), "addon_version")])
    error_message = "every add-on has a version"
  }
  assert {
    condition     = alltrue([for name in ["vpc-cni", "aws-ebs-csi-driver"] : contains(keys(local.addons[name]), "service_account_role_arn")])
    error_message = "an add-on that calls AWS has a role of its own"
  }
  assert {
    condition     = alltrue([for addon in values(terraform_data.addon_version) : addon.triggers_replace == "1.34" && addon.input == "v1.2.3-eksbuild.4"])
    error_message = "AWS' recommendation is kept until Kubernetes' version changes"
  }
  assert {
    condition     = data.aws_eks_addon_version.recommended["coredns"].most_recent == false && data.aws_eks_addon_version.recommended["coredns"].kubernetes_version == "1.34"
    error_message = "the recommended version for this Kubernetes, not the newest"
  }
  assert {
    condition = jsondecode(aws_iam_role.addon["aws-ebs-csi-driver"].assume_role_policy).Statement[0].Condition.StringEquals == {
      "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF:sub" = "system:serviceaccount:kube-system:ebs-csi-controller-sa"
      "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF:aud" = "sts.amazonaws.com"
    }
    error_message = "the volume driver's role is for its service account only"
  }
  assert {
    condition     = aws_iam_role_policy_attachment.addon["vpc-cni"].policy_arn == "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"
    error_message = "the network plugin has a role of its own"
  }
  assert {
    condition     = aws_iam_role_policy_attachment.addon["aws-ebs-csi-driver"].policy_arn == "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
    error_message = "the volume driver has AWS' policy for it"
  }
  assert {
    condition     = !local.node_groups.nodes.iam_role_attach_cni_policy
    error_message = "nodes themselves may not change the network"
  }
  assert {
    condition = jsonencode(local.access_entries["arn:aws:iam::111122223333:role/on-call"].policy_associations) == jsonencode({
      AmazonEKSViewPolicy = { policy_arn = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy", access_scope = { type = "cluster", namespaces = null } }
      AmazonEKSEditPolicy = { policy_arn = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy", access_scope = { type = "namespace", namespaces = ["apps"] } }
    })
    error_message = "one entry for a principal, with all its policies"
  }
  assert {
    condition     = output.oidc_issuer == "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
    error_message = "the issuer without https://"
  }
  assert {
    condition     = local.default_tags["deployctl:environment"] == "staging" && local.default_tags["team"] == "deployctl" && local.node_groups.nodes.launch_template_tags == local.default_tags
    error_message = "tags on everything, on instances and volumes too"
  }
}

run "pod_identity_brings_its_agent" {
  command = plan
  variables { credentials = "pod-identity" }

  assert {
    condition = toset(keys(local.addons)) == toset([
      "vpc-cni", "coredns", "kube-proxy", "aws-ebs-csi-driver", "metrics-server", "eks-pod-identity-agent",
    ])
    error_message = "the agent's add-on besides the others"
  }
  assert {
    condition     = local.addons["eks-pod-identity-agent"].before_compute && contains(keys(local.addons["eks-pod-identity-agent"]), "addon_version") && terraform_data.addon_version["eks-pod-identity-agent"].input == "v1.2.3-eksbuild.4"
    error_message = "pinned like the others, and on each node from its beginning"
  }
  assert {
    condition     = local.addons["vpc-cni"].before_compute && contains(keys(local.addons["aws-ebs-csi-driver"]), "service_account_role_arn")
    error_message = "the other add-ons are as they were"
  }
}

run "refuses_another_way_to_roles" {
  command = plan
  variables { credentials = "kiam" }
  expect_failures = [var.credentials]
}

run "other_instance_types_have_another_name" {
  command = plan
  variables { instance_types = ["m7g.large"] }

  assert {
    condition     = local.node_groups.nodes.ami_type == "AL2023_ARM_64_STANDARD" && local.node_groups.nodes.name != "deployctl-staging-${substr(sha1("m7i.large,m7a.large"), 0, 8)}"
    error_message = "Graviton gets an ARM image, and the group that replaces another one has another name"
  }
}

run "written_down_versions_win" {
  command = plan
  variables { addon_versions = { coredns = "v1.12.3-eksbuild.1" } }

  assert {
    condition     = local.addons["coredns"].addon_version == "v1.12.3-eksbuild.1"
    error_message = "a version in the environment is the one that is used"
  }
}

run "refuses_an_endpoint_for_the_world" {
  command = plan
  variables { public_access_cidrs = ["203.0.113.0/24", "0.0.0.0/0"] }
  expect_failures = [var.public_access_cidrs]
}

run "refuses_the_world_in_two_halves" {
  command = plan
  variables { public_access_cidrs = ["0.0.0.0/1", "128.0.0.0/1"] }
  expect_failures = [var.public_access_cidrs]
}

run "refuses_nobody" {
  command = plan
  variables { access_entries = [] }
  expect_failures = [var.access_entries]
}

run "refuses_the_root_user" {
  command = plan
  variables { access_entries = [{ principal_arn = "arn:aws:iam::111122223333:root", policy = "AmazonEKSClusterAdminPolicy" }] }
  expect_failures = [var.access_entries]
}

run "refuses_a_session" {
  command = plan
  variables { access_entries = [{ principal_arn = "arn:aws:sts::111122223333:assumed-role/deployer/me", policy = "AmazonEKSClusterAdminPolicy" }] }
  expect_failures = [var.access_entries]
}

run "refuses_an_unknown_access_policy" {
  command = plan
  variables { access_entries = [{ principal_arn = "arn:aws:iam::111122223333:role/a", policy = "AdministratorAccess" }] }
  expect_failures = [var.access_entries]
}

run "refuses_two_architectures" {
  command = plan
  variables { instance_types = ["m7i.large", "m7g.large"] }
  expect_failures = [var.instance_types]
}

run "refuses_more_nodes_than_at_most" {
  command = plan
  variables { nodes = { min = 1, desired = 4, max = 3 } }
  expect_failures = [var.nodes]
}

run "refuses_a_patch_version" {
  command = plan
  variables { kubernetes_version = "1.34.1" }
  expect_failures = [var.kubernetes_version]
}

run "refuses_a_small_disk" {
  command = plan
  variables { disk_gib = 8 }
  expect_failures = [var.disk_gib]
}

run "refuses_one_subnet" {
  command = plan
  variables { private_subnets = ["subnet-0a"] }
  expect_failures = [var.private_subnets]
}

run "refuses_versions_of_unknown_addons" {
  command = plan
  variables { addon_versions = { calico = "v1.0.0-eksbuild.1" } }
  expect_failures = [var.addon_versions]
}

run "refuses_a_log_retention_that_cloudwatch_does_not_know" {
  command = plan
  variables { log_days = 2 }
  expect_failures = [var.log_days]
}

# IAM is one for all regions: a second copy of the stack makes roles of its own.
run "a_copy_in_another_region_has_other_names" {
  command = plan

  variables {
    role_suffix = "-dr"
  }
  assert {
    condition     = aws_iam_role.addon["vpc-cni"].name == "deployctl-staging-kube-system-aws-node-dr" && local.node_groups.nodes.iam_role_name == "deployctl-staging-nodes-dr"
    error_message = "the suffix ends the roles' names"
  }
}
