//! Kind `verification`: an agent inside the region's cluster looks into a restored database and holds it against what was taken down when its
//! snapshot was made. Where no cluster is prepared nothing is looked at, and nothing is claimed.
mod judged;

use std::{path::Path, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::judged::{TOLD, Verified};
use super::{
    Action, Applied, CHECK, Change, Kind, Outputs, StepContext, StepPlan,
    inside::{Address, Inside, Looked, sent_where_possible},
};
use crate::{
    aws::recovery::Wanted,
    cluster::PodSettings,
    database::audit::{Depth, Record},
    engine::{
        event::Outcome,
        records::{BucketRecords, PREFIX, Records},
    },
    failure::{Failure, FailureKind},
    ids::{ClusterName, SnapshotId},
    steps::state_backend::Names,
};

/// Kind `verification`.
pub struct Verification;

/// `with` of kind `verification`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The EKS cluster of this region, if one is prepared.
    pub cluster: ClusterName,
    /// The namespace that its agent runs in.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// The ConfigMap, in that namespace, whose `ca.pem` signs the database's certificate.
    pub ca_config_map: String,
    /// The restored instance.
    pub instance: String,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database in it.
    pub dbname: String,
    /// The ARN of the secret with its master user's password.
    pub credentials_secret: String,
    /// What it was restored from: `snapshot:ID` or `at:TIME`.
    #[schemars(with = "String")]
    pub point: Wanted,
    /// How much is looked at.
    #[serde(default)]
    pub depth: Depth,
    /// A look that takes longer is ended. Every row is read in a full one.
    #[serde(default = "six_hours")]
    pub deadline_seconds: u64,
}

fn six_hours() -> u64 {
    21_600
}

/// What is prepared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// Where the agent would run; none if nothing can be looked at.
    pub pod: Option<PodSettings>,
    /// Why nothing can be looked at.
    pub missing: Option<String>,
}

/// Where the record of a snapshot is kept, in the bucket of the region that it is copied to.
pub fn record_key(snapshot: &SnapshotId) -> String {
    format!("{PREFIX}snapshots/{snapshot}.json")
}

/// What was taken down when a snapshot was made with writes paused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// When it was kept.
    pub at: jiff::Timestamp,
    /// What the database held.
    pub record: Record,
}

/// What was taken down at the point, or why there is nothing to hold a database against.
async fn kept(cx: &StepContext, point: &Wanted) -> Result<Record, String> {
    let Wanted::Snapshot(id) = point else {
        return Err("nothing was taken down at that moment; it is for snapshots that are taken with writes paused".to_owned());
    };
    let reading = async {
        // The environment is seen from here: its own bucket is the one of this region.
        let records = BucketRecords::alone(cx.aws.clone(), Names::of(&cx.environment)?.bucket);
        if !records.exists().await? {
            return Ok(None);
        }
        let Some(found) = records.read(&record_key(id)).await? else { return Ok(None) };
        let kept: Kept = serde_json::from_slice(&found.body)
            .map_err(|error| Failure::step(format!("the record of snapshot {id} in {} cannot be read", records.place())).because(error))?;
        Ok::<_, Failure>(Some(kept.record))
    };
    match reading.await {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err(format!("nothing was taken down when snapshot {id} was made: writes were not paused")),
        Err(failure) => Err(failure.chain().join(": ")),
    }
}

impl Input {
    fn address(&self, cx: &StepContext) -> Address {
        Address {
            region: cx.aws.region().clone(),
            host: self.host.clone(),
            port: self.port,
            dbname: self.dbname.clone(),
            credentials_secret: self.credentials_secret.clone(),
        }
    }
}

fn outputs(verified: &Verified) -> Result<Outputs, Failure> {
    let value = serde_json::to_value(verified).map_err(|e| Failure::new(FailureKind::Internal, "what was verified").because(e))?;
    Ok(Outputs::from([("verified".to_owned(), value)]))
}

async fn look(cx: &StepContext, input: &Input, pod: &PodSettings) -> Result<Looked, Failure> {
    let cluster = cx.cluster(&input.cluster).await?;
    let address = input.address(cx);
    let inside = Inside { cx, cluster: &cluster, pod, ca_config_map: &input.ca_config_map, address: &address };
    let depth = ["--depth".to_owned(), input.depth.to_string()];
    let said = inside.run("audit", &depth, Duration::from_secs(input.deadline_seconds)).await?;
    serde_json::from_value(said).map_err(|e| Failure::step("the agent's answer on the database").because(e))
}

impl Kind for Verification {
    const NAME: &'static str = "verification";
    type Input = Input;
    type Observed = Observed;

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        vec![CHECK.into()]
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        Ok(match sent_where_possible(cx, &input.cluster, &input.namespace, &input.service_account).await? {
            Ok(pod) => Observed { pod: Some(pod), missing: None },
            Err(missing) => Observed { pod: None, missing: Some(missing) },
        })
    }

    fn plan(input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        let payload =
            serde_json::to_value(observed).map_err(|e| Failure::new(FailureKind::Internal, "the plan of a verification").because(e))?;
        if observed.pod.is_none() {
            return Ok(StepPlan { changes: Vec::new(), payload });
        }
        let name = format!("{} looked into, {}, by an agent in {}", input.instance, input.depth, input.cluster);
        let change = Change { action: Action::Run, resource: CHECK.into(), name, details: Vec::new() };
        Ok(StepPlan { changes: vec![change], payload })
    }

    fn known_outputs(input: &Input, observed: &Observed, _plan: &StepPlan) -> Option<Outputs> {
        let missing = observed.missing.as_ref()?;
        outputs(&Verified::nothing(input.depth, missing)).ok()
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let observed: Observed = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the saved plan of a verification").because(e))?;
        let verified = match &observed.pod {
            None => Verified::nothing(input.depth, observed.missing.as_deref().unwrap_or_default()),
            Some(pod) => match look(cx, input, pod).await {
                Ok(looked) => Verified::judged(input.depth, kept(cx, &input.point).await, looked),
                Err(failure) if failure.kind == FailureKind::Interrupted => return Err(failure),
                Err(failure) => Verified::not_reached(input.depth, &failure),
            },
        };
        Ok(Applied { outcome: Outcome::Unchanged, outputs: outputs(&verified)? })
    }

    async fn verify(_cx: &StepContext, input: &Input, applied: &Applied) -> Result<(), Failure> {
        let verified = applied.outputs.get("verified").cloned().unwrap_or_default();
        let verified: Verified =
            serde_json::from_value(verified).map_err(|e| Failure::new(FailureKind::Internal, "what was verified").because(e))?;
        if verified.differs.is_empty() {
            return Ok(());
        }
        let what = format!("{} does not hold what was taken down when its snapshot was made", input.instance);
        let mut failure = Failure::verification(what).next("another point: deployctl dr status lists them");
        failure.evidence = verified.differs;
        Err(failure)
    }

    async fn undo(_cx: &StepContext, _input: &Input) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }
}

/// The step's outputs, as a run has recorded them.
pub fn recorded(outputs: Option<&Outputs>) -> Option<Verified> {
    serde_json::from_value(outputs?.get("verified")?.clone()).ok()
}
