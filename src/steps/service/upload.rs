//! The check of a service that hands out pre-signed URLs: an agent uploads a marked file through its load balancer, and removes it.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::certificate::address_authorities;
use crate::{
    failure::Failure,
    ids::{BucketName, ServiceName},
    steps::{Applied, StepContext, release::AgentCommand, smoke::AUTHORITIES},
};

/// The output with the load balancer that answers for the address' name; none where the address is the load balancer's own name.
pub(super) const LOAD_BALANCER: &str = "load_balancer";

/// What the agent uploads with, and where it looks for what became of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The bucket for uploads.
    pub bucket: BucketName,
    /// The secret with a caller's bearer token; the caller should be called `smoke`, which marks what it uploads.
    pub token_secret: String,
    /// The secret with host, port and dbname: a parser that is there already may be faster than the removal.
    pub endpoint_secret: String,
    /// The secret with the username and password of the tables' owner.
    pub credentials_secret: String,
    /// The ConfigMap, in the agent's namespace, whose `ca.pem` signs the database's certificate.
    pub ca_config_map: String,
}

impl Upload {
    /// The agent's command for the address that the load balancer has given.
    pub(super) fn command(&self, cx: &StepContext, service: &ServiceName, applied: &Applied) -> Result<AgentCommand, Failure> {
        let output = |name: &str| applied.outputs.get(name).and_then(|value| value.as_str());
        let address = output("address").ok_or_else(|| Failure::verification("no load balancer has given the service an address"))?;
        let mut pairs = vec![
            ("account", cx.environment.aws.account_id.as_str()),
            ("region", cx.environment.aws.region.as_str()),
            ("endpoint-secret", &self.endpoint_secret),
            ("credentials-secret", &self.credentials_secret),
            ("address", address),
            ("token-secret", &self.token_secret),
            ("bucket", self.bucket.as_str()),
        ];
        pairs.extend(output(LOAD_BALANCER).map(|name| ("load-balancer", name)));
        let mut args = vec!["upload".to_owned()];
        args.extend(pairs.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]));
        args.extend(["--authorities".to_owned(), format!("{AUTHORITIES}/ca.pem")]);
        Ok(AgentCommand {
            name: "upload".into(),
            args,
            observe_args: Vec::new(),
            files: address_authorities(cx.environment.services.get(service).and_then(|settings| settings.ingress.authorities.as_ref())),
            config_maps: BTreeMap::from([(AUTHORITIES.to_owned(), self.ca_config_map.clone())]),
            secrets: BTreeMap::new(),
            deadline_seconds: 300,
            shows: Vec::new(),
        })
    }
}
