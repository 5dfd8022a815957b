//! Which recovery point a restore takes: pure, so that every case can be tested.
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

use crate::{
    aws::recovery::{ReplicatedBackup, SnapshotCopy, Source, Wanted},
    ids::{DbInstanceId, InvalidId},
};

/// A recovery point that was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Where the data comes from.
    #[serde(flatten)]
    pub source: Source,
    /// Everything that was committed until then is in it.
    pub at: Timestamp,
    /// The key that encrypts it.
    pub kms_key: Option<String>,
}

impl Chosen {
    /// The same point as a person would ask for it: it means the same at any later time.
    pub fn wanted(&self) -> Wanted {
        match &self.source {
            Source::Snapshot { id } => Wanted::Snapshot(id.clone()),
            Source::Backup { .. } => Wanted::At(self.at),
        }
    }
    /// Its source for people.
    pub fn source_text(&self) -> String {
        match &self.source {
            Source::Snapshot { id } => format!("snapshot {id}"),
            Source::Backup { arn } => format!("the replicated backup {arn}"),
        }
    }
    /// What an instance that was made from it is tagged with.
    pub fn tag(&self) -> String {
        match &self.source {
            Source::Snapshot { id } => format!("snapshot:{id}"),
            Source::Backup { arn } => format!("{arn}@{}", self.at),
        }
    }
    /// The name of an instance that is made from it: the same for the same point, so that nothing is made twice.
    pub fn name(&self, prefix: &DbInstanceId) -> Result<DbInstanceId, InvalidId> {
        DbInstanceId::parse(format!("{prefix}-{}", self.at.strftime("%Y%m%d%H%M%S")))
    }
}

fn of_snapshot(copy: &SnapshotCopy) -> Option<Chosen> {
    let usable = copy.status == "available" && copy.encrypted;
    let source = Source::Snapshot { id: copy.id.clone() };
    copy.at.filter(|_| usable).map(|at| Chosen { source, at, kms_key: copy.kms_key.clone() })
}

/// The second that `at` is in, from its beginning: RDS restores to whole seconds, and S3 has no others.
pub fn whole_second(at: Timestamp) -> Timestamp {
    let floor = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc);
    at.round(floor).unwrap_or(at)
}

fn of_backup(backup: &ReplicatedBackup, at: Option<Timestamp>) -> Option<Chosen> {
    let (first, last) = backup.window.filter(|_| backup.encrypted)?;
    let at = whole_second(at.unwrap_or(last));
    let source = Source::Backup { arn: backup.arn.clone() };
    (first <= at && at <= last).then(|| Chosen { source, at, kms_key: backup.kms_key.clone() })
}

/// The recovery point that is asked for, or why there is none.
pub fn choose(wanted: &Wanted, snapshots: &[SnapshotCopy], backups: &[ReplicatedBackup]) -> Result<Chosen, String> {
    match wanted {
        Wanted::Latest => {
            let all = snapshots.iter().filter_map(of_snapshot).chain(backups.iter().filter_map(|backup| of_backup(backup, None)));
            all.max_by_key(|chosen| chosen.at)
                .ok_or_else(|| "nothing here can be restored: no snapshot and no replicated backup".to_owned())
        }
        Wanted::Snapshot(id) => match snapshots.iter().find(|copy| copy.id == *id) {
            None => Err(format!("there is no snapshot {id} of the lost database in this region")),
            Some(copy) => of_snapshot(copy).ok_or_else(|| match copy.status.as_str() {
                "available" => format!("snapshot {id} is not encrypted, or RDS does not say what moment it holds"),
                status => format!("snapshot {id} is {status} ({} %) and cannot be restored", copy.percent),
            }),
        },
        Wanted::At(at) => {
            // A time that was typed without its fraction means the second that it names.
            let found = backups.iter().filter_map(|backup| of_backup(backup, Some(*at))).next();
            found.ok_or_else(|| match backups.iter().find_map(|backup| backup.window) {
                Some((first, last)) => format!("{at} cannot be restored: the replicated backup reaches from {first} to {last}"),
                None => format!("{at} cannot be restored: no replicated backup has arrived in this region"),
            })
        }
    }
}

