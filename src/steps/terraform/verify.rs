//! What is read back after an apply, from AWS itself and not from terraform's state.
use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Input,
    cluster_ready::{self, Look},
    trust,
};
use crate::{
    failure::Failure,
    ids::{BucketName, ClusterName, DbInstanceId, QueueUrl, SecretName},
    plan::{definition::DATABASE_SECRET, environment::SecretStore},
    steps::StepContext,
};

/// What is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Subnets carry the tags by which the load balancer controller finds them.
    SubnetTags,
    /// The API server answers with our token, and nodes are Ready.
    ClusterReady,
    /// Every add-on is ACTIVE.
    Addons,
    /// The bucket is versioned, encrypted, closed, and tells the queues.
    Storage,
    /// Queues are encrypted, writable by S3 for this bucket only, and have dead-letter queues.
    Queues,
    /// The database is available, encrypted, private, backed up and protected as the environment asks.
    Database,
    /// Every secret is there.
    Secrets,
    /// Every role trusts exactly one service account, whose association leads to it where Pod Identity is used.
    TrustPolicies,
}

pub(super) type Outputs = BTreeMap<String, Value>;

const CLUSTER_DEADLINE: Duration = Duration::from_secs(900);
const DATABASE_DEADLINE: Duration = Duration::from_secs(3600);

/// Runs one check; says what was found, or fails.
pub(super) async fn run(check: Check, cx: &StepContext, input: &Input, outputs: &Outputs) -> Result<String, Failure> {
    match check {
        Check::SubnetTags => subnet_tags(cx, outputs).await,
        Check::ClusterReady => cluster_ready(cx, outputs).await,
        Check::Addons => addons(cx, outputs).await,
        Check::Storage => storage(cx, outputs).await,
        Check::Queues => queues(cx, outputs).await,
        Check::Database => database(cx, outputs).await,
        Check::Secrets => secrets(cx, outputs).await,
        Check::TrustPolicies => trust::check(cx, input, outputs).await,
    }
}

pub(super) fn output<T: DeserializeOwned>(outputs: &Outputs, name: &str) -> Result<T, Failure> {
    let value = outputs
        .get(name)
        .cloned()
        .ok_or_else(|| Failure::verification(format!("the stack has no output {name}, which its checks need")))?;
    serde_json::from_value(value).map_err(|e| Failure::verification(format!("the stack's output {name} is of another type")).because(e))
}

pub(super) fn must(holds: Result<(), String>, about: &str) -> Result<(), Failure> {
    holds.map_err(|what| Failure::verification(format!("{about}: {what}")))
}

fn require(wrong: &mut Vec<String>, holds: Result<(), &str>) {
    if let Err(what) = holds {
        wrong.push(what.to_owned());
    }
}

fn unless(holds: Option<()>, what: &str) -> Result<(), &str> {
    holds.ok_or(what)
}

fn verdict(about: &str, wrong: &[String]) -> Result<(), Failure> {
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::verification(format!("{about}: {}", wrong.join("; "))).next("deployctl plan shows whether terraform sees it too"))
    }
}

async fn subnet_tags(cx: &StepContext, outputs: &Outputs) -> Result<String, Failure> {
    let private: Vec<String> = output(outputs, "private_subnets")?;
    let public: Vec<String> = output(outputs, "public_subnets")?;
    let all: Vec<String> = private.iter().chain(&public).cloned().collect();
    let found = cx.aws.subnets(&all).await?;
    let mut wrong = Vec::new();
    for (ids, tag) in [(&private, "kubernetes.io/role/internal-elb"), (&public, "kubernetes.io/role/elb")] {
        for id in ids {
            match found.iter().find(|subnet| &subnet.id == id) {
                None => wrong.push(format!("{id} is not there")),
                Some(subnet) if subnet.tags.get(tag).map(String::as_str) != Some("1") => wrong.push(format!("{id} lacks the tag {tag}=1")),
                Some(_) => {}
            }
        }
    }
    verdict("subnets", &wrong)?;
    Ok(format!("{} subnets tagged for load balancers", all.len()))
}

