//! Where the checks of a service send their requests: through its load balancer wherever that lets a program pass.
use serde_json::Value;

/// The load balancer's own name; the certificate's name where it speaks HTTPS; the Service inside the cluster where the load balancer asks for
/// what only people or other programs have.
pub(super) fn at(ingress: &Value, load_balancer: &str) -> String {
    let annotation = |name: &str| ingress["metadata"]["annotations"][format!("alb.ingress.kubernetes.io/{name}")].as_str();
    let rule = &ingress["spec"]["rules"][0];
    if annotation("auth-type").is_some() || annotation("mutual-authentication").is_some() {
        let service = rule["http"]["paths"][0]["backend"]["service"]["name"].as_str().unwrap_or_default();
        let namespace = ingress["metadata"]["namespace"].as_str().unwrap_or_default();
        return format!("http://{service}.{namespace}.svc.cluster.local");
    }
    match annotation("certificate-arn") {
        Some(_) => format!("https://{}", rule["host"].as_str().unwrap_or(load_balancer)),
        None => load_balancer.to_owned(),
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
            at(&json!({ "metadata": { "namespace": "apps", "annotations": annotations }, "spec": { "rules": [rule] } }), "internal-x.elb")
        };
        assert_eq!(of(json!({})), "internal-x.elb");
        assert_eq!(of(json!({ "alb.ingress.kubernetes.io/certificate-arn": "a" })), "https://files.example.com");
        assert_eq!(of(json!({ "alb.ingress.kubernetes.io/auth-type": "oidc" })), "http://uploader.apps.svc.cluster.local");
    }
}
