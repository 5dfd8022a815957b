//! A plan as a file: one file, readable by its owner only, with a digest over all of it. Another version or another digest is refused.
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Plan, digest};
use crate::{
    clock,
    failure::{Failure, FailureKind},
    ids::PlanDigest,
    whole_file,
};

const FORMAT: &str = "deployctl-plan";
const VERSION: u32 = 2;

/// A plan with what says where it comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    format: String,
    version: u32,
    /// The deployctl that made it: payloads are its own affair, another release may read them differently.
    pub made_by: String,
    /// When.
    pub made_at: Timestamp,
    /// Over everything else.
    pub digest: PlanDigest,
    /// The plan.
    pub plan: Plan,
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
    made_by: String,
}

/// The digest that a plan made now has.
pub fn digest_of(plan: &Plan, made_at: Timestamp, made_by: &str) -> Result<PlanDigest, Failure> {
    let text = digest::of(&(FORMAT, VERSION, made_by, made_at, plan))?;
    PlanDigest::parse(text).map_err(|error| Failure::new(FailureKind::Internal, "no plan digest").because(error))
}

impl Saved {
    /// A plan that was made now.
    pub fn now(plan: &Plan) -> Result<Self, Failure> {
        let made_by = env!("CARGO_PKG_VERSION").to_owned();
        let made_at = clock::now();
        let digest = digest_of(plan, made_at, &made_by)?;
        Ok(Self { format: FORMAT.to_owned(), version: VERSION, made_by, made_at, digest, plan: plan.clone() })
    }
}

/// Saves a plan; the file appears whole or not at all.
pub fn write(path: &Path, plan: &Plan) -> Result<PlanDigest, Failure> {
    let saved = Saved::now(plan)?;
    let fail = |error: std::io::Error| {
        Failure::new(FailureKind::Preflight, format!("the plan cannot be saved to {}", path.display())).because(error)
    };
    let mut text = serde_json::to_vec(&saved).map_err(|error| fail(error.into()))?;
    text.push(b'\n');
    whole_file::write(path, &text).map_err(fail)?;
    Ok(saved.digest)
}

/// Reads a saved plan.
pub fn read(path: &Path) -> Result<Saved, Failure> {
    let stale = |message: String| {
        Failure::new(FailureKind::PlanStale, format!("the saved plan {} {message}", path.display()))
            .next(format!("make a new one: deployctl plan -e ENVIRONMENT --out {}", path.display()))
    };
    let text =
        std::fs::read(path).map_err(|error| Failure::usage(format!("cannot read the saved plan {}", path.display())).because(error))?;
    let head: Head =
        serde_json::from_slice(&text).map_err(|error| Failure::usage(format!("{} is no saved plan", path.display())).because(error))?;
    if head.format != FORMAT || head.version != VERSION {
        return Err(stale(format!("has format {} {}; this deployctl reads {FORMAT} {VERSION}", head.format, head.version)));
    }
    if head.made_by != env!("CARGO_PKG_VERSION") {
        return Err(stale(format!("was made by deployctl {}, this is {}", head.made_by, env!("CARGO_PKG_VERSION"))));
    }
    let saved: Saved = serde_json::from_slice(&text).map_err(|error| stale("is damaged".to_owned()).because(error))?;
    if digest_of(&saved.plan, saved.made_at, &saved.made_by)? != saved.digest {
        return Err(stale("was changed after it was made: its digest does not fit".to_owned()));
    }
    Ok(saved)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;
    use crate::{
        ids::{AccountId, EnvironmentName, Region, StepId},
        plan::{Decision, PlannedStep, selection::Selection},
        steps::StepPlan,
    };

    fn step(id: &str, decision: Decision) -> PlannedStep {
        PlannedStep { id: StepId::parse(id).unwrap(), kind: "terraform".to_owned(), refused: None, decision }
    }

    #[test]
    fn reads_back_what_was_saved_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        let plan = Plan {
            environment: EnvironmentName::parse("staging").unwrap(),
            account: AccountId::parse("111122223333").unwrap(),
            region: Region::parse("us-east-1").unwrap(),
            definition: "sha256:d".to_owned(),
            selection: Selection::default(),
            steps: vec![
                step(
                    "network",
                    Decision::Planned {
                        input: json!({ "cidr": "10.0.0.0/16", "zones": 2, "ratio": 0.5 }),
                        observed: [("state".to_owned(), json!({ "lineage": "l", "serial": 3 }))].into(),
                        plan: StepPlan { changes: vec![], payload: json!({ "terraform": "AAEC", "nested": [null, true] }) },
                        known_outputs: Some([("vpc_id".to_owned(), json!("vpc-1"))].into()),
                    },
                ),
                step(
                    "cluster",
                    Decision::Deferred { because: vec!["network.vpc_id".to_owned()], bound: vec!["aws_eks_cluster".to_owned()] },
                ),
                step("smoke", Decision::Skipped { reason: "--skip smoke".to_owned(), outputs: None }),
            ],
        };
        let digest = write(&path, &plan).unwrap();
        let saved = read(&path).unwrap();
        assert_eq!(saved.digest, digest);
        assert_eq!(serde_json::to_value(&saved.plan).unwrap(), serde_json::to_value(&plan).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        for (from, to, says) in [
            ("us-east-1", "us-west-2", "its digest does not fit"),
            ("\"version\":2", "\"version\":1", "this deployctl reads"),
            ("\"made_by\":\"", "\"made_by\":\"9.", "was made by deployctl 9."),
        ] {
            std::fs::write(&path, text.replace(from, to)).unwrap();
            let error = read(&path).unwrap_err();
            assert_eq!(error.kind, FailureKind::PlanStale);
            assert!(error.message.contains(says), "{}", error.message);
        }
    }
}
