//! Names of metrics in queries, held against what the services' sources count and measure, and against what the drill exporter tells.
use std::collections::{BTreeMap, BTreeSet};

use deployctl::{
    agent::drill_exporter,
    engine::drills::{self, Drilled, Drills},
    ids::{EnvironmentName, Region},
};

/// Fails on a name, or a kind of series, that no service offers.
pub fn all_exist(queries: &[&str]) {
    let offered = offered();
    let mut used = 0;
    for query in queries {
        for name in used_by(query) {
            used += 1;
            assert!(offered.contains(&name), "{name} of `{query}` is in no service; there are {offered:?}");
        }
    }
    assert!(used > 5, "the queries name too few metrics for this test to mean anything");
}

/// Every series of the services, as `counter!("NAME"` and `histogram!("NAME"` make them.
fn offered() -> BTreeSet<String> {
    let suffixes = BTreeMap::from([("counter", &[""][..]), ("histogram", &["_bucket", "_count", "_sum"]), ("gauge", &[""])]);
    let text = super::sources(&super::project().join("services"));
    let mut names = BTreeSet::new();
    for (kind, suffixes) in suffixes {
        for rest in text.split(&format!("metrics::{kind}!(\"")).skip(1) {
            let name = rest.split('"').next().unwrap();
            names.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
        }
    }
    names.extend(told_of_drills());
    names
}

/// Everything that the exporter tells once there was a good drill.
fn told_of_drills() -> impl Iterator<Item = String> {
    let text = r#"{"at":"2026-11-29T03:00:00Z","good":true,"rto_seconds":9.0,"rpo_seconds_at_most":3}"#;
    let good: Drilled = serde_json::from_str(text).unwrap();
    let drills = Drills { newest: vec![good.clone()], last_good: Some(good) };
    let told = drills::metrics(&EnvironmentName::parse("staging").unwrap(), &Region::parse("eu-west-1").unwrap(), &drills);
    let names: Vec<String> =
        told.lines().filter_map(|line| line.strip_suffix(" gauge")?.strip_prefix("# TYPE ").map(str::to_owned)).collect();
    names.into_iter().chain([drill_exporter::READ_AT.to_owned()])
}

/// The words of a query that begin as metrics of ours do.
fn used_by(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| ["uploader_", "parser_", "deployctl_drill_"].iter().any(|start| word.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_name_that_no_service_has_is_seen() {
    let offered = offered();
    assert!(offered.contains("parser_files_parsed_total") && offered.contains("uploader_request_duration_seconds_bucket"));
    // A histogram has no series of its own name.
    assert!(!offered.contains("uploader_request_duration_seconds"));
    assert_eq!(used_by("sum by (le) (rate(parser_rows_total{outcome=\"x\"}[5m]))"), BTreeSet::from(["parser_rows_total".to_owned()]));
}
