//! Where the checks of a service send their requests: through its load balancer wherever that lets a program pass.
use serde_json::Value;

/// Where a service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The load balancer's own name; the certificate's name where it speaks HTTPS; the Service inside the cluster where the load balancer asks for
    /// what only people or other programs have.
    pub address: String,
    /// Who answers for the certificate's name: DNS may not know it yet, for nobody could point it to a load balancer that was not there.
    pub load_balancer: Option<String>,
}

impl Reached {
    pub(super) fn at(ingress: &Value, load_balancer: &str) -> Self {
        let annotation = |name: &str| ingress["metadata"]["annotations"][format!("alb.ingress.kubernetes.io/{name}")].as_str();
        let rule = &ingress["spec"]["rules"][0];
        if annotation("auth-type").is_some() || annotation("mutual-authentication").is_some() {
            let service = rule["http"]["paths"][0]["backend"]["service"]["name"].as_str().unwrap_or_default();
            let namespace = ingress["metadata"]["namespace"].as_str().unwrap_or_default();
            return Self { address: format!("http://{service}.{namespace}.svc.cluster.local"), load_balancer: None };
        }
        match (annotation("certificate-arn"), rule["host"].as_str()) {
            (Some(_), Some(host)) => Self { address: format!("https://{host}"), load_balancer: Some(load_balancer.to_owned()) },
            (Some(_), None) => Self { address: format!("https://{load_balancer}"), load_balancer: None },
            (None, _) => Self { address: load_balancer.to_owned(), load_balancer: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn through_the_load_balancer_where_it_lets_a_program_pass() {
        let of = |annotations: Value| {
            let backend = json!({ "service": { "name": "uploader" } });
            let rule = json!({ "host": "files.example.com", "http": { "paths": [{ "backend": backend }] } });
            Reached::at(
                &json!({ "metadata": { "namespace": "apps", "annotations": annotations }, "spec": { "rules": [rule] } }),
                "internal-x.elb",
            )
        };
        let plain = |address: &str| Reached { address: address.to_owned(), load_balancer: None };
        assert_eq!(of(json!({})), plain("internal-x.elb"));
        let with_certificate = Reached { load_balancer: Some("internal-x.elb".into()), ..plain("https://files.example.com") };
        assert_eq!(of(json!({ "alb.ingress.kubernetes.io/certificate-arn": "a" })), with_certificate);
        assert_eq!(of(json!({ "alb.ingress.kubernetes.io/auth-type": "oidc" })), plain("http://uploader.apps.svc.cluster.local"));
    }
}
