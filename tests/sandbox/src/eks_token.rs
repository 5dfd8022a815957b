//! `eks-token`: a token for the cluster's API server, as EKS defines it: a pre-signed request to STS that says who asks.
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use crate::{claim, cli::EksTokenArgs, environment::PersonKey, report};

/// The signature holds for a minute, but EKS takes the token for fifteen; clients get a new one after fourteen.
const KEPT: Duration = Duration::from_secs(14 * 60);

/// Prints it in the form that kubectl reads.
pub fn print(name: &str, args: &EksTokenArgs) -> Result<()> {
    let layout = claim::existing(name)?;
    let set = |variable| std::env::var(variable).ok().filter(|value: &String| !value.is_empty());
    let credentials = match (set("AWS_ACCESS_KEY_ID"), set("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => Credentials::new(id, secret, set("AWS_SESSION_TOKEN"), None, "environment"),
        _ => {
            let key = PersonKey::read(&layout)?;
            Credentials::new(key.access_key_id, key.secret_access_key, None, None, "sandbox")
        }
    };
    let token = token(&layout.endpoint_url(), &args.region, &args.cluster_name, credentials)?;
    let expires = jiff::Timestamp::try_from(SystemTime::now() + KEPT)?;
    let answer = json!({
        "kind": "ExecCredential",
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "spec": {},
        "status": { "expirationTimestamp": format!("{expires:.0}"), "token": token },
    });
    report::data(&answer.to_string())?;
    Ok(())
}

fn token(endpoint: &str, region: &str, cluster: &str, credentials: Credentials) -> Result<String> {
    let url = format!("{endpoint}/?Action=GetCallerIdentity&Version=2011-06-15");
    let host = url::Url::parse(endpoint)?;
    let host = &host[url::Position::BeforeHost..url::Position::AfterPort];
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(60));
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(SystemTime::now())
        .settings(settings)
        .build()?
        .into();
    let headers = [("host", host), ("x-k8s-aws-id", cluster)];
    let signable =
        SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::Bytes(&[])).context("preparing the request to sign")?;
    let (instructions, _) = sign(signable, &params).context("signing")?.into_parts();
    let mut request = http::Request::builder().uri(&url).body(())?;
    instructions.apply_to_request_http1x(&mut request);
    Ok(format!("k8s-aws-v1.{}", BASE64_URL_SAFE_NO_PAD.encode(request.uri().to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_a_signed_question_who_asks() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
        let token = token("http://198.18.0.2:4566", "us-east-1", "deployctl-sandbox", credentials).unwrap();
        let url = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token.strip_prefix("k8s-aws-v1.").unwrap()).unwrap()).unwrap();
        assert!(url.starts_with("http://198.18.0.2:4566/?Action=GetCallerIdentity"), "{url}");
        assert!(url.contains("X-Amz-SignedHeaders=host%3Bx-k8s-aws-id"), "{url}");
        assert!(url.contains("X-Amz-Expires=60"), "{url}");
        assert!(!url.contains("secret"), "{url}");
    }
}
