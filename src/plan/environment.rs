//! The environment file: where a deployment goes and how large it is. `plans/environments/NAME.yaml`, unknown keys refused.
use std::{collections::BTreeMap, fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{AccountId, BucketName, ClusterName, DbInstanceId, EnvironmentName, InvalidId, Region, RoleArn, ServiceName},
    image::Profile,
};

/// One environment. `${env.…}` in the plan file reads it by these keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Format of the file; 1.
    pub version: u32,
    /// Its name, equal to the file's.
    pub name: EnvironmentName,
    /// Account, regions and the role that deployctl works as.
    pub aws: Aws,
    /// The VPC.
    pub network: Network,
    /// The EKS cluster.
    pub cluster: Cluster,
    /// The RDS instance.
    pub database: Database,
    /// The bucket for uploads.
    pub storage: Storage,
    /// What waits in `aws.dr_region` for the loss of `aws.region`, besides the copies of backups.
    #[serde(default)]
    pub recovery: Recovery,
    /// The Kafka cluster, which deployctl does not make.
    pub kafka: Kafka,
    /// What differs between environments for each service.
    pub services: BTreeMap<ServiceName, ServiceSettings>,
    /// Where secrets live.
    #[serde(default)]
    pub secrets: Secrets,
    /// How images are made.
    #[serde(default)]
    pub images: Images,
    /// Prometheus, Grafana, Fluent Bit, OpenTelemetry.
    pub observability: Observability,
    /// Which of the plan file's charts are used here.
    #[serde(default)]
    pub charts: Charts,
    /// Guards for apply and destroy.
    #[serde(default)]
    pub guards: Guards,
    /// Tags on everything that can carry them, besides those that deployctl sets itself.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Environment {
    /// The bucket of uploads, as terraform/data names it; of their copies, if it is asked for with the DR region.
    pub fn uploads_bucket(&self, dr_region: Option<&Region>) -> Result<BucketName, InvalidId> {
        let end = dr_region.map(|region| format!("-{region}")).unwrap_or_default();
        BucketName::parse(format!("deployctl-{}-uploads-{}{end}", self.name, self.aws.account_id))
    }
    /// The database instance, as terraform/data names it, and whatever is restored in its place.
    pub fn db_instance_id(&self) -> Result<DbInstanceId, InvalidId> {
        DbInstanceId::parse(format!("deployctl-{}", self.name))
    }
    /// The cluster, as terraform/cluster names it, in whichever region.
    pub fn cluster_name(&self) -> Result<ClusterName, InvalidId> {
        ClusterName::parse(format!("deployctl-{}", self.name))
    }

    /// The environment as it is seen from the region that it is restored in: whatever asks for the region gets that one, so state bucket, lease
    /// and journal are those there; `aws.dr_region` is then the region that may be lost. There is no lock table in that region.
    #[must_use]
    pub fn in_dr_region(mut self) -> Self {
        std::mem::swap(&mut self.aws.region, &mut self.aws.dr_region);
        self.aws.state_lock = StateLock::S3;
        self
    }
}

/// Account, regions and role.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aws {
    /// Checked by GetCallerIdentity before any other call, and by the provider's allowed_account_ids.
    pub account_id: AccountId,
    /// Where the deployment lives.
    pub region: Region,
    /// Where it is restored when `region` is lost.
    pub dr_region: Region,
    /// Assumed before anything else; without it the caller's own identity is used.
    #[serde(default)]
    pub deployer_role_arn: Option<RoleArn>,
    /// How terraform's state is locked.
    #[serde(default)]
    pub state_lock: StateLock,
}

/// How terraform's state is locked: by a DynamoDB table, by an object in S3, or by both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateLock {
    /// The documented plan's table alone.
    Dynamodb,
    /// Terraform's successor to it, a conditional write.
    S3,
    /// Both, which is how one moves from the first to the second.
    #[default]
    Both,
}

/// The VPC.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// As in `10.40.0.0/16`.
    pub cidr: String,
    /// How many availability zones, 2 to 6.
    pub availability_zones: u8,
    /// One NAT gateway for all zones, or one in each.
    pub nat_gateways: NatGateways,
    /// Days that flow logs are kept; 0 turns them off.
    pub flow_log_days: u32,
}

/// One NAT gateway for all zones, or one in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NatGateways {
    /// Cheaper; a lost zone takes the others' way out with it.
    Single,
    /// One in each zone.
    PerZone,
}

/// The EKS cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// As in `1.34`.
    pub version: String,
    /// Who may reach a public endpoint; empty means a private endpoint. 0.0.0.0/0 is refused.
    #[serde(default)]
    pub public_access_cidrs: Vec<String>,
    /// Who may use the cluster, by principal ARN.
    pub access_entries: Vec<AccessEntry>,
    /// Instance types of the managed node group.
    pub instance_types: Vec<String>,
    /// Nodes: at least, wanted, at most.
    pub nodes: NodeCount,
    /// Gibibytes of each node's encrypted volume.
    pub disk_gib: u32,
}

