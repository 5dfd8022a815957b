//! Kind `endpoint-secret`: where the database is, in a secret of its region. A replica of another region's secret could not be written.
use std::path::Path;

use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Action, Applied, Change, Kind, Outputs, StepContext, StepPlan};
use crate::{
    engine::event::Outcome,
    failure::{Failure, FailureKind},
    ids::SecretName,
};

/// Kind `endpoint-secret`.
pub struct EndpointSecret;

/// `with` of kind `endpoint-secret`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the secret in the environment.
    pub secret: SecretName,
    /// The database's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database in it.
    pub dbname: String,
}

/// Where a database is, as the secret has it; nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    host: String,
    port: u16,
    dbname: String,
}

impl Input {
    fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.host.clone(), port: self.port, dbname: self.dbname.clone() }
    }
}

async fn written(cx: &StepContext, input: &Input) -> Result<Option<String>, Failure> {
    // A secret that is not there yet has no ARN that a policy could name: asked for its value, AWS would say that this is denied.
    let Some(found) = cx.aws.find_secret(cx.environment.secrets.store, &cx.environment.name, &input.secret).await? else { return Ok(None) };
    // Of all secrets this is the one whose value is read outside of the cluster: it is an address.
    Ok(cx.aws.secret_value(&found.arn).await?.map(|value| value.expose_secret().to_owned()))
}

fn read(text: Option<&String>) -> Option<Endpoint> {
    serde_json::from_str(text?).ok()
}

impl Kind for EndpointSecret {
    const NAME: &'static str = "endpoint-secret";
    type Input = Input;
    /// What the secret says, if it says an address; none also without a secret.
    type Observed = Option<Endpoint>;

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        ["secret", "update secret"].map(String::from).to_vec()
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Option<Endpoint>, Failure> {
        Ok(read(written(cx, input).await?.as_ref()))
    }

    fn plan(input: &Input, observed: &Option<Endpoint>) -> Result<StepPlan, Failure> {
        let now = input.endpoint();
        let (action, before) = match observed {
            Some(before) if *before == now => return Ok(StepPlan::default()),
            Some(before) => (Action::Update, format!("{}:{}/{}", before.host, before.port, before.dbname)),
            None => (Action::Create, "none".to_owned()),
        };
        let details = vec![format!("address: {before} -> {}:{}/{}", now.host, now.port, now.dbname)];
        Ok(StepPlan {
            changes: vec![Change { action, resource: "secret".into(), name: input.secret.to_string(), details }],
            payload: Value::Null,
        })
    }

    fn known_outputs(_input: &Input, _observed: &Option<Endpoint>, _plan: &StepPlan) -> Option<Outputs> {
        Some(Outputs::new())
    }

    async fn apply(cx: &StepContext, input: &Input, _plan: &StepPlan) -> Result<Applied, Failure> {
        let text = serde_json::to_string(&input.endpoint()).map_err(|e| Failure::new(FailureKind::Internal, "an address").because(e))?;
        cx.aws.put_secret(cx.environment.secrets.store, &cx.environment.name, &input.secret, &SecretString::from(text)).await?;
        Ok(Applied { outcome: Outcome::Changed, outputs: Outputs::new() })
    }

    async fn verify(cx: &StepContext, input: &Input, _applied: &Applied) -> Result<(), Failure> {
        let started = tokio::time::Instant::now();
        if read(written(cx, input).await?.as_ref()) != Some(input.endpoint()) {
            return Err(Failure::verification(format!("the secret {} does not say {}", input.secret, input.host)));
        }
        cx.checked(format!("the secret {} in {} says {}", input.secret, cx.aws.region(), input.host), started.elapsed());
        Ok(())
    }

    async fn undo(_cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        Ok(vec![format!("secret {} stays", input.secret)])
    }
}
