//! `schema`: what it prints is what is committed, and what is committed accepts the files of this project.
use crate::project::{PLAN, Project};

fn printed(of: &str) -> String {
    String::from_utf8(Project::new().command(&["schema", of]).output().unwrap().stdout).unwrap()
}

#[test]
fn the_committed_schemas_are_current() {
    for of in ["plan", "environment", "event"] {
        let path = format!("{}/plans/schema/{of}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == printed(of), "not current: deployctl schema {of} > plans/schema/{of}.schema.json");
    }
}

#[test]
fn they_accept_what_deployctl_accepts_and_refuse_unknown_keys() {
    let environment = include_str!("../../plans/environments/sandbox.yaml");
    for (of, text) in [("plan", PLAN), ("environment", environment)] {
        let schema: serde_json::Value = serde_json::from_str(&printed(of)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut value: serde_json::Value = serde_saphyr::from_str(text).unwrap();
        assert!(validator.is_valid(&value), "{of}: {:?}", validator.iter_errors(&value).map(|e| e.to_string()).collect::<Vec<_>>());
        value["surprise"] = 1.into();
        assert!(!validator.is_valid(&value));
    }
}
