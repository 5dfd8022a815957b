//! Names of metrics in queries, held against what the services' sources count and measure.
use std::collections::{BTreeMap, BTreeSet};

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
    names
}

/// The words of a query that begin as the services' metrics do.
fn used_by(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ["uploader_", "parser_"].iter().any(|start| word.starts_with(start))).map(str::to_owned).collect()
}

#[test]
fn a_name_that_no_service_has_is_seen() {
    let offered = offered();
    assert!(offered.contains("parser_files_parsed_total") && offered.contains("uploader_request_duration_seconds_bucket"));
    // A histogram has no series of its own name.
    assert!(!offered.contains("uploader_request_duration_seconds"));
    assert_eq!(used_by("sum by (le) (rate(parser_rows_total{outcome=\"x\"}[5m]))"), BTreeSet::from(["parser_rows_total".to_owned()]));
}
