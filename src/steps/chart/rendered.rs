//! From what helm printed to objects: each with the template that it came from, in its namespace, and no hook among them that nobody has named.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use base64::Engine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    cluster::{Capabilities, Scope},
    failure::{Failure, FailureKind},
    manifests::{Object, documents},
};

/// Helm's mark of a hook: when it would run.
const HOOK: &str = "helm.sh/hook";
/// Kinds of the whole cluster, for when nobody can be asked.
const WHOLE_CLUSTER: [&str; 18] = [
    "APIService",
    "CSIDriver",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
    "VolumeAttributesClass",
];

/// What becomes of a hook. deployctl runs none at a moment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// It is an object like the others: shown, applied, waited for, pruned.
    Apply,
    /// It is left out.
    LeaveOut,
}

/// What a chart came to.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// What is applied.
    pub objects: Vec<Object>,
    /// What is not, each with the reason.
    pub left_out: BTreeMap<String, String>,
}

/// What is known of a rendering besides its text.
pub struct Reading<'a> {
    /// Where objects of a namespace go that name none.
    pub namespace: &'a str,
    /// What the cluster serves.
    pub capabilities: &'a Capabilities,
    /// What becomes of hooks, by `Kind/name`.
    pub hooks: &'a BTreeMap<String, Hook>,
}

/// Takes helm's text apart.
pub fn read(text: &str, reading: &Reading<'_>) -> Result<Rendered, Failure> {
    let mut values = Vec::new();
    for (_, document) in documents(text) {
        let source = document.lines().find_map(|line| line.strip_prefix("# Source: ")).unwrap_or("(chart)");
        // Helm reads YAML 1.1 and lets the later of two keys win: `defaultMode: 0644` is octal in charts.
        let options = serde_saphyr::options! {
            budget: None,
            legacy_octal_numbers: true,
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        };
        let value: Value = serde_saphyr::from_str_with_options(document, options)
            .map_err(|e| Failure::step(format!("{source}: what helm rendered is not valid YAML")).because(e))?;
        flatten(value, source, &mut values);
    }
    let scopes = defined(&values);
    let (mut rendered, mut seen, mut hooks) = (Rendered::default(), BTreeSet::new(), BTreeSet::new());
    let mut unknown = Vec::new();
    for (mut value, source) in values {
        complete(&mut value, reading, &scopes);
        let object = Object::new(value, PathBuf::from(source), 0)?;
        if let Some(when) = object.value["metadata"]["annotations"][HOOK].as_str() {
            let name = format!("{}/{}", object.key.kind, object.key.name);
            hooks.insert(name.clone());
            let decided = reading.hooks.get(&name).copied();
            match (decided, is_test(when)) {
                (Some(Hook::Apply), _) => {}
                (Some(Hook::LeaveOut), _) => drop(rendered.left_out.insert(name, format!("a hook ({when}) that the plan file leaves out"))),
                (None, true) => drop(rendered.left_out.insert(name, "a test, which only `helm test` would run".to_owned())),
                (None, false) => unknown.push(format!("{name}: {when} ({})", object.file.display())),
            }
            if decided != Some(Hook::Apply) {
                continue;
            }
        }
        if !seen.insert(object.key.clone()) {
            return Err(Failure::step(format!("{}: {} {} is rendered twice", object.file.display(), object.key.kind, object.key)));
        }
        rendered.objects.push(object);
    }
    if let Some(first) = unknown.first().cloned() {
        let mut failure =
            Failure::new(FailureKind::Policy, format!("the chart has {} hooks that the plan file does not name", unknown.len()));
        failure.evidence = unknown;
        let name = first.split(':').next().unwrap_or_default();
        return Err(failure
            .next("helm would run them at moments of its own; deployctl runs nothing unseen. Say under `hooks` what becomes of each:")
            .next(format!("hooks: {{ {name}: apply }}, as an object like the others, or {name}: leave-out")));
    }
    if let Some(stale) = reading.hooks.keys().find(|name| !hooks.contains(*name)) {
        return Err(Failure::usage(format!("`hooks` names {stale}, which is no hook of this chart as it is rendered")));
    }
    Ok(rendered)
}

fn is_test(when: &str) -> bool {
    when.split(',').all(|when| when.trim().starts_with("test"))
}

/// A list is what it lists.
fn flatten(value: Value, source: &str, into: &mut Vec<(Value, String)>) {
    match value {
        Value::Null => {}
        Value::Object(mut map)
            if map.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"))
                && map.get("items").is_some_and(Value::is_array) =>
        {
            if let Some(Value::Array(items)) = map.remove("items") {
                items.into_iter().for_each(|item| flatten(item, source, into));
            }
        }
        other => into.push((other, source.to_owned())),
    }
}

/// Where objects of the kinds live that this rendering itself defines.
fn defined(values: &[(Value, String)]) -> BTreeMap<(String, String), Scope> {
    let definitions = values.iter().map(|(value, _)| value).filter(|value| value["kind"] == "CustomResourceDefinition");
    definitions
        .filter_map(|value| {
            let spec = &value["spec"];
            let scope = if spec["scope"] == "Namespaced" { Scope::Namespace } else { Scope::Cluster };
            Some(((spec["group"].as_str()?.to_owned(), spec["names"]["kind"].as_str()?.to_owned()), scope))
        })
        .collect()
}

