//! Kind `terraform`: one stack, planned once, shown, and applied exactly as shown.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::{
    changes::Since,
    verify::Check,
    workspace::{Backend, Workspace},
};
use super::{Action, Applied, Change, Facts, Kind, Outputs, StepContext, StepPlan, state_backend::Names};
use crate::{
    engine::event::{EventKind, Outcome},
    failure::{Failure, FailureKind},
    ids::{BucketName, SecretName},
    plan::environment::{Guards, SecretStore},
    tools::{
        process_record::Guarded,
        terraform::{
            Direction,
            diagnostics::wants_init,
            messages::{Hook, Message},
            plan_json::PlanJson,
        },
    },
};

pub mod adoption;
mod bound;
mod changes;
mod cluster_ready;
mod ending;
pub mod exchanged;
mod guards;
mod left;
mod lock;
mod orphans;
mod set_aside;
mod trust;
mod verify;
mod workspace;

pub use bound::ANY_IN_MODULE;
pub use workspace::process_record;

/// Written down before the first apply of a run; what follows is not known until the step has ended.
const MARK: &str = "terraform-apply";

/// The step's kind.
pub struct Terraform;

/// `with`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The stack's folder, from the project's root. Its last part is also the state's key.
    pub stack: PathBuf,
    /// Values of its variables; name_prefix, environment, account_id, region, dr_region and tags are given by themselves.
    #[serde(default)]
    pub variables: BTreeMap<String, Value>,
    /// Secrets that exist already and are taken over instead of made.
    #[serde(default)]
    pub adopt: Option<Adopt>,
    /// What is read back after an apply.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Resource types that no plan of this step deletes or replaces, whatever the environment's guards say, each with what to do instead.
    #[serde(default)]
    pub protect: BTreeMap<String, String>,
    /// Resource types that `destroy` leaves, with their settings, because data is in them or cannot be read without them; `--include-data`
    /// takes them too. They must not depend on anything else of the stack.
    #[serde(default)]
    pub keep: Vec<String>,
}

/// Secrets that exist already: `deployctl secret set` makes them before the stack does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// The variable that takes a map from name to ARN, for the stack's import blocks.
    pub variable: String,
    /// Names, as in `deployctl secret set`.
    pub secrets: Vec<SecretName>,
}

/// What was found: terraform's plan, which is both observation and decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    found: Found,
    guards: Guards,
    /// Digest of the stack's files.
    stack: String,
    /// The state that the plan was made from; none while there is none.
    state: Option<StateMark>,
}

/// Which state: terraform refuses a plan that was made from another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StateMark {
    lineage: String,
    serial: u64,
}

/// A plan file and what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    backend: Backend,
    changes: Vec<Change>,
    /// terraform's plan file in base64; none when there is nothing to apply, or no state to apply it to yet.
    plan: Option<String>,
    /// Of the plan file.
    sha256: Option<String>,
    /// Addresses of what terraform is told to keep before it plans again and applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<String>,
    /// Outputs that are known.
    outputs: BTreeMap<String, Value>,
    /// Addresses of what is as it should be.
    #[serde(skip)]
    untouched: Vec<String>,
}

impl Kind for Terraform {
    const NAME: &'static str = "terraform";
    const LEAVES_A_PROCESS: bool = true;
    type Input = Input;
    type Observed = Observed;

    fn bound(with: &Value, project: &Path) -> Vec<String> {
        bound::of(with, project)
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        let bucket = Names::of(&cx.environment)?.bucket;
        let backend = if cx.aws.bucket_exists(&bucket).await? { Backend::Bucket } else { Backend::NotYet };
        let stack = workspace::content_key(&workspace::stack_files(&cx.project.join(&input.stack))?);
        // Before terraform reads it: a state that is written in between makes the plan older than it says, which terraform notices.
        let state = state_mark(cx, &bucket, &input.stack).await?;
        let found = match planned(cx, input, backend).await {
            Err(failure) if backend == Backend::Bucket && lock::is_wrong_digest(&failure) && was_left(cx, input)? => {
                planned(cx, input, Backend::BucketUnchecked).await
            }
            other => other,
        };
        Ok(Observed { found: found?.1, guards: cx.environment.guards.clone(), stack, state })
    }