/// Nodes: at least, wanted at first, at most.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeCount {
    /// At least.
    pub min: u32,
    /// At first.
    pub desired: u32,
    /// At most.
    pub max: u32,
}

/// A principal and its access policy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessEntry {
    /// A role's or user's ARN.
    pub principal_arn: String,
    /// `AmazonEKSClusterAdminPolicy`, `AmazonEKSAdminPolicy`, `AmazonEKSEditPolicy`, `AmazonEKSViewPolicy` or `AmazonEKSAdminViewPolicy`.
    pub policy: String,
    /// Empty for the whole cluster.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// The RDS instance.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Major version of PostgreSQL, as in `15`.
    pub engine_version: String,
    /// As in `db.t4g.medium`.
    pub instance_class: String,
    /// Gibibytes at first and at most.
    pub storage_gib: StorageGib,
    /// A standby in another zone.
    pub multi_az: bool,
    /// Days of backups, 1 to 35; point-in-time recovery reaches back as far.
    pub backup_days: u32,
    /// Backups also in `aws.dr_region`.
    pub replicate_backups: bool,
    /// Refuses deletion until it is turned off in a change of its own.
    pub deletion_protection: bool,
    /// Certificates that clients check the server against; `DEPLOYCTL_DATABASE_CA_BUNDLE` overrides it.
    #[serde(default)]
    pub ca_bundle: Option<String>,
    /// Which of deployctl's own snapshots `db prune` keeps, in both regions.
    #[serde(default)]
    pub snapshots: SnapshotRetention,
}

/// What `db prune` keeps: a snapshot goes once it is beyond both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotRetention {
    /// So many of the newest, at least 1.
    pub keep: std::num::NonZeroU32,
    /// All that are younger, in days.
    pub days: u32,
}

impl Default for SnapshotRetention {
    fn default() -> Self {
        Self { keep: std::num::NonZeroU32::MIN.saturating_add(9), days: 35 }
    }
}

/// Gibibytes at first and at most.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageGib {
    /// At first.
    pub initial: u32,
    /// Storage autoscaling stops here.
    pub max: u32,
}

/// The bucket for uploads.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Days until current objects move to Glacier.
    pub current_to_glacier_days: u32,
    /// Days until noncurrent versions do.
    pub noncurrent_to_glacier_days: u32,
    /// Copies of every object in `aws.dr_region`.
    pub replicate: bool,
}

/// What waits in the DR region.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// How much of it.
    #[serde(default)]
    pub standby: Standby,
    /// The addresses of its network there, as in `10.41.0.0/16`; needed for `pilot-light` and `warm`.
    #[serde(default)]
    pub cidr: Option<String>,
}

/// How much waits in the DR region: the less there is, the longer a recovery takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standby {
    /// Copies of backups and nothing else: a restore has nowhere to go until `deployctl dr prepare` was run.
    #[default]
    Backups,
    /// And the network that a restored database goes into, with its security group and parameter group, and copies of the images.
    PilotLight,
    /// And a cluster with as many nodes as `cluster.nodes.min`, with the service accounts and roles of the services: a restored database is looked
    /// into and tried as they would use it. It costs what a cluster costs.
    Warm,
}

impl Standby {
    /// The plan file that prepares it; with backups alone nothing is prepared, and it is that of the least that could be.
    pub fn plan_file(self) -> &'static str {
        match self {
            Self::Backups | Self::PilotLight => "plans/prepare-dr.yaml",
            Self::Warm => "plans/warm-dr.yaml",
        }
    }
}

/// The Kafka cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// TLS (Confluent Cloud) or, in the sandbox only, plain text.
    pub security: KafkaSecurity,
    /// 3 at Confluent, which refuses any other.
    pub replication_factor: i16,
    /// Hours that events are kept.
    pub retention_hours: u64,
    /// Partitions of each topic.
    pub partitions: i32,
}

/// SASL/PLAIN over TLS or over plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KafkaSecurity {
    /// Over TLS.
    SaslSsl,
    /// Over plain text: the sandbox's broker, which nobody else can reach.
    SaslPlaintext,
}

/// What differs between environments for each service.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// How a new version replaces the old one.
    #[serde(default)]
    pub strategy: Strategy,
    /// For `canary`: the share of the pods that are of the new version, in per cent, one after another; each is looked at for a minute before the
    /// next. 1 to 99, growing, five at most.
    #[serde(default = "two_shares")]
    pub canary: Vec<u8>,
    /// Pods: at least and at most.
    pub replicas: Replicas,
    /// Requests and limits, in Kubernetes' units.
    pub resources: Resources,
    /// Who reaches it through its load balancer, and how; for services with an Ingress.
    #[serde(default)]
    pub ingress: Ingress,
    /// Values for this service's templates and nothing else.
    #[serde(default)]
    pub values: BTreeMap<String, serde_json::Value>,
}