/// How old a point is, in whole seconds.
pub fn age_seconds(now: Timestamp, at: Timestamp) -> i64 {
    now.duration_since(at).as_secs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::ids::SnapshotId;

    fn time(text: &str) -> Timestamp {
        format!("2026-11-29T{text}Z").parse().unwrap()
    }

    fn snapshot(id: &str, status: &str, at: &str) -> SnapshotCopy {
        let at = Some(time(at));
        SnapshotCopy {
            id: SnapshotId::parse(id).unwrap(),
            status: status.into(),
            percent: 40,
            at,
            encrypted: true,
            kms_key: Some("k".into()),
        }
    }

    fn backup(first: &str, last: &str) -> ReplicatedBackup {
        let window = Some((time(first), time(last)));
        ReplicatedBackup { arn: "arn:ab-1".into(), status: "replicating".into(), window, encrypted: true, kms_key: Some("k".into()) }
    }

    #[test]
    fn the_newest_usable_point_of_either_kind_is_the_latest() {
        let snapshots = [snapshot("old", "available", "01:00:00"), snapshot("half", "copying", "03:00:00")];
        let backups = [backup("00:30:00", "02:00:00.7")];
        let chosen = choose(&Wanted::Latest, &snapshots, &backups).unwrap();
        assert_eq!((chosen.source.clone(), chosen.at), (Source::Backup { arn: "arn:ab-1".into() }, time("02:00:00")));
        assert_eq!(choose(&chosen.wanted(), &snapshots, &backups).unwrap(), chosen, "what was decided stays decided");
        let newer = [snapshots[0].clone(), snapshot("new", "available", "02:30:00")];
        assert_eq!(choose(&Wanted::Latest, &newer, &backups).unwrap().source, Source::Snapshot { id: SnapshotId::parse("new").unwrap() });
        assert_eq!(choose(&Wanted::Latest, &newer, &[]).unwrap().at, time("02:30:00"));
        assert!(choose(&Wanted::Latest, &snapshots[1..], &[]).is_err());
    }

    #[test]
    fn what_cannot_be_restored_is_refused_with_its_reason() {
        let snapshots =
            [snapshot("half", "copying", "03:00:00"), SnapshotCopy { encrypted: false, ..snapshot("open", "available", "03:00:00") }];
        let refused = |wanted: &str, backups: &[ReplicatedBackup]| choose(&wanted.parse().unwrap(), &snapshots, backups).unwrap_err();
        assert_eq!(refused("snapshot:half", &[]), "snapshot half is copying (40 %) and cannot be restored");
        assert!(refused("snapshot:open", &[]).contains("not encrypted"));
        assert!(refused("snapshot:none", &[]).contains("no snapshot none"));
        assert!(refused("at:2026-11-29T02:00:01Z", &[]).contains("no replicated backup"));
        let reaches = refused("at:2026-11-29T02:00:01Z", &[backup("00:30:00", "02:00:00.7")]);
        assert!(reaches.contains("from 2026-11-29T00:30:00Z to 2026-11-29T02:00:00.7Z"), "{reaches}");
        assert!(choose(&"at:2026-11-29T00:29:59Z".parse().unwrap(), &[], &[backup("00:30:00", "02:00:00.7")]).is_err());
    }

    #[test]
    fn a_points_name_is_its_time() {
        let chosen = choose(&Wanted::Latest, &[], &[backup("00:30:00", "02:00:00.7")]).unwrap();
        assert_eq!(chosen.name(&DbInstanceId::parse("deployctl-sandbox").unwrap()).unwrap().as_str(), "deployctl-sandbox-20261129020000");
        assert_eq!(chosen.tag(), "arn:ab-1@2026-11-29T02:00:00Z");
    }
}
