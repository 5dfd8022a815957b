//! Whether a service that works from a queue reads what it lives on: tried under its own role, and asked of its pods' logs.
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::Cluster,
    failure::{Failure, FailureKind},
    ids::{BucketName, QueueUrl, RoleArn, ServiceName},
    steps::{StepContext, bearer::Bearer},
};

/// Longer than a pod pauses after a failed receive (services/parser/src/queue.rs): one that still fails has complained since.
const COMPLAINS_WITHIN: Duration = Duration::from_secs(35);
/// A pod that only stumbled at its start has been quiet for long enough by then.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at the log.
const LOOK: Duration = Duration::from_secs(2);

/// What a service reads.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reads {
    /// Its role.
    pub role: RoleArn,
    /// The bucket whose objects it reads, under the prefix of its queue.
    pub bucket: BucketName,
    /// Its queue.
    pub queue_url: QueueUrl,
    /// What its log says when it receives nothing, be it for the queue or for the database.
    pub complaint: String,
}

/// Fails on what the service cannot read. Its role is tried with its own token from here, which shows permissions and not the pods'
/// network; the pods' logs show that they receive, for which they need queue and database. An object is read in the smoke test only.
pub(super) async fn check(cx: &StepContext, cluster: &Cluster, name: &ServiceName, reads: &Reads) -> Result<(), Failure> {
    let started = Instant::now();
    let service = cx.services.get(name).ok_or_else(|| Failure::usage(format!("the plan file declares no service {name}")))?;
    let queue = service.queue.as_ref().ok_or_else(|| Failure::usage(format!("services.{name}: `reads` needs `queue`")))?;
    let account = Bearer { cx, cluster, namespace: &service.namespace, account: &service.service_account };
    let own = account.becomes(&reads.role).await?;
    if own.queue(&reads.queue_url).await?.is_none() {
        return Err(Failure::verification(format!("there is no queue {}", reads.queue_url)));
    }
    // S3 says that an object is absent only to those who may read it; everybody else is refused.
    own.get_object(&reads.bucket, &format!("{}deployctl-absent", queue.prefix)).await?;
    cx.checked(format!("{name}'s role reads queue and bucket"), started.elapsed());
    let started = Instant::now();
    let what = format!("{name} to receive from its queue");
    let quiet = cx.wait_until(&what, PATIENCE, until_quiet(cluster, name, &service.namespace, reads)).await;
    quiet.map_err(|failure| if failure.is_timeout() { complains(name, reads) } else { failure })?;
    cx.checked(format!("{name} receives from its queue, its database connected"), started.elapsed());
    Ok(())
}

async fn until_quiet(cluster: &Cluster, name: &ServiceName, namespace: &str, reads: &Reads) -> Result<(), Failure> {
    let labels = format!("app.kubernetes.io/name={name}");
    let seconds = i64::try_from(COMPLAINS_WITHIN.as_secs()).unwrap_or(i64::MAX);
    loop {
        let lines = cluster.recent_log(namespace, &labels, seconds).await?;
        if !lines.iter().any(|line| line.contains(&reads.complaint)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn complains(name: &ServiceName, reads: &Reads) -> Failure {
    Failure::new(FailureKind::Verification, format!("{name} keeps saying {:?}", reads.complaint))
        .next(format!("read why: kubectl logs -l app.kubernetes.io/name={name} --all-namespaces"))
}