    fn plan(input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        guards::protected_by_the_step(&input.protect, &observed.found.changes)?;
        guards::check(&observed.guards, &observed.found.changes)?;
        let payload = serde_json::to_value(&observed.found).map_err(|e| Failure::step("the plan cannot be kept").because(e))?;
        Ok(StepPlan { changes: observed.found.changes.clone(), payload })
    }

    /// What terraform knows by now; what is created is not there to be looked for by others.
    fn known_outputs(_input: &Input, observed: &Observed, plan: &StepPlan) -> Option<Outputs> {
        let is_there = |change: &Change| !matches!(change.action, Action::Create | Action::Replace);
        plan.changes.iter().all(is_there).then(|| observed.found.outputs.clone())
    }

    fn facts(_input: &Input, observed: &Observed) -> Result<Facts, Failure> {
        let Observed { found, stack, state, .. } = observed;
        let mut facts: Facts = found.untouched.iter().map(|address| (address.clone(), json!({ "plan": "nothing" }))).collect();
        for change in &found.changes {
            let mut fact = json!({ "plan": change.action });
            for line in &change.details {
                let (path, values) = line.split_once(": ").unwrap_or((line, ""));
                // Its own quotes would be written with backslashes.
                fact[path] = values.replace('"', "'").into();
            }
            facts.insert(change.name.clone(), fact);
        }
        facts.insert("the stack's files".to_owned(), stack.as_str().into());
        facts.insert("state".to_owned(), json!(state));
        Ok(facts)
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let shown: Found = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the plan cannot be read").because(e))?;
        if shown.backend == Backend::Bucket && shown.changes.is_empty() {
            return Ok(Applied { outcome: Outcome::Unchanged, outputs: shown.outputs });
        }
        // The first attempt of this run leaves its mark; a later one knows by it that part of the plan may be done.
        let attempt = json!(uuid::Uuid::now_v7());
        let resumed = cx.intents.once(&cx.step, MARK, attempt.clone()).await? != attempt;
        let left = was_left(cx, input)?;
        if left || resumed {
            lock::settle(cx, &prepare(cx, input, Backend::Bucket).await?).await?;
        }
        if shown.backend != Backend::Bucket || resumed || left || !shown.kept.is_empty() {
            let since = if resumed || left { Since::Begun } else { Since::Shown };
            return left::apply(cx, input, &shown, since).await;
        }
        let workspace = prepare(cx, input, Backend::Bucket).await?;
        let file = write_plan(cx, &shown)?;
        match apply_file(cx, &workspace, &file, shown.changes.len()).await {
            Err(failure) if failure.kind == FailureKind::PlanStale => Err(say_what_moved(cx, input, &shown, failure).await),
            applied => applied,
        }
    }

    async fn declared_dead(cx: &StepContext, with: &Value, host: &str) -> Result<Vec<String>, Failure> {
        match with["stack"].as_str() {
            Some(stack) => lock::give_back(cx, Path::new(stack), host).await,
            None => Ok(Vec::new()),
        }
    }

    async fn verify(cx: &StepContext, input: &Input, applied: &Applied) -> Result<(), Failure> {
        for check in &input.checks {
            let started = tokio::time::Instant::now();
            let what = verify::run(*check, cx, input, &applied.outputs).await?;
            cx.checked(what, started.elapsed());
        }
        Ok(())
    }

    async fn would_delete(cx: &StepContext, input: &Input) -> Result<Vec<Change>, Failure> {
        ending::would_delete(cx, input).await
    }

    async fn stays(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        ending::stays(cx, input).await
    }

    async fn recorded(cx: &StepContext, with: &Value) -> Result<Outputs, Failure> {
        let Some(stack) = with["stack"].as_str() else { return Ok(Outputs::new()) };
        let state = state(cx, &Names::of(&cx.environment)?.bucket, Path::new(stack)).await?;
        let outputs = state["outputs"].as_object().into_iter().flatten().filter(|(_, output)| output["sensitive"] != Value::Bool(true));
        Ok(outputs.map(|(name, output)| (name.clone(), output["value"].clone())).filter(|(_, value)| !value.is_null()).collect())
    }

    async fn undo(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        ending::undo(cx, input).await?;
        parameters_that_stay(cx, input).await
    }
}

