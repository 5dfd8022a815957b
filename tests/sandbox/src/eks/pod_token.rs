//! The token of a pod, as EKS Auth takes it: signed by the cluster, meant for Pod Identity, good for a while yet, and bound to a pod.
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::Deserialize;

/// Whom a pod's token must be meant for.
pub const AUDIENCE: &str = "pods.eks.amazonaws.com";

/// Whose token it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Bearer {
    pub namespace: String,
    #[serde(rename = "serviceaccount")]
    pub account: Bound,
    pub pod: Option<Bound>,
}

/// An object of the cluster that a token is bound to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Bound {
    pub name: String,
    pub uid: String,
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Expired,
    /// And what is wrong with it.
    Invalid(String),
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bearer,
}

/// Checks everything that can be known without asking the cluster, as EKS Auth does; `key` (PEM) is what the cluster's tokens are signed with.
pub fn read(token: &str, issuer: &str, key: &str) -> Result<(Bearer, Bound), Refused> {
    let invalid = |what: &str| Refused::Invalid(what.to_owned());
    let key = DecodingKey::from_rsa_pem(key.as_bytes()).map_err(|error| Refused::Invalid(format!("the cluster's key: {error}")))?;
    let mut rules = Validation::new(Algorithm::RS256);
    rules.validate_nbf = true;
    rules.leeway = 5;
    rules.set_issuer(&[issuer]);
    rules.set_audience(&[AUDIENCE]);
    rules.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
    let found = jsonwebtoken::decode::<Claims>(token, &key, &rules).map_err(|error| match error.kind() {
        ErrorKind::ExpiredSignature => Refused::Expired,
        ErrorKind::InvalidAudience => invalid("its audience is not pods.eks.amazonaws.com"),
        ErrorKind::InvalidIssuer => invalid("another cluster has issued it"),
        ErrorKind::InvalidSignature => invalid("its signature is not the cluster's"),
        other => Refused::Invalid(format!("{other:?}")),
    })?;
    let bearer = found.claims.kubernetes;
    let pod = bearer.pod.clone().ok_or_else(|| invalid("it is not bound to a pod"))?;
    Ok((bearer, pod))
}
