//! RDS in the region that an environment is restored in: what can be restored, where it may go, and a restore that leaves nothing to
//! RDS' own choice. Whatever is asked here is asked of this region; the one that was lost is only a part of ARNs.
use std::{collections::BTreeMap, fmt, str::FromStr};

use aws_sdk_rds::{primitives::DateTime, types::DbInstance as Described};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Aws, error,
    rds::{moment, rds_tags, tags_of},
};
use crate::{
    failure::{Failure, FailureKind, LeftBehind},
    ids::{DbInstanceId, InvalidId, Region, SnapshotId},
};

/// A recovery point as people type it and as it is kept: `latest`, `snapshot:ID`, `at:TIME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Wanted {
    /// The newest there is, of either kind.
    Latest,
    /// This snapshot.
    Snapshot(SnapshotId),
    /// This moment, from the replicated backup.
    At(Timestamp),
}

/// A text that names no recovery point.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither `latest` nor `snapshot:ID` nor `at:TIME` with a time as in 2026-11-29T03:00:00Z")]
pub struct NoPoint(String);

impl FromStr for Wanted {
    type Err = NoPoint;
    fn from_str(text: &str) -> Result<Self, NoPoint> {
        let no = || NoPoint(text.to_owned());
        match text.split_once(':') {
            None if text == "latest" => Ok(Self::Latest),
            Some(("snapshot", id)) => SnapshotId::parse(id).map(Self::Snapshot).map_err(|_invalid: InvalidId| no()),
            Some(("at", time)) => time.parse().map(Self::At).map_err(|_error: jiff::Error| no()),
            _ => Err(no()),
        }
    }
}

impl TryFrom<String> for Wanted {
    type Error = NoPoint;
    fn try_from(text: String) -> Result<Self, NoPoint> {
        text.parse()
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Snapshot(id) => write!(f, "snapshot:{id}"),
            Self::At(time) => write!(f, "at:{time}"),
        }
    }
}

impl From<Wanted> for String {
    fn from(wanted: Wanted) -> Self {
        wanted.to_string()
    }
}

/// A snapshot of the lost instance, in this region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotCopy {
    /// Its identifier here.
    pub id: SnapshotId,
    /// `available` when it can be restored.
    pub status: String,
    /// How far it is.
    pub percent: u8,
    /// The newest transaction in it; RDS says it once the snapshot is available.
    pub at: Option<Timestamp>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// With which key of this region.
    pub kms_key: Option<String>,
}

/// The lost instance's automated backup, as far as it was replicated to this region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicatedBackup {
    /// Its ARN, by which it is restored.
    pub arn: String,
    /// `replicating`, or `retained` once the replication has ended.
    pub status: String,
    /// The first and the last moment that can be restored; none before the first backup has arrived.
    pub window: Option<(Timestamp, Timestamp)>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// With which key of this region.
    pub kms_key: Option<String>,
}

/// Where the data of a restore comes from, decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Source {
    /// A snapshot of this region.
    Snapshot {
        /// Its identifier.
        id: SnapshotId,
    },
    /// A replicated backup, replayed up to a moment.
    Backup {
        /// Its ARN.
        arn: String,
    },
}

/// Where a restored instance goes. RDS has a default for each of these, and none of them is what anybody wants; so none can be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landing {
    /// RDS' group of subnets.
    pub subnet_group: String,
    /// The security group that guards it, as in `sg-0123`.
    pub security_group: String,
    /// The parameter group.
    pub parameter_group: String,
    /// As in `db.t4g.medium`.
    pub instance_class: String,
    /// Whether a standby waits in another zone.
    pub multi_az: bool,
}

/// A restore that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The new instance.
    pub id: DbInstanceId,
    /// Where its data comes from.
    pub source: Source,
    /// The moment that it will hold.
    pub at: Timestamp,
    /// Where it goes.
    pub landing: Landing,
    /// Tags, by which it is known again.
    pub tags: BTreeMap<String, String>,
}

