//! A service's migrations: read, run and taken back by an agent inside the cluster, because the database is private.
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    cluster::{AgentJob, Cluster, Keep, PodSettings},
    database::{
        lint::{self, Finding},
        scripts::Scripts,
        version::Version,
    },
    failure::{Failure, FailureKind},
    ids::ServiceName,
    manifests::Object,
    plan::digest,
    steps::{Action, Change, StepContext, question::Question},
};

/// Where the files are mounted.
const FILES: &str = "/migrations";
/// The key of their ConfigMap.
const BUNDLE: &str = "migrations.json";
/// Where the database's authorities are mounted.
const AUTHORITIES: &str = "/etc/database-ca";
/// The key of the ConfigMap that holds them.
const AUTHORITIES_FILE: &str = "ca.pem";
/// Reading the history takes a second.
const READING: Duration = Duration::from_secs(120);
/// Between a Job's creation and the end of its log, besides what it does.
const STARTING: Duration = Duration::from_secs(240);
/// A ConfigMap holds a mebibyte, less what surrounds the data.
const LARGEST: usize = 1_000_000;

/// Where migrations are and how the database is reached.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migrations {
    /// The folder with V1__what.sql, from the project's root.
    pub folder: PathBuf,
    /// The secret with host, port and dbname.
    pub endpoint_secret: String,
    /// The secret with the migrating role's username and password.
    pub credentials_secret: String,
    /// The secret with the username and password of a role that can only read, for `db migrate --dry-run`.
    #[serde(default)]
    pub reader_secret: Option<String>,
    /// The ConfigMap, in the agent's namespace, whose `ca.pem` signs the database's certificate.
    pub ca_config_map: String,
    /// Migrations that take longer are ended.
    #[serde(default = "half_an_hour")]
    pub deadline_seconds: u64,
}

fn half_an_hour() -> u64 {
    1800
}

/// The schema, as the agent has found it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Schema {
    /// Its version.
    pub version: Option<String>,
    /// Scripts that would run.
    pub pending: Vec<String>,
    /// Where history and files do not fit.
    pub problems: Vec<String>,
    /// Dangerous statements in the pending scripts.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Pending scripts that were begun outside a transaction and did not end well; they are gone on with.
    #[serde(default)]
    pub begun: Vec<String>,
    /// The undo file of the version, if there is one.
    #[serde(default)]
    pub undo: Option<String>,
    /// Statements that take away what a killed CREATE INDEX CONCURRENTLY has left.
    #[serde(default)]
    pub repairs: Vec<String>,
    /// Why nobody could look.
    pub unknown: Option<String>,
    /// Hash over the files, so that apply runs what was planned.
    pub files: String,
}

/// What a dry run has found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DryRun {
    /// What is applied and what is pending.
    #[serde(flatten)]
    pub schema: Schema,
    /// Statements that PostgreSQL's parser refuses.
    pub refused: Vec<String>,
    /// How many it took.
    pub parsed: usize,
    /// The role that looked, which can write nothing.
    pub role: String,
}

impl Schema {
    /// Whether it is known that nothing is to be done.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.unknown.is_none()
    }
    /// Lines of the plan.
    pub fn changes(&self) -> Vec<Change> {
        let line =
            |name: &str, details: Vec<String>| Change { action: Action::Run, resource: "migration".into(), name: name.to_owned(), details };
        match &self.unknown {
            Some(reason) => vec![line("(unknown)", vec![format!("unknown: {reason}")])],
            None => self
                .pending
                .iter()
                .map(|script| {
                    let begun = self.begun.contains(script).then(|| "was begun and did not end well: goes on from there".to_owned());
                    line(script, begun.into_iter().collect())
                })
                .collect(),
        }
    }
    /// Fails on what would keep the pending migrations from running, and on what is too dangerous to run.
    pub fn refuse(&self, service: &ServiceName) -> Result<(), Failure> {
        if let Some(problem) = self.problems.first() {
            let message = format!("the schema of {service} and its migrations do not fit: {problem}");
            let mut failure = Failure::new(FailureKind::Preflight, message);
            failure.evidence.clone_from(&self.problems);
            return Err(failure
                .next("mend what it says; what is applied stays as it was applied, and every change goes into a new, higher version"));
        }
        if !self.findings.is_empty() {
            let what = lint::counted(&self.findings);
            let message = format!("{what} in the pending migrations of {service} could stop or lose something");
            let mut failure = Failure::new(FailureKind::Policy, message);
            failure.evidence = self.findings.iter().map(ToString::to_string).collect();
            return Err(failure.next("write them as proposed, or allow them by a comment with the reason"));
        }
        Ok(())
    }
}

