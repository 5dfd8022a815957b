//! Reads from a registry: manifests and blobs, by digest. A public one hands out tokens to whoever asks, which has to be done.
use std::sync::{Mutex, PoisonError};

use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{ANSWER, BLOB, Registry, SMALL};
use crate::{
    answer,
    aws::ecr::RegistryLogin,
    failure::{Failure, FailureKind},
    ids::{ImageDigest, RepositoryName},
    image::Blob,
    permit::Permit,
    redact,
    retry::{self, Missed},
};

/// As whom a registry is spoken to.
pub(super) enum Access {
    /// As the account's identity.
    Login(RegistryLogin),
    /// As nobody; the token is the one that the registry gave for reading.
    Anyone(Mutex<Option<SecretString>>),
}

impl Access {
    pub(super) fn on(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Login(login) => request.basic_auth(&login.username, Some(login.password.expose_secret())),
            Self::Anyone(token) => match &*token.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(token) => request.bearer_auth(token.expose_secret()),
                None => request,
            },
        }
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

/// Where a registry that answered 401 says that tokens are given out: `Bearer realm="…",service="…",scope="…"`.
fn token_address(challenge: &str) -> Option<Url> {
    let parts = challenge.strip_prefix("Bearer ").or_else(|| challenge.strip_prefix("bearer "))?;
    let value = |name: &str| {
        let (_, rest) = parts.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let mut url = Url::parse(value("realm")?).ok()?;
    for name in ["service", "scope"] {
        if let Some(value) = value(name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    Some(url)
}

impl Registry {
    /// A registry that everybody may read.
    pub fn public(base: &str, permit: std::sync::Arc<Permit>) -> Result<Self, Failure> {
        Self::with(base, Access::Anyone(Mutex::default()), permit)
    }

    /// One GET, and once more with a token if the registry wants everybody to have one. Its body is still to come.
    pub(super) async fn read(&self, what: &str, url: Url, accept: &str) -> Result<Response, Missed> {
        let ask = || self.send(what, self.request(Method::GET, url.clone()).header(header::ACCEPT, accept), tokio::time::sleep(ANSWER));
        let response = ask().await?;
        let Access::Anyone(kept) = &self.access else { return Ok(response) };
        let challenge = response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let Some(address) = challenge.filter(|_| response.status() == StatusCode::UNAUTHORIZED).and_then(token_address) else {
            return Ok(response);
        };
        let refused = || Failure::new(FailureKind::Credentials, format!("{what}: the registry lets nobody read it who has no login"));
        let given = self.send_small(what, self.http.get(address)).await?;
        if !given.status().is_success() {
            return Err(refused().into());
        }
        let token: Token = given.json().await.map_err(|e| refused().because(e.without_url()))?;
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(redact::secret(token.token));
        ask().await
    }

    /// The manifest that a tag or a digest leads to, named by its own bytes; none if the registry has no such thing.
    pub async fn pull_manifest(&self, repository: &RepositoryName, reference: &str) -> Result<Option<Blob>, Failure> {
        let what = format!("reading {repository} {reference}");
        let found = retry::within(&what, SMALL, || self.manifest(&what, repository, reference)).await?;
        Ok(found.map(|(manifest, _)| manifest))
    }

    /// A blob of no more than `most` bytes, if they are what its digest says; ECR sends to S3 for them.
    pub async fn pull_blob(&self, repository: &RepositoryName, digest: &ImageDigest, most: usize) -> Result<Blob, Failure> {
        let what = format!("reading blob {digest} of {repository}");
        let url = self.url(&format!("/v2/{repository}/blobs/{digest}"))?;
        let (what, url) = (&what, &url);
        let attempt = || async move {
            let response = Self::expect(what, self.read(what, url.clone(), "*/*").await?, &[StatusCode::OK]).await?;
            let blob = Blob::new(answer::body(what, response, most).await?)?;
            if blob.digest != *digest {
                return Err(Failure::new(FailureKind::Policy, format!("{what}: what came is {}", blob.digest)).into());
            }
            Ok::<Blob, Missed>(blob)
        };
        retry::within(what, BLOB, attempt).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_challenge_says_where_tokens_are_given_out() {
        let asked = token_address(r#"Bearer realm="https://example.org/token",service="example.org",scope="repository:charts/a:pull""#);
        assert_eq!(asked.unwrap().as_str(), "https://example.org/token?service=example.org&scope=repository%3Acharts%2Fa%3Apull");
        assert_eq!(token_address("Basic realm=\"x\""), None);
    }
}
