//! The only users of aws_sdk_*: one identity, checked against the environment's account, and clients made when first asked for.
use std::{
    ffi::OsString,
    sync::{Arc, OnceLock},
};

use aws_config::{AppName, BehaviorVersion, SdkConfig, sts::AssumeRoleProvider};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};

use crate::{
    failure::{Failure, FailureKind},
    ids::{AccountId, Region, RoleArn, RunId},
    permit::Permit,
};

mod error;
mod gate;

pub mod bucket;
mod bucket_contents;
pub mod certificates;
pub mod dynamodb;
pub mod ec2;
pub mod ecr;
pub mod eks;
pub mod eks_auth;
mod element;
pub mod iam;
mod kms;
pub mod object_version;
mod offers;
mod patience;
pub mod quotas;
pub mod rds;
pub mod rds_in_place;
pub mod rds_snapshots;
pub mod recovery;
pub mod s3;
mod secret_value;
pub mod secrets;
mod signed;
pub mod sqs;
pub mod sts;

pub use element::Element;

/// AWS as one identity in one account and region. Clients are made when first asked for.
pub struct Aws {
    region: Region,
    account: AccountId,
    principal: String,
    config: SdkConfig,
    permit: Arc<Permit>,
    clients: Clients,
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aws")
            .field("region", &self.region)
            .field("account", &self.account)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// One cell a service; a client costs a connection pool and a few milliseconds, so none is made in vain.
#[derive(Default)]
struct Clients {
    dynamodb: OnceLock<aws_sdk_dynamodb::Client>,
    ecr: OnceLock<aws_sdk_ecr::Client>,
    eks: OnceLock<aws_sdk_eks::Client>,
    iam: OnceLock<aws_sdk_iam::Client>,
    rds: OnceLock<aws_sdk_rds::Client>,
    s3: OnceLock<aws_sdk_s3::Client>,
    secrets: OnceLock<aws_sdk_secretsmanager::Client>,
    sqs: OnceLock<aws_sdk_sqs::Client>,
    ssm: OnceLock<aws_sdk_ssm::Client>,
}

macro_rules! clients {
    ($($name:ident: $sdk:ident),* $(,)?) => {$(
        fn $name(&self) -> &$sdk::Client {
            self.clients.$name.get_or_init(|| {
                let gate = gate::Gate(self.permit.clone());
                let config = $sdk::config::Builder::from(&self.config).interceptor(gate).retry_classifier(patience::RetryAfter);
                $sdk::Client::from_conf(config.build())
            })
        }
    )*};
}

impl Aws {
    /// Takes the caller's credentials, assumes `role` if there is one, and refuses any account but `account`.
    pub async fn connect(region: &Region, role: Option<&RoleArn>, account: &AccountId) -> Result<Self, Failure> {
        Self::connect_as(region, role, account, "deployctl").await
    }

    /// As [`Aws::connect`], with the run in the session's name so that CloudTrail tells runs apart.
    pub async fn connect_for_run(region: &Region, role: Option<&RoleArn>, account: &AccountId, run: &RunId) -> Result<Self, Failure> {
        Self::connect_as(region, role, account, &format!("deployctl-{run}")).await
    }

    async fn connect_as(region: &Region, role: Option<&RoleArn>, account: &AccountId, session: &str) -> Result<Self, Failure> {
        if let Some(role) = role.filter(|role| role.as_str().split(':').nth(4) != Some(account.as_str())) {
            return Err(Failure::usage(format!("aws.deployer_role_arn {role} is not in aws.account_id {account}"))
                .next("correct aws.deployer_role_arn or aws.account_id in the environment file"));
        }
        let config = base_config(region).await;
        let caller = sts::caller_identity(&config).await?;
        // A caller that already is the role (CI's OIDC login) must not assume it again: chaining cuts sessions to an hour.
        let config = match role {
            Some(role) if !sts::is_session_of(&caller.arn, role) => assume(&config, region, role, session).await,
            _ => return Self::checked(config, region, account, caller),
        };
        let assumed = sts::caller_identity(&config).await.map_err(|failure| {
            if failure.kind == FailureKind::Credentials && caller.account != account.as_str() {
                wrong_account(account, &caller).because(failure)
            } else {
                failure.next(format!("let {} assume the role: its trust policy must name this principal", caller.arn))
            }
        })?;
        Self::checked(config, region, account, assumed)
    }

    fn checked(config: SdkConfig, region: &Region, account: &AccountId, caller: sts::Caller) -> Result<Self, Failure> {
        if caller.account != account.as_str() {
            return Err(wrong_account(account, &caller));
        }
        let (region, account) = (region.clone(), account.clone());
        Ok(Self { region, account, principal: caller.arn, config, permit: Permit::unleased(), clients: Clients::default() })
    }

    /// An identity that was never checked and reaches nothing, having neither credentials nor an endpoint: for tests of the engine.
    pub fn unconnected(environment: &crate::plan::environment::Environment) -> Self {
        Self {
            region: environment.aws.region.clone(),
            account: environment.aws.account_id.clone(),
            principal: "nobody".to_owned(),
            config: SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(aws_config::Region::new(environment.aws.region.to_string()))
                .build(),
            permit: Permit::unleased(),
            clients: Clients::default(),
        }
    }

    /// As [`Aws::unconnected`], but reaching one endpoint, which must believe anybody: for tests against an API of their own.
    pub fn reaching(endpoint: &str, region: &Region, account: &AccountId) -> Self {
        let nobody = aws_credential_types::Credentials::new("nobody", "nobody", None, None, "test");
        Self {
            region: region.clone(),
            account: account.clone(),
            principal: "nobody".to_owned(),
            config: SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(aws_config::Region::new(region.to_string()))
                .endpoint_url(endpoint)
                .credentials_provider(SharedCredentialsProvider::new(nobody))
                .build(),
            permit: Permit::unleased(),
            clients: Clients::default(),
        }
    }

