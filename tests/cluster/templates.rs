//! The committed templates: rendered as the plan file renders them, valid, and accepted by a namespace that enforces `restricted`.
use std::path::{Path, PathBuf};

use deployctl::{
    cluster::Cluster,
    manifests::{CrdSchemas, Object, render},
};
use serde_json::{Value, json};

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap()
}

/// What src/steps/release/values.rs and a plan file give to templates.
pub fn values(service: &str) -> Value {
    let env: Value = serde_saphyr::from_str(&text("plans/environments/sandbox.yaml")).unwrap();
    let digest = "a".repeat(64);
    let image = |name: &str| format!("111122223333.dkr.ecr.us-east-1.amazonaws.com/deployctl-sandbox/{name}@sha256:{digest}");
    let role = |name: &str| format!("arn:aws:iam::111122223333:role/deployctl-sandbox-{name}");
    let account = |namespace: &str, name: &str| json!({"namespace": namespace, "service_account": name, "statements": []});
    json!({
        "env": env, "services": {}, "prefix": "deployctl-sandbox", "secrets_prefix": "deployctl/sandbox", "secret_service": "SecretsManager",
        "database_ca": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "namespaces": ["apps", "deployctl", "observability"], "agent_reads": ["apps"], "database_ca_namespaces": ["apps", "deployctl"],
        "service_accounts": {"apps/uploader": account("apps", "uploader"), "apps/parser": account("apps", "parser"), "deployctl/agent": account("deployctl", "agent")},
        "role_arns": {"apps/uploader": role("apps-uploader"), "apps/parser": role("apps-parser"), "deployctl/agent": role("deployctl-agent")},
        "name": service, "image": image(service), "service": {"namespace": "apps", "service_account": service},
        "settings": env["services"][service], "bucket": "deployctl-sandbox-uploads-111122223333",
        "queue_url": "https://sqs.us-east-1.amazonaws.com/111122223333/deployctl-sandbox-parser",
        "dead_letter_queue_url": "https://sqs.us-east-1.amazonaws.com/111122223333/deployctl-sandbox-parser-dlq",
        "database": {"host": "deployctl-sandbox.sandbox.us-east-1.rds.amazonaws.com", "port": 5432, "name": "deployctl"},
        "images": {"prometheus": image("prometheus"), "otel-collector": image("otel-collector"), "grafana": image("grafana"), "fluent-bit": image("fluent-bit")},
        "files": {"rules": text("templates/dashboards/rules/deployctl.yaml"), "dashboard": text("templates/dashboards/boards/deployctl.json")},
    })
}

fn folder(name: &str) -> PathBuf {
    project().join("templates").join(name)
}

fn crds() -> CrdSchemas {
    let mut crds = CrdSchemas::default();
    crds.learn(&render(&folder("platform/crds"), &json!({}), &CrdSchemas::default()).unwrap());
    crds
}

fn rendered(name: &str, service: &str) -> Vec<Object> {
    render(&folder(name), &values(service), &crds())
        .unwrap_or_else(|failure| panic!("{name}: {:?}\n{}", failure.chain(), failure.evidence.join("\n")))
}

const SETS: [(&str, &str); 9] = [
    ("platform", "uploader"),
    ("config", "uploader"),
    ("uploader", "uploader"),
    ("parser", "parser"),
    ("observability/prometheus", "uploader"),
    ("observability/otel-collector", "uploader"),
    ("observability/grafana", "uploader"),
    ("observability/fluent-bit", "uploader"),
    ("dashboards", "uploader"),
];

#[test]
fn every_template_is_valid() {
    for (name, service) in SETS {
        assert!(!rendered(name, service).is_empty());
    }
}

