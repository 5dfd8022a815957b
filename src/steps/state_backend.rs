//! Kind `state-backend`: the buckets and the table that hold terraform's state, its locks, and deployctl's own records.
use std::{collections::BTreeMap, path::Path, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Action, Applied, Change, Kind, StepContext, StepPlan};
use crate::{
    aws::{
        Aws,
        bucket::{BucketSetting, BucketSettings},
        dynamodb::{LockTable, TableSetting},
        s3::{Condition, Written},
    },
    engine::event::Outcome,
    failure::{Failure, FailureKind, LeftBehind},
    ids::{BucketName, Region, TableName},
    plan::environment::{Environment, StateLock},
};

/// The step's kind.
pub struct StateBackend;

/// Names of what holds the state; the same for everybody who reads the same environment file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// State, journal, lease and records.
    pub bucket: BucketName,
    /// What must survive the region.
    pub dr_bucket: BucketName,
    /// terraform's locks.
    pub table: TableName,
}

impl Names {
    /// The names in an environment.
    pub fn of(environment: &Environment) -> Result<Self, Failure> {
        let long = |e: crate::ids::InvalidId| Failure::usage("the environment's name is too long for the names of its buckets").because(e);
        let bucket = |region: &Region| {
            BucketName::parse(format!("deployctl-{}-state-{}-{region}", environment.name, environment.aws.account_id)).map_err(long)
        };
        Ok(Self {
            bucket: bucket(&environment.aws.region)?,
            dr_bucket: bucket(&environment.aws.dr_region)?,
            table: TableName::parse(format!("deployctl-{}-state-lock", environment.name)).map_err(long)?,
        })
    }
}

/// `with`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// How terraform's state is locked; the environment's `aws.state_lock` unless given.
    #[serde(default)]
    pub lock: Option<StateLock>,
    /// Days that old versions of states and journals are kept.
    #[serde(default = "ninety")]
    pub noncurrent_days: u32,
}