/// What RDS said to a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is being made.
    Begun,
    /// There is an instance of that name already.
    NameTaken,
}

/// A restored instance, as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restored {
    /// Its identifier.
    pub id: DbInstanceId,
    /// `available` when it can be used.
    pub status: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its endpoint, once it has one.
    pub endpoint: Option<(String, u16)>,
    /// The database in it.
    pub database: Option<String>,
    /// RDS' group of subnets that it is in.
    pub subnet_group: Option<String>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// Its parameter groups with their states, as in `in-sync`.
    pub parameter_groups: Vec<(String, String)>,
    /// Whether a standby waits in another zone.
    pub multi_az: bool,
    /// Whether it refuses to be deleted.
    pub deletion_protection: bool,
    /// Whether it has an address in the internet.
    pub publicly_accessible: bool,
    /// The key that encrypts it.
    pub kms_key: Option<String>,
    /// Days of automated backups.
    pub backup_days: u32,
    /// The secret that RDS manages for the master user.
    pub master_secret_arn: Option<String>,
}

/// RDS takes whole seconds in a restore's time.
fn date_time(at: Timestamp) -> DateTime {
    DateTime::from_secs(at.as_second())
}

impl Aws {
    /// Snapshots of an instance that are in this region, whichever region it lived in.
    pub async fn snapshot_copies(&self, instance: &DbInstanceId) -> Result<Vec<SnapshotCopy>, Failure> {
        let found = self.described_snapshots(Some(instance), None).await?;
        let copy = |found: aws_sdk_rds::types::DbSnapshot| {
            let at = found.snapshot_database_time.or(found.original_snapshot_create_time).or(found.snapshot_create_time);
            Some(SnapshotCopy {
                id: SnapshotId::parse(found.db_snapshot_identifier?).ok()?,
                status: found.status.unwrap_or_default(),
                percent: found.percent_progress.and_then(|p| u8::try_from(p).ok()).unwrap_or(0),
                at: at.and_then(moment),
                encrypted: found.encrypted == Some(true),
                kms_key: found.kms_key_id,
            })
        };
        Ok(found.into_iter().filter_map(copy).collect())
    }

    /// Backups in this region of an instance that lives or lived in `home`, also those whose replication has ended.
    pub async fn backups_of(&self, instance: &DbInstanceId, home: &Region) -> Result<Vec<ReplicatedBackup>, Failure> {
        let arn = format!("arn:aws:rds:{home}:{}:db:{instance}", self.account());
        let backup = |found: aws_sdk_rds::types::DbInstanceAutomatedBackup| {
            let window = found.restore_window.and_then(|w| Some((w.earliest_time.and_then(moment)?, w.latest_time.and_then(moment)?)));
            Some(ReplicatedBackup {
                arn: found.db_instance_automated_backups_arn?,
                status: found.status.unwrap_or_default().to_lowercase(),
                window,
                encrypted: found.encrypted == Some(true),
                kms_key: found.kms_key_id,
            })
        };
        Ok(self.described_backups(&arn).await?.into_iter().filter_map(backup).collect())
    }

    /// The VPC of a group of subnets; none if there is no such group.
    pub async fn subnet_group_vpc(&self, name: &str) -> Result<Option<String>, Failure> {
        let answer = match self.rds().describe_db_subnet_groups().db_subnet_group_name(name).send().await {
            Ok(answer) => answer,
            Err(e) if error::code(&e).is_some_and(|code| code.starts_with("DBSubnetGroupNotFound")) => return Ok(None),
            Err(e) => return Err(self.failed("rds:DescribeDBSubnetGroups", name, e)),
        };
        Ok(answer.db_subnet_groups.unwrap_or_default().into_iter().next().and_then(|group| group.vpc_id))
    }

