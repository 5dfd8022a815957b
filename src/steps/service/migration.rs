//! A service's migrations: read and run by an agent inside the cluster, because the database is private.
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    cluster::{AgentJob, Cluster, Keep, PodSettings},
    failure::{Failure, FailureKind},
    ids::ServiceName,
    manifests::Object,
    plan::digest,
    steps::{Action, Change, StepContext, question::Question},
};

/// Where the files are mounted.
const FILES: &str = "/migrations";
/// Where the database's authorities are mounted.
const AUTHORITIES: &str = "/etc/database-ca";
/// The key of the ConfigMap that holds them.
const AUTHORITIES_FILE: &str = "ca.pem";
/// Reading the history takes a second.
const READING: Duration = Duration::from_secs(120);
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
    /// Why nobody could look.
    pub unknown: Option<String>,
    /// Hash over the files, so that apply runs what was planned.
    pub files: String,
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
            None => self.pending.iter().map(|script| line(script, Vec::new())).collect(),
        }
    }
}

fn files(cx: &StepContext, migrations: &Migrations) -> Result<(Map<String, Value>, String), Failure> {
    let folder = cx.project.join(&migrations.folder);
    let unreadable = |e: std::io::Error| Failure::usage(format!("the migrations in {} cannot be read", folder.display())).because(e);
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sql") || name.ends_with(".sql.conf") {
            files.insert(name, std::fs::read_to_string(entry.path()).map_err(unreadable)?);
        }
    }
    let size: usize = files.values().map(String::len).sum();
    if size > LARGEST {
        return Err(Failure::usage(format!("the migrations in {} are {size} bytes; a ConfigMap holds {LARGEST}", folder.display()))
            .next("put old versions together into one baseline, as Flyway's B__ files are meant for"));
    }
    let mut hash = Sha256::new();
    for (name, text) in &files {
        hash.update(format!("{name}\0{}\0{text}", text.len()));
    }
    let data = files.into_iter().map(|(name, text)| (name, Value::String(text))).collect();
    Ok((data, hex::encode(hash.finalize())[..16].to_owned()))
}

/// The files for one Job. Its name is its own: a plan and an apply may look at the same files at the same time.
fn config_map(pod: &PodSettings, service: &ServiceName, data: Map<String, Value>) -> Result<Object, Failure> {
    let value = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
        "metadata": { "name": format!("{service}-migrations-{}", uuid::Uuid::now_v7()), "namespace": pod.namespace, "labels": { "app.kubernetes.io/managed-by": "deployctl" } },
        "data": data,
    });
    Object::new(value, "(migrations)".into(), 0)
}

fn job(cx: &StepContext, pod: &PodSettings, service: &ServiceName, migrations: &Migrations, command: &str, files: &Object) -> AgentJob {
    let flag = |name: &str, value: &str| [format!("--{name}"), value.to_owned()];
    let mut args = vec!["agent".to_owned(), command.to_owned()];
    args.extend(flag("account", cx.environment.aws.account_id.as_str()));
    args.extend(flag("region", cx.environment.aws.region.as_str()));
    args.extend(flag("endpoint-secret", &migrations.endpoint_secret));
    args.extend(flag("credentials-secret", &migrations.credentials_secret));
    args.extend(flag("authorities", &format!("{AUTHORITIES}/{AUTHORITIES_FILE}")));
    args.extend(flag("migrations", FILES));
    AgentJob {
        name: format!("{service}-{command}"),
        pod: pod.clone(),
        args,
        env: BTreeMap::new(),
        config_maps: BTreeMap::from([
            (FILES.to_owned(), files.key.name.clone()),
            (AUTHORITIES.to_owned(), migrations.ca_config_map.clone()),
        ]),
        secrets: BTreeMap::new(),
        deadline: if command == "schema" { READING } else { Duration::from_secs(migrations.deadline_seconds) },
        keep: Keep::Hour,
        nonce: uuid::Uuid::now_v7().to_string(),
    }
}

/// What the database is asked: which of the files are pending. Its ConfigMap goes with its Job, an hour after that has ended.
pub fn question(
    cx: &StepContext,
    pod: &PodSettings,
    service: &ServiceName,
    migrations: &Migrations,
) -> Result<(Question, String), Failure> {
    let (data, hash) = files(cx, migrations)?;
    let mounted = config_map(pod, service, data)?;
    let job = job(cx, pod, service, migrations, "schema", &mounted);
    let key = digest::of(&(service, &job.args, &migrations.ca_config_map, &hash))?;
    Ok((Question { key, job, own: vec![mounted] }, hash))
}

/// Asks the database what is pending.
pub async fn observe(
    cx: &StepContext,
    cluster: &Cluster,
    pod: &PodSettings,
    service: &ServiceName,
    migrations: &Migrations,
) -> Result<Schema, Failure> {
    let (question, hash) = question(cx, pod, service, migrations)?;
    match cx.ask(cluster, &question).await {
        Ok(answer) => {
            let found: Schema = serde_json::from_value(json!({
                "version": answer["version"], "pending": answer["pending"], "problems": answer["problems"], "files": hash,
            }))
            .map_err(|e| Failure::step("the agent's answer on the schema").because(e))?;
            Ok(found)
        }
        Err(failure) if failure.kind == FailureKind::Interrupted => Err(failure),
        Err(failure) => Ok(Schema { unknown: Some(failure.message), files: hash, ..Schema::default() }),
    }
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
    let (data, hash) = files(cx, migrations)?;
    if hash != planned.files {
        return Err(
            Failure::new(FailureKind::PlanStale, format!("the migrations of {service} have changed since the plan")).next("deployctl plan")
        );
    }
    let mounted = config_map(pod, service, data)?;
    let job = job(cx, pod, service, migrations, "migrate", &mounted);
    let deadline = job.deadline + Duration::from_secs(240);
    let progress = |line: &str| cx.progress(format!("migrate: {line}"));
    let running = cluster.run_job_with(&job, std::slice::from_ref(&mounted), progress);
    let answer = cx.wait_until(&format!("the migrations of {service}"), deadline, running).await?;
    cx.progress(format!("the schema of {service} is at version {}", answer.result["version"].as_str().unwrap_or("(none)")));
    Ok(())
}