/// What helm leaves to the API server: the namespace, and the encoding of a Secret's texts, without which nothing can be compared.
fn complete(value: &mut Value, reading: &Reading<'_>, scopes: &BTreeMap<(String, String), Scope>) {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let (api, kind) = (text("apiVersion"), text("kind"));
    let group = api.split_once('/').map_or("", |(group, _)| group).to_owned();
    let by_name = if WHOLE_CLUSTER.contains(&kind.as_str()) { Scope::Cluster } else { Scope::Namespace };
    let scope = scopes.get(&(group, kind.clone())).copied().or(reading.capabilities.scope(&api, &kind)).unwrap_or(by_name);
    if !value["metadata"].is_object() {
        return;
    }
    match (scope, value["metadata"]["namespace"].is_null()) {
        (Scope::Namespace, true) => value["metadata"]["namespace"] = Value::String(reading.namespace.to_owned()),
        // The API server would look for it where there are no such things.
        (Scope::Cluster, _) => drop(value["metadata"].as_object_mut().and_then(|metadata| metadata.remove("namespace"))),
        (Scope::Namespace, false) => {}
    }
    if kind == "Secret"
        && let Some(Value::Object(texts)) = value.as_object_mut().and_then(|secret| secret.remove("stringData"))
    {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let encoded: Map<String, Value> =
            texts.into_iter().filter_map(|(key, text)| Some((key, Value::String(encode(text.as_str()?))))).collect();
        if !value["data"].is_object() {
            value["data"] = Value::Object(Map::new());
        }
        if let Some(data) = value["data"].as_object_mut() {
            data.extend(encoded);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    fn rendered(text: &str, hooks: &[(&str, Hook)]) -> Result<Rendered, Failure> {
        let hooks = hooks.iter().map(|(name, hook)| ((*name).to_owned(), *hook)).collect();
        read(text, &Reading { namespace: "here", capabilities: &Capabilities::of_version("v1.34.0"), hooks: &hooks })
    }

    const PLAIN: &str = "---\n# Source: a/templates/a.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";
    const HOOKS: &str = "---\n# Source: a/templates/j.yaml\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: j\n  annotations:\n    \"helm.sh/hook\": pre-install,pre-upgrade\n---\n# Source: a/templates/tests/t.yaml\napiVersion: v1\nkind: Pod\nmetadata:\n  name: t\n  annotations:\n    helm.sh/hook: test\n";

    #[test]
    fn a_hook_that_nobody_has_named_is_refused_and_a_test_is_left_out() {
        let text = format!("{PLAIN}{HOOKS}");
        let failure = rendered(&text, &[]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Policy);
        assert_eq!(failure.evidence, ["Job/j: pre-install,pre-upgrade (a/templates/j.yaml)"]);
        let left = rendered(&text, &[("Job/j", Hook::LeaveOut)]).unwrap();
        assert_eq!(left.objects.len(), 1);
        assert_eq!(left.left_out.keys().collect::<Vec<_>>(), ["Job/j", "Pod/t"]);
        let applied = rendered(&text, &[("Job/j", Hook::Apply)]).unwrap();
        assert_eq!(applied.objects.iter().map(|o| o.key.name.as_str()).collect::<Vec<_>>(), ["a", "j"]);
        let stale = rendered(PLAIN, &[("Job/j", Hook::Apply)]).unwrap_err();
        assert_eq!(stale.kind, FailureKind::Usage);
    }

    #[test]
    fn objects_are_where_their_kinds_live() {
        let definition = "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.org}\nspec: {group: example.org, scope: Cluster, names: {kind: Thing, plural: things}}\n";
        let thing = "---\napiVersion: example.org/v1\nkind: Thing\nmetadata: {name: x, namespace: odd}\n";
        let found = rendered(&format!("{PLAIN}{definition}{thing}---\n\n"), &[]).unwrap().objects;
        let places: Vec<Option<&str>> = found.iter().map(|object| object.key.namespace.as_deref()).collect();
        assert_eq!(places, [Some("here"), None, None]);
        assert_eq!(found[0].file, PathBuf::from("a/templates/a.yaml"));
    }

    #[test]
    fn charts_are_read_as_helm_reads_them() {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {b: eA==}\nstringData:\n  a: text\n";
        let list = "---\napiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: one}}\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: two}}\n";
        let modes = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {defaultMode: 0644, defaultMode: 0400, name: \"0644\"}\n";
        let found = rendered(&format!("{secret}{list}{modes}"), &[]).unwrap().objects;
        assert_eq!(found[0].value["data"], json!({"b": "eA==", "a": "dGV4dA=="}));
        assert!(found[0].value.get("stringData").is_none());
        assert_eq!(found.len(), 4);
        assert_eq!(found[3].value["spec"], json!({"defaultMode": 0o400, "name": "0644"}));
        let twice = rendered(&format!("{PLAIN}{PLAIN}"), &[]).unwrap_err();
        assert!(twice.message.contains("rendered twice"), "{}", twice.message);
    }
}