fn files(cx: &StepContext, migrations: &Migrations) -> Result<(String, String), Failure> {
    let folder = cx.project.join(&migrations.folder);
    let unreadable = || Failure::usage(format!("the migrations in {} cannot be read", folder.display()));
    let scripts = Scripts::read(&folder).map_err(|error| unreadable().because(error))?;
    let bundle = scripts.bundle().map_err(|error| unreadable().because(error))?;
    if bundle.len() > LARGEST {
        return Err(Failure::usage(format!(
            "the migrations in {} are {} bytes; a ConfigMap holds {LARGEST}",
            folder.display(),
            bundle.len()
        ))
        .next("put old versions together into one file of a new folder, and mark databases that have them with Flyway's `baseline`"));
    }
    Ok((bundle, scripts.hash()))
}

/// The files for one Job. Its name is its own: a plan and an apply may look at the same files at the same time.
fn config_map(pod: &PodSettings, service: &ServiceName, bundle: &str) -> Result<Object, Failure> {
    let value = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
        "metadata": { "name": format!("{service}-migrations-{}", uuid::Uuid::now_v7()), "namespace": pod.namespace, "labels": { "app.kubernetes.io/managed-by": "deployctl" } },
        "data": { BUNDLE: bundle },
    });
    Object::new(value, "(migrations)".into(), 0)
}

/// What an agent does with a folder of migrations.
struct Work<'a> {
    cx: &'a StepContext,
    pod: &'a PodSettings,
    service: &'a ServiceName,
    migrations: &'a Migrations,
}

impl Work<'_> {
    fn job(&self, command: &str, secret: &str, deadline: Duration, more: &[String], mounted: &Object) -> AgentJob {
        let flag = |name: &str, value: &str| [format!("--{name}"), value.to_owned()];
        let aws = &self.cx.environment.aws;
        let mut args = vec!["agent".to_owned(), command.to_owned()];
        args.extend(flag("account", aws.account_id.as_str()));
        args.extend(flag("region", aws.region.as_str()));
        args.extend(flag("endpoint-secret", &self.migrations.endpoint_secret));
        args.extend(flag("credentials-secret", secret));
        args.extend(flag("authorities", &format!("{AUTHORITIES}/{AUTHORITIES_FILE}")));
        args.extend(flag("migrations", &format!("{FILES}/{BUNDLE}")));
        args.extend_from_slice(more);
        AgentJob {
            name: format!("{}-{command}", self.service),
            pod: self.pod.clone(),
            args,
            env: BTreeMap::new(),
            config_maps: BTreeMap::from([
                (FILES.to_owned(), mounted.key.name.clone()),
                (AUTHORITIES.to_owned(), self.migrations.ca_config_map.clone()),
            ]),
            secrets: BTreeMap::new(),
            deadline,
            keep: Keep::Hour,
            nonce: uuid::Uuid::now_v7().to_string(),
        }
    }

    async fn run(
        &self,
        cluster: &Cluster,
        command: &str,
        secret: &str,
        deadline: Duration,
        more: &[String],
        bundle: &str,
    ) -> Result<Value, Failure> {
        let mounted = config_map(self.pod, self.service, bundle)?;
        let job = self.job(command, secret, deadline, more, &mounted);
        // Its answers are JSON; anything else is a warning for people.
        let progress = |line: &str| {
            if !line.starts_with('{') {
                self.cx.progress(format!("{command}: {line}"));
            }
        };
        let running = cluster.run_job_with(&job, std::slice::from_ref(&mounted), progress);
        Ok(self.cx.wait_until(&format!("`{command}` of the schema of {}", self.service), deadline + STARTING, running).await?.result)
    }

    /// Asked as the migrator, in read-only transactions.
    fn question(&self) -> Result<(Question, String), Failure> {
        let (bundle, hash) = files(self.cx, self.migrations)?;
        let mounted = config_map(self.pod, self.service, &bundle)?;
        let job = self.job("schema", &self.migrations.credentials_secret, READING, &[], &mounted);
        let key = digest::of(&(self.service, &job.args, &self.migrations.ca_config_map, &hash))?;
        Ok((Question { key, job, own: vec![mounted] }, hash))
    }
}

