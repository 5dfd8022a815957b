//! Kind `restore`: a database out of what this region holds of a lost one. It makes an instance of its own name and touches no other.
pub mod choice;
pub mod look;

use std::{collections::BTreeMap, path::Path, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::{
    choice::Chosen,
    look::{Found, Observed},
};
use super::{Action, Applied, Change, Kind, Outputs, StepContext, StepPlan};
use crate::{
    aws::recovery::{Asked, Restore as Request, Restored, Wanted},
    clock,
    engine::{event::Outcome, timeline::status_intent},
    failure::{Failure, FailureKind, LeftBehind},
    ids::{DbInstanceId, KmsKeyId, Region},
};

/// Kind `restore`.
pub struct Restore;

/// The tag that says what an instance was restored from, by which a repeated run knows its own.
pub const FROM: &str = "deployctl:restored-from";
/// Between two looks at an instance: whoever waits for it hears of its end within a second.
const LOOK: Duration = Duration::from_secs(1);
/// States that an instance does not leave by itself.
const DEAD: [&str; 9] = [
    "failed",
    "incompatible-network",
    "incompatible-option-group",
    "incompatible-parameters",
    "incompatible-restore",
    "inaccessible-encryption-credentials",
    "storage-full",
    "deleting",
    "stopped",
];

/// `with` of kind `restore`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The lost instance.
    pub instance: DbInstanceId,
    /// The region that it lived in. Nothing is asked of it.
    pub home: Region,
    /// Beginning of the new instance's name; the point's time is its end.
    pub prefix: DbInstanceId,
    /// Tags of the new instance, besides the environment's.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// `latest`, `snapshot:ID` or `at:TIME`.
    #[schemars(with = "String")]
    pub point: Wanted,
    /// RDS' group of subnets that the new instance goes into.
    pub subnet_group: String,
    /// The security group that guards it, by name.
    pub security_group: String,
    /// Its parameter group.
    pub parameter_group: String,
    /// Its family, as in `postgres15`.
    pub family: String,
    /// The key of this region that the copies are encrypted with.
    pub kms_key: KmsKeyId,
    /// As in `db.t4g.medium`.
    pub instance_class: String,
    /// Whether a standby waits in another zone.
    pub multi_az: bool,
    /// How long it took before, in seconds; shown while it is waited for, and said to be unknown without it.
    #[serde(default)]
    pub usual_seconds: Option<u64>,
    /// Longest time that the new instance may take.
    #[serde(default = "six_hours")]
    pub deadline_seconds: u64,
}

fn six_hours() -> u64 {
    21_600
}

impl Input {
    /// How long it takes, as far as anybody knows.
    pub fn usually(&self) -> String {
        match self.usual_seconds {
            Some(seconds) => format!("took {seconds} s before"),
            None => "how long it takes is not known: none was restored here before".to_owned(),
        }
    }
}

/// Begins the name of the intent that is a [`Decision`]; the instance's name ends it.
pub const DECISION: &str = "decision for ";

/// What a run remembers of the point that it took: the same command goes on with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// What was asked for.
    pub wanted: Wanted,
    /// For instances of names that begin like this.
    pub prefix: DbInstanceId,
    /// What was decided.
    pub point: Wanted,
    /// When.
    pub at: jiff::Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    request: Request,
    chosen: Chosen,
}

fn outputs(found: &Restored, chosen: &Chosen) -> Option<Outputs> {
    let (host, port) = found.endpoint.clone()?;
    Some(BTreeMap::from([
        ("identifier".to_owned(), json!(found.id)),
        ("host".to_owned(), json!(host)),
        ("port".to_owned(), json!(port)),
        ("master_secret_arn".to_owned(), json!(found.master_secret_arn.clone().unwrap_or_default())),
        ("point".to_owned(), json!(chosen.wanted())),
        ("at".to_owned(), json!(chosen.at)),
    ]))
}

