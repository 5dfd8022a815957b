//! STS: who we are, and the token that EKS takes for it.
use std::time::{Duration, SystemTime};

use aws_config::{SdkConfig, retry::RetryConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_sdk_sts::operation::assume_role_with_web_identity::builders::AssumeRoleWithWebIdentityFluentBuilder;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use super::{
    Aws, Clients,
    error::{self, Call},
    patience,
};
use crate::{
    failure::Failure,
    ids::{ClusterName, RoleArn},
    redact, waiting,
};

/// How long EKS accepts the pre-signed request itself; the token that it stands for is good for 14 minutes.
const TOKEN_EXPIRY: Duration = Duration::from_secs(60);
/// Whom a service account's token must be meant for, to be taken by STS.
pub const WEB_IDENTITY_AUDIENCE: &str = "sts.amazonaws.com";
/// What clients may count on: EKS' 15 minutes less a minute for clocks that differ.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(14 * 60);

/// The caller, as STS knows it.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The twelve digits.
    pub account: String,
    /// User, role session or root.
    pub arn: String,
}

/// GetCallerIdentity: needs no permission, so it tells bad credentials from missing ones.
pub(super) async fn caller_identity(config: &SdkConfig) -> Result<Caller, Failure> {
    // Few attempts: this is the first call, and a wrong endpoint should be said at once.
    let quick = aws_sdk_sts::config::Builder::new()
        .retry_config(RetryConfig::standard().with_max_attempts(3).with_max_backoff(Duration::from_secs(5)))
        .retry_classifier(patience::RetryAfter);
    let _waiting = waiting::call("sts:GetCallerIdentity", patience::CALL);
    let answer = aws_sdk_sts::Client::new(config).get_caller_identity().customize().config_override(quick).send().await;
    let region = config.region().map(ToString::to_string).unwrap_or_default();
    let call = Call {
        action: "sts:GetCallerIdentity",
        on: "the caller's credentials",
        principal: "the caller",
        endpoint: config.endpoint_url(),
        region: &region,
    };
    let answer = answer.map_err(|e| error::failure(&call, e))?;
    match (answer.account, answer.arn) {
        (Some(account), Some(arn)) => Ok(Caller { account, arn }),
        _ => Err(error::no_credentials()),
    }
}

/// Whether `arn` is a session of `role`: arn:aws:sts::1:assumed-role/NAME/SESSION.
pub(super) fn is_session_of(arn: &str, role: &RoleArn) -> bool {
    let name = role.as_str().rsplit('/').next().unwrap_or_default();
    let account = role.as_str().split(':').nth(4).unwrap_or_default();
    let mut parts = arn.split(':');
    let matches_account = parts.nth(4) == Some(account);
    matches_account
        && parts.next().and_then(|rest| rest.strip_prefix("assumed-role/")).and_then(|rest| rest.split('/').next()) == Some(name)
}

impl Aws {
    /// Whether the region's endpoint answers and takes our credentials: a region that must be opted into does not.
    pub async fn answers(&self) -> Result<(), Failure> {
        caller_identity(&self.config).await.map(drop)
    }

    /// A bearer token for the cluster's API server: GetCallerIdentity, pre-signed for this cluster and one minute.
    pub async fn eks_token(&self, cluster: &ClusterName) -> Result<SecretString, Failure> {
        let provider = self.config.credentials_provider().ok_or_else(error::no_credentials)?;
        let credentials = provider.provide_credentials().await.map_err(|e| error::no_credentials().because(e))?;
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(TOKEN_EXPIRY);
        let unsignable = |e: Box<dyn std::error::Error + Send + Sync>| Failure::step("could not sign a token for EKS").because(e);
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region.as_str())
            .name("sts")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|e| unsignable(e.into()))?
            .into();
        // Always the real regional name: EKS accepts no other host, and whoever stands in for EKS knows where it leads.
        let suffix = if self.region.as_str().starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let host = format!("sts.{}.{suffix}", self.region);
        let mut url =
            url::Url::parse(&format!("https://{host}/?Action=GetCallerIdentity&Version=2011-06-15")).map_err(|e| unsignable(e.into()))?;
        let headers = [("host", host.as_str()), ("x-k8s-aws-id", cluster.as_str())];
        let request =
            SignableRequest::new("GET", url.as_str(), headers.into_iter(), SignableBody::Bytes(b"")).map_err(|e| unsignable(e.into()))?;
        let (instructions, _signature) = sign(request, &params).map_err(|e| unsignable(e.into()))?.into_parts();
        for (name, value) in instructions.params() {
            url.query_pairs_mut().append_pair(name, value);
        }
        Ok(redact::secret(format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url.as_str()))))
    }
}

/// What AWS answered to a service account's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assumed {
    /// It gives credentials; they were not kept.
    Yes,
    /// It does not, with its code.
    Refused(String),
}

impl Aws {
    /// AssumeRoleWithWebIdentity, which needs no credentials: whether the role is given to the bearer of this token.
    pub async fn assume_with_token(&self, role: &RoleArn, token: &SecretString) -> Result<Assumed, Failure> {
        match self.web_identity(role, token).send().await {
            Ok(_) => Ok(Assumed::Yes),
            Err(e) => match error::code(&e) {
                Some(code @ ("AccessDenied" | "InvalidIdentityToken")) => Ok(Assumed::Refused(code.to_owned())),
                _ => Err(self.failed("sts:AssumeRoleWithWebIdentity", role.as_str(), e)),
            },
        }
    }

    /// AWS as the role that the bearer of this token is given, to see what a pod would see. The credentials end with their hour.
    pub async fn as_bearer(&self, role: &RoleArn, token: &SecretString) -> Result<Self, Failure> {
        let answer = self.web_identity(role, token).send().await;
        let answer = answer.map_err(|e| self.failed("sts:AssumeRoleWithWebIdentity", role.as_str(), e))?;
        let given = answer.credentials.ok_or_else(|| Failure::step(format!("STS gave no credentials for {role}")))?;
        redact::register(&given.secret_access_key);
        redact::register(&given.session_token);
        let credentials =
            Credentials::new(given.access_key_id, given.secret_access_key, Some(given.session_token), None, "AssumeRoleWithWebIdentity");
        Ok(self.with_session(answer.assumed_role_user.map_or_else(|| role.to_string(), |user| user.arn), credentials))
    }

    /// The same place as somebody else, whose credentials end by themselves.
    pub(super) fn with_session(&self, principal: String, credentials: Credentials) -> Self {
        Self {
            region: self.region.clone(),
            account: self.account.clone(),
            principal,
            config: self.config.to_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build(),
            permit: self.permit.clone(),
            clients: Clients::default(),
        }
    }

    fn web_identity(&self, role: &RoleArn, token: &SecretString) -> AssumeRoleWithWebIdentityFluentBuilder {
        let asked = aws_sdk_sts::Client::new(&self.config).assume_role_with_web_identity().role_arn(role.as_str());
        asked.role_session_name("deployctl-verify").web_identity_token(token.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_of_its_role_and_no_other() {
        let role = RoleArn::parse("arn:aws:iam::111122223333:role/path/deployctl-deployer").unwrap();
        assert!(is_session_of("arn:aws:sts::111122223333:assumed-role/deployctl-deployer/x", &role));
        assert!(!is_session_of("arn:aws:sts::111122223333:assumed-role/deployctl-deployer-2/x", &role));
        assert!(!is_session_of("arn:aws:sts::999922223333:assumed-role/deployctl-deployer/x", &role));
        assert!(!is_session_of("arn:aws:iam::111122223333:user/deployctl-deployer", &role));
    }
}