/// What the database is asked: which of the files are pending. Its ConfigMap goes with its Job, an hour after that has ended.
pub fn question(cx: &StepContext, pod: &PodSettings, service: &ServiceName, migrations: &Migrations) -> Result<Question, Failure> {
    Ok(Work { cx, pod, service, migrations }.question()?.0)
}

/// Asks the database what is pending.
pub async fn observe(
    cx: &StepContext,
    cluster: &Cluster,
    pod: &PodSettings,
    service: &ServiceName,
    migrations: &Migrations,
) -> Result<Schema, Failure> {
    let (question, hash) = Work { cx, pod, service, migrations }.question()?;
    match cx.ask(cluster, &question).await {
        Ok(mut answer) => {
            answer["files"] = json!(hash);
            serde_json::from_value(answer).map_err(|e| Failure::step("the agent's answer on the schema").because(e))
        }
        Err(failure) if failure.kind == FailureKind::Interrupted => Err(failure),
        Err(failure) => Ok(Schema { unknown: Some(failure.message), files: hash, ..Schema::default() }),
    }
}

/// Asks as a role that can write nothing, and lets PostgreSQL parse every pending statement.
pub async fn dry_run(
    cx: &StepContext,
    cluster: &Cluster,
    pod: &PodSettings,
    service: &ServiceName,
    migrations: &Migrations,
) -> Result<DryRun, Failure> {
    let Some(secret) = &migrations.reader_secret else {
        return Err(Failure::usage(format!(
            "the step of {service} has no `migrations.reader_secret`: without a role that can only read, a dry run proves nothing"
        ))
        .next("add `--reader ROLE=SECRET` to bootstrap-database and `reader_secret` to `migrations`, as plans/deploy.yaml has them"));
    };
    let (bundle, hash) = files(cx, migrations)?;
    let mut answer = Work { cx, pod, service, migrations }.run(cluster, "dry-run", secret, READING, &[], &bundle).await?;
    answer["files"] = json!(hash);
    serde_json::from_value(answer).map_err(|e| Failure::step("the agent's answer on the dry run").because(e))
}

/// Takes back the newest version by its undo file; says which file ran, none if it had been taken back before.
pub async fn undo(
    cx: &StepContext,
    cluster: &Cluster,
    pod: &PodSettings,
    service: &ServiceName,
    migrations: &Migrations,
    version: &Version,
) -> Result<Option<String>, Failure> {
    let (bundle, _hash) = files(cx, migrations)?;
    let more = ["--version".to_owned(), version.to_string()];
    let deadline = Duration::from_secs(migrations.deadline_seconds);
    let work = Work { cx, pod, service, migrations };
    let answer = work.run(cluster, "undo", &migrations.credentials_secret, deadline, &more, &bundle).await?;
    Ok(answer["ran"].as_str().map(String::from))
}

/// Runs what is pending.
pub async fn run(
    cx: &StepContext,
    cluster: &Cluster,
    pod: &PodSettings,
    service: &ServiceName,
    migrations: &Migrations,
    planned: &Schema,
) -> Result<(), Failure> {
    let (bundle, hash) = files(cx, migrations)?;
    if hash != planned.files {
        return Err(
            Failure::new(FailureKind::PlanStale, format!("the migrations of {service} have changed since the plan")).next("deployctl plan")
        );
    }
    let deadline = Duration::from_secs(migrations.deadline_seconds);
    let work = Work { cx, pod, service, migrations };
    let answer = work.run(cluster, "migrate", &migrations.credentials_secret, deadline, &[], &bundle).await?;
    answer["repaired"].as_array().into_iter().flatten().filter_map(Value::as_str).for_each(|repaired| cx.progress(repaired));
    cx.progress(format!("the schema of {service} is at version {}", answer["version"].as_str().unwrap_or("(none)")));
    Ok(())
}
