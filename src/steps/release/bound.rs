//! What a deferred step of templates may do at most, read from the templates themselves before their values are known.
use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

/// Creates and updates of every kind that the folders in `with.templates` mention; a deletion is never within the bound.
pub fn template_bound(with: &Value, project: &Path) -> Vec<String> {
    let folders: Vec<&str> = match &with["templates"] {
        Value::String(folder) => vec![folder],
        Value::Array(folders) => folders.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut kinds = BTreeSet::new();
    for folder in folders {
        // A folder that cannot be read is an error when the step is planned; here it only makes the bound smaller.
        for entry in std::fs::read_dir(project.join(folder)).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            kinds.extend(text.lines().filter_map(|line| line.strip_prefix("kind: ")).map(|kind| kind.trim().to_owned()));
        }
    }
    bound_of(kinds)
}

/// Creates and updates of these kinds.
pub fn bound_of(kinds: impl IntoIterator<Item = String>) -> Vec<String> {
    kinds.into_iter().flat_map(|kind| [format!("update {kind}"), kind]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_templates_say_what_may_be_made() {
        let bound = template_bound(&json!({"templates": ["templates/uploader"]}), Path::new(env!("CARGO_MANIFEST_DIR")));
        for kind in ["Deployment", "SecretStore", "ExternalSecret", "Ingress", "update Deployment"] {
            assert!(bound.iter().any(|entry| entry == kind), "{kind} is not in {bound:?}");
        }
        assert!(!bound.iter().any(|entry| entry == "ClusterRole" || entry.starts_with("delete")));
    }
}
