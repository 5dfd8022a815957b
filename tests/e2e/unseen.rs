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

const RESTORED_FROM_A_SNAPSHOT: &str =
    "for `dr restore --snapshot`, which `only_the_verification` does: Amazon RDS API Reference, RestoreDBInstanceFromDBSnapshot";

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
        actions: &["Step9Certificates acm:DescribeCertificate"],
        why: "for a certificate that the environment file names, which `only_https` lives with: AWS Certificate Manager API Reference, DescribeCertificate",
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
            "StepPrepareNetwork ec2:ModifySubnetAttribute",
            "Steps2To4Network ec2:ModifySubnetAttribute",
            "Steps2To4Network ec2:ReplaceRoute",
        ],
        why: "a route or a subnet changed in place, by a later release of the stacks or put right after somebody's hand: Amazon VPC User Guide, \
              \"Work with route tables\"",
    },
    Unseen {
        policies: &["deployer"],
        actions: &[
            "Steps2And3Policies iam:CreatePolicyVersion",
            "Steps2And3Policies iam:DeletePolicyVersion",
            "Steps2To5Roles iam:UpdateRole",
        ],
        why: "a managed policy or a role's longest session changed in place by a later release of the modules: IAM User Guide, \"Editing IAM policies\"",
    },
    Unseen {
        policies: &["deployer", "planner"],
        actions: &["Step3Cluster eks:ListTagsForResource"],
        why: "the real provider falls back to it for tags; offline they come with each description: EKS API Reference, ListTagsForResource",
    },
    Unseen {
        policies: &["deployer"],
        actions: &["Step4UploadsEmptiedOrBroughtBack s3:GetObjectVersion"],
        why: "for `dr object restore`, which `only_the_recovery` does: Amazon S3 API Reference, CopyObject",
    },
    Unseen {
        policies: &["deployer"],
        actions: &["StepRestoreDatabase rds:RestoreDBInstanceFromDBSnapshot"],
        why: RESTORED_FROM_A_SNAPSHOT,
    },
    Unseen { policies: &["on-call"], actions: &["RestoreDatabase rds:RestoreDBInstanceFromDBSnapshot"], why: RESTORED_FROM_A_SNAPSHOT },
    Unseen {
        policies: &["on-call"],
        actions: &["RestoreAddress secretsmanager:PutSecretValue", "RestoreRecords s3:DeleteObject", "RestoreWithKey kms:CreateGrant"],
        why: "a second restore writes the address again; `lock release --dr` takes a dead holder's lease away; RDS asks KMS for a grant in its \
              caller's name, which the sandbox's KMS does not: Amazon RDS User Guide, \"AWS KMS key management\"",
    },
    Unseen {
        policies: &["on-call"],
        actions: &[
            "LookAtAlarms cloudwatch:DescribeAlarms",
            "LookAtBuckets s3:GetBucketLocation",
            "LookAtBuckets s3:GetBucketTagging",
            "LookAtBuckets s3:GetBucketVersioning",
            "LookAtBuckets s3:GetReplicationConfiguration",
            "LookAtBuckets s3:ListBucketVersions",
            "LookAtCluster eks:DescribeAddon",
            "LookAtCluster eks:DescribeNodegroup",
            "LookAtCluster eks:DescribeUpdate",
            "LookAtCluster eks:ListAddons",
            "LookAtCluster eks:ListNodegroups",
            "LookAtCluster eks:ListUpdates",
            "LookAtDatabase rds:DescribeDBLogFiles",
            "LookAtDatabase rds:DescribeDBParameters",
            "LookAtDatabase rds:DownloadDBLogFilePortion",
            "LookAtDatabase rds:ListTagsForResource",
            "LookAtImages ecr:DescribeRepositories",
            "LookAtImages ecr:ListImages",
            "LookAtLogs logs:DescribeLogStreams",
            "LookAtLogs logs:FilterLogEvents",
            "LookAtLogs logs:GetLogEvents",
            "LookAtLogs logs:GetQueryResults",
            "LookAtLogs logs:StartQuery",
            "LookAtQueues sqs:GetQueueAttributes",
            "LookAtQueues sqs:GetQueueUrl",
            "LookAtRoles iam:GetRole",
            "LookAtRoles iam:GetRolePolicy",
            "LookAtRoles iam:ListAttachedRolePolicies",
            "LookAtRoles iam:ListRolePolicies",
            "LookWithoutResource cloudwatch:GetMetricData",
            "LookWithoutResource cloudwatch:ListMetrics",
            "LookWithoutResource ec2:DescribeAvailabilityZones",
            "LookWithoutResource ec2:DescribeInstances",
            "LookWithoutResource ec2:DescribeNatGateways",
            "LookWithoutResource ec2:DescribeNetworkInterfaces",
            "LookWithoutResource ec2:DescribeRouteTables",
            "LookWithoutResource ec2:DescribeSubnets",
            "LookWithoutResource ec2:DescribeVpcs",
            "LookWithoutResource kms:ListAliases",
            "LookWithoutResource logs:DescribeLogGroups",
            "LookWithoutResource rds:DescribeAccountAttributes",
        ],
        why: "reads only, for a person who looks at what is wrong, in the console or by the aws command, and not for deployctl: IAM User Guide, \
              \"AWS managed policies for job functions\"",
    },
];
