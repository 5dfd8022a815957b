//! Whether a cluster's API server answers to our token, and how many of its nodes are Ready.
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::Value;

use crate::{aws::Aws, failure::Failure, ids::ClusterName};

/// What one look at a cluster gave.
pub(super) enum Look {
    /// The API server answered: Ready nodes.
    Ready(usize),
    /// It did not yet, and why.
    NotYet(String),
}

/// One look: endpoint and CA from DescribeCluster, token from STS.
pub(super) async fn look(aws: &Aws, name: &ClusterName) -> Result<Look, Failure> {
    let cluster = aws.describe_cluster(name).await?;
    if cluster.status != "ACTIVE" && cluster.status != "UPDATING" {
        return Ok(Look::NotYet(format!("the cluster is {}", cluster.status)));
    }
    let broken =
        |e: reqwest::Error| Failure::verification(format!("the certificate authority of cluster {name} cannot be used")).because(e);
    let authorities = reqwest::Certificate::from_pem_bundle(&cluster.certificate_authority_pem).map_err(broken)?;
    let client = reqwest::Client::builder()
        .tls_certs_only(authorities)
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(15))
        .build()
        .map_err(broken)?;
    let token = aws.eks_token(name).await?;
    let mut ready = 0;
    let mut page = String::new();
    loop {
        let url = format!("{}/api/v1/nodes?limit=500&continue={page}", cluster.endpoint);
        let answer = match client.get(url).bearer_auth(token.expose_secret()).send().await {
            Ok(answer) => answer,
            Err(e) => return Ok(Look::NotYet(format!("its API server does not answer: {}", innermost(&e)))),
        };
        match answer.status().as_u16() {
            200 => {}
            // A new access entry takes a few seconds to be known.
            401 | 403 | 500..=599 => return Ok(Look::NotYet(format!("its API server says {} to {}", answer.status(), aws.principal()))),
            _ => return Err(Failure::verification(format!("the API server of {name} says {}", answer.status()))),
        }
        let nodes: Value =
            answer.json().await.map_err(|e| Failure::verification(format!("the API server of {name} sent no JSON")).because(e))?;
        ready += nodes["items"].as_array().into_iter().flatten().filter(|node| is_ready(node)).count();
        match nodes["metadata"]["continue"].as_str().filter(|next| !next.is_empty()) {
            Some(next) => page = url::form_urlencoded::byte_serialize(next.as_bytes()).collect(),
            None => return Ok(Look::Ready(ready)),
        }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
