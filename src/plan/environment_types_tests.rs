//! A wrong value for every key that the schema of an environment file knows: each is reported, and all of them at once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::path::Path;

use serde_json::json;

use super::*;
use crate::plan::read::environment_from;

/// Every key that the schema knows, with a value that is right: the sample, and what it leaves out.
fn whole() -> Value {
    let mut all: Value = serde_saphyr::from_str(SAMPLE).unwrap();
    let more = [
        ("/database", json!({ "ca_bundle": "plans/rds-ca.pem", "snapshots": { "keep": 10, "days": 35 } })),
        (
            "/services/uploader",
            json!({ "values": { "a": 1 }, "ingress": {
            "scheme": "internet-facing", "certificate_arn": "arn:aws:acm:us-east-1:444455556666:certificate/0", "authorities": "plans/private-ca.pem",
            "tls_policy": "ELBSecurityPolicy-TLS13-1-2-2021-06", "host": "files.example.com",
            "authentication": { "by": "oidc", "issuer": "https://id.example.com", "authorization_endpoint": "https://id.example.com/a",
                "token_endpoint": "https://id.example.com/t", "user_info_endpoint": "https://id.example.com/u", "secret_name": "login" },
        } }),
        ),
        ("/observability", json!({ "skip": { "grafana": "not here" }, "programs": { "prometheus": "prometheus" } })),
        (
            "",
            json!({ "secrets": { "store": "secrets-manager" }, "images": { "profile": "release" }, "guards": { "max_deletions": 5, "protected": ["aws_vpc"] },
            "charts": { "skip": { "external-secrets": "not here" }, "chosen": ["fluent-bit"] } }),
        ),
    ];
    for (at, fields) in more {
        let place = all.pointer_mut(at).unwrap().as_object_mut().unwrap();
        place.extend(fields.as_object().unwrap().clone());
    }
    all
}

/// As YAML with a line a value, so that a line names one.
fn yaml(value: &Value) -> String {
    fn block(value: &Value, indent: usize, into: &mut String) {
        let pad = " ".repeat(indent);
        match value {
            Value::Object(fields) if !fields.is_empty() => fields.iter().for_each(|(key, value)| match value {
                Value::Object(inner) if !inner.is_empty() => {
                    into.push_str(&format!("{pad}{key}:\n"));
                    block(value, indent + 2, into);
                }
                Value::Array(items) if items.iter().any(Value::is_object) => {
                    into.push_str(&format!("{pad}{key}:\n"));
                    for item in items {
                        into.push_str(&format!("{pad}  -\n"));
                        block(item, indent + 4, into);
                    }
                }
                plain => into.push_str(&format!("{pad}{key}: {plain}\n")),
            }),
            plain => into.push_str(&format!("{pad}{plain}\n")),
        }
    }
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

/// The paths of all values, those of a map's or list's own too.
fn paths(at: &str, value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            into.push(format!("{at}/{key}"));
            paths(&format!("{at}/{key}"), value, into);
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .filter(|(_, item)| item.is_object())
            .for_each(|(index, item)| paths(&format!("{at}/{index}"), item, into)),
        _ => {}
    }
}

/// What nobody means by this value.
fn wrong(value: &Value) -> Value {
    match value {
        Value::Bool(_) => json!("perhaps"),
        Value::Number(_) => json!("many"),
        Value::String(_) => json!(["no text"]),
        Value::Array(_) => json!("one"),
        Value::Object(_) | Value::Null => json!(["a", "list"]),
    }
}

const FILE: &str = "plans/environments/staging.yaml";

fn evidence(text: &str) -> Vec<String> {
    environment_from(Path::new(FILE), text).unwrap_err().evidence
}

/// Values that a template of a third service, or a person's own tags, give a meaning to.
fn is_free(path: &str) -> bool {
    path.starts_with("/services/uploader/values/")
}