fn two_shares() -> Vec<u8> {
    vec![20, 50]
}

/// Who reaches a service through its load balancer, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ingress {
    /// Inside the VPC only unless it says otherwise; `internet-facing` needs `certificate_arn`, `tls_policy` and `authentication`.
    pub scheme: Scheme,
    /// A certificate in ACM, in `aws.region`; with one it speaks HTTPS only. It needs `host`.
    pub certificate_arn: Option<String>,
    /// A PEM file of the project: the authorities that signed the certificate, where they are not public ones (AWS Private CA).
    pub authorities: Option<PathBuf>,
    /// Elastic Load Balancing's name for what TLS it speaks, as in `ELBSecurityPolicy-TLS13-1-2-2021-06`.
    pub tls_policy: Option<String>,
    /// The name in the certificate, which your DNS points to the load balancer.
    pub host: Option<String>,
    /// Who makes sure of who is calling.
    pub authentication: Option<Authentication>,
}

/// Where a load balancer is reached from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// From inside the VPC.
    #[default]
    Internal,
    /// From everywhere.
    InternetFacing,
}

/// Who makes sure of who is calling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, tag = "by", rename_all = "kebab-case")]
pub enum Authentication {
    /// The service itself asks every caller for a token, as uploader does. Verified at every apply: a caller without one must be refused.
    Service,
    /// The load balancer asks for a client certificate, for programs.
    MutualTls {
        /// The trust store with the authorities of the clients' certificates.
        trust_store_arn: String,
    },
    /// The load balancer sends people to an OpenID Connect provider.
    Oidc {
        /// As in `https://login.example.com`.
        issuer: String,
        /// Its authorization endpoint.
        authorization_endpoint: String,
        /// Its token endpoint.
        token_endpoint: String,
        /// Its user info endpoint.
        user_info_endpoint: String,
        /// A Secret in the service's namespace with `clientID` and `clientSecret`.
        secret_name: String,
    },
    /// The load balancer sends people to a Cognito user pool.
    Cognito {
        /// The user pool.
        user_pool_arn: String,
        /// The app client's id.
        client_id: String,
        /// The user pool's domain.
        domain: String,
    },
}

/// How a new version replaces the old one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// A Deployment's rolling update.
    #[default]
    Rolling,
    /// Argo Rollouts, two versions side by side.
    BlueGreen,
    /// Argo Rollouts, a share at a time.
    Canary,
}

/// Pods: at least and at most.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

/// Requests and limits of the service's container.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// As in `250m`.
    pub cpu: String,
    /// As in `256Mi`; request and limit are equal.
    pub memory: String,
}

/// Where secrets live.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// Secrets Manager or SSM Parameter Store.
    #[serde(default)]
    pub store: SecretStore,
}

/// Secrets Manager or SSM Parameter Store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretStore {
    /// AWS Secrets Manager.
    #[default]
    SecretsManager,
    /// SSM Parameter Store, SecureString.
    Ssm,
}

impl SecretStore {
    /// What every full name of an environment's secrets begins with, without a slash at its end.
    pub fn prefix(self, environment: impl fmt::Display) -> String {
        match self {
            Self::SecretsManager => format!("deployctl/{environment}"),
            // A hierarchy of parameters begins with a slash, or it is none.
            Self::Ssm => format!("/deployctl/{environment}"),
        }
    }

    /// A secret's full name.
    pub fn full_name(self, environment: impl fmt::Display, name: impl fmt::Display) -> String {
        format!("{}/{name}", self.prefix(environment))
    }
}

/// Prometheus, Grafana, Fluent Bit, OpenTelemetry.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observability {
    /// Days that Prometheus keeps its data.
    pub retention_days: u32,
    /// Components that cannot run here, each with the reason: rendered and validated, but Skipped.
    #[serde(default)]
    pub skip: BTreeMap<String, String>,
    /// Programs of this machine that become images, instead of the published ones of the same names; where no registry can be reached.
    #[serde(default)]
    pub programs: BTreeMap<String, PathBuf>,
}

/// How images are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// Cargo's profile, for builder `native`.
    #[serde(default)]
    pub profile: Profile,
}

/// Which of the plan file's charts are used, by the names of their releases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Charts {
    /// Those that are left out, each with the reason: Skipped.
    #[serde(default)]
    pub skip: BTreeMap<String, String>,
    /// Those that are used although the plan file leaves them to choice.
    #[serde(default)]
    pub chosen: Vec<String>,
}

/// Guards for apply and destroy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Guards {
    /// More deletions than this in one plan are refused.
    pub max_deletions: u32,
    /// Resource types that apply never deletes or replaces.
    pub protected: Vec<String>,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            max_deletions: 5,
            protected: ["aws_db_instance", "aws_s3_bucket", "aws_eks_cluster", "aws_vpc", "aws_kms_key"].map(String::from).to_vec(),
        }
    }
}
