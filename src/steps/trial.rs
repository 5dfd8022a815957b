//! Kind `trial`: inside the region's cluster each service's own role reads and writes in a restored database, as the service does, and takes it back.
//! Where no cluster is prepared nothing is tried, and nothing is claimed.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Action, Applied, CHECK, Change, Kind, Outputs, StepContext, StepPlan,
    inside::{AUTHORITIES, STARTING, sent_where_possible},
    verification::TOLD,
};
use crate::{
    cluster::{AgentJob, Cluster, Keep, PodSettings},
    database::trial::Tried,
    engine::event::Outcome,
    failure::{Failure, FailureKind},
    ids::{ClusterName, SecretName, ServiceName},
    manifests::ObjectKey,
};

/// Kind `trial`.
pub struct TrialKind;

/// A few statements; the agent itself waits less for a database.
const LIMIT: Duration = Duration::from_secs(120);

/// `with` of kind `trial`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The EKS cluster of this region, if one is prepared.
    pub cluster: ClusterName,
    /// Whose Jobs in the cluster say which image runs there.
    pub agent: AgentAccount,
    /// The ConfigMap, in each service's namespace, whose `ca.pem` signs the database's certificate.
    pub ca_config_map: String,
    /// The database's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database in it.
    pub dbname: String,
    /// The secret that tells services this address; without it, as in a drill, they are told it for this once.
    #[serde(default)]
    pub endpoint_secret: Option<SecretName>,
    /// Who tries it.
    pub services: BTreeMap<ServiceName, Service>,
}

/// The agent's account in the cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
}

/// A service that tries it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its service account, which decides its IAM role.
    pub service_account: String,
    /// The secret with its username and password.
    pub credentials_secret: SecretName,
    /// What it does, as SQL: one transaction, which is rolled back.
    pub statements: PathBuf,
}

/// Who can try it here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// The image of their Jobs; none if nobody can.
    pub image: Option<String>,
    /// Those who can.
    pub services: Vec<ServiceName>,
    /// Why others cannot, or nobody.
    pub missing: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Who could use it, a sentence each.
    pub checked: Vec<String>,
    /// Who did not try, with the reason.
    pub skipped: Vec<String>,
    /// Who could not use it.
    pub wrong: Vec<String>,
}

/// The step's outputs, as a run has recorded them.
pub fn recorded(outputs: Option<&Outputs>) -> Option<Trial> {
    serde_json::from_value(outputs?.get("trial")?.clone()).ok()
}

fn outputs(trial: &Trial) -> Outputs {
    Outputs::from([("trial".to_owned(), json!(trial))])
}

/// What nobody has tried is not claimed.
fn untried(reason: &str) -> String {
    format!("whether the services' roles can read and write in it: {reason}")
}

/// What a service lacks here to try it.
async fn lacks(cx: &StepContext, cluster: &Cluster, input: &Input, service: &Service) -> Result<Option<String>, Failure> {
    let Service { namespace, service_account, credentials_secret, .. } = service;
    let account = ObjectKey {
        api_version: "v1".into(),
        kind: "ServiceAccount".into(),
        namespace: Some(namespace.clone()),
        name: service_account.clone(),
    };
    if cluster.get(&account).await?.is_none() {
        return Ok(Some(format!("the cluster {} has no service account {namespace}/{service_account}", input.cluster)));
    }
    let (store, environment) = (cx.environment.secrets.store, &cx.environment.name);
    if cx.aws.find_secret(store, environment, credentials_secret).await?.is_none() {
        return Ok(Some(format!("there is no secret {credentials_secret} in {}", cx.aws.region())));
    }
    Ok(None)
}

