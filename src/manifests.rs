//! Templates and values to Kubernetes objects; pure: it reads a folder and talks to nobody.
pub mod exposure;
mod object;
mod schema;
mod template;

use std::path::Path;

use serde_json::Value;

pub use object::{Object, ObjectKey};
pub use schema::{CrdSchemas, validate};
pub use template::{documents, values_file};

use crate::failure::Failure;

/// Renders every template of `folder` (`*.yaml.hbs`, and plain `*.yaml` as it is, in the order of their names) and checks each object
/// against Kubernetes' own schema, or against its CRD's if one of these folders brings it.
pub fn render(folder: &Path, values: &Value, crds: &CrdSchemas) -> Result<Vec<Object>, Failure> {
    let objects = template::render_folder(folder, values)?;
    let mut crds = crds.clone();
    crds.learn(&objects);
    validate(&objects, &crds)?;
    Ok(objects)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn failed(text: &str, values: &Value) -> Failure {
        render(folder(&[("a.yaml.hbs", text)]).path(), values, &CrdSchemas::default()).unwrap_err()
    }

    const CONFIG_MAP: &str =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{json name}}\n  namespace: apps\ndata:\n  key: {{text}}\n";

    #[test]
    fn values_cannot_inject_yaml() {
        let dir = folder(&[("a.yaml.hbs", CONFIG_MAP)]);
        let values = json!({"name": "a", "text": "x\nadmin: true\n<&>'\"="});
        let objects = render(dir.path(), &values, &CrdSchemas::default()).unwrap();
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].value["data"], json!({"key": "x\nadmin: true\n<&>'\"="}));
    }

    #[test]
    fn a_missing_value_names_file_and_line() {
        let failure = failed(CONFIG_MAP, &json!({"name": "a"}));
        assert!(failure.chain().join(" ").contains("a.yaml.hbs:7"), "{:?}", failure.chain());
    }

    #[test]
    fn an_unescaped_expression_is_refused() {
        let failure = failed("apiVersion: v1\nkind: {{{kind}}}\n", &json!({"kind": "x"}));
        assert!(failure.message.contains("a.yaml.hbs:2"), "{}", failure.message);
    }

    #[test]
    fn a_misspelt_key_names_object_and_line() {
        let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: s\n  namespace: apps\nspec:\n  portss:\n    - port: 80\n";
        let failure = failed(text, &json!({}));
        assert!(failure.message.contains("a.yaml.hbs:7") && failure.message.contains("portss"), "{}", failure.message);
    }

    #[test]
    fn a_wrong_type_names_its_path() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: apps}\nspec:\n  replicas: {{json replicas}}\n  selector: {}\n  template: {}\n";
        let failure = failed(text, &json!({"replicas": "two"}));
        assert!(failure.message.contains("/spec/replicas"), "{}", failure.message);
        assert!(failure.message.contains("a.yaml.hbs:5"), "{}", failure.message);
    }

    #[test]
    fn broken_yaml_names_the_line() {
        let failure = failed("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [}\n", &json!({}));
        assert!(failure.message.contains("a.yaml.hbs:3"), "{}", failure.message);
    }

    #[test]
    fn several_documents_and_loops() {
        let text = "{{#each names}}\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {{json (concat this \"-x\")}}\n{{/each}}\n";
        let dir = folder(&[("a.yaml.hbs", text)]);
        let objects = render(dir.path(), &json!({"names": ["a", "b"]}), &CrdSchemas::default()).unwrap();
        assert_eq!(objects.iter().map(|o| o.key.name.as_str()).collect::<Vec<_>>(), ["a-x", "b-x"]);
    }

    #[test]
    fn a_kind_without_schema_is_refused() {
        let failure = failed("apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: x}\n", &json!({}));
        assert!(failure.message.contains("example.org/v1 Thing"), "{}", failure.message);
    }

    #[test]
    fn a_custom_resource_is_checked_by_its_definition() {
        let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.org}\nspec:\n  group: example.org\n  scope: Cluster\n  names: {kind: Thing, plural: things}\n  versions:\n    - name: v1\n      served: true\n      storage: true\n      schema:\n        openAPIV3Schema:\n          type: object\n          properties:\n            spec: {type: object, properties: {size: {type: integer}}}\n";
        let good = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: x}\nspec: {size: 1}\n";
        let bad = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: x}\nspec:\n  sice: 1\n";
        let files = folder(&[("crd.yaml", crd), ("thing.yaml", good)]);
        assert_eq!(render(files.path(), &json!({}), &CrdSchemas::default()).unwrap().len(), 2);
        let files = folder(&[("crd.yaml", crd), ("thing.yaml", bad)]);
        let failure = render(files.path(), &json!({}), &CrdSchemas::default()).unwrap_err();
        assert!(failure.message.contains("sice"), "{}", failure.message);
    }
}
