//! Alert rules, dashboards and configurations, judged by the programs that will read them. `make test` fails without those programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test may panic and say why")]
#[path = "../installed/mod.rs"]
mod installed;
mod loaded;
mod names;
mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
};

use deployctl::manifests::{CrdSchemas, render};
use serde_json::{Value, json};
use tempfile::TempDir;

const RULES: &str = "templates/dashboards/rules/deployctl.yaml";
const RULE_TESTS: &str = "templates/dashboards/rules/deployctl.test.yaml";
const BOARD: &str = "templates/dashboards/boards/deployctl.json";

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap()
}

fn rules() -> Value {
    serde_saphyr::from_str(&text(RULES)).unwrap()
}

fn alerts(rules: &Value) -> &Vec<Value> {
    rules["groups"][0]["rules"].as_array().unwrap()
}

/// Rules and their tests in a folder of their own. JSON is YAML too.
fn folder_with(rules: &Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("deployctl.yaml"), rules.to_string()).unwrap();
    fs::copy(project().join(RULE_TESTS), folder.path().join("deployctl.test.yaml")).unwrap();
    folder
}

/// What a template's ConfigMap holds under `key`, rendered as the plan file renders it.
fn configuration(templates: &str, key: &str) -> String {
    let values = json!({
        "env": { "observability": { "retention_days": 1 } },
        "images": { "prometheus": "registry/prometheus@sha256:0", "otel-collector": "registry/otel-collector@sha256:0" },
        "files": { "rules": text(RULES), "dashboard": text(BOARD) },
    });
    let objects = render(&project().join("templates").join(templates), &values, &CrdSchemas::default()).unwrap();
    objects.iter().find_map(|object| object.value["data"][key].as_str()).unwrap().to_owned()
}

#[test]
fn the_rules_are_valid_and_pass_their_tests() {
    let Some(promtool) = programs::promtool() else { return };
    let folder = project().join(RULES).parent().unwrap().to_owned();
    programs::run(&promtool, &folder, &["check", "rules", "deployctl.yaml"]).unwrap_or_else(|said| panic!("{said}"));
    programs::run(&promtool, &folder, &["test", "rules", "deployctl.test.yaml"]).unwrap_or_else(|said| panic!("{said}"));
}

/// A rule that never fires, or always, must turn its tests red: one that could do so unseen is not tested.
#[test]
fn the_tests_see_every_rule_break() {
    let Some(promtool) = programs::promtool() else { return };
    let whole = rules();
    for (index, rule) in alerts(&whole).iter().enumerate() {
        for broken in ["vector(0) > 1", "vector(1) == 1"] {
            let name = rule["alert"].as_str().unwrap();
            // The watchdog is that expression.
            if name == "Watchdog" && broken == "vector(1) == 1" {
                continue;
            }
            let mut rules = whole.clone();
            rules["groups"][0]["rules"][index]["expr"] = broken.into();
            let folder = folder_with(&rules);
            let said = programs::run(&promtool, folder.path(), &["test", "rules", "deployctl.test.yaml"]);
            let said = said.expect_err(&format!("{name} with `{broken}` passes"));
            assert!(said.contains(name), "{name} with `{broken}`: {said}");
        }
    }
}

#[test]
fn the_rules_come_to_prometheus_as_they_were_tested() {
    assert_eq!(configuration("dashboards", "deployctl.yaml"), text(RULES));
}

#[test]
fn prometheus_accepts_its_configuration() {
    let Some(promtool) = programs::promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        fs::write(folder.path().join("prometheus.yml"), text).unwrap();
        programs::run(&promtool, folder.path(), &["check", "config", "prometheus.yml"])
    };
    let text = configuration("observability/prometheus", "prometheus.yml");
    let rules = folder.path().join("rules.yaml");
    fs::copy(project().join(RULES), &rules).unwrap();
    let here = text.replace("/etc/prometheus-rules/*.yaml", rules.to_str().unwrap());
    assert_ne!(here, text, "the configuration names the folder of the rules");
    check(&here).unwrap_or_else(|said| panic!("{said}"));
    let said = check(&here.replace("relabel_configs", "relabel_config")).unwrap_err();
    assert!(said.contains("relabel_config"), "{said}");
}

#[test]
fn the_collector_accepts_its_configuration() {
    let Some(collector) = programs::collector() else { return };
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        fs::write(folder.path().join("config.yaml"), text).unwrap();
        programs::run(&collector, folder.path(), &["validate", "--config=config.yaml"])
    };
    let text = configuration("observability/otel-collector", "config.yaml");
    check(&text).unwrap_or_else(|said| panic!("{said}"));
    let said = check(&text.replace("batch", "k8sattributes")).unwrap_err();
    assert!(said.contains("k8sattributes"), "{said}");
}

/// Paths in an image of this program.
fn packed(name: &str, program: &Path) -> Vec<String> {
    let image = deployctl::image::assemble(name, program).unwrap();
    let layers = image.blobs.iter().take(2);
    let entries = layers.flat_map(|blob| {
        let mut layer = tar::Archive::new(flate2::read::GzDecoder::new(&blob.bytes[..]));
        layer.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect::<Vec<_>>()
    });
    entries.collect()
}

/// Both are static: an image of one holds no library and no loader.
#[test]
fn the_programs_become_images_without_libraries() {
    for (name, program) in [("prometheus", programs::prometheus()), ("otel-collector", programs::collector())] {
        let Some(program) = program else { continue };
        let files = packed(name, &program);
        assert!(files.iter().any(|path| *path == format!("usr/bin/{name}")), "{files:?}");
        assert!(!files.iter().any(|path| path.contains(".so") || path.contains("ld-linux")), "{files:?}");
    }
}

/// Grafana shows an empty panel, and no error, for a query that cannot be read or a metric that no service has.
#[test]
fn dashboards_ask_for_metrics_that_the_services_have() {
    let board: Value = serde_json::from_str(&text(BOARD)).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let queries: Vec<&str> = panels.iter().flat_map(|p| p["targets"].as_array().unwrap()).map(|t| t["expr"].as_str().unwrap()).collect();
    assert!(queries.len() >= panels.len());
    names::all_exist(&queries);
    let Some(promtool) = programs::promtool() else { return };
    let records: Vec<Value> =
        queries.iter().enumerate().map(|(index, expr)| json!({ "record": format!("query_{index}"), "expr": expr })).collect();
    let folder = folder_with(&json!({ "groups": [{ "name": "queries", "rules": records }] }));
    programs::run(&promtool, folder.path(), &["check", "rules", "deployctl.yaml"]).unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn rules_ask_for_metrics_that_the_services_have() {
    let rules = rules();
    names::all_exist(&alerts(&rules).iter().map(|rule| rule["expr"].as_str().unwrap()).collect::<Vec<_>>());
}

/// The tests' series too: a rule and its test can agree on a name that no service uses.
#[test]
fn rule_tests_bring_metrics_that_the_services_have() {
    let tests: Value = serde_saphyr::from_str(&text(RULE_TESTS)).unwrap();
    let series = tests["tests"].as_array().unwrap().iter().flat_map(|test| test["input_series"].as_array().unwrap());
    names::all_exist(&series.map(|series| series["series"].as_str().unwrap()).collect::<Vec<_>>());
}

fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all += &fs::read_to_string(path).unwrap();
        }
    }
    all
}