impl Input {
    fn job(&self, cx: &StepContext, service: &Service, image: &str) -> Result<AgentJob, Failure> {
        let path = cx.project.join(&service.statements);
        let statements = std::fs::read_to_string(&path)
            .map_err(|e| Failure::usage(format!("{} cannot be read", service.statements.display())).because(e))?;
        let (store, environment) = (cx.environment.secrets.store, &cx.environment.name);
        let mut pairs = vec![
            ("account", cx.environment.aws.account_id.to_string()),
            ("region", cx.aws.region().to_string()),
            ("credentials-secret", store.full_name(environment, &service.credentials_secret)),
            ("authorities", format!("{AUTHORITIES}/ca.pem")),
            ("statements", statements),
        ];
        match &self.endpoint_secret {
            Some(secret) => pairs.push(("endpoint-secret", store.full_name(environment, secret))),
            None => {
                pairs.extend([("host", self.host.clone()), ("port", self.port.to_string()), ("dbname", self.dbname.clone())]);
            }
        }
        let args = ["agent".to_owned(), "trial".to_owned()].into_iter();
        Ok(AgentJob {
            name: "trial".to_owned(),
            pod: PodSettings {
                namespace: service.namespace.clone(),
                service_account: service.service_account.clone(),
                image: image.to_owned(),
            },
            // A file of SQL may begin as a flag does.
            args: args.chain(pairs.into_iter().map(|(name, value)| format!("--{name}={value}"))).collect(),
            env: BTreeMap::new(),
            config_maps: BTreeMap::from([(AUTHORITIES.to_owned(), self.ca_config_map.clone())]),
            secrets: BTreeMap::new(),
            deadline: LIMIT,
            keep: Keep::Hour,
            nonce: uuid::Uuid::now_v7().to_string(),
        })
    }

    /// What an agent that came back has done, if it did it where it was meant to; else what is wrong.
    fn judged(&self, service: &Service, said: &Value) -> Result<String, String> {
        let who = format!("{}/{}", service.namespace, service.service_account);
        let tried = serde_json::from_value::<Tried>(said["tried"].clone()).map_err(|error| format!("{who}: its answer: {error}"))?;
        let (role, host) = (said["role"].as_str().unwrap_or_default(), said["host"].as_str().unwrap_or_default());
        // The secret is what services go by: one that says another address sends them to another database.
        if host != self.host {
            return Err(format!("{who} is told that the database is {host}, not {}", self.host));
        }
        let told = self.endpoint_secret.as_ref().map_or_else(String::new, |secret| format!(", by the address in secret {secret}"));
        Ok(format!(
            "{who} reads and writes in it as {role}{told}: {} statements of {}, {} rows, taken back",
            tried.statements,
            service.statements.display(),
            tried.rows
        ))
    }
}

