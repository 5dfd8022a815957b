//! What RDS remembers: instances, snapshots, automated backups, groups. Stored as JSON; never a password.
use std::{collections::BTreeMap, net::Ipv4Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::{InstanceId, Region, ResourceId, SnapshotId};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// What an instance is doing; the names are AWS'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub enum Status {
    Creating,
    BackingUp,
    Available,
    Modifying,
    Renaming,
    Rebooting,
    Stopping,
    Stopped,
    Starting,
    Deleting,
    Failed,
}

impl Status {
    /// As DescribeDBInstances says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::BackingUp => "backing-up",
            Self::Available => "available",
            Self::Modifying => "modifying",
            Self::Renaming => "renaming",
            Self::Rebooting => "rebooting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Deleting => "deleting",
            Self::Failed => "failed",
        }
    }
}

/// Where an instance's data came from; enough to begin again after a crash in the middle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// An empty cluster.
    New,
    /// A snapshot of the same region.
    Snapshot(SnapshotId),
    /// An automated backup of the same region, replayed to a moment (or to its end).
    Backup {
        /// Whose backup.
        source: ResourceId,
        /// `None`: everything that was archived.
        until: Option<Timestamp>,
    },
}

/// The secret that RDS keeps for the master user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterSecret {
    /// In Secrets Manager.
    pub arn: String,
    /// What encrypts it.
    pub kms_key: String,
}

/// What can be changed now or in the next maintenance window; as asked, unset when unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub struct Pending {
    pub class: Option<String>,
    pub allocated_storage: Option<u32>,
    pub multi_az: Option<bool>,
    pub storage_type: Option<String>,
    pub iops: Option<u32>,
    pub storage_throughput: Option<u32>,
    pub engine_version: Option<String>,
    pub port: Option<u16>,
    pub identifier: Option<InstanceId>,
}

/// A database server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub struct Instance {
    pub id: InstanceId,
    pub region: Region,
    pub resource: ResourceId,
    pub status: Status,
    pub origin: Origin,
    pub address: Ipv4Addr,
    pub port: u16,
    pub class: String,
    pub engine_version: String,
    pub master_username: String,
    pub db_name: Option<String>,
    pub secret: Option<MasterSecret>,
    pub allocated_storage: u32,
    pub max_allocated_storage: Option<u32>,
    pub storage_type: String,
    pub iops: Option<u32>,
    pub storage_throughput: Option<u32>,
    pub encrypted: bool,
    pub kms_key: Option<String>,
    pub created: Timestamp,
    pub backup_window: String,
    pub maintenance_window: String,
    pub backup_retention: u32,
    pub security_groups: Vec<String>,
    pub subnet_group: Option<String>,
    pub parameter_group: String,
    pub parameters_pending_reboot: bool,
    pub availability_zone: String,
    pub multi_az: bool,
    pub auto_minor_version_upgrade: bool,
    pub publicly_accessible: bool,
    pub copy_tags_to_snapshot: bool,
    pub deletion_protection: bool,
    pub iam_authentication: bool,
    pub performance_insights: bool,
    pub performance_insights_kms_key: Option<String>,
    pub performance_insights_retention: Option<u32>,
    pub database_insights_mode: Option<String>,
    pub monitoring_interval: u32,
    pub monitoring_role: Option<String>,
    pub log_exports: Vec<String>,
    pub ca_certificate: String,
    pub network_type: String,
    pub tags: Tags,
    pub pending: Pending,
}

impl Instance {
    /// Its ARN.
    pub fn arn(&self) -> String {
        self.id.arn(&self.region)
    }
    /// Its host name.
    pub fn host(&self) -> String {
        self.id.host(&self.region)
    }
}

/// What a snapshot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub enum SnapshotStatus {
    Creating,
    Copying,
    Available,
    Failed,
}

/// A copy of an instance's data at one moment, with what is needed to make an instance of it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub struct Snapshot {
    pub id: SnapshotId,
    pub region: Region,
    pub status: SnapshotStatus,
    pub percent: u8,
    /// The instance as it was; its region is the one that it ran in.
    pub instance: Instance,
    pub created: Timestamp,
    pub taken: Timestamp,
    pub encrypted: bool,
    pub kms_key: Option<String>,
    pub source: Option<(Region, SnapshotId)>,
    pub bytes: u64,
    pub tags: Tags,
    /// Accounts that may restore it (ModifyDBSnapshotAttribute).
    pub shared_with: Vec<String>,
}

/// Whose backup it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupStatus {
    /// Of a living instance of this region.
    Active,
    /// Kept current from another region.
    Replicating,
    /// Its instance or its replication is gone.
    Retained,
}

/// A copy of the whole data folder that WAL can be replayed onto.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseBackup {
    /// Its folder's name.
    pub name: String,
    /// Restoring to an earlier moment than this is impossible from it.
    pub finished: Timestamp,
}

/// Base backups and WAL of one instance in one region.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub struct AutomatedBackup {
    pub resource: ResourceId,
    /// Where the backup is stored.
    pub region: Region,
    pub status: BackupStatus,
    /// The instance as it was last seen; its region is the source.
    pub instance: Instance,
    pub bases: Vec<BaseBackup>,
    /// Everything committed before this moment is in the store.
    pub latest: Option<Timestamp>,
    pub retention: u32,
    pub encrypted: bool,
    pub kms_key: Option<String>,
    pub tags: Tags,
}

impl AutomatedBackup {
    /// The first moment that can be restored.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.bases.iter().map(|base| base.finished).min()
    }
}

/// Subnets that instances may live in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub struct SubnetGroup {
    pub name: String,
    pub description: String,
    pub vpc: String,
    pub subnets: Vec<Subnet>,
    pub tags: Tags,
}

/// One subnet, as EC2 describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub struct Subnet {
    pub id: String,
    pub zone: String,
    pub vpc: String,
}

/// PostgreSQL settings that instances share.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub struct ParameterGroup {
    pub name: String,
    pub family: String,
    pub description: String,
    pub values: BTreeMap<String, String>,
    pub tags: Tags,
}

/// Something that happened to an instance or snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub struct Event {
    pub at: Timestamp,
    pub source_type: String,
    pub source: String,
    pub arn: String,
    pub category: String,
    pub message: String,
}
