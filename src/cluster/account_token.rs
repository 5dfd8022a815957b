//! Tokens of service accounts, as the kubelet asks for them on a pod's behalf.
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams, core::ObjectMeta};
use secrecy::SecretString;

use super::Cluster;
use crate::{failure::Failure, redact};

/// The API server's shortest lifetime.
const SECONDS: i64 = 600;

impl Cluster {
    /// A token of this service account for this audience, good for ten minutes.
    pub async fn account_token(&self, namespace: &str, account: &str, audience: &str) -> Result<SecretString, Failure> {
        self.token(namespace, account, audience, None).await
    }

    /// The same, bound to an object: it ends with it, and says whose it is.
    pub(super) async fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: &str,
        bound_object_ref: Option<BoundObjectReference>,
    ) -> Result<SecretString, Failure> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let spec = TokenRequestSpec { audiences: vec![audience.to_owned()], expiration_seconds: Some(SECONDS), bound_object_ref };
        let request = TokenRequest { metadata: ObjectMeta::default(), spec, status: None };
        let what = format!("asking for a token of {namespace}/{account}");
        let params = PostParams::default();
        let answer = self.answered(&what, accounts.create_token_request(account, &params, &request)).await?;
        let answer = answer.map_err(|e| self.failed(what, e))?;
        match answer.status {
            Some(status) => Ok(redact::secret(status.token)),
            None => Err(Failure::step(format!("the API server gave no token for {namespace}/{account}"))),
        }
    }
}
