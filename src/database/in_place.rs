//! A snapshot put into a database's place: restored beside it, made the same in every setting, then the two exchange names. The old one is
//! renamed and nothing else, so there is always a way back. Every step is found again by names and tags: after a kill at any moment the same
//! call goes on.
use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    aws::{Aws, rds_in_place::DbSettings},
    failure::{Failure, FailureKind, LeftBehind},
    ids::{DbInstanceId, KmsKeyId, SnapshotId},
};

/// On the restored instance until all is done: the moment that the old one's new name ends with.
const UNDER_WAY: &str = "deployctl:in-place";
/// On it from the beginning: whose place it takes.
const REPLACES: &str = "deployctl:replaces";
/// On it from the beginning: what was restored.
const FROM: &str = "deployctl:restored-from";
/// AWS takes names of at most this many characters.
const LONGEST: usize = 63;
/// How a moment is written in a name.
const MOMENT: &str = "%Y%m%d%H%M%S";
/// How often a state is asked for.
const PAUSE: Duration = Duration::from_millis(500);
/// What an instance does not come back from by itself.
const BROKEN: [&str; 6] = [
    "failed",
    "incompatible-restore",
    "incompatible-network",
    "incompatible-parameters",
    "storage-full",
    "inaccessible-encryption-credentials",
];
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct InPlace {
    /// Whose place.
    pub instance: DbInstanceId,
    /// What is put there.
    pub snapshot: SnapshotId,
    /// The key, of the other region, for replicated backups.
    pub dr_key: KmsKeyId,
    /// For each wait.
    pub deadline: Duration,
    /// Whether to do it although it is done.
    pub repeat: Repeat,
}

/// What is done about a database that this snapshot was put in the place of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing: the same command once more changes nothing.
    No,
    /// The snapshot is restored again.
    Yes,
}

/// Whether this is the name of an instance that one of those set aside, or left halfway, whose place it took or was to take.
pub fn is_set_aside(name: &DbInstanceId, instance: &DbInstanceId) -> bool {
    let Some(rest) = name.as_str().strip_prefix(instance.as_str()) else { return false };
    let is = |what: &str, digits: usize, digit: fn(&char) -> bool| {
        rest.strip_prefix(what).is_some_and(|end| end.chars().count() == digits && end.chars().all(|c| digit(&c)))
    };
    is("-before-", 14, char::is_ascii_digit) || is("-restored-", 8, char::is_ascii_hexdigit)
}

/// What there is to do.
#[derive(Clone, Debug)]
pub enum Look {
    /// An exchange, to be begun or gone on with.
    ToDo(Box<Exchange>),
    /// Nothing: the instance of this name is the restored one.
    Done(Box<DbSettings>),
}

/// What will be done, or gone on with.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// The one whose place is taken, as it is now.
    pub old: DbSettings,
    /// The old one's name afterwards.
    pub before: DbInstanceId,
    /// The new one's name while it is made.
    pub beside: DbInstanceId,
    /// The new one, if an earlier call has begun.
    pub new: Option<DbSettings>,
}

/// How it ended.
#[derive(Clone, Debug, Serialize)]
pub struct Exchanged {
    /// The instance that has the name now.
    pub new: DbSettings,
    /// The instance that had it.
    pub old: DbSettings,
    /// Whether its backups are replicated to the other region, as the old one's were.
    pub replicated: bool,
}

impl InPlace {
    /// Looks what is there; changes nothing. `now` names what is begun anew.
    pub async fn look(&self, aws: &Aws, now: Timestamp) -> Result<Look, Failure> {
        let begun = aws.db_instances_tagged(UNDER_WAY).await?;
        let begun = begun.into_iter().find(|found| found.tags.get(REPLACES).is_some_and(|name| name == self.instance.as_str()));
        let Some(new) = begun else { return self.fresh(aws, now).await };
        let from = new.tags.get(FROM).cloned().unwrap_or_default();
        if from != self.snapshot.as_str() {
            return Err(Failure::new(
                FailureKind::Preflight,
                format!("{} is being replaced by snapshot {from} already: {} is not done", self.instance, new.id),
            )
            .next(format!("go on with it: deployctl db restore --in-place --snapshot {from}"))
            .next(format!(
                "or give it up, as long as {} has its name: aws rds delete-db-instance --db-instance-identifier {}",
                self.instance, new.id
            )));
        }
        let before = self.name("before", &new.tags[UNDER_WAY])?;
        // In the middle of its renaming it is under neither name for a moment.
        let old = self.wait(aws, &[&before, &self.instance], |found| found.resource != new.resource, &|_| {}).await?;
        let beside = self.beside(&old)?;
        Ok(Look::ToDo(Box::new(Exchange { old, before, beside, new: Some(new) })))
    }

