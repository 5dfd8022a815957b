//! What Prometheus knows of drills in a fresh environment: that there was none, which is overdue from the first day.
use std::time::{Duration, Instant};

use serde_json::Value;

use super::target::{Target, project};

/// The exporter has read the bucket of the DR region under a role of its own, and Prometheus the exporter.
pub fn are_known_to_be_overdue(target: &Target) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let query = "/api/v1/namespaces/observability/services/prometheus:9090/proxy/api/v1/query?query=deployctl_drill_last_success_timestamp_seconds";
        let answer: Value = serde_json::from_str(&target.kubectl(&["get", "--raw", query])).unwrap();
        let found = &answer["data"]["result"][0];
        if found["value"][1] == "0" && found["metric"]["region"] == "eu-west-1" {
            break;
        }
        assert!(Instant::now() < end, "{answer}\n{}", target.kubectl(&["-n", "observability", "logs", "deployment/drill-exporter"]));
        std::thread::sleep(Duration::from_millis(500));
    }
    // Where the page sends whoever gets DrillUnknown.
    let page = std::fs::read_to_string(project().join("plans/runbooks/drill.md")).unwrap();
    let commands: Vec<&str> = page.split('`').filter_map(|code| code.strip_prefix("kubectl ")).collect();
    assert_eq!(commands.len(), 1, "{commands:?}");
    target.kubectl(&commands[0].split(' ').collect::<Vec<_>>());
}