    /// The same identity in another region.
    #[must_use]
    pub fn in_region(&self, region: &Region) -> Self {
        Self {
            region: region.clone(),
            account: self.account.clone(),
            principal: self.principal.clone(),
            config: self.config.to_builder().region(aws_config::Region::new(region.to_string())).build(),
            permit: self.permit.clone(),
            clients: Clients::default(),
        }
    }

    /// The same identity, whose changing calls are made with this permit's leave.
    #[must_use]
    pub fn with_permit(&self, permit: Arc<Permit>) -> Self {
        Self { permit, ..self.in_region(&self.region) }
    }

    /// As [`Aws::in_region`], shared.
    #[must_use]
    pub fn shared_in_region(&self, region: &Region) -> Arc<Self> {
        Arc::new(self.in_region(region))
    }

    /// The leave that its changing calls need.
    pub fn permit(&self) -> &Arc<Permit> {
        &self.permit
    }
    /// Its region.
    pub fn region(&self) -> &Region {
        &self.region
    }
    /// Its account.
    pub fn account(&self) -> &AccountId {
        &self.account
    }
    /// The ARN that AWS knows this identity by.
    pub fn principal(&self) -> &str {
        &self.principal
    }
    /// The one endpoint of AWS_ENDPOINT_URL, when all of AWS is behind it.
    pub fn endpoint_url(&self) -> Option<&str> {
        self.config.endpoint_url()
    }
    /// The endpoint of one service: its own variable (AWS_ENDPOINT_URL_ECR), else the common one.
    pub fn endpoint_url_of(&self, service: &str) -> Option<String> {
        let variable = format!("AWS_ENDPOINT_URL_{}", service.to_uppercase().replace([' ', '-'], "_"));
        std::env::var(variable).ok().filter(|url| !url.is_empty()).or_else(|| self.endpoint_url().map(str::to_owned))
    }

    /// Variables that make a child process this identity. For that child's environment only: they are secrets.
    pub async fn credentials_env(&self) -> Result<Vec<(OsString, OsString)>, Failure> {
        let provider = self.config.credentials_provider().ok_or_else(error::no_credentials)?;
        // Asked of the provider itself, past the cache: a child cannot refresh them, so they must be fresh.
        let credentials = provider.provide_credentials().await.map_err(|e| error::no_credentials().because(e))?;
        crate::redact::register(credentials.secret_access_key());
        credentials.session_token().into_iter().for_each(crate::redact::register);
        let mut env: Vec<(OsString, OsString)> = vec![
            ("AWS_ACCESS_KEY_ID".into(), credentials.access_key_id().into()),
            ("AWS_SECRET_ACCESS_KEY".into(), credentials.secret_access_key().into()),
            ("AWS_REGION".into(), self.region.as_str().into()),
            ("AWS_DEFAULT_REGION".into(), self.region.as_str().into()),
        ];
        if let Some(token) = credentials.session_token() {
            env.push(("AWS_SESSION_TOKEN".into(), token.into()));
        }
        if let Some(url) = self.endpoint_url() {
            env.push(("AWS_ENDPOINT_URL".into(), url.into()));
        }
        Ok(env)
    }

    clients! {
        dynamodb: aws_sdk_dynamodb, ecr: aws_sdk_ecr, eks: aws_sdk_eks, iam: aws_sdk_iam, rds: aws_sdk_rds,
        secrets: aws_sdk_secretsmanager, sqs: aws_sdk_sqs, ssm: aws_sdk_ssm,
    }

    fn s3(&self) -> &aws_sdk_s3::Client {
        self.clients.s3.get_or_init(|| {
            // One host for all buckets when an endpoint is given: BUCKET.198.18.0.1 is no name that anybody could resolve.
            let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(self.endpoint_url_of("s3").is_some());
            let config = config.interceptor(gate::Gate(self.permit.clone())).retry_classifier(patience::RetryAfter);
            aws_sdk_s3::Client::from_conf(config.build())
        })
    }
}

async fn base_config(region: &Region) -> SdkConfig {
    let region = aws_config::Region::new(region.to_string());
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region).timeout_config(patience::timeouts());
    // AWS_SDK_UA_APP_ID wins over our own name.
    if std::env::var_os("AWS_SDK_UA_APP_ID").is_none()
        && let Ok(name) = AppName::new("deployctl")
    {
        loader = loader.app_name(name);
    }
    if std::env::var_os("AWS_MAX_ATTEMPTS").is_none() && std::env::var_os("AWS_RETRY_MODE").is_none() {
        loader = loader.retry_config(patience::retries());
    }
    loader.load().await
}

async fn assume(config: &SdkConfig, region: &Region, role: &RoleArn, session: &str) -> SdkConfig {
    let provider = AssumeRoleProvider::builder(role.as_str())
        .session_name(session.chars().take(64).collect::<String>())
        .region(aws_config::Region::new(region.to_string()))
        .configure(config)
        .build()
        .await;
    config.to_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}

fn wrong_account(account: &AccountId, caller: &sts::Caller) -> Failure {
    Failure::new(
        FailureKind::Credentials,
        format!("the credentials belong to account {} ({}), the environment to account {account}", caller.account, caller.arn),
    )
    .next(format!("use credentials of account {account}: set AWS_PROFILE, or log in there"))
    .next("or name another environment with -e")
}
