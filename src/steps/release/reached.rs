//! Where the checks of a service send their requests: through its load balancer wherever that lets a program pass.
use serde_json::Value;

/// Where a service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The load balancer's own name; the name that it has a rule or a certificate for; the Service inside the cluster where the load balancer asks for
    /// what only people or other programs have.
    pub address: String,
    /// Who answers for that name: DNS may not know it yet, for nobody could point it to a load balancer that was not there.
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
            // Its rule is for that name only.
            (None, Some(host)) => Self { address: format!("http://{host}"), load_balancer: Some(load_balancer.to_owned()) },
            (None, None) => Self { address: load_balancer.to_owned(), load_balancer: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn through_the_load_balancer_where_it_lets_a_program_pass() {
        let of = |annotations: Value, host: Value| {
            let backend = json!({ "service": { "name": "uploader" } });
            let rule = json!({ "host": host, "http": { "paths": [{ "backend": backend }] } });
            Reached::at(
                &json!({ "metadata": { "namespace": "apps", "annotations": annotations }, "spec": { "rules": [rule] } }),
                "internal-x.elb",
            )
        };
        let plain = |address: &str| Reached { address: address.to_owned(), load_balancer: None };
        let named = || json!("files.example.com");
        assert_eq!(of(json!({}), Value::Null), plain("internal-x.elb"));
        let at_its_name = |address: &str| Reached { load_balancer: Some("internal-x.elb".into()), ..plain(address) };
        assert_eq!(of(json!({}), named()), at_its_name("http://files.example.com"));
        let certificate = || json!({ "alb.ingress.kubernetes.io/certificate-arn": "a" });
        assert_eq!(of(certificate(), named()), at_its_name("https://files.example.com"));
        assert_eq!(of(certificate(), Value::Null), plain("https://internal-x.elb"));
        assert_eq!(of(json!({ "alb.ingress.kubernetes.io/auth-type": "oidc" }), named()), plain("http://uploader.apps.svc.cluster.local"));
    }
}
