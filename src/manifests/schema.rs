//! Checks objects against Kubernetes' own schema, and that of Argo Rollouts, with no cluster at hand: a misspelt key is found by `plan`, not by a failed rollout.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Read,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::Object;
use crate::failure::Failure;

/// The schemas that CustomResourceDefinitions bring, by `apiVersion kind`.
#[derive(Clone, Debug, Default)]
pub struct CrdSchemas(BTreeMap<String, Arc<Value>>);

impl CrdSchemas {
    /// Takes the schemas of every CustomResourceDefinition among these objects.
    pub fn learn(&mut self, objects: &[Object]) {
        for definition in objects.iter().filter(|o| o.key.kind == "CustomResourceDefinition") {
            let spec = &definition.value["spec"];
            let (Some(group), Some(kind)) = (spec["group"].as_str(), spec["names"]["kind"].as_str()) else { continue };
            for version in spec["versions"].as_array().into_iter().flatten() {
                let (Some(name), Some(schema)) = (version["name"].as_str(), version.pointer("/schema/openAPIV3Schema")) else { continue };
                let mut schema = schema.clone();
                close(&mut schema);
                // The API server's own fields; a structural schema leaves them out.
                for (key, meaning) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
                    schema["properties"][key] = json!({ "type": meaning });
                }
                self.0.insert(format!("{group}/{name} {kind}"), Arc::new(schema));
            }
        }
    }
}

/// Turns a structural schema into a strict one: keys that it does not name are refused, as `fieldValidation=Strict` would.
fn close(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        object.remove("type");
        return;
    }
    if object.get("nullable") == Some(&Value::Bool(true))
        && let Some(single @ Value::String(_)) = object.get("type").cloned()
    {
        object.insert("type".into(), json!([single, "null"]));
    }
    // Formats such as int32 are not JSON Schema's, and patterns are RE2: both are left to the API server.
    for key in ["format", "pattern", "x-kubernetes-validations", "default", "description"] {
        object.remove(key);
    }
    let free = object.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if object.contains_key("properties") && !object.contains_key("additionalProperties") && !free {
        object.insert("additionalProperties".into(), Value::Bool(false));
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            close(inner);
        }
    }
}

/// All definitions, unpacked once, and which of them stands for which `apiVersion kind`.
struct Definitions {
    all: Map<String, Value>,
    by_kind: HashMap<String, String>,
}

fn definitions() -> Result<&'static Definitions, Failure> {
    // Argo Rollouts' definitions come with its chart, which no template has.
    static PACKED: [&[u8]; 2] = [include_bytes!("schema/kubernetes-1.34.json.gz"), include_bytes!("schema/argo-rollouts-1.9.1.json.gz")];
    static UNPACKED: OnceLock<Result<Definitions, String>> = OnceLock::new();
    let unpack = || -> Result<Definitions, String> {
        let mut all = Map::new();
        for packed in PACKED {
            let mut text = String::new();
            flate2::read::GzDecoder::new(packed).read_to_string(&mut text).map_err(|e| e.to_string())?;
            all.extend(serde_json::from_str::<Map<String, Value>>(&text).map_err(|e| e.to_string())?);
        }
        let mut by_kind = HashMap::new();
        for (name, definition) in &all {
            for gvk in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let (group, version, kind) = (gvk["group"].as_str(), gvk["version"].as_str(), gvk["kind"].as_str());
                let (Some(group), Some(version), Some(kind)) = (group, version, kind) else { continue };
                let separator = if group.is_empty() { "" } else { "/" };
                by_kind.insert(format!("{group}{separator}{version} {kind}"), name.clone());
            }
        }
        Ok(Definitions { all, by_kind })
    };
    let unpacked = UNPACKED.get_or_init(unpack);
    unpacked.as_ref().map_err(|e| Failure::new(crate::failure::FailureKind::Internal, format!("Kubernetes' schema is broken: {e}")))
}