/// The one that was made for this point, if what is there is it; anything else of that name is somebody's and stays as it is.
fn own<'r>(found: &'r Restored, chosen: &Chosen) -> Result<&'r Restored, Failure> {
    if found.tags.get(FROM) == Some(&chosen.tag()) {
        return Ok(found);
    }
    let from = found.tags.get(FROM).map_or_else(|| "by nobody known".to_owned(), |from| format!("from {from}"));
    Err(Failure::new(FailureKind::Policy, format!("there is an instance {} already, made {from}; nothing is ever overwritten", found.id))
        .next("restore another point: --snapshot ID or --at TIME; deployctl dr status lists them"))
}

fn alive(found: &Restored, region: &Region) -> Result<(), Failure> {
    if !DEAD.contains(&found.status.as_str()) {
        return Ok(());
    }
    let (id, status) = (&found.id, &found.status);
    Err(Failure::step(format!("the restored instance {id} is {status}"))
        .left(LeftBehind::Partial(vec![format!("db_instance {id}")]))
        .next(format!("see why: aws rds describe-events --source-type db-instance --source-identifier {id} --region {region}"))
        .next("or restore another point: --snapshot ID or --at TIME; deployctl dr status lists them"))
}

/// What differs from what was asked for; a restored database that stands open or alone is none.
fn differences(found: &Restored, request: &Request, input: &Input, key: &str) -> Vec<String> {
    let landing = &request.landing;
    let groups: Vec<String> = found.parameter_groups.iter().map(|(name, status)| format!("{name} {status}")).collect();
    let facts = [
        ("status", found.status.clone(), "available".to_owned()),
        ("subnet group", found.subnet_group.clone().unwrap_or_default(), landing.subnet_group.clone()),
        ("security groups", found.security_groups.join(", "), landing.security_group.clone()),
        ("parameter group", groups.join(", "), format!("{} in-sync", landing.parameter_group)),
        ("Multi-AZ", found.multi_az.to_string(), input.multi_az.to_string()),
        ("deletion protection", found.deletion_protection.to_string(), true.to_string()),
        ("public address", found.publicly_accessible.to_string(), false.to_string()),
        ("key", found.kms_key.clone().unwrap_or_default(), key.to_owned()),
        ("backups", (found.backup_days > 0).to_string(), true.to_string()),
        ("endpoint", found.endpoint.is_some().to_string(), true.to_string()),
    ];
    facts.into_iter().filter(|(_, is, should)| is != should).map(|(what, is, should)| format!("{what} is {is:?}, not {should:?}")).collect()
}