    /// The family of a parameter group, as in `postgres15`; none if there is no such group.
    pub async fn parameter_group_family(&self, name: &str) -> Result<Option<String>, Failure> {
        let answer = match self.rds().describe_db_parameter_groups().db_parameter_group_name(name).send().await {
            Ok(answer) => answer,
            Err(e) if error::code(&e).is_some_and(|code| code.starts_with("DBParameterGroupNotFound")) => return Ok(None),
            Err(e) => return Err(self.failed("rds:DescribeDBParameterGroups", name, e)),
        };
        Ok(answer.db_parameter_groups.unwrap_or_default().into_iter().next().and_then(|group| group.db_parameter_group_family))
    }

    /// A security group of a VPC by its name; none if there is none.
    pub async fn security_group(&self, name: &str, vpc: &str) -> Result<Option<String>, Failure> {
        let wanted = [("group-name".to_owned(), name.to_owned()), ("vpc-id".to_owned(), vpc.to_owned())];
        let found = self.ec2_objects("DescribeSecurityGroups", "securityGroupInfo/item", &wanted).await?;
        let is_it = |group: &&super::Element| group.text("groupName") == Some(name) && group.text("vpcId") == Some(vpc);
        Ok(found.iter().find(is_it).and_then(|group| group.text("groupId")).map(str::to_owned))
    }

    /// Asks for a restore. Nothing that RDS would choose by itself is left to it.
    pub async fn start_restore(&self, restore: &Restore) -> Result<Asked, Failure> {
        let Restore { id, source, at, landing, tags } = restore;
        let Landing { subnet_group, security_group, parameter_group, instance_class, multi_az } = landing;
        let tags = Some(rds_tags(tags));
        let refused = match source {
            Source::Snapshot { id: snapshot } => {
                let request = self.rds().restore_db_instance_from_db_snapshot().db_snapshot_identifier(snapshot.as_str());
                let request = request.db_instance_identifier(id.as_str()).set_tags(tags).db_subnet_group_name(subnet_group);
                let request = request.vpc_security_group_ids(security_group).db_parameter_group_name(parameter_group);
                let request = request.db_instance_class(instance_class).multi_az(*multi_az).deletion_protection(true);
                let request = request.publicly_accessible(false).copy_tags_to_snapshot(true).manage_master_user_password(true);
                let on = format!("{snapshot} as {id}");
                request.send().await.err().map(|e| (named(error::code(&e)), self.failed("rds:RestoreDBInstanceFromDBSnapshot", &on, e)))
            }
            Source::Backup { arn } => {
                let request = self.rds().restore_db_instance_to_point_in_time().source_db_instance_automated_backups_arn(arn);
                let request = request.target_db_instance_identifier(id.as_str()).set_tags(tags).restore_time(date_time(*at));
                let request = request.db_subnet_group_name(subnet_group).vpc_security_group_ids(security_group);
                let request = request.db_parameter_group_name(parameter_group).db_instance_class(instance_class).multi_az(*multi_az);
                let request = request.deletion_protection(true).publicly_accessible(false).copy_tags_to_snapshot(true);
                let request = request.manage_master_user_password(true);
                let on = format!("{arn} as {id}");
                request.send().await.err().map(|e| (named(error::code(&e)), self.failed("rds:RestoreDBInstanceToPointInTime", &on, e)))
            }
        };
        match refused {
            None => Ok(Asked::Begun),
            Some((code, _)) if code.starts_with("DBInstanceAlreadyExists") => Ok(Asked::NameTaken),
            Some((code, failure)) => Err(advised(&code, failure, self.region())),
        }
    }

