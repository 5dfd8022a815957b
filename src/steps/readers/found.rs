//! Which workloads read a secret of Secrets Manager: through External Secrets, or by naming it to their own program. Pure.
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifests::ObjectKey;

/// A workload that reads the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Which.
    pub workload: ObjectKey,
    /// The ExternalSecret and the Secret that it makes; none if the workload asks Secrets Manager itself.
    pub through: Option<(ObjectKey, String)>,
    /// The address that its pods were started for, as far as anybody has noted it.
    pub started_for: Option<String>,
}

impl Reader {
    /// For people.
    pub fn how(&self) -> String {
        match &self.through {
            Some((_, secret)) => format!("the address through Secret {secret}"),
            None => "the address from the secret itself".to_owned(),
        }
    }
}

fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// What is looked for.
pub struct Wanted<'a> {
    /// The secret's full name.
    pub secret: &'a str,
    /// Its region: the secret of that name in another one is another secret.
    pub region: &'a str,
    /// The annotation of pods that says for which address they were started.
    pub annotation: &'a str,
}

/// Whether the store that an ExternalSecret reads from is in this region.
fn is_in(external: &Value, stores: &[Value], region: &str) -> bool {
    let text = |pointer: &str| external.pointer(pointer).and_then(Value::as_str);
    let kind = text("/spec/secretStoreRef/kind").unwrap_or("SecretStore");
    let is_it = |store: &&Value| {
        let of = |pointer: &str| store.pointer(pointer).and_then(Value::as_str);
        of("/kind") == Some(kind)
            && of("/metadata/name") == text("/spec/secretStoreRef/name")
            && (kind == "ClusterSecretStore" || of("/metadata/namespace") == text("/metadata/namespace"))
    };
    let store = stores.iter().find(is_it);
    store.and_then(|store| store.pointer("/spec/provider/aws/region")).and_then(Value::as_str) == Some(region)
}

/// The Secret that an ExternalSecret makes out of this one; none if it makes something of others.
fn made_from(external: &Value, secret: &str) -> Option<(ObjectKey, String)> {
    let keys = list(external, "/spec/data").filter_map(|data| data.pointer("/remoteRef/key"));
    let keys = keys.chain(list(external, "/spec/dataFrom").filter_map(|from| from.pointer("/extract/key")));
    let by_arn = format!(":secret:{secret}-");
    let is_it = |key: &str| key == secret || (key.starts_with("arn:") && key.contains(&by_arn));
    keys.filter_map(Value::as_str).any(is_it).then_some(())?;
    let key = ObjectKey::of(external)?;
    let target = external.pointer("/spec/target/name").and_then(Value::as_str).unwrap_or(&key.name).to_owned();
    Some((key, target))
}

/// Whether pods of this specification use a Secret of their namespace.
fn uses(pod: &Value, secret: &str) -> bool {
    let named = |value: Option<&Value>| value.and_then(Value::as_str) == Some(secret);
    let containers = || list(pod, "/containers").chain(list(pod, "/initContainers"));
    containers().flat_map(|container| list(container, "/env")).any(|env| named(env.pointer("/valueFrom/secretKeyRef/name")))
        || containers().flat_map(|container| list(container, "/envFrom")).any(|env| named(env.pointer("/secretRef/name")))
        || list(pod, "/volumes").any(|volume| {
            named(volume.pointer("/secret/secretName"))
                || list(volume, "/projected/sources").any(|source| named(source.pointer("/secret/name")))
        })
}

/// Whether pods of this specification are told the secret's name.
fn names(pod: &Value, secret: &str) -> bool {
    let containers = list(pod, "/containers").chain(list(pod, "/initContainers"));
    containers.flat_map(|container| list(container, "/env")).any(|env| env["value"].as_str() == Some(secret))
}

