# The control plane's security group and the nodes'.

locals {
  cluster_rules = {
    ingress_nodes_443 = { type = "ingress", protocol = "tcp", from_port = 443, to_port = 443, from = "node", description = "Node groups to cluster API" }
  }

  node_rules = {
    ingress_cluster_443           = { type = "ingress", protocol = "tcp", from_port = 443, to_port = 443, from = "cluster", description = "Cluster API to node groups" }
    ingress_cluster_kubelet       = { type = "ingress", protocol = "tcp", from_port = 10250, to_port = 10250, from = "cluster", description = "Cluster API to node kubelets" }
    ingress_cluster_10251_webhook = { type = "ingress", protocol = "tcp", from_port = 10251, to_port = 10251, from = "cluster", description = "Cluster API to node 10251/tcp webhook" }
    ingress_cluster_9443_webhook  = { type = "ingress", protocol = "tcp", from_port = 9443, to_port = 9443, from = "cluster", description = "Cluster API to node 9443/tcp webhook" }
    ingress_self_coredns_tcp      = { type = "ingress", protocol = "tcp", from_port = 53, to_port = 53, from = "self", description = "Node to node CoreDNS" }
    ingress_self_coredns_udp      = { type = "ingress", protocol = "udp", from_port = 53, to_port = 53, from = "self", description = "Node to node CoreDNS UDP" }
    ingress_nodes_ephemeral       = { type = "ingress", protocol = "tcp", from_port = 1025, to_port = 65535, from = "self", description = "Node to node ingress on ephemeral ports" }
    egress_all                    = { type = "egress", protocol = "-1", from_port = 0, to_port = 0, from = "anywhere", description = "Allow all egress" }
  }
}

resource "aws_security_group" "cluster" {
  name        = var.security_group_use_name_prefix ? null : coalesce(var.security_group_name, "${var.name}-cluster")
  name_prefix = var.security_group_use_name_prefix ? "${coalesce(var.security_group_name, "${var.name}-cluster")}-" : null
  description = "EKS cluster security group"
  vpc_id      = var.vpc_id

  tags = merge(var.tags, { Name = coalesce(var.security_group_name, "${var.name}-cluster") })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "node" {
  name        = var.node_security_group_use_name_prefix ? null : coalesce(var.node_security_group_name, "${var.name}-node")
  name_prefix = var.node_security_group_use_name_prefix ? "${coalesce(var.node_security_group_name, "${var.name}-node")}-" : null
  description = "EKS node shared security group"
  vpc_id      = var.vpc_id

  tags = merge(var.tags, {
    Name                                = coalesce(var.node_security_group_name, "${var.name}-node")
    "kubernetes.io/cluster/${var.name}" = "owned"
  })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group_rule" "cluster" {
  for_each = local.cluster_rules

  security_group_id        = aws_security_group.cluster.id
  type                     = each.value.type
  protocol                 = each.value.protocol
  from_port                = each.value.from_port
  to_port                  = each.value.to_port
  description              = each.value.description
  source_security_group_id = aws_security_group.node.id
}

resource "aws_security_group_rule" "node" {
  for_each = local.node_rules

  security_group_id        = aws_security_group.node.id
  type                     = each.value.type
  protocol                 = each.value.protocol
  from_port                = each.value.from_port
  to_port                  = each.value.to_port
  description              = each.value.description
  self                     = each.value.from == "self" ? true : null
  cidr_blocks              = each.value.from == "anywhere" ? ["0.0.0.0/0"] : null
  source_security_group_id = each.value.from == "cluster" ? aws_security_group.cluster.id : null
}