    async fn fresh(&self, aws: &Aws, now: Timestamp) -> Result<Look, Failure> {
        let refuse = |why: String| Failure::new(FailureKind::Preflight, why);
        let old = aws.db_settings(&self.instance).await?;
        let old = old.ok_or_else(|| {
            refuse(format!("there is no database instance {} in {} whose place could be taken", self.instance, aws.region()))
        })?;
        let done = old.tags.get(FROM).is_some_and(|from| from == self.snapshot.as_str()) && old.tags.contains_key(REPLACES);
        if done && self.repeat == Repeat::No {
            return Ok(Look::Done(Box::new(old)));
        }
        if old.status != "available" {
            return Err(refuse(format!("{} is {}: it can be renamed once it is available", self.instance, old.status)));
        }
        let snapshot = aws.db_snapshot(&self.snapshot).await?;
        let snapshot = snapshot
            .ok_or_else(|| refuse(format!("there is no snapshot {} in {}", self.snapshot, aws.region())).next("deployctl db list"))?;
        if snapshot.status != "available" {
            return Err(refuse(format!("snapshot {} is {}: it can be restored once it is available", self.snapshot, snapshot.status)));
        }
        if old.kept.encrypted && !snapshot.encrypted {
            return Err(refuse(format!("{} is encrypted and snapshot {} is not", self.instance, self.snapshot)).next(format!(
                "encrypt a copy: aws rds copy-db-snapshot --kms-key-id … --source-db-snapshot-identifier {}",
                self.snapshot
            )));
        }
        let before = self.name("before", &now.strftime(MOMENT).to_string())?;
        let beside = self.beside(&old)?;
        Ok(Look::ToDo(Box::new(Exchange { old, before, beside, new: None })))
    }

    fn name(&self, what: &str, end: &str) -> Result<DbInstanceId, Failure> {
        let name = format!("{}-{what}-{end}", self.instance);
        let parsed = DbInstanceId::parse(&name).ok().filter(|_| name.len() <= LONGEST);
        parsed.ok_or_else(|| Failure::usage(format!("the name {name} would be longer than {LONGEST} characters")))
    }

    /// The new one's name while it is made follows from what is asked for: whoever asks twice, because an answer was lost, makes one.
    fn beside(&self, old: &DbSettings) -> Result<DbInstanceId, Failure> {
        let digest = Sha256::digest(format!("{}\0{}", old.resource, self.snapshot));
        self.name("restored", &hex::encode(&digest[..4]))
    }

