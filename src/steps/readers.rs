//! Kind `readers`: what reads the database's address in the region's cluster is restarted once that address is another one. Each is named in the
//! plan; where no cluster is prepared there is none.
mod found;

use std::{path::Path, time::Duration};

use base64::Engine as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::found::Reader;
use super::{Action, Applied, Change, Kind, Outputs, StepContext, StepPlan, inside};
use crate::{
    clock,
    cluster::{Cluster, WORKLOADS},
    engine::event::Outcome,
    failure::{Failure, FailureKind, LeftBehind},
    ids::{ClusterName, SecretName},
    manifests::ObjectKey,
};

/// Kind `readers`.
pub struct Readers;

/// The annotation of pods that says for which address they were started.
const STARTED_FOR: &str = "deployctl/started-for";
/// The annotation at whose change External Secrets looks at once.
const SYNC: &str = "force-sync";
/// For a changed secret to arrive in the cluster: External Secrets' own interval, twice.
const ARRIVES: Duration = Duration::from_secs(150);
/// For all pods to be replaced.
const ROLLS_OUT: Duration = Duration::from_secs(600);

/// `with` of kind `readers`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The EKS cluster of this region, if one is prepared.
    pub cluster: ClusterName,
    /// The secret with the address, by its name in the environment.
    pub secret: SecretName,
    /// The database's host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// What reads the address.
    pub readers: Vec<Reader>,
    /// Why nobody could look.
    pub missing: Option<String>,
}

impl Input {
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
    fn stale<'o>(&self, observed: &'o Observed) -> Vec<&'o Reader> {
        let address = self.address();
        observed.readers.iter().filter(|reader| reader.started_for.as_ref() != Some(&address)).collect()
    }
}

async fn look(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
    let cluster = match inside::cluster(cx, &input.cluster).await? {
        Ok(cluster) => cluster,
        Err(missing) => return Ok(Observed { readers: Vec::new(), missing: Some(missing) }),
    };
    let secret = cx.environment.secrets.store.full_name(&cx.environment.name, &input.secret);
    let (own, shared, externals, deployments, rollouts, sets, daemons) = tokio::try_join!(
        cluster.list("external-secrets.io/v1", "SecretStore", None, ""),
        cluster.list("external-secrets.io/v1", "ClusterSecretStore", None, ""),
        cluster.list("external-secrets.io/v1", "ExternalSecret", None, ""),
        cluster.list("apps/v1", "Deployment", None, ""),
        cluster.list("argoproj.io/v1alpha1", "Rollout", None, ""),
        cluster.list("apps/v1", "StatefulSet", None, ""),
        cluster.list("apps/v1", "DaemonSet", None, ""),
    )?;
    let workloads: Vec<Value> = deployments.into_iter().chain(rollouts).chain(sets).chain(daemons).collect();
    let stores: Vec<Value> = own.into_iter().chain(shared).collect();
    let wanted = found::Wanted { secret: &secret, region: cx.aws.region().as_str(), annotation: STARTED_FOR };
    Ok(Observed { readers: found::readers(&wanted, &stores, &externals, &workloads), missing: None })
}

/// Whether a Secret of the cluster says this host; an address is no secret.
fn says(secret: &Value, host: &str) -> bool {
    let data = secret["data"].as_object();
    let texts = data.into_iter().flat_map(|data| data.values()).filter_map(Value::as_str);
    texts.filter_map(|text| base64::engine::general_purpose::STANDARD.decode(text).ok()).any(|text| {
        let text = String::from_utf8_lossy(&text).into_owned();
        text.contains(host)
    })
}

