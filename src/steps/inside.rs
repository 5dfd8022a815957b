//! What an agent is asked to do inside the cluster with a database whose address no secret says: one that was just restored, or the living one.
use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::StepContext;
use crate::{
    aws::Aws,
    cluster::{AgentJob, Cluster, Keep, PodSettings},
    database::{audit::Record, examine::Examined, watermark::Watermark},
    failure::{Failure, FailureKind},
    ids::{ClusterName, DbInstanceId, Region},
};

/// Between a Job's creation and its container's start.
pub(super) const STARTING: Duration = Duration::from_secs(240);
/// Where the authorities of the database's certificate are mounted.
pub(super) const AUTHORITIES: &str = "/etc/database-ca";

/// Where a database is, and the secret of its master user.
#[derive(Clone, Debug)]
pub struct Address {
    /// Where both are.
    pub region: Region,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database in it.
    pub dbname: String,
    /// The ARN of the secret that RDS manages for its master user.
    pub credentials_secret: String,
}

impl Address {
    /// Of an instance; none if it is not there, and as long as it has no endpoint or no secret of RDS'.
    pub async fn of(aws: &Aws, instance: &DbInstanceId) -> Result<Option<Self>, Failure> {
        Ok(aws.restored(instance).await?.and_then(|found| {
            let (host, port) = found.endpoint?;
            Some(Self { region: aws.region().clone(), host, port, dbname: found.database?, credentials_secret: found.master_secret_arn? })
        }))
    }
}

/// An agent that looks.
pub struct Inside<'a> {
    /// Says what is waited for.
    pub cx: &'a StepContext,
    /// Where its Job runs.
    pub cluster: &'a Cluster,
    /// As whom.
    pub pod: &'a PodSettings,
    /// The ConfigMap beside it whose `ca.pem` signs the database's certificate.
    pub ca_config_map: &'a str,
    /// The database.
    pub address: &'a Address,
}

/// What a look has found.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Looked {
    /// What it holds.
    pub record: Record,
    /// What is wrong with it by itself.
    pub examined: Examined,
    /// Up to when it has what was committed.
    pub watermark: Watermark,
}

impl Inside<'_> {
    /// A Job of its own each time.
    pub fn job(&self, command: &str, more: &[String], deadline: Duration) -> AgentJob {
        let Address { region, host, port, dbname, credentials_secret } = self.address;
        let pairs = [
            ("account", self.cx.environment.aws.account_id.to_string()),
            ("region", region.to_string()),
            ("host", host.clone()),
            ("port", port.to_string()),
            ("dbname", dbname.clone()),
            ("credentials-secret", credentials_secret.clone()),
        ];
        let mut args = vec!["agent".to_owned(), command.to_owned()];
        args.extend(pairs.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]));
        args.extend(["--authorities".to_owned(), format!("{AUTHORITIES}/ca.pem")]);
        args.extend_from_slice(more);
        AgentJob {
            name: command.to_owned(),
            pod: self.pod.clone(),
            args,
            env: BTreeMap::new(),
            config_maps: BTreeMap::from([(AUTHORITIES.to_owned(), self.ca_config_map.to_owned())]),
            secrets: BTreeMap::new(),
            deadline,
            keep: Keep::Hour,
            nonce: uuid::Uuid::now_v7().to_string(),
        }
    }

    /// Runs a command to its end; checks that the agent says to have made are told.
    pub async fn run(&self, command: &str, more: &[String], deadline: Duration) -> Result<Value, Failure> {
        let job = self.job(command, more, deadline);
        let heard = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(said) => {
                if let Some(what) = said["checked"].as_str() {
                    self.cx.checked(format!("{}: {what}", self.address.host), Duration::from_millis(said["millis"].as_u64().unwrap_or(0)));
                }
            }
            Err(_plain) => self.cx.progress(format!("{command}: {line}")),
        };
        let what = format!("Job {command} in {}", self.cluster.name());
        Ok(self.cx.wait_until(&what, deadline + STARTING, self.cluster.run_job(&job, heard)).await?.result)
    }
}

/// This region's cluster, or why it cannot be asked.
pub async fn cluster(cx: &StepContext, name: &ClusterName) -> Result<Result<Cluster, String>, Failure> {
    let region = cx.aws.region();
    let Some(found) = cx.aws.find_cluster(name).await? else { return Ok(Err(format!("no cluster {name} is prepared in {region}"))) };
    if found.status != "ACTIVE" && found.status != "UPDATING" {
        return Ok(Err(format!("the cluster {name} in {region} is {}", found.status)));
    }
    cx.cluster(name).await.map(Ok)
}

/// Where agents run in this region's cluster, or why none can be sent there.
pub async fn prepared(
    cx: &StepContext,
    name: &ClusterName,
    namespace: &str,
    service_account: &str,
) -> Result<Result<PodSettings, String>, Failure> {
    match self::cluster(cx, name).await? {
        Ok(cluster) => agent_in(&cluster, namespace, service_account).await,
        Err(why) => Ok(Err(why)),
    }
}

/// The same for whoever restores at night, and needs the database more than anybody's word on it: what fails is a reason, too.
pub async fn sent_where_possible(
    cx: &StepContext,
    name: &ClusterName,
    namespace: &str,
    service_account: &str,
) -> Result<Result<PodSettings, String>, Failure> {
    match prepared(cx, name, namespace, service_account).await {
        Err(failure) if failure.kind != FailureKind::Interrupted => {
            Ok(Err(format!("the cluster {name} cannot be asked: {}", failure.message)))
        }
        answered => answered,
    }
}

/// Where agents run in a cluster that deployctl has prepared, with the image that its newest Job there has run; Err says what is missing.
pub async fn agent_in(cluster: &Cluster, namespace: &str, service_account: &str) -> Result<Result<PodSettings, String>, Failure> {
    let jobs = cluster.list("batch/v1", "Job", Some(namespace), "app.kubernetes.io/managed-by=deployctl").await?;
    let image = jobs
        .iter()
        .filter(|job| job.pointer("/spec/template/spec/serviceAccountName").and_then(Value::as_str) == Some(service_account))
        .filter_map(|job| {
            let container = job.pointer("/spec/template/spec/containers/0")?;
            (container["args"][0] == "agent").then_some(())?;
            Some((job.pointer("/metadata/creationTimestamp")?.as_str()?, container["image"].as_str()?))
        })
        .max();
    Ok(match image {
        Some((_, image)) => {
            Ok(PodSettings { namespace: namespace.to_owned(), service_account: service_account.to_owned(), image: image.to_owned() })
        }
        None => Err(format!("no agent of deployctl has ever run in the cluster {} ({namespace}/{service_account})", cluster.name())),
    })
}