#[test]
fn the_whole_file_has_every_key_of_the_schema() {
    let schema = schemars::schema_for!(Environment).to_value();
    environment_from(Path::new(FILE), &yaml(&whole())).unwrap();
    let (mut missing, all) = (Vec::new(), whole());
    fn look(root: &Value, schema: &Value, value: &Value, at: &str, missing: &mut Vec<String>) {
        let found = asked(root, schema).schema;
        let found = variant(found, value).unwrap_or(found);
        for (key, inner) in found["properties"].as_object().into_iter().flatten() {
            match value.get(key) {
                Some(value) => look(root, inner, value, &format!("{at}/{key}"), missing),
                None => missing.push(format!("{at}/{key}")),
            }
        }
    }
    look(&schema, &schema, &all, "", &mut missing);
    assert!(missing.is_empty(), "no value is tried for {missing:?}");
}

#[test]
fn a_value_of_the_wrong_type_is_reported_with_file_line_and_hint_whichever_it_is() {
    let (mut all, mut tried) = (Vec::new(), 0);
    paths("", &whole(), &mut all);
    for path in all.iter().filter(|path| !is_free(path)) {
        let mut bad = whole();
        let place = bad.pointer_mut(path).unwrap();
        *place = wrong(place);
        let text = yaml(&bad);
        let key = path.rsplit('/').next().unwrap();
        let said = evidence(&text);
        let about = said.iter().find(|one| one.lines().any(|line| line.contains(" | ") && line.contains(&format!("{key}:"))));
        let about = about.unwrap_or_else(|| panic!("{path}: {said:#?}\n{text}"));
        assert!(about.starts_with(&format!("{FILE}:")) && about.contains("hint: "), "{path}: {about}");
        tried += 1;
    }
    assert!(tried > 80, "only {tried} values were tried");
}

#[test]
fn a_mistake_in_every_field_is_said_at_once() {
    let mut all = Vec::new();
    paths("", &whole(), &mut all);
    // Leaves only: a list in the place of a map would hide what is in the map.
    let whole = whole();
    let leaf = |path: &&String| {
        whole.pointer(path).is_some_and(|value| !value.is_object() && !value.as_array().is_some_and(|all| all.iter().any(Value::is_object)))
    };
    let leaves: Vec<&String> = all.iter().filter(leaf).filter(|path| !is_free(path) && !path.ends_with("/by")).collect();
    let mut bad = whole.clone();
    for path in &leaves {
        let place = bad.pointer_mut(path).unwrap();
        *place = wrong(place);
    }
    let text = yaml(&bad);
    let said = evidence(&text);
    let unsaid: Vec<_> = leaves
        .iter()
        .filter(|path| {
            let key = path.rsplit('/').next().unwrap();
            let named = |one: &&String| one.lines().any(|line| line.contains(" | ") && line.contains(&format!("{key}:")));
            said.iter().filter(named).count() < leaves.iter().filter(|other| other.rsplit('/').next() == Some(key)).count()
        })
        .collect();
    assert!(unsaid.is_empty(), "of {} mistakes {unsaid:#?} are not said:\n{}", leaves.len(), said.join("\n"));
}

#[test]
fn what_is_missing_unknown_or_misspelt_is_said_beside_what_is_merely_wrong() {
    let text =
        SAMPLE.replace("  region: us-east-1\n", "").replace("multi_az: false", "multi_az: maybe").replace("disk_gib: 50", "disk_gb: 50");
    let text = text.replace("account_id: \"444455556666\"", "account_id: \"4444\"").replace("backup_days: 7", "backup_days: 40");
    let said = evidence(&text).join("\n");
    for expected in [
        "the key `region` is missing",
        "expected true or false",
        "unknown key `disk_gb`",
        "did you mean `disk_gib`?",
        "the key `disk_gib` is missing",
        "twelve digits",
        "40 days; it must be 1 to 35",
    ] {
        assert!(said.contains(expected), "no `{expected}` in:\n{said}");
    }
    assert!(!said.contains("is not in account"), "what is compared with a mistake is not judged:\n{said}");
}