/// The stack's state as it is in the bucket; null if there is none.
async fn state(cx: &StepContext, bucket: &BucketName, stack: &Path) -> Result<Value, Failure> {
    let key = workspace::state_key(stack);
    if !cx.aws.bucket_exists(bucket).await? {
        return Ok(Value::Null);
    }
    let Some(object) = cx.aws.get_object(bucket, &key).await? else { return Ok(Value::Null) };
    let unreadable =
        |e: serde_json::Error| Failure::new(FailureKind::Preflight, format!("the state s3://{bucket}/{key} cannot be read")).because(e);
    serde_json::from_slice(&object.body).map_err(unreadable)
}

/// In Parameter Store a secret is no resource of the stack, so that its value is in no state: whoever wrote it takes it away.
async fn parameters_that_stay(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
    let (store, environment) = (cx.environment.secrets.store, &cx.environment.name);
    let secrets = input.adopt.iter().flat_map(|adopt| &adopt.secrets).filter(|_| store == SecretStore::Ssm);
    let mut stay = Vec::new();
    for name in secrets {
        if let Some(found) = cx.aws.find_secret(store, environment, name).await? {
            stay.push(format!("parameter {0} (aws ssm delete-parameter --region {1} --name {0})", found.name, cx.aws.region()));
        }
    }
    Ok(stay)
}

/// Which state the stack has in the bucket.
async fn state_mark(cx: &StepContext, bucket: &BucketName, stack: &Path) -> Result<Option<StateMark>, Failure> {
    let found = state(cx, bucket, stack).await?;
    if found.is_null() {
        return Ok(None);
    }
    let unreadable = |e: serde_json::Error| Failure::new(FailureKind::Preflight, format!("the state of {}", stack.display())).because(e);
    serde_json::from_value(found).map(Some).map_err(unreadable)
}

async fn prepare(cx: &StepContext, input: &Input, backend: Backend) -> Result<Workspace, Failure> {
    let mut variables = input.variables.clone();
    if let Some(adopt) = &input.adopt {
        let (store, environment) = (cx.environment.secrets.store, &cx.environment.name);
        let mut existing = BTreeMap::new();
        for name in &adopt.secrets {
            if let Some(secret) = cx.aws.find_secret(store, environment, name).await? {
                existing.insert(name.to_string(), secret.arn);
            }
        }
        variables.insert(adopt.variable.clone(), json!(existing));
    }
    Workspace::prepare(cx, &input.stack, backend, &variables).await
}

/// Whether a terraform of this machine was killed, or still ends: what it made last may be in no state.
fn was_left(cx: &StepContext, input: &Input) -> Result<bool, Failure> {
    let record = process_record(&cx.environment, &cx.aws, &input.stack)?;
    Ok(Guarded::read(&record).is_some_and(|found| found.record.ended.is_none()))
}

async fn planned(cx: &StepContext, input: &Input, backend: Backend) -> Result<(Workspace, Found), Failure> {
    let (workspace, plan, file) = plan_now(cx, input, backend, Direction::Forward, &[]).await?;
    // What an interrupted apply made and did not write down is no loss: apply takes it over.
    if !was_left(cx, input)? && cx.intents.left(&cx.step, MARK).is_none() {
        refuse_a_lost_state(cx, input, &plan).await?;
    }
    let found = read(&plan, backend, &file)?;
    Ok((workspace, found))
}

/// What nothing of the same name can follow for weeks, so that one that is half made must be finished: AWS Secrets Manager User Guide, "Delete an AWS
/// Secrets Manager secret".
const NAMES_STAY_TAKEN: [&str; 1] = ["aws_secretsmanager_secret"];

/// Plans the stack, or these addresses of it; once more with a fresh directory when the prepared one turns out to be unfit.
async fn plan_now(
    cx: &StepContext,
    input: &Input,
    backend: Backend,
    direction: Direction,
    targets: &[String],
) -> Result<(Workspace, PlanJson, PathBuf), Failure> {
    // What is on its way out can't be taken over, and need not be.
    let adopt = input.adopt.clone().filter(|_| direction != Direction::Destroy);
    let workspace = prepare(cx, &Input { adopt, ..input.clone() }, backend).await?;
    let file = cx.scratch.join("plan.tfplan");
    let attempt = workspace.terraform.plan_of(direction, targets, &workspace.variables, &file, &mut |_| {}).await;
    match attempt {
        Err(failure) if wants_init(&failure) => {
            workspace.initialise(cx).await?;
            workspace.terraform.plan_of(direction, targets, &workspace.variables, &file, &mut |_| {}).await?;
        }
        other => other?,
    }
    let guarded = |kind: &str| cx.environment.guards.protected.iter().any(|known| known == kind) || input.protect.contains_key(kind);
    let is_kept = |kind: &str| guarded(kind) || NAMES_STAY_TAKEN.contains(&kind);
    let plan = workspace.terraform.show_plan(&file).await?.keeping_unfinished(is_kept);
    Ok((workspace, plan, file))
}

