//! The identity of a store: a token of its service account, exchanged at STS for a session of the role that the account is annotated with.
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use aws_sdk_sts::config::{BehaviorVersion, Credentials, Region};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};

use super::resources::StoreSpec;

/// Sessions are used until this long before they end.
const EARLY: Duration = Duration::from_secs(300);

/// Sessions by region, namespace, account and role.
pub struct Sessions {
    endpoint: String,
    held: HashMap<(String, String, String, String), Credentials>,
}

impl Sessions {
    pub fn new(endpoint: String) -> Self {
        Self { endpoint, held: HashMap::new() }
    }

    /// A session for a store, from memory if it is good for a while.
    pub async fn session(&mut self, client: &Client, store: &StoreSpec, namespace: &str) -> Result<Credentials> {
        let aws = store.provider.aws.as_ref().context("the store's provider is not aws, the only one of this stand-in")?;
        if aws.role.is_some() {
            anyhow::bail!("spec.provider.aws.role is not supported by this stand-in: annotate the service account");
        }
        let account = aws.auth.as_ref().and_then(|auth| auth.jwt.as_ref()?.service_account_ref.as_ref());
        let account = account.context("the store has no auth.jwt.serviceAccountRef: this stand-in has no identity of its own")?;
        let namespace = account.namespace.as_deref().unwrap_or(namespace);
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let found = accounts.get(&account.name).await.with_context(|| format!("the service account {namespace}/{}", account.name))?;
        let role = found.metadata.annotations.as_ref().and_then(|all| all.get("eks.amazonaws.com/role-arn")).cloned();
        let role =
            role.with_context(|| format!("an IAM role must be associated with service account {} (namespace: {namespace})", account.name))?;
        let key = (aws.region.clone(), namespace.to_owned(), account.name.clone(), role.clone());
        if let Some(held) = self.held.get(&key)
            && held.expiry().is_some_and(|end| end > SystemTime::now() + EARLY)
        {
            return Ok(held.clone());
        }
        let mut audiences = account.audiences.clone();
        audiences.push("sts.amazonaws.com".to_owned());
        let spec = TokenRequestSpec { audiences, expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let made = accounts
            .create_token_request(&account.name, &PostParams::default(), &request)
            .await
            .context("a token for the service account")?;
        let token = made.status.context("the API server answered without a token")?.token;
        let session =
            self.assume(&aws.region, &role, token).await.with_context(|| format!("assuming {role} as {namespace}/{}", account.name))?;
        self.held.insert(key, session.clone());
        Ok(session)
    }

    async fn assume(&self, region: &str, role: &str, token: String) -> Result<Credentials> {
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .endpoint_url(&self.endpoint)
            .allow_no_auth()
            .build();
        let request = aws_sdk_sts::Client::from_conf(config).assume_role_with_web_identity();
        let answer = request.role_arn(role).role_session_name("external-secrets-provider-aws").web_identity_token(token).send().await;
        let answer = answer.map_err(super::reason)?;
        let made = answer.credentials.context("STS answered without credentials")?;
        let end = SystemTime::try_from(made.expiration).context("the session's end")?;
        Ok(Credentials::new(made.access_key_id, made.secret_access_key, Some(made.session_token), Some(end), "web identity"))
    }
}