/// A schema of one kind with only what it refers to, so that a validator takes a millisecond to build.
fn schema_of(definitions: &Definitions, root: &str) -> Value {
    let (mut needed, mut todo) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(name) = todo.pop() {
        if let (true, Some(definition)) = (needed.insert(name.clone()), definitions.all.get(&name)) {
            references(definition, &mut todo);
        }
    }
    let defs: Map<String, Value> =
        needed.into_iter().filter_map(|name| Some((name.clone(), definitions.all.get(&name)?.clone()))).collect();
    json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": format!("#/$defs/{root}"), "$defs": defs })
}

fn references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
                into.push(name.to_owned());
            }
            map.values().for_each(|inner| references(inner, into));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, into)),
        _ => {}
    }
}

fn validator(kind: &str, crds: &CrdSchemas) -> Result<Option<Arc<Validator>>, Failure> {
    static BUILT: OnceLock<Mutex<HashMap<String, Arc<Validator>>>> = OnceLock::new();
    let definitions = definitions()?;
    let build = |schema: &Value| {
        jsonschema::validator_for(schema).map(Arc::new).map_err(|e| Failure::usage(format!("the schema of {kind} cannot be used: {e}")))
    };
    match (definitions.by_kind.get(kind), crds.0.get(kind)) {
        (Some(root), _) => {
            let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(validator) = built.get(kind) {
                return Ok(Some(validator.clone()));
            }
            let validator = build(&schema_of(definitions, root))?;
            built.insert(kind.to_owned(), validator.clone());
            Ok(Some(validator))
        }
        (None, Some(schema)) => build(schema).map(Some),
        (None, None) => Ok(None),
    }
}

/// Refuses any object that Kubernetes 1.34 (or its CRD) would refuse for its form; all errors at once.
pub fn validate(objects: &[Object], crds: &CrdSchemas) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for object in objects {
        let kind = format!("{} {}", object.key.api_version, object.key.kind);
        let Some(validator) = validator(&kind, crds)? else {
            lines.push(format!(
                "{}:{}: no schema for {kind}: put its CustomResourceDefinition among the templates",
                object.file.display(),
                object.line
            ));
            continue;
        };
        for error in validator.iter_errors(&object.value) {
            let path = error.instance_path().to_string();
            let what = shorten(&error.to_string());
            lines.push(format!(
                "{}:{}: {} {}: {path}: {what}",
                object.file.display(),
                line_of(object, &path, &what),
                object.key.kind,
                object.key
            ));
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let first = lines.remove(0);
    let mut failure = Failure::usage(first);
    failure.evidence = lines;
    Err(failure)
}

/// jsonschema quotes the whole value before saying what is wrong with it; the end says enough.
fn shorten(text: &str) -> String {
    let tail: Vec<char> = text.chars().collect();
    if tail.len() <= 240 { text.to_owned() } else { format!("… {}", tail[tail.len() - 220..].iter().collect::<String>()) }
}

/// The template's line where the key at the end of `path` (or the key that the message quotes) is written, after the object's own start.
fn line_of(object: &Object, path: &str, message: &str) -> usize {
    let Ok(source) = std::fs::read_to_string(&object.file) else { return object.line };
    let quoted = message.contains("unexpected").then(|| message.rsplit('\'').nth(1)).flatten();
    let Some(key) = quoted.or_else(|| path.rsplit('/').find(|part| part.parse::<usize>().is_err() && !part.is_empty())) else {
        return object.line;
    };
    let wanted = format!("{key}:");
    let found = source.lines().enumerate().skip(object.line.saturating_sub(1)).find(|(_, line)| {
        let line = line.trim_start().trim_start_matches("- ");
        line.starts_with(&wanted) || line.contains(&format!("{{{wanted}")) || line.contains(&format!(" {wanted}"))
    });
    found.map_or(object.line, |(number, _)| number + 1)
}