    /// Does what is left of it. `tell` hears what is waited for.
    pub async fn carry_out(&self, aws: &Aws, dr: &Aws, exchange: Exchange, tell: &(dyn Fn(String) + Sync)) -> Result<Exchanged, Failure> {
        let Exchange { old, mut before, beside, new } = exchange;
        let left = |what: String| move |failure: Failure| with_left(failure, what.clone());
        if new.is_none() {
            let mut tags: BTreeMap<String, String> = old.tags.clone().into_iter().filter(|(key, _)| !key.starts_with("aws:")).collect();
            let moment = before.as_str().rsplit('-').next().unwrap_or_default().to_owned();
            let own = [(UNDER_WAY, moment), (REPLACES, self.instance.to_string()), (FROM, self.snapshot.to_string())];
            tags.extend(own.map(|(key, value)| (key.to_owned(), value)));
            tell(format!("restoring {} as {beside}; this usually takes 10 to 30 minutes, and longer for terabytes", self.snapshot));
            aws.restore_db_instance_like(&self.snapshot, &beside, &old, &tags).await?;
        }
        let begun = || left(format!("instance {beside}, restored from {}; {} is as it was", self.snapshot, self.instance));
        let is_new = |found: &DbSettings| {
            found.tags.contains_key(UNDER_WAY) && found.tags.get(FROM).is_some_and(|from| from == self.snapshot.as_str())
        };
        // Killed in its renaming it may have either name.
        let either = [&beside, &self.instance];
        let mut new = self.wait(aws, &either, is_new, tell).await.map_err(begun())?;
        // An earlier call whose answer was lost has chosen the moment.
        before = self.name("before", &new.tags[UNDER_WAY])?;
        if !old.kept.differences(&new.kept).is_empty() {
            tell(format!("giving {} the settings of {}", new.id, old.id));
            aws.modify_db_instance_like(&new.id, &old.kept).await.map_err(begun())?;
            new = self.wait(aws, &either, is_new, tell).await.map_err(begun())?;
            let differences = old.kept.differences(&new.kept);
            if !differences.is_empty() {
                let message = format!("{} is not set up as {} is, and does not take its place", new.id, old.id);
                return Err(begun()(Failure::step(message).evidence(differences.join("\n"))).next(format!(
                    "make them the same by `aws rds modify-db-instance`, then: deployctl db restore --in-place --snapshot {}",
                    self.snapshot
                )));
            }
        }
        let halfway = || left(format!("instance {before}, which had the name {}; {beside}, which is to get it", self.instance));
        let is_old = |found: &DbSettings| found.resource == old.resource;
        if new.id != self.instance {
            // A kill leaves it in the middle of its own renaming, where it refuses another.
            let named = aws.db_settings(&self.instance).await.map_err(begun())?.filter(|found| is_old(found) && found.status != "renaming");
            if named.is_some() {
                self.wait(aws, &[&self.instance], is_old, tell).await.map_err(begun())?;
                tell(format!("renaming {} to {before}: from here on nobody reaches it under its name", self.instance));
                aws.rename_db_instance(&self.instance, &before).await.map_err(begun())?;
            }
            self.wait(aws, &[&before], is_old, tell).await.map_err(halfway())?;
            if aws.db_settings(&beside).await.map_err(halfway())?.is_some_and(|found| found.status == "available") {
                tell(format!("renaming {beside} to {}", self.instance));
                aws.rename_db_instance(&beside, &self.instance).await.map_err(halfway())?;
            }
            new = self.wait(aws, &[&self.instance], is_new, tell).await.map_err(halfway())?;
        }
        let done = || left(format!("{} is restored from {}; the instance that it replaces is {before}", self.instance, self.snapshot));
        let old = self.wait(aws, &[&before], is_old, tell).await.map_err(done())?;
        let replicated = dr.replicated_backup_of(&old.resource).await.map_err(done())?.is_some();
        if replicated && dr.replicated_backup_of(&new.resource).await.map_err(done())?.is_none() {
            tell(format!("replicating backups of the new {} to {}", self.instance, dr.region()));
            dr.replicate_backups(&new.arn, &self.dr_key, new.kept.backup_days).await.map_err(done())?;
        }
        aws.untag_db_instance(&new.arn, &[UNDER_WAY]).await.map_err(done())?;
        Ok(Exchanged { new, old, replicated })
    }

    /// Waits until the instance that is meant is available under one of these names.
    async fn wait(
        &self,
        aws: &Aws,
        names: &[&DbInstanceId],
        meant: impl Fn(&DbSettings) -> bool,
        tell: &(dyn Fn(String) + Sync),
    ) -> Result<DbSettings, Failure> {
        let started = tokio::time::Instant::now();
        let (mut pause, mut last) = (PAUSE, String::new());
        loop {
            let mut found = None;
            for name in names {
                found = found.or(aws.db_settings(name).await?.filter(|found| meant(found)));
            }
            let id = found.as_ref().map_or_else(|| names[0].clone(), |found| found.id.clone());
            let status = found.as_ref().map_or_else(|| "not there yet".to_owned(), |found| found.status.clone());
            match found {
                Some(found) if status == "available" => return Ok(found),
                Some(_) if BROKEN.contains(&status.as_str()) => {
                    return Err(Failure::step(format!("instance {id} is {status}")).next(format!(
                        "see why: aws rds describe-events --source-type db-instance --source-identifier {id} --region {}",
                        aws.region()
                    )));
                }
                _ => {}
            }
            if started.elapsed() >= self.deadline {
                return Err(Failure::timeout(format!("instance {id} to be available; it is {status}"), self.deadline));
            }
            if status != last {
                tell(format!("{id}: {status}"));
                last = status;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }
}

fn with_left(failure: Failure, what: String) -> Failure {
    if failure.left_behind == LeftBehind::Nothing { failure.left(LeftBehind::Partial(vec![what])) } else { failure }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_was_set_aside_has_a_name_that_nobody_else_has() {
        let is = |name: &str| is_set_aside(&DbInstanceId::parse(name).unwrap(), &DbInstanceId::parse("deployctl-qa").unwrap());
        assert!(is("deployctl-qa-before-20261130235959") && is("deployctl-qa-restored-0a1b2c3d"));
        for other in [
            "deployctl-qa",
            "deployctl-qa-before-2026",
            "deployctl-qa-restored-0a1b2c3",
            "deployctl-qa-drill-20261130235959",
            "deployctl-qb-before-20261130235959",
        ] {
            assert!(!is(other), "{other}");
        }
    }
}