impl Kind for Restore {
    const NAME: &'static str = "restore";
    type Input = Input;
    type Observed = Observed;

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        vec!["db_instance".into()]
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        look::look(cx, input).await
    }

    fn plan(input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        let Found { request, chosen, existing } = observed.found(input)?;
        let payload = serde_json::to_value(Payload { request: request.clone(), chosen: chosen.clone() })
            .map_err(|e| Failure::new(FailureKind::Internal, "the plan of a restore").because(e))?;
        let there = existing.as_ref().map(|found| own(found, &chosen)).transpose()?;
        if let Some(found) = there {
            alive(found, &observed.region)?;
            if found.status == "available" && found.endpoint.is_some() {
                return Ok(StepPlan { changes: Vec::new(), payload });
            }
        }
        let landing = &request.landing;
        let mut details = vec![
            format!("from {}: everything that was committed until {}", chosen.source_text(), chosen.at),
            format!("into subnet group {}, security group {} ({})", landing.subnet_group, input.security_group, landing.security_group),
            format!("with parameter group {}, class {}", landing.parameter_group, landing.instance_class),
            format!("Multi-AZ {}, encrypted with {}, protected against deletion", on_off(landing.multi_az), observed.key_text()),
            input.usually(),
        ];
        details.extend(there.map(|found| format!("it is {} already: begun by an earlier run", found.status)));
        let change = Change { action: Action::Create, resource: "db_instance".into(), name: request.id.to_string(), details };
        Ok(StepPlan { changes: vec![change], payload })
    }

    fn known_outputs(_input: &Input, observed: &Observed, plan: &StepPlan) -> Option<Outputs> {
        let payload: Payload = serde_json::from_value(plan.payload.clone()).ok()?;
        outputs(observed.existing.as_ref().filter(|_| plan.changes.is_empty())?, &payload.chosen)
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let Payload { request, chosen } = payload(plan)?;
        // A resumed run goes on with this point, although there may be a newer one by then.
        let decision = Decision { wanted: input.point.clone(), prefix: input.prefix.clone(), point: chosen.wanted(), at: clock::now() };
        cx.intents.once(&cx.step, &format!("{DECISION}{}", request.id), json!(decision)).await?;
        if plan.changes.is_empty() {
            let found = cx.aws.restored(&request.id).await?.ok_or_else(|| gone(&request.id))?;
            let outputs = outputs(own(&found, &chosen)?, &chosen).ok_or_else(|| gone(&request.id))?;
            return Ok(Applied { outcome: Outcome::Unchanged, outputs });
        }
        if cx.aws.start_restore(&request).await? == Asked::NameTaken {
            let found = cx.aws.restored(&request.id).await?.ok_or_else(|| gone(&request.id))?;
            own(&found, &chosen)?;
        }
        let deadline = Duration::from_secs(input.deadline_seconds);
        let what = format!("database {} to be available ({})", request.id, input.usually());
        let left = |failure: Failure| match failure.left_behind {
            LeftBehind::Nothing => failure.left(LeftBehind::Partial(vec![format!("db_instance {}, which goes on being made", request.id)])),
            _ => failure,
        };
        let made = cx.wait_until(&what, deadline, wait(cx, &request.id, input)).await.map_err(left)?;
        let outputs = outputs(&made, &chosen).ok_or_else(|| gone(&request.id))?;
        Ok(Applied { outcome: Outcome::Changed, outputs })
    }

    async fn verify(cx: &StepContext, input: &Input, applied: &Applied) -> Result<(), Failure> {
        let started = tokio::time::Instant::now();
        // The point that was restored: a living source has a newer one by now.
        let input = &Input { point: point_of(applied)?, ..input.clone() };
        let observed = look::look(cx, input).await?;
        let Found { request, chosen, existing } = observed.found(input)?;
        let found = existing.ok_or_else(|| gone(&request.id))?;
        let wrong = differences(own(&found, &chosen)?, &request, input, &observed.key.clone().unwrap_or_default());
        if !wrong.is_empty() {
            return Err(Failure::verification(format!("database {} is not as it was asked for", request.id)).evidence(wrong.join("\n")));
        }
        cx.checked(format!("{}: private, encrypted, protected, backed up, in its own groups", request.id), started.elapsed());
        Ok(())
    }

    async fn undo(_cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        Ok(vec![format!("databases restored from {} stay: delete them by hand once nobody needs them", input.instance)])
    }
}

fn payload(plan: &StepPlan) -> Result<Payload, Failure> {
    serde_json::from_value(plan.payload.clone()).map_err(|e| Failure::new(FailureKind::PlanStale, "the plan cannot be read").because(e))
}

fn point_of(applied: &Applied) -> Result<Wanted, Failure> {
    let point = applied.outputs.get("point").cloned().unwrap_or_default();
    serde_json::from_value(point).map_err(|e| Failure::new(FailureKind::Internal, "the restored point").because(e))
}

fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn gone(id: &DbInstanceId) -> Failure {
    Failure::step(format!("instance {id} was made and cannot be found any more, or has no endpoint")).next("deployctl dr status")
}

/// Looks until the instance is available; each state is told when it is reached, and kept with its time for the report.
async fn wait(cx: &StepContext, id: &DbInstanceId, input: &Input) -> Result<Restored, Failure> {
    let mut last = String::new();
    loop {
        let found = cx.aws.restored(id).await?.ok_or_else(|| gone(id))?;
        if found.status != last {
            cx.intents.once(&cx.step, &status_intent(&found.status, id), json!(clock::now())).await?;
            if found.status != "available" {
                cx.progress(format!("{id} is {}; {}", found.status, input.usually()));
            }
            last.clone_from(&found.status);
        }
        alive(&found, cx.aws.region())?;
        if found.status == "available" && found.endpoint.is_some() {
            return Ok(found);
        }
        tokio::time::sleep(LOOK).await;
    }
}
