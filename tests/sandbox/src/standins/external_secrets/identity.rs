//! The identity of a store: that of its service account, by a token exchanged at STS, or the controller's own; then a further role, if it names one.
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use aws_sdk_sts::{
    config::{BehaviorVersion, Credentials, Region},
    types,
};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};

use super::{
    controller,
    resources::{AccountRef, StoreSpec},
};

/// Sessions are used until this long before they end.
const EARLY: Duration = Duration::from_secs(300);
/// As the real one calls its sessions.
const SESSION: &str = "external-secrets-provider-aws";

/// Whose session it is.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Holder {
    /// The controller's.
    Controller,
    /// A service account's: region, namespace, name, role.
    Account(String, String, String, String),
    /// Of a further role, from one of these: region, role.
    Further(Box<Holder>, String, String),
}

/// Sessions, by whose they are.
pub struct Sessions {
    endpoint: String,
    held: HashMap<Holder, Credentials>,
}

impl Sessions {
    pub fn new(endpoint: String) -> Self {
        Self { endpoint, held: HashMap::new() }
    }

    /// A session for a store, from memory if it is good for a while.
    pub async fn session(&mut self, client: &Client, store: &StoreSpec, namespace: &str) -> Result<Credentials> {
        let aws = store.provider.aws.as_ref().context("the store's provider is not aws, the only one of this stand-in")?;
        let account = aws.auth.as_ref().and_then(|auth| auth.jwt.as_ref()?.service_account_ref.as_ref());
        let (holder, first) = match account {
            Some(account) => self.of_account(client, &aws.region, account, namespace).await?,
            None => (Holder::Controller, self.of_controller(client).await?),
        };
        let Some(role) = &aws.role else { return Ok(first) };
        let further = Holder::Further(Box::new(holder), aws.region.clone(), role.clone());
        if let Some(held) = self.good(&further) {
            return Ok(held);
        }
        let session = self.further(&aws.region, role, first).await.with_context(|| format!("assuming {role}"))?;
        self.held.insert(further, session.clone());
        Ok(session)
    }

    fn good(&self, holder: &Holder) -> Option<Credentials> {
        self.held.get(holder).filter(|held| held.expiry().is_some_and(|end| end > SystemTime::now() + EARLY)).cloned()
    }

    async fn of_controller(&mut self, client: &Client) -> Result<Credentials> {
        if let Some(held) = self.good(&Holder::Controller) {
            return Ok(held);
        }
        let session = controller::session(client).await.context("the store has no auth, and the controller no identity of its own")?;
        self.held.insert(Holder::Controller, session.clone());
        Ok(session)
    }

    async fn of_account(&mut self, client: &Client, region: &str, account: &AccountRef, namespace: &str) -> Result<(Holder, Credentials)> {
        let namespace = account.namespace.as_deref().unwrap_or(namespace);
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let found = accounts.get(&account.name).await.with_context(|| format!("the service account {namespace}/{}", account.name))?;
        let role = found.metadata.annotations.as_ref().and_then(|all| all.get("eks.amazonaws.com/role-arn")).cloned();
        let role =
            role.with_context(|| format!("an IAM role must be associated with service account {} (namespace: {namespace})", account.name))?;
        let holder = Holder::Account(region.to_owned(), namespace.to_owned(), account.name.clone(), role.clone());
        if let Some(held) = self.good(&holder) {
            return Ok((holder, held));
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
            self.by_token(region, &role, token).await.with_context(|| format!("assuming {role} as {namespace}/{}", account.name))?;
        self.held.insert(holder.clone(), session.clone());
        Ok((holder, session))
    }

    fn sts(&self, region: &str) -> aws_sdk_sts::config::Builder {
        aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .endpoint_url(&self.endpoint)
    }

    async fn by_token(&self, region: &str, role: &str, token: String) -> Result<Credentials> {
        let client = aws_sdk_sts::Client::from_conf(self.sts(region).allow_no_auth().build());
        let request = client.assume_role_with_web_identity().role_arn(role).role_session_name(SESSION).web_identity_token(token);
        taken(request.send().await.map_err(super::reason)?.credentials)
    }

    async fn further(&self, region: &str, role: &str, from: Credentials) -> Result<Credentials> {
        let client = aws_sdk_sts::Client::from_conf(self.sts(region).credentials_provider(from).build());
        taken(client.assume_role().role_arn(role).role_session_name(SESSION).send().await.map_err(super::reason)?.credentials)
    }
}

fn taken(made: Option<types::Credentials>) -> Result<Credentials> {
    let made = made.context("STS answered without credentials")?;
    let end = SystemTime::try_from(made.expiration).context("the session's end")?;
    Ok(Credentials::new(made.access_key_id, made.secret_access_key, Some(made.session_token), Some(end), "STS"))
}