/// A lost state would make everything once more beside what is there. The secrets that a stack takes over are not asked after.
async fn refuse_a_lost_state(cx: &StepContext, input: &Input, plan: &PlanJson) -> Result<(), Failure> {
    if plan.starts_from_nothing() { orphans::refuse(cx, input).await } else { Ok(()) }
}

fn read(plan: &PlanJson, backend: Backend, file: &Path) -> Result<Found, Failure> {
    let changes = changes::of(plan);
    let outputs = plan.known_outputs();
    let kept = left::unfinished(plan);
    let managed = plan.resource_changes.iter().filter(|resource| resource.mode != "data").map(|resource| resource.address.clone());
    let untouched = managed.filter(|address| !changes.iter().any(|change| change.name == *address)).collect();
    if backend != Backend::Bucket || !plan.applyable {
        return Ok(Found { backend, changes, plan: None, sha256: None, kept, outputs, untouched });
    }
    let bytes = std::fs::read(file).map_err(|e| Failure::step(format!("could not read {}", file.display())).because(e))?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    Ok(Found { backend, changes, plan: Some(STANDARD.encode(bytes)), sha256: Some(sha256), kept, outputs, untouched })
}

fn write_plan(cx: &StepContext, found: &Found) -> Result<PathBuf, Failure> {
    let damaged = || {
        Failure::new(FailureKind::PlanStale, "the saved plan is damaged: terraform's part does not match its digest").next("deployctl plan")
    };
    let bytes = STANDARD.decode(found.plan.as_deref().unwrap_or_default()).map_err(|_| damaged())?;
    if Some(hex::encode(Sha256::digest(&bytes))) != found.sha256 {
        return Err(damaged());
    }
    workspace::make_dir(&cx.scratch)?;
    let file = cx.scratch.join("plan.tfplan");
    workspace::write_own(&file, &bytes)?;
    Ok(file)
}

/// Applies a plan file; initialises and tries again when terraform says so, which it does before it changes anything.
async fn apply_file(cx: &StepContext, workspace: &Workspace, file: &Path, total: usize) -> Result<Applied, Failure> {
    let call = format!("terraform apply of step {}", cx.step);
    let _under_way = cx.aws.permit().begin(&call).map_err(|refused| refused.failure(&call))?;
    // The last one here said that it could not give its lock back.
    if Guarded::read(&workspace.terraform.record).is_some_and(|found| found.record.ended.is_some()) {
        lock::give_back_own(cx, workspace).await?;
    }
    let mut progress = Progress { cx, done: 0, total: u64::try_from(total).unwrap_or(0) };
    let applied = match workspace.terraform.apply(file, &mut |message| progress.take(message)).await {
        Err(failure) if wants_init(&failure) && failure.left_behind == crate::failure::LeftBehind::Nothing => {
            workspace.initialise(cx).await?;
            workspace.terraform.apply(file, &mut |message| progress.take(message)).await?
        }
        // It has done nothing yet. Somebody else's lock is not given back, and stays a failure.
        Err(failure) if failure.kind == FailureKind::Locked && lock::give_back_own(cx, workspace).await? => {
            workspace.terraform.apply(file, &mut |message| progress.take(message)).await?
        }
        other => other?,
    };
    Ok(Applied { outcome: Outcome::Changed, outputs: applied.outputs })
}

async fn say_what_moved(cx: &StepContext, input: &Input, shown: &Found, failure: Failure) -> Failure {
    let Ok((_, fresh)) = planned(cx, input, Backend::Bucket).await else { return failure };
    let mut moved: Vec<String> =
        changes::beyond(&shown.changes, &fresh.changes, Since::Shown).iter().map(|line| format!("now also: {line}")).collect();
    let gone = shown.changes.iter().filter(|change| !fresh.changes.iter().any(|f| f.name == change.name));
    moved.extend(gone.map(|change| format!("no longer needed: {}", change.name)));
    if moved.is_empty() {
        moved.push("the state was written in between; the changes would be the same".into());
    }
    failure.evidence(moved.join("\n"))
}