fn ninety() -> u32 {
    90
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    names: Names,
    lock: StateLock,
    /// None when there is no bucket.
    bucket: Option<BucketSettings>,
    dr_bucket: Option<BucketSettings>,
    /// None when there is no table.
    table: Option<LockTable>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
enum Work {
    MakeBucket { bucket: BucketName, at: Place },
    SetBucket { bucket: BucketName, at: Place, setting: BucketSetting },
    MakeTable { table: TableName },
    SetTable { table: TableName, setting: TableSetting },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    Region,
    DrRegion,
}

/// A table becomes active in seconds, its encryption key in a minute.
const TABLE_DEADLINE: Duration = Duration::from_secs(300);

impl Kind for StateBackend {
    const NAME: &'static str = "state-backend";
    type Input = Input;
    type Observed = Observed;

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        ["bucket", "table"].map(String::from).to_vec()
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        let names = Names::of(&cx.environment)?;
        let lock = input.lock.unwrap_or(cx.environment.aws.state_lock);
        let elsewhere = cx.aws.in_region(&cx.environment.aws.dr_region);
        let table = async { if lock == StateLock::S3 { Ok(None) } else { cx.aws.lock_table(&names.table).await } };
        let (bucket, dr_bucket, table) = tokio::join!(settings(&cx.aws, &names.bucket), settings(&elsewhere, &names.dr_bucket), table);
        Ok(Observed { lock, bucket: bucket?, dr_bucket: dr_bucket?, table: table?, names })
    }

    fn plan(input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        let Observed { names, lock, bucket, dr_bucket, table } = observed;
        let (mut changes, mut work) = (Vec::new(), Vec::new());
        for (name, at, found) in [(&names.bucket, Place::Region, bucket), (&names.dr_bucket, Place::DrRegion, dr_bucket)] {
            let wrong = wrong_bucket_settings(found.as_ref().unwrap_or(&BucketSettings::default()), input.noncurrent_days);
            if found.is_none() {
                work.push(Work::MakeBucket { bucket: name.clone(), at });
            }
            if found.is_none() || !wrong.is_empty() {
                let action = if found.is_none() { Action::Create } else { Action::Update };
                let details = wrong.iter().map(|(_, line)| line.clone()).collect();
                changes.push(Change { action, resource: "bucket".into(), name: name.to_string(), details });
            }
            work.extend(wrong.into_iter().map(|(setting, _)| Work::SetBucket { bucket: name.clone(), at, setting }));
        }
        if *lock != StateLock::S3 {
            if table.as_ref().is_some_and(|table| !table.has_terraforms_key) {
                return Err(Failure::new(
                    FailureKind::Policy,
                    format!("the table {} has another key than terraform's LockID", names.table),
                )
                .next("it is not ours: rename the environment, or delete the table by hand once you know what it holds"));
            }
            let wrong = wrong_table_settings(table.as_ref());
            if table.is_none() {
                work.push(Work::MakeTable { table: names.table.clone() });
            }
            if table.is_none() || !wrong.is_empty() {
                let action = if table.is_none() { Action::Create } else { Action::Update };
                let details = wrong.iter().map(|(_, line)| (*line).to_owned()).collect();
                changes.push(Change { action, resource: "table".into(), name: names.table.to_string(), details });
            }
            // Making it sets all but recovery already.
            let left = wrong.into_iter().filter(|(setting, _)| table.is_some() || *setting == TableSetting::PointInTimeRecovery);
            work.extend(left.map(|(setting, _)| Work::SetTable { table: names.table.clone(), setting }));
        }
        let work = serde_json::to_value(work).map_err(|e| Failure::step("the plan of the state's backend").because(e))?;
        Ok(StepPlan { changes, payload: json!({"work": work, "names": names, "lock": lock}) })
    }

    async fn apply(cx: &StepContext, _input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        #[derive(Deserialize)]
        struct Payload {
            work: Vec<Work>,
            names: Names,
            lock: StateLock,
        }
        let payload: Payload = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the plan cannot be read").because(e))?;
        let elsewhere = cx.aws.in_region(&cx.environment.aws.dr_region);
        let mut done = Vec::new();
        for work in &payload.work {
            if cx.cancel.is_cancelled() {
                return Err(Failure::new(FailureKind::Interrupted, "interrupted").left(left(&done)).next("run the same command again"));
            }
            let said = work.say();
            cx.progress(&said);
            carry_out(cx, &elsewhere, work).await.map_err(|failure| failure.left(left(&done)))?;
            done.push(said);
        }
        let Names { bucket, dr_bucket, table } = payload.names;
        let table = if payload.lock == StateLock::S3 { String::new() } else { table.to_string() };
        Ok(Applied {
            outcome: if done.is_empty() { Outcome::Unchanged } else { Outcome::Changed },
            outputs: BTreeMap::from([
                ("bucket".to_owned(), json!(bucket)),
                ("dr_bucket".to_owned(), json!(dr_bucket)),
                ("table".to_owned(), json!(table)),
                ("lock".to_owned(), json!(payload.lock)),
            ]),
        })
    }

    async fn verify(cx: &StepContext, input: &Input, _applied: &Applied) -> Result<(), Failure> {
        let names = Names::of(&cx.environment)?;
        let lock = input.lock.unwrap_or(cx.environment.aws.state_lock);
        // A key of this attempt's own: two verifications at once must not meet.
        let state = format!("verify-{}/terraform.tfstate", uuid::Uuid::now_v7());
        if lock != StateLock::S3 {
            let started = tokio::time::Instant::now();
            verify_table(&cx.aws, &names, &state).await?;
            cx.checked(format!("a lock taken and released in the table {}", names.table), started.elapsed());
        }
        if lock != StateLock::Dynamodb {
            let started = tokio::time::Instant::now();
            verify_bucket(&cx.aws, &names.bucket, &format!("{state}.tflock")).await?;
            cx.checked(format!("a lock taken and released in the bucket {}", names.bucket), started.elapsed());
        }
        Ok(())
    }

    async fn undo(_cx: &StepContext, _input: &Input) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    async fn stays(cx: &StepContext, _input: &Input) -> Result<Vec<String>, Failure> {
        let Names { bucket, dr_bucket, table } = Names::of(&cx.environment)?;
        Ok(vec![
            format!("bucket {bucket} stays: it holds the history of every run and the states' old versions"),
            format!("bucket {dr_bucket} stays: it holds the records that a restore in {} reads", cx.environment.aws.dr_region),
            format!("table {table} stays: terraform's locks are in it"),
        ])
    }
}

impl Work {
    fn say(&self) -> String {
        match self {
            Self::MakeBucket { bucket, .. } => format!("bucket {bucket}: making"),
            Self::SetBucket { bucket, setting, .. } => format!("bucket {bucket}: setting {setting:?}"),
            Self::MakeTable { table } => format!("table {table}: making"),
            Self::SetTable { table, setting } => format!("table {table}: setting {setting:?}"),
        }
    }
}

async fn carry_out(cx: &StepContext, elsewhere: &Aws, work: &Work) -> Result<(), Failure> {
    let at = |place: &Place| match place {
        Place::Region => &*cx.aws,
        Place::DrRegion => elsewhere,
    };
    match work {
        Work::MakeBucket { bucket, at: place } => at(place).create_bucket(bucket).await,
        Work::SetBucket { bucket, at: place, setting } => at(place).put_bucket_setting(bucket, *setting).await,
        Work::MakeTable { table } => {
            let mut tags: Vec<(String, String)> = cx.environment.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            tags.push(("deployctl:environment".into(), cx.environment.name.to_string()));
            cx.wait_until(&format!("the table {table}"), TABLE_DEADLINE, cx.aws.create_lock_table(table, &tags, TABLE_DEADLINE)).await
        }
        Work::SetTable { table, setting } => {
            cx.wait_until(&format!("the table {table}"), TABLE_DEADLINE, cx.aws.put_table_setting(table, *setting, TABLE_DEADLINE)).await
        }
    }
}