/// All that read it, in order.
pub fn readers(wanted: &Wanted<'_>, stores: &[Value], externals: &[Value], workloads: &[Value]) -> Vec<Reader> {
    let Wanted { secret, region, annotation } = *wanted;
    let here = externals.iter().filter(|external| is_in(external, stores, region));
    let made: Vec<(ObjectKey, String)> = here.filter_map(|external| made_from(external, secret)).collect();
    let reader = |workload: &Value| {
        let key = ObjectKey::of(workload)?;
        let pod = workload.pointer("/spec/template/spec")?;
        let through = made.iter().find(|(external, target)| external.namespace == key.namespace && uses(pod, target)).cloned();
        if through.is_none() && !names(pod, secret) {
            return None;
        }
        let annotations = workload.pointer("/spec/template/metadata/annotations");
        let started_for = annotations.and_then(|all| all[annotation].as_str()).map(str::to_owned);
        Some(Reader { workload: key, through, started_for })
    };
    let mut all: Vec<Reader> = workloads.iter().filter_map(reader).collect();
    all.sort_by(|a, b| a.workload.cmp(&b.workload));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn external(namespace: &str, name: &str, key: &str) -> Value {
        json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": { "namespace": namespace, "name": name },
            "spec": { "secretStoreRef": { "name": "aws" }, "target": { "name": format!("{name}-made") }, "dataFrom": [{ "extract": { "key": key } }] },
        })
    }

    fn workload(kind: &str, namespace: &str, name: &str, pod: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": { "namespace": namespace, "name": name },
            "spec": { "template": { "metadata": { "annotations": { "for": "old:5432" } }, "spec": pod } },
        })
    }

    #[test]
    fn whoever_reads_the_secret_in_any_way_is_found_and_nobody_else() {
        let secret = "deployctl/sandbox/database";
        let externals = [
            external("apps", "database", secret),
            external("apps", "kafka", "deployctl/sandbox/kafka"),
            external("other", "by-arn", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:deployctl/sandbox/database-AbCdEf"),
        ];
        let env = json!({ "containers": [{ "env": [{ "name": "HOST", "valueFrom": { "secretKeyRef": { "name": "database-made", "key": "host" } } }] }] });
        let volume = json!({ "containers": [{}], "volumes": [{ "secret": { "secretName": "by-arn-made" } }] });
        let direct = json!({ "containers": [{ "env": [{ "name": "SECRET", "value": secret }] }] });
        let kafka = json!({ "containers": [{ "envFrom": [{ "secretRef": { "name": "kafka-made" } }] }] });
        let workloads = [
            workload("Deployment", "apps", "parser", &env),
            // The same Secret's name in another namespace is another Secret.
            workload("Deployment", "elsewhere", "parser", &env),
            workload("StatefulSet", "other", "store", &volume),
            workload("DaemonSet", "third", "own", &direct),
            workload("Deployment", "apps", "uploader", &kafka),
        ];
        let store = |namespace: &str, region: &str| {
            json!({
                "kind": "SecretStore", "metadata": { "namespace": namespace, "name": "aws" },
                "spec": { "provider": { "aws": { "region": region } } },
            })
        };
        let stores = [store("apps", "eu-west-1"), store("other", "eu-west-1")];
        let wanted = Wanted { secret, region: "eu-west-1", annotation: "for" };
        let found = readers(&wanted, &stores, &externals, &workloads);
        let said: Vec<String> =
            found.iter().map(|reader| format!("{} {}: {}", reader.workload.kind, reader.workload, reader.how())).collect();
        assert_eq!(
            said,
            [
                "DaemonSet third/own: the address from the secret itself",
                "Deployment apps/parser: the address through Secret database-made",
                "StatefulSet other/store: the address through Secret by-arn-made",
            ]
        );
        assert_eq!(found[1].started_for.as_deref(), Some("old:5432"));
        // The secret of another region is another one.
        let elsewhere = readers(&wanted, &[store("apps", "us-east-1")], &externals, &workloads);
        assert_eq!(elsewhere.iter().map(|reader| reader.workload.to_string()).collect::<Vec<_>>(), ["third/own"]);
    }
}