impl Kind for TrialKind {
    const NAME: &'static str = "trial";
    type Input = Input;
    type Observed = Observed;

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        vec![CHECK.into()]
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        let none = |missing| Ok(Observed { image: None, services: Vec::new(), missing: vec![missing] });
        let agent = &input.agent;
        let pod = match sent_where_possible(cx, &input.cluster, &agent.namespace, &agent.service_account).await? {
            Ok(pod) => pod,
            Err(missing) => return none(missing),
        };
        let cluster = cx.cluster(&input.cluster).await?;
        let mut observed = Observed { image: Some(pod.image), services: Vec::new(), missing: Vec::new() };
        for (name, service) in &input.services {
            match lacks(cx, &cluster, input, service).await {
                Ok(None) => observed.services.push(name.clone()),
                Ok(Some(missing)) => observed.missing.push(missing),
                Err(failure) if failure.kind == FailureKind::Interrupted => return Err(failure),
                Err(failure) => observed.missing.push(format!("what {name} needs cannot be asked: {}", failure.message)),
            }
        }
        Ok(observed)
    }

    fn plan(input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        let change = |name: &ServiceName| {
            let through =
                input.endpoint_secret.as_ref().map_or_else(|| format!("at {}", input.host), |secret| format!("by secret {secret}"));
            let name = format!("{name} reads and writes in the database {through}, as itself, and takes it back");
            Change { action: Action::Run, resource: CHECK.into(), name, details: Vec::new() }
        };
        let payload = serde_json::to_value(observed).map_err(|e| Failure::new(FailureKind::Internal, "the plan of a trial").because(e))?;
        Ok(StepPlan { changes: observed.services.iter().map(change).collect(), payload })
    }

    fn known_outputs(_input: &Input, observed: &Observed, plan: &StepPlan) -> Option<Outputs> {
        let skipped = observed.missing.iter().map(|missing| untried(missing)).collect();
        plan.changes.is_empty().then(|| outputs(&Trial { skipped, ..Trial::default() }))
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let observed: Observed = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the saved plan of a trial").because(e))?;
        let mut trial = Trial { skipped: observed.missing.iter().map(|missing| untried(missing)).collect(), ..Trial::default() };
        let tries = observed.services.iter().filter_map(|name| input.services.get_key_value(name));
        if let Some(image) = &observed.image {
            for (name, service) in tries {
                let started = tokio::time::Instant::now();
                let trying = async {
                    let cluster = cx.cluster(&input.cluster).await?;
                    let job = input.job(cx, service, image)?;
                    let what = format!("Job trial of {name} in {}", input.cluster);
                    let heard = |line: &str| tracing::debug!(line, "a trial");
                    Ok::<_, Failure>(cx.wait_until(&what, LIMIT + STARTING, cluster.run_job(&job, heard)).await?.result)
                };
                let said = match trying.await {
                    Ok(said) => input.judged(service, &said).map_err(|wrong| vec![wrong]),
                    Err(failure) if failure.kind == FailureKind::Interrupted => return Err(failure),
                    // Whoever restores needs to know, and the database is there all the same.
                    Err(failure) => {
                        let who = format!("{}/{}", service.namespace, service.service_account);
                        Err(failure.report(TOLD).into_iter().map(|line| format!("{who}: {line}")).collect())
                    }
                };
                match said {
                    Ok(said) => {
                        cx.checked(said.clone(), started.elapsed());
                        trial.checked.push(said);
                    }
                    Err(wrong) => trial.wrong.extend(wrong),
                }
            }
        }
        Ok(Applied { outcome: Outcome::Unchanged, outputs: outputs(&trial) })
    }

    async fn verify(_cx: &StepContext, _input: &Input, _applied: &Applied) -> Result<(), Failure> {
        // It is a verification itself; what it found wrong is in its outputs, and the report fails by it.
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

    fn input(endpoint_secret: Option<&str>) -> Input {
        serde_json::from_value(json!({
            "cluster": "deployctl-x", "agent": { "namespace": "deployctl", "service_account": "agent" }, "ca_config_map": "database-ca",
            "host": "db.example", "port": 5432, "dbname": "deployctl", "endpoint_secret": endpoint_secret,
            "services": { "parser": {
                "namespace": "apps", "service_account": "parser", "credentials_secret": "parser-db", "statements": "services/parser/trial.sql",
            } },
        }))
        .unwrap()
    }

    #[test]
    fn what_nobody_could_try_is_not_claimed() {
        let observed = Observed { image: None, services: Vec::new(), missing: vec!["no cluster is prepared".into()] };
        let plan = TrialKind::plan(&input(None), &observed).unwrap();
        let trial = recorded(TrialKind::known_outputs(&input(None), &observed, &plan).as_ref()).unwrap();
        assert!(plan.changes.is_empty() && trial.checked.is_empty() && trial.wrong.is_empty(), "{trial:?}");
        assert_eq!(trial.skipped, ["whether the services' roles can read and write in it: no cluster is prepared"]);
    }

    #[test]
    fn a_secret_that_says_another_address_is_no_good_trial() {
        let input = input(Some("database"));
        let said = |host: &str| json!({ "role": "parser_run", "host": host, "tried": { "statements": 9, "rows": 6 } });
        let good = input.judged(&input.services.values().next().unwrap().clone(), &said("db.example")).unwrap();
        assert!(
            good.starts_with("apps/parser reads and writes in it as parser_run, by the address in secret database: 9 statements"),
            "{good}"
        );
        let other = input.judged(&input.services.values().next().unwrap().clone(), &said("db.lost.example")).unwrap_err();
        assert_eq!(other, "apps/parser is told that the database is db.lost.example, not db.example");
        assert!(input.judged(&input.services.values().next().unwrap().clone(), &json!({})).is_err());
    }
}