fn left(done: &[String]) -> LeftBehind {
    if done.is_empty() { LeftBehind::Nothing } else { LeftBehind::Partial(done.to_vec()) }
}

async fn settings(aws: &Aws, bucket: &BucketName) -> Result<Option<BucketSettings>, Failure> {
    if aws.bucket_exists(bucket).await? { aws.bucket_settings(bucket).await.map(Some) } else { Ok(None) }
}

/// What must be set and the line that says so; versioning last, so that a lifecycle is there before old versions are.
fn wrong_bucket_settings(found: &BucketSettings, noncurrent_days: u32) -> Vec<(BucketSetting, String)> {
    let on = |name: &str| format!("{name}: off -> on");
    let mut wrong = Vec::new();
    if !found.public_access_blocked {
        wrong.push((BucketSetting::PublicAccessBlock, on("public access block")));
    }
    if !found.owner_enforced {
        wrong.push((BucketSetting::Ownership, on("bucket owner enforced")));
    }
    if found.encryption.is_none() {
        wrong.push((BucketSetting::Encryption, "encryption: none -> AES256".into()));
    }
    if !found.tls_only {
        wrong.push((BucketSetting::TlsOnly, on("requests without TLS denied")));
    }
    if found.noncurrent_days != Some(noncurrent_days) {
        let before = found.noncurrent_days.map_or_else(|| "for ever".to_owned(), |days| format!("{days} days"));
        wrong.push((BucketSetting::NoncurrentDays(noncurrent_days), format!("old versions kept: {before} -> {noncurrent_days} days")));
    }
    if !found.versioned {
        wrong.push((BucketSetting::Versioning, on("versioning")));
    }
    wrong
}

fn wrong_table_settings(found: Option<&LockTable>) -> Vec<(TableSetting, &'static str)> {
    let is = |test: fn(&LockTable) -> bool| found.is_some_and(test);
    [
        (is(|t| t.on_demand), TableSetting::OnDemand, "billing: provisioned -> on demand"),
        (is(|t| t.deletion_protection), TableSetting::DeletionProtection, "deletion protection: off -> on"),
        (is(|t| t.encrypted), TableSetting::Encryption, "encryption: DynamoDB's own key -> KMS"),
        (is(|t| t.point_in_time_recovery), TableSetting::PointInTimeRecovery, "point-in-time recovery: off -> on"),
    ]
    .into_iter()
    .filter(|(right, ..)| !right)
    .map(|(_, setting, line)| (setting, line))
    .collect()
}

async fn verify_table(aws: &Aws, names: &Names, state: &str) -> Result<(), Failure> {
    let id = format!("{}/{state}", names.bucket);
    let unlike = |what: &str| Failure::verification(format!("the table {} {what}: it cannot lock a state", names.table));
    if !aws.take_lock_item(&names.table, &id, "deployctl's verification").await? {
        return Err(unlike("refused a lock that nobody holds"));
    }
    let second = aws.take_lock_item(&names.table, &id, "deployctl's verification, again").await;
    aws.release_lock_item(&names.table, &id).await?;
    if second? {
        return Err(unlike("gave one lock twice"));
    }
    match aws.lock_item(&names.table, &id).await? {
        None => Ok(()),
        Some(_) => Err(unlike("kept a lock that was released")),
    }
}

async fn verify_bucket(aws: &Aws, bucket: &BucketName, key: &str) -> Result<(), Failure> {
    let unlike = |what: &str| Failure::verification(format!("the bucket {bucket} {what}: it cannot lock a state"));
    const TAKEN: &str = "deployctl's verification";
    if aws.put_object(bucket, key, TAKEN, Condition::Absent).await? == Written::Refused
        // Unless it is this very one, and the first attempt's answer was lost.
        && aws.get_object(bucket, key).await?.is_none_or(|found| found.body != TAKEN)
    {
        return Err(unlike("refused a lock that nobody holds"));
    }
    let second = aws.put_object(bucket, key, "deployctl's verification, again", Condition::Absent).await;
    aws.delete_object(bucket, key).await?;
    if second? != Written::Refused {
        return Err(unlike("gave one lock twice"));
    }
    match aws.get_object(bucket, key).await? {
        None => Ok(()),
        Some(_) => Err(unlike("kept a lock that was released")),
    }
}
