//! What a restore finds in its region: recovery points, and the things that a restored instance goes into. Reads only.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    FROM, Input,
    choice::{Chosen, choose},
};
use crate::{
    aws::recovery::{Landing, ReplicatedBackup, Restore, Restored, SnapshotCopy},
    failure::{Failure, FailureKind},
    ids::{DbInstanceId, Region},
    steps::StepContext,
};

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// Where it was looked for.
    pub region: Region,
    /// Snapshots of the lost instance.
    pub snapshots: Vec<SnapshotCopy>,
    /// Its replicated backups.
    pub backups: Vec<ReplicatedBackup>,
    /// The VPC of the group of subnets; none if there is no such group.
    pub vpc: Option<String>,
    /// The security group's id; none if the VPC has none of that name.
    pub security_group: Option<String>,
    /// The parameter group's family; none if there is no such group.
    pub family: Option<String>,
    /// The ARN of the key; none if it cannot be used.
    pub key: Option<String>,
    /// The instance of the name that the chosen point gives, if there is one.
    pub existing: Option<Restored>,
    /// Tags of the new instance.
    tags: BTreeMap<String, String>,
}

/// Everything that a restore needs.
pub struct Found {
    /// What RDS is asked for.
    pub request: Restore,
    /// From which point.
    pub chosen: Chosen,
    /// What has its name already.
    pub existing: Option<Restored>,
}

/// Looks at everything at once.
pub async fn look(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
    let aws = &cx.aws;
    let landing = async {
        let vpc = aws.subnet_group_vpc(&input.subnet_group).await?;
        let group = match &vpc {
            Some(vpc) => aws.security_group(&input.security_group, vpc).await?,
            None => None,
        };
        Ok::<_, Failure>((vpc, group))
    };
    let (snapshots, backups, landing, family, key) = tokio::join!(
        aws.snapshot_copies(&input.instance),
        aws.backups_of(&input.instance, &input.home),
        landing,
        aws.parameter_group_family(&input.parameter_group),
        aws.usable_kms_key(&input.kms_key),
    );
    let (snapshots, backups, (vpc, security_group)) = (snapshots?, backups?, landing?);
    let existing = match choose(&input.point, &snapshots, &backups) {
        Ok(chosen) => aws.restored(&name(&chosen, input)?).await?,
        Err(_none) => None,
    };
    let mut tags = cx.environment.tags.clone();
    tags.extend(input.tags.clone());
    tags.insert("deployctl:environment".to_owned(), cx.environment.name.to_string());
    Ok(Observed { region: aws.region().clone(), snapshots, backups, vpc, security_group, family: family?, key: key?, existing, tags })
}

fn name(chosen: &Chosen, input: &Input) -> Result<DbInstanceId, Failure> {
    chosen.name(&input.prefix).map_err(|e| Failure::usage("a name for the restored database").because(e))
}

impl Observed {
    /// Things that a restore needs and that are not there, each with what to do.
    pub fn missing(&self, input: &Input) -> Vec<(String, String)> {
        let prepare = "deployctl dr prepare".to_owned();
        let region = &self.region;
        let mut missing = Vec::new();
        if self.vpc.is_none() {
            missing.push((format!("subnet group {} in {region}", input.subnet_group), prepare.clone()));
        } else if self.security_group.is_none() {
            missing.push((format!("security group {} in the VPC of {}", input.security_group, input.subnet_group), prepare.clone()));
        }
        match &self.family {
            None => missing.push((format!("parameter group {} in {region}", input.parameter_group), prepare)),
            Some(family) if *family != input.family => {
                missing.push((format!("parameter group {} of family {}: it is of {family}", input.parameter_group, input.family), prepare));
            }
            Some(_) => {}
        }
        if self.key.is_none() {
            let next = "deployctl apply --only data makes it; a disabled one: aws kms enable-key; one that is denied: kms:DescribeKey for the role".to_owned();
            missing.push((format!("a usable key {} in {region}", input.kms_key), next));
        }
        missing
    }

    /// The key for people.
    pub fn key_text(&self) -> &str {
        self.key.as_deref().unwrap_or("no key")
    }

    /// Everything that is needed, or one failure that says all that is not there.
    pub fn found(&self, input: &Input) -> Result<Found, Failure> {
        let missing = self.missing(input);
        let chosen = choose(&input.point, &self.snapshots, &self.backups);
        let (Ok(chosen), Some(group), []) = (&chosen, &self.security_group, missing.as_slice()) else {
            let why = chosen.err().into_iter().map(|why| (why, "deployctl dr status".to_owned()));
            return Err(unprepared(&self.region, why.chain(missing).collect()));
        };
        if chosen.kms_key != self.key {
            let (point, key) = (chosen.kms_key.as_deref().unwrap_or("none"), self.key_text());
            let what = format!("{} is encrypted with {point}, not with {} ({key})", chosen.source_text(), input.kms_key);
            return Err(Failure::new(FailureKind::Preflight, what).next("another point: deployctl dr status"));
        }
        let mut tags = self.tags.clone();
        tags.insert(FROM.to_owned(), chosen.tag());
        let landing = Landing {
            subnet_group: input.subnet_group.clone(),
            security_group: group.clone(),
            parameter_group: input.parameter_group.clone(),
            instance_class: input.instance_class.clone(),
            multi_az: input.multi_az,
        };
        let request = Restore { id: name(chosen, input)?, source: chosen.source.clone(), at: chosen.at, landing, tags };
        Ok(Found { request, chosen: chosen.clone(), existing: self.existing.clone() })
    }
}

fn unprepared(region: &Region, missing: Vec<(String, String)>) -> Failure {
    let mut failure = Failure::new(FailureKind::Preflight, format!("a restore into {region} is not possible"));
    for (what, next) in missing {
        failure.evidence.push(format!("missing: {what}"));
        if !failure.next.contains(&next) {
            failure.next.push(next);
        }
    }
    failure
}