/// terraform's messages as events.
struct Progress<'a> {
    cx: &'a StepContext,
    done: u64,
    total: u64,
}

impl Progress<'_> {
    fn take(&mut self, message: &Message) {
        let said = match message {
            Message::ApplyStart { hook } => format!("{}: {}", hook.resource.addr, doing(hook)),
            Message::ApplyComplete { hook } => {
                self.done += 1;
                format!("{}: done in {} s", hook.resource.addr, hook.elapsed_seconds)
            }
            Message::ApplyErrored { hook } => format!("{}: failed", hook.resource.addr),
            Message::ApplyProgress { hook } => format!("{}: {}, {} s", hook.resource.addr, doing(hook), hook.elapsed_seconds),
            _ => return,
        };
        let of = (self.total > 0).then_some((self.done.min(self.total), self.total));
        self.cx.events.emit(EventKind::Progress { step: self.cx.step.clone(), message: said, of });
    }
}

fn doing(hook: &Hook) -> &str {
    match hook.action.as_str() {
        "create" => "creating",
        "update" => "updating",
        "delete" => "deleting",
        "read" => "reading",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn planned(changes: Vec<Change>) -> Observed {
        let (kept, outputs, untouched) = (Vec::new(), BTreeMap::new(), Vec::new());
        let found = Found { backend: Backend::Bucket, changes, plan: None, sha256: None, kept, outputs, untouched };
        Observed { found, guards: Guards::default(), stack: String::new(), state: None }
    }

    /// Which address, which attribute, which state, whose files.
    #[test]
    fn what_has_moved_is_named() {
        let observed = |serial, stack: &str, changes: Vec<Change>, untouched: &[&str]| {
            let mut observed = planned(changes);
            observed.found.untouched = untouched.iter().map(ToString::to_string).collect();
            Observed { stack: stack.into(), state: Some(StateMark { lineage: "l".into(), serial }), ..observed }
        };
        let input = serde_json::from_value(json!({ "stack": "terraform/network" })).unwrap();
        let facts = |observed: &Observed| Terraform::facts(&input, observed).unwrap();
        let then = facts(&observed(3, "a", vec![], &["aws_vpc.this", "aws_eip.a"]));
        let update = Change {
            action: Action::Update,
            resource: "aws_vpc".into(),
            name: "aws_vpc.this".into(),
            details: vec!["tags.k: \"1\" -> \"2\"".into()],
        };
        let now = facts(&observed(4, "b", vec![update], &["aws_eip.b"]));
        assert_eq!(
            crate::plan::fresh::differing(&then, &now),
            [
                "aws_eip.a is gone",
                "aws_eip.b is new",
                "aws_vpc.this plan: \"nothing\" -> \"update\"",
                "aws_vpc.this [tags.k]: (none) -> \"'1' -> '2'\"",
                "state serial: 3 -> 4",
                "the stack's files: \"a\" -> \"b\"",
            ]
        );
    }

    #[test]
    fn what_terraform_knows_is_told_to_others_unless_something_is_still_to_be_made() {
        let outputs = Outputs::from([("vpc_id".to_owned(), json!("vpc-1"))]);
        let known = |actions: &[Action]| {
            let change = |action: &Action| Change { action: *action, resource: "aws_vpc".into(), name: "a".into(), details: Vec::new() };
            let changes: Vec<Change> = actions.iter().map(change).collect();
            let plan = StepPlan { changes: changes.clone(), payload: Value::Null };
            let mut observed = planned(changes);
            observed.found.outputs.clone_from(&outputs);
            let input = serde_json::from_value(json!({ "stack": "terraform/network" })).unwrap();
            Terraform::known_outputs(&input, &observed, &plan)
        };
        assert_eq!((known(&[]), known(&[Action::Update, Action::Delete])), (Some(outputs.clone()), Some(outputs.clone())));
        assert_eq!((known(&[Action::Update, Action::Create]), known(&[Action::Replace])), (None, None));
    }
}
