//! What a deferred step of templates may do at most, read from the templates themselves before their values are known.
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Creates and updates of every kind that the folders in `with.templates` mention; a deletion is never within the bound.
pub fn template_bound(with: &Value, project: &Path) -> Vec<String> {
    let mut kinds = BTreeSet::new();
    for (_, text) in template_texts(with, project) {
        kinds.extend(text.lines().filter_map(|line| line.strip_prefix("kind: ")).map(|kind| kind.trim().to_owned()));
    }
    bound_of(kinds)
}

/// Every file in the folders that `with.templates` mentions. One that cannot be read is an error when the step is planned; here it is left out.
pub(super) fn template_texts(with: &Value, project: &Path) -> Vec<(PathBuf, String)> {
    let folders: Vec<&str> = match &with["templates"] {
        Value::String(folder) => vec![folder],
        Value::Array(folders) => folders.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(project.join(folder)).into_iter().flatten().flatten());
    entries.filter_map(|entry| Some((entry.path(), std::fs::read_to_string(entry.path()).ok()?))).collect()
}

/// Creates and updates of these kinds, and live tags that go once they have rolled out.
pub fn bound_of(kinds: impl IntoIterator<Item = String>) -> Vec<String> {
    kinds.into_iter().flat_map(|kind| [format!("update {kind}"), kind]).chain(["update image".to_owned()]).collect()
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
