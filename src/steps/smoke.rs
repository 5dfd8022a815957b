//! Kind `smoke`: a marked file through every part of the system, sent and followed by an agent inside the cluster.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Action, Applied, CHECK, Change, Kind, Outputs, StepContext, StepPlan, release::AgentCommand, service::address_authorities};
use crate::{
    cluster::PodSettings,
    engine::event::Outcome,
    failure::Failure,
    ids::{BucketName, ClusterName, QueueUrl},
};

/// Where an agent's Job has the authorities of the database's certificate.
pub(super) const AUTHORITIES: &str = "/etc/database-ca";
const KAFKA: &str = "/etc/kafka";

/// Kind `smoke`.
pub struct SmokeKind;

/// `with` of kind `smoke`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The EKS cluster.
    pub cluster: ClusterName,
    /// Where the agent runs.
    pub agent: PodSettings,
    /// The uploader's address, as its load balancer has it.
    pub address: String,
    /// A PEM file of the project: the authorities that signed the address' certificate, where they are not public ones.
    #[serde(default)]
    pub authorities: Option<PathBuf>,
    /// The secret with a caller's bearer token; the caller should be called `smoke`, which marks what it uploads.
    pub token_secret: String,
    /// The bucket for uploads.
    pub bucket: BucketName,
    /// The parser's queue.
    pub queue_url: QueueUrl,
    /// The parser's namespace.
    pub parser_namespace: String,
    /// Labels of the parser's pods, as in `app.kubernetes.io/name=parser`.
    pub parser_labels: String,
    /// The secret with host, port and dbname.
    pub endpoint_secret: String,
    /// The secret with the username and password of the tables' owner.
    pub credentials_secret: String,
    /// The ConfigMap, in the agent's namespace, whose `ca.pem` signs the database's certificate.
    pub ca_config_map: String,
    /// Kafka's `host:port`.
    pub kafka_bootstrap: String,
    /// `sasl-ssl` or `sasl-plaintext`.
    pub kafka_security: String,
    /// The Secret, in the agent's namespace, with `api_key` and `api_secret`.
    pub kafka_secret: String,
    /// The parser's topic.
    pub kafka_topic: String,
    /// Longest time of all hops together.
    #[serde(default = "three_minutes")]
    pub deadline_seconds: u64,
}

fn three_minutes() -> u64 {
    180
}

impl Input {
    fn command(&self, cx: &StepContext) -> AgentCommand {
        let pairs: [(&str, &str); 14] = [
            ("account", cx.environment.aws.account_id.as_str()),
            ("region", cx.environment.aws.region.as_str()),
            ("endpoint-secret", &self.endpoint_secret),
            ("credentials-secret", &self.credentials_secret),
            ("address", &self.address),
            ("token-secret", &self.token_secret),
            ("bucket", self.bucket.as_str()),
            ("queue-url", self.queue_url.as_str()),
            ("parser-namespace", &self.parser_namespace),
            ("parser-labels", &self.parser_labels),
            ("kafka-bootstrap", &self.kafka_bootstrap),
            ("kafka-security", &self.kafka_security),
            ("kafka-topic", &self.kafka_topic),
            ("cluster", self.cluster.as_str()),
        ];
        let mut args = vec!["smoke".to_owned()];
        args.extend(pairs.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]));
        args.extend(["--authorities".to_owned(), format!("{AUTHORITIES}/ca.pem"), "--kafka-credentials".to_owned(), KAFKA.to_owned()]);
        args.extend(["--deadline-seconds".to_owned(), self.deadline_seconds.to_string()]);
        AgentCommand {
            name: "smoke".into(),
            args,
            observe_args: Vec::new(),
            files: address_authorities(self.authorities.as_ref()),
            config_maps: BTreeMap::from([(AUTHORITIES.to_owned(), self.ca_config_map.clone())]),
            secrets: BTreeMap::from([(KAFKA.to_owned(), self.kafka_secret.clone())]),
            deadline_seconds: self.deadline_seconds + 60,
            shows: Vec::new(),
        }
    }
}

impl Kind for SmokeKind {
    const NAME: &'static str = "smoke";
    type Input = Input;
    type Observed = ();

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        vec![CHECK.into()]
    }

    async fn observe(_cx: &StepContext, _input: &Input) -> Result<(), Failure> {
        Ok(())
    }

    fn plan(input: &Input, (): &()) -> Result<StepPlan, Failure> {
        let name = format!("a marked file through {}", input.address);
        Ok(StepPlan {
            changes: vec![Change { action: Action::Run, resource: CHECK.into(), name, details: Vec::new() }],
            payload: Value::Null,
        })
    }

    fn known_outputs(_input: &Input, (): &(), _plan: &StepPlan) -> Option<Outputs> {
        Some(Outputs::new())
    }

    async fn apply(cx: &StepContext, input: &Input, _plan: &StepPlan) -> Result<Applied, Failure> {
        let cluster = cx.cluster(&input.cluster).await?;
        let started = tokio::time::Instant::now();
        // The agent's own last words name the hop; the Job's status only says that it failed.
        let ran = input.command(cx).run_now(cx, &cluster, &input.agent).await;
        ran.map_err(|failure| failure.unverified().next("deployctl smoke"))?;
        cx.checked("every hop", Duration::from_millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)));
        Ok(Applied { outcome: Outcome::Unchanged, outputs: Outputs::new() })
    }

    async fn verify(_cx: &StepContext, _input: &Input, _applied: &Applied) -> Result<(), Failure> {
        // It is a verification itself.
        Ok(())
    }

    async fn undo(_cx: &StepContext, _input: &Input) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }
}
