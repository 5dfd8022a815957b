//! The token webhook: a `k8s-aws-v1.` token is a pre-signed GetCallerIdentity; STS says whose it is, the access entries as whom he comes in.
use std::{sync::Arc, time::Duration};

use axum::extract::State as Shared;
use base64::Engine;
use serde_json::{Value, json};

use super::{Eks, access};
use crate::{
    door::emulator::element,
    layout::{DR_REGION, REGION},
    region,
};

const PREFIX: &str = "k8s-aws-v1.";
const LIFE: i64 = 15 * 60;
/// The parameters that a pre-signed GetCallerIdentity has; with any other the URL would be something else.
const PARAMETERS: [&str; 10] = [
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-user-agent",
];

/// Answers a TokenReview; whoever is not recognised is not authenticated, and the reason is in the log only.
pub async fn review(Shared(eks): Shared<Arc<Eks>>, axum::Json(review): axum::Json<Value>) -> axum::Json<Value> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    let status = match eks.authenticate(token).await {
        Ok((arn, admitted)) => json!({
            "authenticated": true,
            "user": {
                "username": admitted.username,
                "uid": format!("aws-iam-authenticator:{arn}"),
                "groups": admitted.groups,
                "extra": { "arn": [arn] },
            },
        }),
        Err(reason) => {
            tracing::info!(reason, "a token was refused");
            json!({ "authenticated": false, "error": reason })
        }
    };
    axum::Json(json!({ "apiVersion": review["apiVersion"], "kind": "TokenReview", "status": status }))
}

/// The URL that a token holds, once it is known to be a fresh GetCallerIdentity at STS.
pub fn presigned(token: &str, hosts: &[String], now: jiff::Timestamp) -> Result<url::Url, String> {
    let encoded = token.strip_prefix(PREFIX).ok_or("not an EKS token")?;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).map_err(|_| "not base64")?;
    let url = url::Url::parse(std::str::from_utf8(&text).map_err(|_| "not text")?).map_err(|_| "not a URL")?;
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        _ => return Err("no host".to_owned()),
    };
    if !hosts.contains(&host) || !matches!(url.path(), "/" | "") || !url.username().is_empty() {
        return Err(format!("{host} is not STS"));
    }
    let value = |wanted: &str| {
        let mut found = url.query_pairs().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.into_owned());
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(format!("{wanted} must be there once")),
        }
    };
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| !PARAMETERS.contains(&name.to_ascii_lowercase().as_str())) {
        return Err(format!("{name} has no place in a token"));
    }
    if value("Action")? != "GetCallerIdentity" {
        return Err("not GetCallerIdentity".to_owned());
    }
    if !value("X-Amz-SignedHeaders")?.split(';').any(|name| name == "x-k8s-aws-id") {
        return Err("the cluster's name is not signed".to_owned());
    }
    let expires: i64 = value("X-Amz-Expires")?.parse().map_err(|_| "X-Amz-Expires is not a number")?;
    if !(0..=LIFE).contains(&expires) {
        return Err("a token lives 15 minutes at most".to_owned());
    }
    let signed = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", value("X-Amz-Date")?)
        .and_then(|parsed| parsed.to_datetime())
        .map_err(|_| "X-Amz-Date is not a time")?;
    let signed = signed.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| "X-Amz-Date is not a time")?.timestamp();
    let age = now.as_second() - signed.as_second();
    if !(-LIFE..=LIFE).contains(&age) {
        return Err(format!("the token was signed {age} s ago"));
    }
    Ok(url)
}

impl Eks {
    async fn authenticate(&self, token: &str) -> Result<(String, access::Admitted), String> {
        let (cluster, own) = self.store.read(|state| {
            let cluster = state.cluster.as_ref().and_then(|cluster| cluster["name"].as_str()).unwrap_or_default();
            (cluster.to_owned(), state.region.clone())
        });
        if cluster.is_empty() {
            return Err("there is no cluster".to_owned());
        }
        let mut hosts =
            vec![format!("{}:4566", self.layout.door_address()), "sts.amazonaws.com".to_owned(), format!("sts.{own}.amazonaws.com")];
        // Whom the cluster is lent to signs for its own region.
        let lent = [REGION, DR_REGION].into_iter().filter(|region| region::is_lent(&self.layout.state, region));
        hosts.extend(lent.map(|region| format!("sts.{region}.amazonaws.com")));
        let url = presigned(token, &hosts, jiff::Timestamp::now())?;
        let arn = self.who_signed(&url, &cluster).await?;
        let admitted = self.store.read(|state| access::admit(state, &arn)).ok_or_else(|| format!("{arn} has no access entry"))?;
        Ok((arn, admitted))
    }

    /// Lets STS check the signature, with the cluster's name as the signed header: a token for another cluster does not fit.
    async fn who_signed(&self, url: &url::Url, cluster: &str) -> Result<String, String> {
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let target = format!("http://{}/?{}", self.root.emulator(), url.query().unwrap_or_default());
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().map_err(|error| error.to_string())?;
        let answer =
            client.get(target).header("host", host).header("x-k8s-aws-id", cluster).send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("STS answered {status}: {}", element(&text, "Code").unwrap_or("no reason")));
        }
        element(&text, "Arn").map(str::to_owned).ok_or_else(|| "STS answered without an ARN".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-22T21:00:00Z";

    fn token(url: &str) -> String {
        format!("{PREFIX}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(url))
    }

    fn good() -> String {
        "https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20261122%2Fus-east-1%2Fsts%2Faws4_request&X-Amz-Date=20261122T205500Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature=00".to_owned()
    }

    fn judge(url: &str) -> Result<url::Url, String> {
        presigned(&token(url), &["sts.us-east-1.amazonaws.com".to_owned()], NOW.parse().unwrap())
    }

    #[test]
    fn a_fresh_get_caller_identity_is_a_token() {
        judge(&good()).unwrap();
    }

    #[test]
    fn anything_else_is_not() {
        let changed = [
            good().replace("sts.us-east-1.amazonaws.com", "evil.example"),
            good().replace("GetCallerIdentity", "GetSessionToken"),
            good().replace("%3Bx-k8s-aws-id", ""),
            good().replace("Expires=60", "Expires=3600"),
            good().replace("20261122T205500Z", "20261122T201000Z"),
            format!("{}&Action=AssumeRole", good()),
            format!("{}&RoleArn=x", good()),
            good().replace("/?", "/other?"),
        ];
        for url in changed {
            assert!(judge(&url).is_err(), "{url}");
        }
    }
}