/// Until the cluster's own copy of the secret has the address: pods that start before would read the old one.
async fn arrived(cx: &StepContext, cluster: &Cluster, external: &ObjectKey, secret: &str, host: &str) -> Result<(), Failure> {
    cluster.annotate(external, SYNC, &clock::now().to_string()).await?;
    let key = ObjectKey { api_version: "v1".into(), kind: "Secret".into(), namespace: external.namespace.clone(), name: secret.to_owned() };
    let looking = async {
        loop {
            if cluster.get(&key).await?.is_some_and(|found| says(&found, host)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    cx.wait_until(&format!("Secret {key} to say {host}"), ARRIVES, looking).await
}

fn outputs(observed: &Observed) -> Outputs {
    let names: Vec<String> = observed.readers.iter().map(|reader| format!("{} {}", reader.workload.kind, reader.workload)).collect();
    Outputs::from([("readers".to_owned(), json!(names)), ("missing".to_owned(), json!(observed.missing))])
}

impl Kind for Readers {
    const NAME: &'static str = "readers";
    type Input = Input;
    type Observed = Observed;

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        // Restarted, and never made.
        WORKLOADS.map(|kind| format!("update {kind}")).to_vec()
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        match look(cx, input).await {
            Err(failure) if failure.kind == FailureKind::Interrupted => Err(failure),
            // Whoever restores at night needs the database more than its readers' names.
            Err(failure) => {
                let missing = format!("the cluster {} cannot be asked: {}", input.cluster, failure.message);
                Ok(Observed { readers: Vec::new(), missing: Some(missing) })
            }
            found => found,
        }
    }

    fn plan(input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        let change = |reader: &Reader| Change {
            action: Action::Update,
            resource: reader.workload.kind.clone(),
            name: reader.workload.to_string(),
            details: vec![format!("restarted, one pod after another, for it reads {}: now {}", reader.how(), input.address())],
        };
        let changes = input.stale(observed).into_iter().map(change).collect();
        let payload = serde_json::to_value(observed).map_err(|e| Failure::new(FailureKind::Internal, "the plan of restarts").because(e))?;
        Ok(StepPlan { changes, payload })
    }

    fn known_outputs(_input: &Input, observed: &Observed, plan: &StepPlan) -> Option<Outputs> {
        plan.changes.is_empty().then(|| outputs(observed))
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let observed: Observed = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the saved plan of restarts").because(e))?;
        let stale = input.stale(&observed);
        if stale.is_empty() {
            return Ok(Applied { outcome: Outcome::Unchanged, outputs: outputs(&observed) });
        }
        let cluster = cx.cluster(&input.cluster).await?;
        let mut restarted = Vec::new();
        for reader in &stale {
            if let Some((external, secret)) = &reader.through {
                arrived(cx, &cluster, external, secret, &input.host).await?;
            }
            cluster.restart(&reader.workload, STARTED_FOR, &input.address()).await?;
            restarted.push(reader.workload.clone());
        }
        let rolled_out = cluster.wait_until_current(&restarted, ROLLS_OUT, |missing| cx.progress(missing));
        let left = || LeftBehind::Partial(restarted.iter().map(|key| format!("{} {key}, which is being restarted", key.kind)).collect());
        cx.wait_until("restarted pods to be ready", ROLLS_OUT + Duration::from_secs(30), rolled_out).await.map_err(|f| f.left(left()))?;
        Ok(Applied { outcome: Outcome::Changed, outputs: outputs(&observed) })
    }

    async fn verify(cx: &StepContext, input: &Input, applied: &Applied) -> Result<(), Failure> {
        let started = tokio::time::Instant::now();
        let observed = Self::observe(cx, input).await?;
        let stale: Vec<String> = input.stale(&observed).iter().map(|reader| reader.workload.to_string()).collect();
        if !stale.is_empty() {
            return Err(Failure::verification(format!("not restarted for {}: {}", input.address(), stale.join(", "))));
        }
        match observed.missing {
            None => {
                let what = format!("{} readers of the address run with {}", observed.readers.len(), input.address());
                cx.checked(what, started.elapsed());
            }
            Some(missing) if applied.outcome == Outcome::Changed => return Err(Failure::verification(missing)),
            Some(_) => {}
        }
        Ok(())
    }

    async fn undo(_cx: &StepContext, _input: &Input) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::engine::limits;

    #[test]
    fn a_restart_is_within_what_was_shown_before_the_address_was_known() {
        let input = json!({ "cluster": "deployctl-x", "secret": "database", "host": "db.example", "port": 5432 });
        let workload =
            ObjectKey { api_version: "apps/v1".into(), kind: "Deployment".into(), namespace: Some("apps".into()), name: "parser".into() };
        let observed = Observed { readers: vec![Reader { workload, through: None, started_for: None }], missing: None };
        let plan = Readers::plan(&serde_json::from_value(input).unwrap(), &observed).unwrap();
        assert_eq!(plan.changes.len(), 1);
        assert!(limits::beyond_bound(&Readers::bound(&Value::Null, Path::new("")), &plan.changes).is_empty());
    }

    #[test]
    fn a_secret_of_the_cluster_is_read_for_its_address_only() {
        let text = base64::engine::general_purpose::STANDARD.encode("db-2.eu-west-1.example");
        assert!(says(&json!({ "data": { "host": text } }), "db-2.eu-west-1.example"));
        assert!(!says(&json!({ "data": { "host": text } }), "db-1.us-east-1.example"));
        assert!(!says(&json!({}), "db-1"));
    }
}
