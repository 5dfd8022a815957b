//! What a stack could make at most, read from its files without running anything.
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::workspace::{content_key, stack_files};

/// Starts an entry that stands for whatever a module makes, because its files are not here.
pub const ANY_IN_MODULE: &str = "any in module ";

/// Resource types of the stack and its modules; `any in module NAME` for a module that has not been fetched yet.
pub(super) fn of(with: &Value, project: &Path) -> Vec<String> {
    let Some(stack) = with["stack"].as_str() else { return Vec::new() };
    let Ok(files) = stack_files(&project.join(stack)) else { return Vec::new() };
    let mut types = BTreeSet::new();
    let mut modules = BTreeSet::new();
    for (name, content) in &files {
        if name.extension() == Some(OsStr::new("tf")) {
            let text = String::from_utf8_lossy(content);
            types.extend(labels(&text, "resource"));
            modules.extend(labels(&text, "module"));
        }
    }
    let fetched = fetched_modules(&content_key(&files));
    for module in modules {
        match fetched.iter().find(|folder| folder.ends_with(&module)) {
            Some(folder) => types.extend(types_in(folder)),
            None => drop(types.insert(format!("{ANY_IN_MODULE}{module}"))),
        }
    }
    // Moved outputs and secrets that are taken over change nothing that exists but its entry in the state, and its tags.
    let mut bound: Vec<String> = vec!["update output".into()];
    if !with["adopt"].is_null() {
        let adopted = types.iter().filter(|name| ["aws_secretsmanager_secret", "aws_ssm_parameter"].contains(&name.as_str()));
        bound.extend(adopted.map(|name| format!("update {name}")));
    }
    bound.extend(types);
    bound
}

/// First labels of the blocks of one kind: `resource "aws_vpc" "this" {` has `aws_vpc`.
pub(super) fn labels(text: &str, block: &str) -> Vec<String> {
    let label = |line: &str| {
        let rest = line.strip_prefix(block)?.trim_start().strip_prefix('"')?;
        rest.split_once('"').map(|(label, _)| label.to_owned())
    };
    text.lines().filter_map(|line| label(line.trim_start())).collect()
}

/// Folders of modules that an earlier init of the same stack has fetched.
fn fetched_modules(content_key: &str) -> Vec<PathBuf> {
    let Ok(root) = crate::cache::folder() else { return Vec::new() };
    let children =
        |path: PathBuf| fs::read_dir(path).map(|d| d.filter_map(|e| e.ok().map(|e| e.path())).collect::<Vec<_>>()).unwrap_or_default();
    let prepared = children(root.join("terraform-work").join(content_key));
    prepared.into_iter().filter(|p| p.is_dir()).flat_map(|p| children(p.join(".terraform/modules"))).filter(|p| p.is_dir()).collect()
}

fn types_in(folder: &Path) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            // Examples and tests of a module make what the module itself does not.
            let inside = !matches!(path.file_name().and_then(OsStr::to_str), Some("examples" | "tests" | "wrappers" | ".git"));
            if path.is_dir() && inside {
                folders.push(path);
            } else if path.extension() == Some(OsStr::new("tf")) {
                types.extend(labels(&fs::read_to_string(&path).unwrap_or_default(), "resource"));
            }
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_blocks_only() {
        let text = "resource \"aws_vpc\" \"a\" {\n  x = \"resource\"\n}\n  resource   \"aws_eip\" \"b\" {}\n# resource \"no\" \"no\"\nresources = [\"aws_no\"]\n";
        assert_eq!(labels(text, "resource"), ["aws_vpc", "aws_eip"]);
    }
}
