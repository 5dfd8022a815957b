//! Which snapshots may go: those of deployctl's own that are beyond count and age, never the last good one, never one that a run needs. Pure.
use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    aws::rds_snapshots::ManualSnapshot,
    ids::{EnvironmentName, SnapshotId},
    plan::environment::SnapshotRetention,
};

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// On every snapshot that deployctl takes, and by terraform on the database: whose it is.
pub const ENVIRONMENT: &str = "deployctl:environment";

/// What becomes of a snapshot, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "why")]
pub enum Verdict {
    /// It stays.
    Keep(String),
    /// It goes.
    Delete(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(why) => write!(f, "keep    {why}"),
            Self::Delete(why) => write!(f, "delete  {why}"),
        }
    }
}

/// What is asked of the snapshots of one instance in one region.
pub struct Rules<'a> {
    /// The environment, for whose snapshots it is.
    pub environment: &'a EnvironmentName,
    /// Count and age.
    pub retention: SnapshotRetention,
    /// Snapshots that something needs, and what.
    pub needed: &'a BTreeMap<SnapshotId, String>,
    /// The time.
    pub now: Timestamp,
}

impl Rules<'_> {
    /// Judges each; `snapshots` come newest first, as [`crate::aws::Aws::manual_snapshots`] gives them.
    pub fn judge<'a>(&self, snapshots: &'a [ManualSnapshot]) -> Vec<(&'a ManualSnapshot, Verdict)> {
        let mut ours = 0_u32;
        let judged = snapshots.iter().map(|snapshot| {
            let own = snapshot.tags.get(ENVIRONMENT).is_some_and(|name| name == self.environment.as_str());
            let available = snapshot.status == "available";
            ours += u32::from(available && own);
            (snapshot, self.one(snapshot, own, ours))
        });
        judged.collect()
    }

    /// `place` is its number among the good ones of ours, from 1. `keep` is never 0, so the last good one always stays.
    fn one(&self, snapshot: &ManualSnapshot, own: bool, place: u32) -> Verdict {
        let keep = |why: String| Verdict::Keep(why);
        if !own {
            return keep("deployctl did not take it for this environment".to_owned());
        }
        if let Some(what) = self.needed.get(&snapshot.id) {
            return keep(what.clone());
        }
        let Some(days) = snapshot.taken.map(|taken| (self.now.as_second() - taken.as_second()) / DAY_SECONDS) else {
            return keep(format!("it is {}", snapshot.status));
        };
        let limits = self.retention;
        let failed = snapshot.status == "failed";
        if !failed && snapshot.status != "available" {
            return keep(format!("it is {}", snapshot.status));
        }
        if !failed && place == 1 {
            return keep("the newest that can be restored".to_owned());
        }
        if days < i64::from(limits.days) {
            return keep(format!("{days} days old; all younger than {} days stay", limits.days));
        }
        if !failed && place <= limits.keep.get() {
            return keep(format!("one of the newest {}", limits.keep));
        }
        Verdict::Delete(format!("{days} days old{}", if failed { ", and it failed" } else { "" }))
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