/// One key of the environment file decides where every store looks and what every secret is called.
#[test]
fn secrets_come_from_parameter_store_too() {
    for (name, service) in [("config", "uploader"), ("uploader", "uploader"), ("parser", "parser")] {
        let mut values = values(service);
        values["secret_service"] = json!("ParameterStore");
        values["secrets_prefix"] = json!("/deployctl/sandbox");
        let objects = render(&folder(name), &values, &crds()).unwrap();
        let of =
            |kind: &str| objects.iter().filter(|object| object.key.kind == kind).map(|object| &object.value["spec"]).collect::<Vec<_>>();
        let (stores, secrets) = (of("SecretStore"), of("ExternalSecret"));
        assert!(!stores.is_empty() && !secrets.is_empty());
        assert!(stores.iter().all(|spec| spec["provider"]["aws"]["service"] == "ParameterStore"), "{stores:?}");
        let key = |spec: &Value| {
            [&spec["dataFrom"][0]["extract"], &spec["data"][0]["remoteRef"]].iter().find_map(|r| r["key"].as_str().map(str::to_owned))
        };
        assert!(secrets.iter().all(|spec| key(spec).is_some_and(|key| key.starts_with("/deployctl/sandbox/"))), "{secrets:?}");
    }
}

#[test]
fn an_ingress_is_internal_and_no_wildcard_is_granted() {
    for (name, service) in SETS {
        for object in rendered(name, service) {
            if object.key.kind == "Ingress" {
                assert_eq!(object.value["metadata"]["annotations"]["alb.ingress.kubernetes.io/scheme"], "internal");
                assert_eq!(object.value["metadata"]["annotations"]["alb.ingress.kubernetes.io/target-type"], "ip");
            }
            let rules = object.value["rules"].as_array().cloned().unwrap_or_default();
            assert!(rules.iter().all(|rule| !rule["verbs"].to_string().contains('*')), "{} {}", object.key.kind, object.key);
        }
    }
}

#[test]
fn a_pod_outlives_its_deregistration() {
    let objects = rendered("uploader", "uploader");
    let find = |kind: &str| objects.iter().find(|o| o.key.kind == kind).unwrap();
    let pod = &find("Deployment").value["spec"]["template"]["spec"];
    let sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap();
    let annotation = &find("Ingress").value["metadata"]["annotations"]["alb.ingress.kubernetes.io/target-group-attributes"];
    let delay: i64 = annotation.as_str().unwrap().rsplit('=').next().unwrap().parse().unwrap();
    assert!(sleep > delay && pod["terminationGracePeriodSeconds"].as_i64().unwrap() > sleep);
}

/// Says of every ExternalSecret that it is ready, as its controller would: apply sends no pod before that.
async fn make_secrets_ready(client: kube::Client) {
    use kube::api::{Api, ListParams, Patch, PatchParams};
    let kind = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("external-secrets.io", "v1", "ExternalSecret"));
    let all: Api<kube::core::DynamicObject> = Api::all_with(client.clone(), &kind);
    loop {
        for secret in all.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            if secret.data.pointer("/status/conditions").is_some() {
                continue;
            }
            let namespace = secret.metadata.namespace.clone().unwrap();
            let one: Api<kube::core::DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            drop(one.patch_status(secret.metadata.name.as_deref().unwrap(), &PatchParams::default(), &Patch::Merge(&status)).await);
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Pods of the templates, created for real (nothing runs them), in namespaces as the templates make them.
pub async fn accepted_by_the_api_server(cluster: &Cluster, client: kube::Client) {
    let controller = tokio::spawn(make_secrets_ready(client));
    let crds = render(&folder("platform/crds"), &json!({}), &CrdSchemas::default()).unwrap();
    cluster.apply(&crds, |_| {}).await.unwrap();
    for (name, service) in SETS {
        let objects = rendered(name, service);
        cluster.apply(&objects, |_| {}).await.unwrap_or_else(|failure| panic!("{name}: {:?} {:?}", failure.chain(), failure.evidence));
        let mut pods = Vec::new();
        for object in objects.iter().filter(|o| matches!(o.key.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet")) {
            let template = &object.value["spec"]["template"];
            let pod = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": object.key.name, "namespace": object.key.namespace, "labels": template["metadata"]["labels"]}, "spec": template["spec"]});
            pods.push(Object::new(pod, PathBuf::from(Path::new(name)), 1).unwrap());
        }
        cluster.apply(&pods, |_| {}).await.unwrap_or_else(|failure| panic!("{name}: {:?}", failure.chain()));
        let unchanged = cluster.diff(&objects).await.unwrap();
        let changed: Vec<_> = unchanged.iter().filter(|d| d.verdict != deployctl::cluster::Verdict::Unchanged).collect();
        assert!(changed.is_empty(), "{changed:?}");
    }
    controller.abort();
}
