//! The committed templates: rendered as the plan file renders them, valid, and accepted by a namespace that enforces `restricted`.
use std::path::{Path, PathBuf};

use deployctl::{
    cluster::Cluster,
    manifests::{CrdSchemas, Object, exposure, render},
    plan::read::environment_from,
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
    let file = "plans/environments/sandbox.yaml";
    values_in(&text(file), service)
}

fn values_in(environment: &str, service: &str) -> Value {
    let env = environment_from(Path::new("plans/environments/sandbox.yaml"), environment).unwrap();
    let env = serde_json::to_value(env).unwrap();
    let digest = "a".repeat(64);
    let image = |name: &str| format!("111122223333.dkr.ecr.us-east-1.amazonaws.com/deployctl-sandbox/{name}@sha256:{digest}");
    let role = |name: &str| format!("arn:aws:iam::111122223333:role/deployctl-sandbox-{name}");
    let account = |namespace: &str, name: &str| json!({"namespace": namespace, "service_account": name, "statements": []});
    json!({
        "env": env, "services": {}, "credentials": "irsa", "prefix": "deployctl-sandbox", "secrets_prefix": "deployctl/sandbox", "secret_service": "SecretsManager",
        "database_ca": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "namespaces": ["apps", "deployctl", "observability"], "agent_reads": ["apps"], "database_ca_namespaces": ["apps", "deployctl"],
        "service_accounts": {"apps/uploader": account("apps", "uploader"), "apps/parser": account("apps", "parser"), "deployctl/agent": account("deployctl", "agent"),
            "observability/drill-exporter": account("observability", "drill-exporter")},
        "role_arns": {"apps/uploader": role("apps-uploader"), "apps/parser": role("apps-parser"), "deployctl/agent": role("deployctl-agent"),
            "observability/drill-exporter": role("observability-drill-exporter")},
        "role": role(&format!("apps-{service}")), "agent_role": role("deployctl-agent"),
        "name": service, "image": image(service), "service": {"namespace": "apps", "service_account": service},
        "settings": env["services"][service], "bucket": "deployctl-sandbox-uploads-111122223333",
        "queue_url": "https://sqs.us-east-1.amazonaws.com/111122223333/deployctl-sandbox-parser",
        "dead_letter_queue_url": "https://sqs.us-east-1.amazonaws.com/111122223333/deployctl-sandbox-parser-dlq",

        "images": {"prometheus": image("prometheus"), "otel-collector": image("otel-collector"), "grafana": image("grafana"), "fluent-bit": image("fluent-bit"), "deployctl": image("deployctl")},
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

const SETS: [(&str, &str); 10] = [
    ("platform", "uploader"),
    ("config", "uploader"),
    ("uploader", "uploader"),
    ("parser", "parser"),
    ("observability/prometheus", "uploader"),
    ("observability/otel-collector", "uploader"),
    ("observability/grafana", "uploader"),
    ("observability/fluent-bit", "uploader"),
    ("observability/drill-exporter", "uploader"),
    ("dashboards", "uploader"),
];

/// The key `credentials` of a plan file, and what templates make of it.
#[test]
fn pod_identity_changes_what_it_must_and_no_more() {
    let with = |name: &str, service: &str, credentials: &str| {
        let mut values = values(service);
        values["credentials"] = credentials.into();
        let objects = render(&folder(name), &values, &crds());
        objects.unwrap_or_else(|failure| panic!("{name}: {:?}\n{}", failure.chain(), failure.evidence.join("\n")))
    };
    for (name, service) in SETS {
        let (irsa, pods) = (with(name, service, "irsa"), with(name, service, "pod-identity"));
        assert_eq!(irsa.len(), pods.len(), "{name}");
        for (before, after) in irsa.iter().zip(&pods) {
            let (kind, after) = (before.key.kind.as_str(), &after.value);
            let mut expected = before.value.clone();
            match kind {
                "ServiceAccount" if expected["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].is_string() => {
                    expected["metadata"].as_object_mut().unwrap().remove("annotations");
                }
                "SecretStore" => {
                    let aws = expected["spec"]["provider"]["aws"].as_object_mut().unwrap();
                    let account = aws.remove("auth").unwrap()["jwt"]["serviceAccountRef"]["name"].as_str().unwrap().to_owned();
                    let role = after["spec"]["provider"]["aws"]["role"].as_str().unwrap();
                    assert!(role.ends_with(&format!("-{account}")), "{role} is not {account}'s");
                    aws.insert("role".to_owned(), role.into());
                }
                "Deployment" if ["uploader", "parser", "drill-exporter"].contains(&before.key.name.as_str()) => {
                    expected["spec"]["template"]["metadata"]["annotations"]["deployctl.io/credentials"] = "pod-identity".into();
                }
                "NetworkPolicy" if expected["spec"]["egress"].is_array() => {
                    let agent = json!({ "to": [{ "ipBlock": { "cidr": "169.254.170.23/32" } }], "ports": [{ "port": 80 }] });
                    assert!(after["spec"]["egress"].as_array().unwrap().contains(&agent), "{name}: pods cannot reach the agent");
                    expected["spec"]["egress"] = after["spec"]["egress"].clone();
                }
                _ => {}
            }
            assert_eq!(expected, *after, "{name}: {kind} {}", before.key.name);
        }
    }
}

/// Another strategy changes how a version comes, and nothing of what it is.
#[test]
fn every_strategy_brings_the_same_pods() {
    for (service, strategy, key) in
        [("uploader", "blue-green", "blueGreen"), ("uploader", "canary", "canary"), ("parser", "canary", "canary")]
    {
        let mut values = values(service);
        values["settings"]["strategy"] = strategy.into();
        let objects = render(&folder(service), &values, &crds()).unwrap();
        let of = |kind: &str| objects.iter().filter(|object| object.key.kind == kind).collect::<Vec<_>>();
        let [rollout] = of("Rollout")[..] else { panic!("{service} {strategy}: no Rollout") };
        let rolling = rendered(service, service);
        let deployment = rolling.iter().find(|object| object.key.kind == "Deployment").unwrap();
        assert!(of("Deployment").is_empty(), "both would run");
        for same in ["template", "selector", "progressDeadlineSeconds"] {
            assert_eq!(rollout.value["spec"][same], deployment.value["spec"][same], "{service} {strategy}: {same}");
        }
        let strategy = rollout.value["spec"]["strategy"].as_object().unwrap();
        assert_eq!(strategy.keys().collect::<Vec<_>>(), [key]);
        assert_eq!(of("HorizontalPodAutoscaler")[0].value["spec"]["scaleTargetRef"]["kind"], "Rollout");
        let (strategy, named) = (&strategy[key], |kind: &str| of(kind).iter().map(|o| o.key.name.clone()).collect::<Vec<_>>());
        let [judge] = of("AnalysisTemplate")[..] else { panic!("nobody judges") };
        let query = judge.value["spec"]["metrics"][0]["provider"]["prometheus"]["query"].as_str().unwrap();
        assert!(query.contains(&format!("job=\"{service}\"")) && query.contains(r#"pod=~".+-{{args.hash}}-.+"}[1m]"#), "{query}");
        let judged = if key == "canary" {
            let shares: Vec<_> = strategy["steps"].as_array().unwrap().iter().filter_map(|step| step["setWeight"].as_i64()).collect();
            assert_eq!(shares, [20, 50]);
            strategy["steps"].as_array().unwrap().iter().filter(|step| step["analysis"]["templates"][0]["templateName"] == service).count()
        } else {
            assert_eq!((&strategy["activeService"], &strategy["previewService"]), (&json!(service), &json!(format!("{service}-preview"))));
            assert_eq!(named("Service"), [service.to_owned(), format!("{service}-preview")]);
            usize::from(strategy["postPromotionAnalysis"]["templates"][0]["templateName"] == service)
        };
        assert!(judged > 0 && named("AnalysisTemplate") == [service], "{strategy:#}");
    }
}

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

/// In the order in which a pod leaves: out of the load balancer, then SIGTERM, then its own drain, then SIGKILL.
#[test]
fn a_pod_outlives_its_deregistration() {
    let objects = rendered("uploader", "uploader");
    let find = |kind: &str| objects.iter().find(|o| o.key.kind == kind).unwrap();
    let (deployment, ingress) = (find("Deployment"), find("Ingress"));
    let pod = &deployment.value["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap();
    let annotation = |name: &str| ingress.value["metadata"]["annotations"][format!("alb.ingress.kubernetes.io/{name}")].as_str().unwrap();
    let attributes =
        annotation("target-group-attributes").split(',').find_map(|pair| pair.strip_prefix("deregistration_delay.timeout_seconds="));
    let delay: i64 = attributes.unwrap().parse().unwrap();
    let variable = container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "UPLOADER_DRAIN_SECONDS").unwrap();
    let drain: i64 = variable["value"].as_str().unwrap().parse().unwrap();
    // services/uploader/src/main.rs: what is in flight gets 15 s more.
    let grace = pod["terminationGracePeriodSeconds"].as_i64().unwrap();
    assert!(sleep > delay, "SIGTERM comes {sleep} s after the deregistration, which takes {delay} s");
    assert!(grace > sleep + drain + 15, "SIGKILL comes after {grace} s, and the pod needs {sleep} + {drain} + 15");
    // The new pod before the old one: none goes before the next is a healthy target, which the namespace's label makes a condition.
    let rollout = &deployment.value["spec"]["strategy"]["rollingUpdate"];
    assert_eq!((&rollout["maxUnavailable"], annotation("target-type")), (&json!(0), "ip"));
    let namespaces = rendered("platform", "uploader");
    let namespace =
        namespaces.iter().find(|o| o.key.kind == "Namespace" && Some(&o.key.name) == deployment.key.namespace.as_ref()).unwrap();
    assert_eq!(namespace.value["metadata"]["labels"]["elbv2.k8s.aws/pod-readiness-gate-inject"], "enabled");
    // What the load balancer asks is what says whether the pod serves, and long before the rollout is given up.
    assert_eq!(annotation("healthcheck-path"), container["readinessProbe"]["httpGet"]["path"]);
    let seconds = |name: &str| annotation(name).parse::<i64>().unwrap();
    let healthy = seconds("healthcheck-interval-seconds") * seconds("healthy-threshold-count");
    assert!(healthy * 3 < deployment.value["spec"]["progressDeadlineSeconds"].as_i64().unwrap());
}

const FACING: &str = "arn:aws:acm:us-east-1:111122223333:certificate/0000";

/// The uploader's Ingress with these fields in the environment file.
fn facing(fields: &str) -> Object {
    let text = text("plans/environments/sandbox.yaml");
    let text = text.replacen("  uploader:\n", &format!("  uploader:\n    ingress: {{ {fields} }}\n"), 1);
    let objects = render(&folder("uploader"), &values_in(&text, "uploader"), &crds()).unwrap();
    objects.into_iter().find(|o| o.key.kind == "Ingress").unwrap()
}

#[test]
fn an_ingress_that_faces_the_internet_has_what_that_needs() {
    let pool = "arn:aws:cognito-idp:us-east-1:111122223333:userpool/us-east-1_a";
    let store = "arn:aws:elasticloadbalancing:us-east-1:111122223333:truststore/callers/0000";
    let people = "issuer: https://id.example.com, authorization_endpoint: https://id.example.com/a, token_endpoint: https://id.example.com/t, \
                  user_info_endpoint: https://id.example.com/u, secret_name: login";
    let ways = [
        ("by: service".to_owned(), "deployctl/authenticated-by", "service"),
        (format!("by: mutual-tls, trust_store_arn: {store}"), "alb.ingress.kubernetes.io/mutual-authentication", store),
        (format!("by: oidc, {people}"), "alb.ingress.kubernetes.io/auth-idp-oidc", "\"tokenEndpoint\": \"https://id.example.com/t\""),
        (format!("by: cognito, user_pool_arn: {pool}, client_id: abc, domain: files"), "alb.ingress.kubernetes.io/auth-idp-cognito", pool),
    ];
    for (authentication, annotation, holds) in ways {
        let ingress = facing(&format!(
            "scheme: internet-facing, certificate_arn: \"{FACING}\", tls_policy: ELBSecurityPolicy-TLS13-1-2-2021-06, host: files.example.com, \
             authentication: {{ {} }}",
            authentication
        ));
        exposure::refuse(std::slice::from_ref(&ingress)).unwrap_or_else(|failure| panic!("{authentication}: {:?}", failure.evidence));
        let annotations = &ingress.value["metadata"]["annotations"];
        assert_eq!(annotations["alb.ingress.kubernetes.io/scheme"], "internet-facing");
        assert_eq!(annotations["alb.ingress.kubernetes.io/listen-ports"], "[{\"HTTPS\": 443}]");
        assert_eq!(ingress.value["spec"]["rules"][0]["host"], "files.example.com");
        let said = annotations[annotation].as_str().unwrap_or_else(|| panic!("{authentication}: no {annotation}"));
        assert!(said.contains(holds), "{said}");
        if said.starts_with(['[', '{']) {
            serde_json::from_str::<Value>(said).unwrap_or_else(|error| panic!("{said}: {error}"));
        }
        for lost in ["certificate-arn", "ssl-policy"] {
            let mut bad = ingress.clone();
            bad.value["metadata"]["annotations"].as_object_mut().unwrap().remove(&format!("alb.ingress.kubernetes.io/{lost}")).unwrap();
            exposure::refuse(&[bad]).unwrap_err();
        }
    }
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