async fn cluster_ready(cx: &StepContext, outputs: &Outputs) -> Result<String, Failure> {
    let name: ClusterName = output(outputs, "cluster_name")?;
    let wanted = usize::try_from(cx.environment.cluster.nodes.min.max(1)).unwrap_or(1);
    let seen = std::sync::Mutex::new(String::new());
    let work = async {
        loop {
            let said = match cluster_ready::look(&cx.aws, &name).await? {
                Look::Ready(ready) if ready >= wanted => return Ok(ready),
                Look::Ready(ready) => format!("{ready} nodes are Ready"),
                Look::NotYet(why) => why,
            };
            if let Ok(mut seen) = seen.lock() {
                *seen = said;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ready = cx.wait_until(&format!("{wanted} Ready nodes of the cluster {name}"), CLUSTER_DEADLINE, work).await.map_err(|failure| {
        let last = seen.lock().map(|seen| seen.clone()).unwrap_or_default();
        if last.is_empty() { failure } else { failure.evidence(format!("last seen: {last}")) }
    })?;
    Ok(format!("the API server answers, {ready} nodes Ready"))
}

async fn addons(cx: &StepContext, outputs: &Outputs) -> Result<String, Failure> {
    let name: ClusterName = output(outputs, "cluster_name")?;
    let skip = &cx.environment.observability.skip;
    let work = async {
        loop {
            let found = cx.aws.addons(&name).await?;
            let waiting = found.iter().find(|addon| addon.status != "ACTIVE" && !skip.contains_key(&addon.name));
            match waiting {
                None => return Ok(found),
                Some(addon) if addon.status.ends_with("FAILED") || addon.status == "DEGRADED" => {
                    return Err(Failure::verification(format!("add-on {} {} is {}", addon.name, addon.version, addon.status))
                        .evidence(addon.issues.join("\n"))
                        .next(format!(
                            "kubectl get pods -n kube-system; aws eks describe-addon --cluster-name {name} --addon-name {}",
                            addon.name
                        )));
                }
                Some(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    };
    let found = cx.wait_until(&format!("add-ons of the cluster {name}"), CLUSTER_DEADLINE, work).await?;
    let active = found.iter().filter(|addon| addon.status == "ACTIVE").count();
    let skipped: Vec<&str> = found.iter().filter(|addon| addon.status != "ACTIVE").map(|addon| addon.name.as_str()).collect();
    Ok(if skipped.is_empty() {
        format!("{active} add-ons ACTIVE")
    } else {
        format!("{active} add-ons ACTIVE, skipped: {}", skipped.join(", "))
    })
}

async fn storage(cx: &StepContext, outputs: &Outputs) -> Result<String, Failure> {
    let bucket: BucketName = output(outputs, "bucket")?;
    let queues: BTreeMap<String, String> = output(outputs, "queue_arns")?;
    let settings = cx.aws.bucket_settings(&bucket).await?;
    let told = cx.aws.bucket_notification_queues(&bucket).await?;
    let mut wrong = Vec::new();
    require(&mut wrong, unless(settings.versioned.then_some(()), "versioning is off"));
    require(&mut wrong, unless(settings.encryption.map(drop), "objects are not encrypted by default"));
    require(&mut wrong, unless(settings.public_access_blocked.then_some(()), "public access is not blocked"));
    for (name, arn) in &queues {
        if !told.contains(arn) {
            wrong.push(format!("queue {name} is not told of new objects"));
        }
    }
    verdict(&format!("bucket {bucket}"), &wrong)?;
    Ok(format!("bucket {bucket}: versioned, encrypted, closed, tells {} queues", queues.len()))
}

async fn queues(cx: &StepContext, outputs: &Outputs) -> Result<String, Failure> {
    let urls: BTreeMap<String, QueueUrl> = output(outputs, "queue_urls")?;
    let bucket_arn: String = output(outputs, "bucket_arn")?;
    for (name, url) in &urls {
        let queue = cx.aws.queue(url).await?.ok_or_else(|| Failure::verification(format!("queue {name} is not there")))?;
        let mut wrong = Vec::new();
        require(&mut wrong, unless(queue.encrypted.then_some(()), "it is not encrypted"));
        require(&mut wrong, unless(queue.dead_letter_queue.map(drop), "it has no dead-letter queue"));
        let account = cx.environment.aws.account_id.as_str();
        let statements = queue.policy.as_ref().and_then(|policy| policy["Statement"].as_array()).map(Vec::as_slice).unwrap_or_default();
        let s3_may = statements.iter().any(|s| lets_s3_send(s, &bucket_arn, account));
        require(&mut wrong, unless(s3_may.then_some(()), "its policy does not let S3 send for this bucket and account"));
        verdict(&format!("queue {name}"), &wrong)?;
    }
    Ok(format!("{} queues: encrypted, with dead-letter queues, open to S3 for this bucket only", urls.len()))
}

fn lets_s3_send(statement: &Value, bucket_arn: &str, account: &str) -> bool {
    // Keys of conditions are compared without case by IAM, and values may be a list of one.
    let condition = |key: &str, wanted: &str| {
        let operators = statement["Condition"].as_object().into_iter().flatten();
        operators.filter_map(|(_, keys)| keys.as_object()).flatten().any(|(name, value)| {
            let value = value.as_array().filter(|list| list.len() == 1).map_or(value, |list| &list[0]);
            name.eq_ignore_ascii_case(key) && value.as_str() == Some(wanted)
        })
    };
    statement["Effect"] == "Allow"
        && statement["Principal"]["Service"] == "s3.amazonaws.com"
        && condition("aws:SourceArn", bucket_arn)
        && condition("aws:SourceAccount", account)
}

async fn database(cx: &StepContext, outputs: &Outputs) -> Result<String, Failure> {
    let id: DbInstanceId = output(outputs, "database_identifier")?;
    let wanted = &cx.environment.database;
    let what = format!("the database {id} to be available");
    let found = cx.wait_until(&what, DATABASE_DEADLINE, cx.aws.wait_until_db_instance_available(&id, DATABASE_DEADLINE)).await?;
    let mut wrong = Vec::new();
    require(&mut wrong, unless(found.encrypted.then_some(()), "its storage is not encrypted"));
    require(&mut wrong, unless((!found.publicly_accessible).then_some(()), "it is publicly accessible"));
    if found.backup_days != wanted.backup_days {
        wrong.push(format!("backups are kept {} days, not {}", found.backup_days, wanted.backup_days));
    }
    if found.multi_az != wanted.multi_az {
        wrong.push(format!("Multi-AZ is {}, not {}", found.multi_az, wanted.multi_az));
    }
    if found.deletion_protection != wanted.deletion_protection {
        wrong.push(format!("deletion protection is {}, not {}", found.deletion_protection, wanted.deletion_protection));
    }
    verdict(&format!("database {id}"), &wrong)?;
    Ok(format!("database {id} {}: available, encrypted, private, backups {} days", found.engine_version, found.backup_days))
}

async fn secrets(cx: &StepContext, outputs: &Outputs) -> Result<String, Failure> {
    let arns: BTreeMap<String, String> = output(outputs, "secret_arns")?;
    let store = cx.environment.secrets.store;
    let mut later = Vec::new();
    for name in arns.keys() {
        let id = SecretName::parse(name.clone()).map_err(|e| Failure::verification(format!("the secret {name}")).because(e))?;
        match cx.aws.find_secret(store, &cx.environment.name, &id).await? {
            Some(_) => {}
            // terraform makes no parameter but the database's address: one is made with its value, by a person or in the cluster.
            None if store == SecretStore::Ssm && name != DATABASE_SECRET => later.push(name.as_str()),
            None => must(Err("is not there".to_owned()), &format!("secret {name}"))?,
        }
    }
    let there = format!("{} secrets there", arns.len() - later.len());
    Ok(if later.is_empty() { there } else { format!("{there}, not yet: {}", later.join(", ")) })
}
