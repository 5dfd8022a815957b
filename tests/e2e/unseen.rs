//! What a sandbox cannot show a role doing, and why the role may do it all the same.

/// Some actions with one reason.
pub struct Unseen {
    /// `deployer`, `planner`, `on-call`.
    pub policies: &'static [&'static str],
    /// Each after the statement that has it.
    pub actions: &'static [&'static str],
    /// Why it is needed on AWS, why it is not seen here, and AWS' page that says so.
    pub why: &'static str,
}

pub const UNSEEN: &[Unseen] = &[
    Unseen {
        policies: &["deployer"],
        actions: &[
            "EveryStepWithoutResource servicequotas:GetAWSDefaultServiceQuota",
            "EveryStepWithoutResource servicequotas:GetServiceQuota",
        ],
        why: "`doctor` asks, and there is no Service Quotas behind the front door: Service Quotas API Reference, GetServiceQuota",
    },
    Unseen {
        policies: &["deployer", "planner"],
        actions: &["Steps1And4Buckets s3:ListTagsForResource"],
        why: "the real provider reads a bucket's tags by S3 Control, which the emulator does not serve: Amazon S3 API Reference, ListTagsForResource",
    },
    Unseen {
        policies: &["deployer"],
        actions: &["Steps1And4Buckets s3:TagResource", "Steps1And4Buckets s3:UntagResource"],
        why: "and it changes them so: Amazon S3 API Reference, TagResource and UntagResource",
    },
    Unseen {
        policies: &["deployer"],
        actions: &["Steps3And4ServiceRoles iam:CreateServiceLinkedRole", "Steps3And4ServiceRoles iam:GetRole"],
        why: "an account's first cluster, load balancer or database makes these roles, and a sandbox has them: EKS User Guide, \
              \"Using service-linked roles for Amazon EKS\"",
    },
    Unseen {
        policies: &["deployer"],
        actions: &["Step3Cluster eks:UpdateClusterVersion"],
        why: "a sandbox has one version of Kubernetes: EKS User Guide, \"Update existing cluster to new Kubernetes version\"",
    },
    Unseen {
        policies: &["deployer"],
        actions: &[
            "EveryStepWithoutResource ssm:DescribeParameters",
            "Step4DatabaseAddress ssm:GetParameter",
            "Step4Parameters ssm:AddTagsToResource",
            "Step4Parameters ssm:DeleteParameter",
            "Step4Parameters ssm:ListTagsForResource",
            "Step4Parameters ssm:PutParameter",
            "Step4Parameters ssm:RemoveTagsFromResource",
            "StepRestoreDatabaseAddress ssm:GetParameter",
        ],
        why: "for `secrets.store: ssm`, which `only_the_parameter_store` lives with: Systems Manager User Guide, \"Restricting access to Parameter Store \
              parameters using IAM policies\"",
    },
    Unseen {
        policies: &["deployer"],
        actions: &[
            "Step5PodIdentity eks-auth:AssumeRoleForPodIdentity",
            "Step5PodIdentity eks:CreatePodIdentityAssociation",
            "Step5PodIdentity eks:DeletePodIdentityAssociation",
            "Step5PodIdentity eks:DescribePodIdentityAssociation",
            "Step5PodIdentity eks:ListPodIdentityAssociations",
            "Step5PodIdentity eks:UpdatePodIdentityAssociation",
        ],
        why: "for `credentials: pod-identity`, which `only_pod_identity` lives with: EKS User Guide, \"Assign an IAM role to a Kubernetes service account\"",
    },
    Unseen {
        policies: &["planner"],
        actions: &["Step5PodIdentity eks:DescribePodIdentityAssociation"],
        why: "for `credentials: pod-identity`: the provider reads what it made, EKS API Reference, DescribePodIdentityAssociation",
    },
    Unseen {
        policies: &["planner"],
        actions: &[
            "EveryStepWithoutResource ssm:DescribeParameters",
            "Step4DatabaseAddress ssm:GetParameter",
            "Step4Parameters ssm:ListTagsForResource",
        ],
        why: "for `secrets.store: ssm`: Systems Manager User Guide, \"Restricting access to Parameter Store parameters using IAM policies\"",
    },
    Unseen {
        policies: &["on-call"],
        actions: &["LookWithoutResource ssm:DescribeParameters", "RestoreAddress ssm:GetParameter", "RestoreAddress ssm:PutParameter"],
        why: "for `secrets.store: ssm`: Systems Manager User Guide, \"Restricting access to Parameter Store parameters using IAM policies\"",
    },
    Unseen {
        policies: &["deployer"],
        actions: &[
            "StepPrepareNetwork ec2:DeleteInternetGateway",
            "StepPrepareNetwork ec2:DeleteRoute",
            "StepPrepareNetwork ec2:DeleteRouteTable",
            "StepPrepareNetwork ec2:DeleteSecurityGroup",
            "StepPrepareNetwork ec2:DeleteSubnet",
            "StepPrepareNetwork ec2:DeleteTags",
            "StepPrepareNetwork ec2:DeleteVpc",
            "StepPrepareNetwork ec2:DeleteVpcEndpoints",
            "StepPrepareNetwork ec2:DetachInternetGateway",
            "StepPrepareNetwork ec2:DisassociateRouteTable",
            "StepPrepareNetwork ec2:ModifySecurityGroupRules",
            "StepPrepareNetwork ec2:ModifySubnetAttribute",
            "StepPrepareNetwork ec2:ModifyVpcEndpoint",
            "StepPrepareNetwork ec2:RevokeSecurityGroupIngress",
        ],
        why: "only another `recovery.cidr` or release takes away what a prepare has made, which this life has not: Amazon VPC User Guide, \
              \"Delete your VPC\"",
    },
];