    /// A restored instance as it is; none if there is none.
    pub async fn restored(&self, id: &DbInstanceId) -> Result<Option<Restored>, Failure> {
        let Some(found) = self.described(id).await? else { return Ok(None) };
        let endpoint = found.endpoint.and_then(|e| Some((e.address?, u16::try_from(e.port?).ok()?)));
        let groups = found.db_parameter_groups.unwrap_or_default().into_iter();
        Ok(Some(Restored {
            id: id.clone(),
            status: found.db_instance_status.unwrap_or_default(),
            tags: tags_of(found.tag_list),
            endpoint,
            database: found.db_name,
            subnet_group: found.db_subnet_group.and_then(|group| group.db_subnet_group_name),
            security_groups: found.vpc_security_groups.unwrap_or_default().into_iter().filter_map(|g| g.vpc_security_group_id).collect(),
            parameter_groups: groups
                .filter_map(|g| Some((g.db_parameter_group_name?, g.parameter_apply_status.unwrap_or_default())))
                .collect(),
            multi_az: found.multi_az == Some(true),
            deletion_protection: found.deletion_protection == Some(true),
            publicly_accessible: found.publicly_accessible == Some(true),
            kms_key: found.kms_key_id,
            backup_days: found.backup_retention_period.and_then(|d| u32::try_from(d).ok()).unwrap_or(0),
            master_secret_arn: found.master_user_secret.and_then(|secret| secret.secret_arn),
        }))
    }
}

/// The tag of instances that a drill has made, and may delete; no other one is ever deleted.
pub const DRILL: (&str, &str) = ("deployctl:drill", "throw-away");

impl Aws {
    /// Instances that drills have made under names that begin like this.
    pub async fn drilled(&self, prefix: &DbInstanceId) -> Result<Vec<DbInstanceId>, Failure> {
        let start = format!("{prefix}-");
        let found = self.described_with_tag(DRILL.0).await?;
        let ours = found.into_iter().filter(is_drilled);
        let names = ours.filter_map(|instance| instance.db_instance_identifier).filter(|name| name.starts_with(&start));
        Ok(names.filter_map(|name| DbInstanceId::parse(name).ok()).collect())
    }

    /// Lifts the protection of an instance that a drill has made, and deletes it with its backups. One that is busy is refused by RDS:
    /// false, to be tried again. What does not carry the drill's tag is refused here.
    pub async fn delete_drilled(&self, id: &DbInstanceId) -> Result<bool, Failure> {
        let Some(found) = self.described(id).await? else { return Ok(true) };
        if !is_drilled(&found) {
            return Err(Failure::new(FailureKind::Policy, format!("instance {id} was not made by a drill; it is not deleted")));
        }
        self.delete_described(id, &found, None).await
    }
}

fn is_drilled(found: &Described) -> bool {
    found.tag_list().iter().any(|tag| (tag.key(), tag.value()) == (Some(DRILL.0), Some(DRILL.1)))
}

fn named(code: Option<&str>) -> String {
    code.unwrap_or_default().to_owned()
}

/// What a person can do about the refusals that RDS documents for a restore.
fn advised(code: &str, failure: Failure, region: &Region) -> Failure {
    let next = match code {
        "InstanceQuotaExceeded" | "StorageQuotaExceeded" => {
            format!(
                "ask for a higher quota (aws service-quotas, service rds, {region}) or delete an instance there, then run the same command"
            )
        }
        "KMSKeyNotAccessibleFault" => {
            format!("let the deployer use the key, or enable it: aws kms describe-key --region {region} --key-id KEY")
        }
        "InsufficientDBInstanceCapacity" => "another instance class may be had: database.instance_class in the environment file".to_owned(),
        "InvalidDBSnapshotState" | "DBSnapshotNotFound" | "InvalidRestoreFault" | "DBInstanceAutomatedBackupNotFound" => {
            "deployctl dr status shows what can be restored".to_owned()
        }
        // The request may have arrived all the same; its name tells.
        "" => return failure.next("run the same command again: it finds what was begun by its name"),
        _ => return failure,
    };
    failure.left(LeftBehind::Nothing).next(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_recovery_point_is_read_as_it_is_written() {
        for text in ["latest", "snapshot:deployctl-sandbox-parser-v2-0123", "at:2026-11-29T03:00:00Z"] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), text);
        }
        for text in ["", "newest", "snapshot:", "at:", "at:yesterday", "snapshot:../x", "2026-11-29T03:00:00Z"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }
}
