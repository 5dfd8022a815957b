//! What may face the internet: a load balancer with a certificate, a TLS policy and authentication, and no other. Pure.
use serde_json::Value;

use super::Object;
use crate::failure::{Failure, FailureKind};

/// The annotation by which a template says that the service itself asks every caller who he is.
const BY_SERVICE: &str = "deployctl/authenticated-by";

/// Refuses objects that would open a way from the internet to a pod, and names everything that each lacks.
pub fn refuse(objects: &[Object]) -> Result<(), Failure> {
    let mut evidence = Vec::new();
    for object in objects {
        let (lacks, what) = match object.key.kind.as_str() {
            "Ingress" => (ingress(&object.value), "faces the internet"),
            "Service" => (service(&object.value), "would be given a load balancer"),
            _ => continue,
        };
        let at = format!("{}:{}: {} {} {what}", object.file.display(), object.line, object.key.kind, object.key);
        evidence.extend(lacks.into_iter().map(|lack| format!("{at}: {lack}")));
    }
    if evidence.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(FailureKind::Policy, "a service would face the internet without what that needs")
        .next("say it under services.NAME.ingress in the environment file, or leave `scheme` internal");
    failure.evidence = evidence;
    Err(failure)
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str().filter(|text| !text.is_empty())
}

fn ingress(value: &Value) -> Vec<&'static str> {
    let alb = |name: &str| annotation(value, &format!("alb.ingress.kubernetes.io/{name}"));
    if alb("scheme").is_none_or(|scheme| scheme == "internal") {
        return Vec::new();
    }
    let ports: Vec<Value> = alb("listen-ports").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let plain = ports.is_empty() || ports.iter().any(|port| port.get("HTTP").is_some());
    let authenticated = alb("auth-type").is_some_and(|by| by == "oidc" || by == "cognito")
        || alb("mutual-authentication").is_some_and(|text| text.contains("\"verify\""))
        || annotation(value, BY_SERVICE) == Some("service");
    let demands = [
        (alb("certificate-arn").is_some(), "no certificate (certificate_arn)"),
        (alb("ssl-policy").is_some(), "no TLS policy (tls_policy)"),
        (authenticated, "no authentication (authentication)"),
        (!plain || alb("ssl-redirect").is_some(), "it answers plain HTTP (annotation listen-ports)"),
        (alb("target-type") == Some("ip"), "its targets are nodes and not pods (annotation target-type)"),
    ];
    demands.into_iter().filter(|(holds, _)| !holds).map(|(_, lack)| lack).collect()
}

fn service(value: &Value) -> Vec<&'static str> {
    let is_internal = annotation(value, "service.beta.kubernetes.io/aws-load-balancer-scheme") == Some("internal");
    if value["spec"]["type"] == "LoadBalancer" && !is_internal { vec!["give it an Ingress, or the scheme `internal`"] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    fn object(kind: &str, annotations: &Value, spec: &Value) -> Object {
        let value = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "a", "namespace": "apps", "annotations": annotations }, "spec": spec });
        Object::new(value, "a.yaml".into(), 3).unwrap()
    }

    fn lacks(annotations: &Value) -> Vec<String> {
        refuse(&[object("Ingress", annotations, &json!({}))]).map_or_else(|failure| failure.evidence, |()| Vec::new())
    }

    #[test]
    fn an_ingress_that_faces_the_internet_needs_all_of_it() {
        let good = json!({
            "alb.ingress.kubernetes.io/scheme": "internet-facing", "alb.ingress.kubernetes.io/target-type": "ip",
            "alb.ingress.kubernetes.io/listen-ports": "[{\"HTTPS\": 443}]", "alb.ingress.kubernetes.io/certificate-arn": "arn",
            "alb.ingress.kubernetes.io/ssl-policy": "p", "deployctl/authenticated-by": "service",
        });
        assert_eq!(lacks(&good), Vec::<String>::new());
        assert_eq!(lacks(&json!({})), Vec::<String>::new(), "internal, which the controller takes when nothing is said");
        for name in good.as_object().unwrap().keys().filter(|name| !name.ends_with("/scheme")) {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(name);
            assert_eq!(lacks(&bad).len(), 1, "without {name}");
        }
        let mut plain = good.clone();
        plain["alb.ingress.kubernetes.io/listen-ports"] = json!("[{\"HTTP\": 80}, {\"HTTPS\": 443}]");
        assert!(lacks(&plain)[0].starts_with("a.yaml:3: Ingress apps/a faces the internet: it answers plain HTTP"), "{:?}", lacks(&plain));
        for (name, value) in [("auth-type", "oidc"), ("mutual-authentication", "[{\"port\": 443, \"mode\": \"verify\"}]")] {
            let mut other = good.clone();
            other.as_object_mut().unwrap().remove("deployctl/authenticated-by");
            other[format!("alb.ingress.kubernetes.io/{name}")] = json!(value);
            assert_eq!(lacks(&other), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn a_service_gets_no_load_balancer_that_faces_the_internet() {
        let of = |annotations: Value| refuse(&[object("Service", &annotations, &json!({ "type": "LoadBalancer" }))]);
        assert_eq!(of(json!({})).unwrap_err().kind, FailureKind::Policy);
        of(json!({ "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal" })).unwrap();
    }
}
