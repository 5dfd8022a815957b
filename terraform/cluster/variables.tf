variable "vpc_id" {
  description = "The VPC, made by the network stack."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-z]+$", var.vpc_id))
    error_message = "vpc_id must be the id of a VPC."
  }
}

variable "private_subnets" {
  description = "Subnets of the nodes and of the control plane's interfaces, in at least two zones."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.private_subnets) >= 2 && alltrue([for subnet in var.private_subnets : can(regex("^subnet-[0-9a-z]+$", subnet))])
    error_message = "private_subnets must be the ids of at least two subnets."
  }
}

variable "credentials" {
  description = "How pods come to their roles: irsa, or pod-identity, which needs an agent on each node."
  type        = string
  default     = "irsa"
  nullable    = false

  validation {
    condition     = contains(["irsa", "pod-identity"], var.credentials)
    error_message = "credentials must be irsa or pod-identity."
  }
}

# Terraform keeps the name `version` for itself.
variable "kubernetes_version" {
  description = "Kubernetes' minor version, as in 1.34."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "kubernetes_version must be a minor version, as in 1.34."
  }
}

variable "public_access_cidrs" {
  description = "Networks that may reach a public endpoint; none means that the endpoint is private."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    # 0.0.0.0/0 can also be written as 0.0.0.0/1 and 128.0.0.0/1, so everything shorter than a /8 counts as the world.
    condition = alltrue([for cidr in var.public_access_cidrs :
      can(cidrnetmask(cidr)) && try(tonumber(split("/", cidr)[1]) >= 8, false)
    ])
    error_message = "public_access_cidrs must be IPv4 networks of /8 or smaller: an endpoint for the whole world (0.0.0.0/0) is refused."
  }
}

variable "access_entries" {
  description = "Who may use the cluster: principals by ARN, each with one of EKS' access policies, for the whole cluster or for the namespaces named. Whoever creates the cluster gets nothing by that."
  type = list(object({
    principal_arn = string
    policy        = string
    namespaces    = optional(list(string), [])
  }))
  nullable = false

  validation {
    condition     = length(var.access_entries) > 0
    error_message = "access_entries must name somebody: without an entry nobody can use the cluster, deployctl neither."
  }

  validation {
    condition = alltrue([for entry in var.access_entries :
      can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/[^*]+$", entry.principal_arn))
    ])
    error_message = "principal_arn must be the ARN of one role or user; EKS knows no root and no wildcard, and wants a role without its session."
  }

  validation {
    condition = alltrue([for entry in var.access_entries : contains([
      "AmazonEKSClusterAdminPolicy", "AmazonEKSAdminPolicy", "AmazonEKSEditPolicy", "AmazonEKSViewPolicy", "AmazonEKSAdminViewPolicy",
    ], entry.policy)])
    error_message = "policy must be AmazonEKSClusterAdminPolicy, AmazonEKSAdminPolicy, AmazonEKSEditPolicy, AmazonEKSViewPolicy or AmazonEKSAdminViewPolicy."
  }

  validation {
    condition     = length(distinct([for entry in var.access_entries : "${entry.principal_arn} ${entry.policy}"])) == length(var.access_entries)
    error_message = "A principal has the same policy twice: put its namespaces into one entry."
  }
}

variable "instance_types" {
  description = "Instance types of the nodes, all of one architecture; AWS takes the first that it has."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.instance_types) > 0 && alltrue([for type in var.instance_types : can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", type))])
    error_message = "instance_types must be instance types, as in m7i.large."
  }

  validation {
    condition     = length(distinct([for type in var.instance_types : can(regex("^[a-z]+[0-9]+g", type))])) == 1
    error_message = "instance_types mixes Graviton (as in m7g) with x86 (as in m7i): images are built for one of them."
  }
}

variable "nodes" {
  description = "Nodes: at least, at first, at most."
  type = object({
    min     = number
    desired = number
    max     = number
  })
  nullable = false

  validation {
    condition     = 1 <= var.nodes.min && var.nodes.min <= var.nodes.desired && var.nodes.desired <= var.nodes.max
    error_message = "nodes must have 1 <= min <= desired <= max."
  }
}

variable "disk_gib" {
  description = "Gibibytes of each node's encrypted volume."
  type        = number
  nullable    = false

  validation {
    condition     = var.disk_gib >= 20 && var.disk_gib <= 16384
    error_message = "disk_gib must be from 20 to 16384."
  }
}

variable "addon_versions" {
  description = "Versions of add-ons, by name. What is not named stays at the version that AWS recommended for this Kubernetes version when the add-on was made."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([for name, version in var.addon_versions :
      contains(["vpc-cni", "coredns", "kube-proxy", "aws-ebs-csi-driver", "metrics-server", "eks-pod-identity-agent"], name) &&
      can(regex("^v[0-9]+\\.[0-9]+\\.[0-9]+-eksbuild\\.[0-9]+$", version))
    ])
    error_message = "addon_versions takes vpc-cni, coredns, kube-proxy, aws-ebs-csi-driver, metrics-server and eks-pod-identity-agent, with full versions as in v1.20.4-eksbuild.2."
  }
}

variable "log_days" {
  description = "Days that the control plane's logs are kept in CloudWatch."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_days)
    error_message = "log_days must be a retention that CloudWatch Logs knows, as 7, 30, 90 or 365."
  }
}

variable "role_suffix" {
  description = "End of the names of roles and policies: IAM knows no regions, so a stack's second copy in another region of the account needs one."
  type        = string
  default     = ""
  nullable    = false

  validation {
    # The longest name, of 58 characters, must not get more than 64.
    condition     = can(regex("^(-[a-z0-9]{1,5})?$", var.role_suffix))
    error_message = "role_suffix must be empty, or a hyphen and at most 5 lower-case letters and digits, as in -dr."
  }
}
